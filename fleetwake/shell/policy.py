"""The one judge of errors: what to do about a failed run.

Backoff is per key, in memory, 5 ms doubling to a cap with jitter derived from the key (no two keys march in step, and a simulation repeats).
Source: architecture.md §4 (errors); upstream's controller-runtime starts at 5 ms too and goes to 1000 s, our cap is lower.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from datetime import timedelta

from fleetwake.errors import (
    AlreadyExistsError,
    ConflictError,
    FencedError,
    ForbiddenError,
    NotConnectedError,
    NotFoundError,
    RetryableError,
    TerminalError,
)
from schemas.keys import ObjectKey

BACKOFF_BASE = timedelta(milliseconds=5)
BACKOFF_CAP = timedelta(seconds=30)
FENCED_WAIT = timedelta(milliseconds=500)
"""A fenced worker drops its plan and looks again; the plan is only made anew once its group membership is certain."""
NOT_CONNECTED_WAIT = timedelta(seconds=30)
FORBIDDEN_BASE, FORBIDDEN_CAP = timedelta(seconds=1), timedelta(seconds=60)
"""What lifts a refusal (a role, a quota, an admission policy) is no object that any kind watches, so it is tried again: soon, because an API server that has
just started refuses until it has read its roles, then ever more slowly."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``retry_after`` None: no retry until something changes. ``verify``: observe from the API server next time. ``terminal``: show it in conditions.
    ``fatal``: this process must not go on."""

    retry_after: timedelta | None
    verify: bool = False
    terminal: bool = False
    fatal: bool = False


def backoff(key: ObjectKey, attempt: int, base: timedelta = BACKOFF_BASE, cap: timedelta = BACKOFF_CAP) -> timedelta:
    """The wait before attempt ``attempt`` + 1 (attempt counts from 1), between half and all of the doubled step."""
    step = min(base * (2 ** min(attempt - 1, 20)), cap)
    share = (zlib.crc32(f"{key}#{attempt}".encode()) & 0xFFFF) / 0xFFFF
    return timedelta(seconds=step.total_seconds() * (0.5 + share / 2))


def policy(error: BaseException, key: ObjectKey, attempt: int) -> Verdict:
    """Judge the failure of the ``attempt``-th run in a row of a key."""
    match error:
        case FencedError():
            return Verdict(FENCED_WAIT, verify=True)
        case ConflictError() | AlreadyExistsError() | NotFoundError():
            return Verdict(backoff(key, attempt), verify=True)
        case NotConnectedError():
            return Verdict(NOT_CONNECTED_WAIT)
        case RetryableError(after=after) if after is not None:
            return Verdict(max(after, backoff(key, attempt)))
        case ForbiddenError():
            return Verdict(backoff(key, attempt, FORBIDDEN_BASE, FORBIDDEN_CAP), terminal=True)
        case TerminalError():
            return Verdict(None, terminal=True)
        case _:
            return Verdict(backoff(key, attempt), verify=True)
