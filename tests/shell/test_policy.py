"""The one judge of errors, as a table."""

from __future__ import annotations

from datetime import timedelta

import pytest

from fleetwake.errors import (
    AlreadyExistsError,
    ConflictError,
    DecodeError,
    FencedError,
    ForbiddenError,
    InvalidError,
    NotConnectedError,
    NotFoundError,
    TerminalError,
    ThrottledError,
    UnavailableError,
)
from fleetwake.shell.policy import BACKOFF_BASE, BACKOFF_CAP, FENCED_WAIT, FORBIDDEN_BASE, FORBIDDEN_CAP, NOT_CONNECTED_WAIT, Verdict, backoff, policy
from schemas.keys import ObjectKey

KEY = ObjectKey("g", "Machine", "default", "m1")
AGAIN = backoff(KEY, 1)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        pytest.param(FencedError("x"), Verdict(FENCED_WAIT, verify=True), id="fenced: once membership is certain, from the API server"),
        pytest.param(ConflictError("x"), Verdict(AGAIN, verify=True), id="conflict: observe from the API server"),
        pytest.param(AlreadyExistsError("x"), Verdict(AGAIN, verify=True), id="already exists"),
        pytest.param(NotFoundError("x"), Verdict(AGAIN, verify=True), id="not found: the cache is stale"),
        pytest.param(UnavailableError("x"), Verdict(AGAIN, verify=True), id="unknown outcome: look before the next write"),
        pytest.param(UnavailableError("x", after=MINUTE), Verdict(MINUTE), id="unavailable for as long as the server says"),
        pytest.param(ThrottledError("x", after=MINUTE), Verdict(MINUTE), id="throttled: the server's delay"),
        pytest.param(ThrottledError("x", after=timedelta(0)), Verdict(AGAIN), id="throttled without delay: never at once"),
        pytest.param(NotConnectedError("x"), Verdict(NOT_CONNECTED_WAIT), id="not connected: its connect event wakes"),
        pytest.param(InvalidError("x"), Verdict(None, terminal=True), id="invalid: nothing until something changes"),
        pytest.param(DecodeError("x"), Verdict(None, terminal=True), id="unreadable"),
        pytest.param(TerminalError("x"), Verdict(None, terminal=True), id="terminal"),
        pytest.param(
            ForbiddenError("x"), Verdict(backoff(KEY, 1, FORBIDDEN_BASE, FORBIDDEN_CAP), terminal=True), id="forbidden: a role or quota is no object we watch"
        ),
        pytest.param(ZeroDivisionError("x"), Verdict(AGAIN, verify=True), id="a bug: backs off for ever"),
    ],
)
def test_verdicts(error: BaseException, verdict: Verdict) -> None:
    assert policy(error, KEY, 1) == verdict


def test_backoff_doubles_to_its_cap_and_never_above() -> None:
    waits = [backoff(KEY, attempt) for attempt in range(1, 40)]
    for attempt, wait in enumerate(waits, 1):
        step = min(BACKOFF_BASE * 2 ** (attempt - 1), BACKOFF_CAP)
        assert step / 2 <= wait <= step
    assert backoff(KEY, 10_000) <= BACKOFF_CAP


def test_what_is_forbidden_is_tried_again_after_a_second_then_ever_more_slowly_up_to_a_minute() -> None:
    first, tenth = (policy(ForbiddenError("x"), KEY, attempt).retry_after for attempt in (1, 10))
    assert first is not None and tenth is not None
    assert timedelta(seconds=0.5) <= first <= timedelta(seconds=1) and timedelta(seconds=30) <= tenth <= timedelta(seconds=60)


def test_keys_do_not_march_in_step() -> None:
    waits = {backoff(ObjectKey("g", "Machine", "default", f"m{number}"), 12) for number in range(200)}
    assert len(waits) > 190
    assert max(waits) - min(waits) > BACKOFF_CAP / 8


def test_the_same_attempt_of_a_key_waits_the_same() -> None:
    assert backoff(KEY, 5) == backoff(KEY, 5)
