"""From an API server's answer to one of our errors, or to the object it holds. Whatever client it came through.

Source: Kubernetes API conventions, HTTP status codes and the Status kind (1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import orjson

from fleetwake.errors import (
    AlreadyExistsError,
    ConflictError,
    FleetwakeError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TerminalError,
    ThrottledError,
    UnavailableError,
    WatchExpiredError,
)

QUOTED_BYTES_MAX = 500
THROTTLED_WAIT = timedelta(seconds=1)
"""The wait after a 429 that does not say how long."""

_SIMPLE: Mapping[int, type[FleetwakeError]] = {401: ForbiddenError, 403: ForbiddenError, 404: NotFoundError, 410: WatchExpiredError}


class Answer(Protocol):
    """What is read of an answer; header names in lower case, or found in any case."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def body(self) -> bytes:
        """The whole body."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""
        ...


def body_of(answer: Answer) -> dict[str, Any]:
    """The JSON body; an empty mapping when it is not a JSON object."""
    try:
        parsed = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def error_of(answer: Answer, operation: str) -> FleetwakeError | None:
    """The error an answer stands for; None for success (2xx). ``operation`` says what was being done."""
    status = answer.status
    if status < 300:
        return None
    body = body_of(answer)
    message, reason, causes = _message(answer, body), str(body.get("reason", "")), _causes(body)
    if status == 409:
        return (AlreadyExistsError if reason == "AlreadyExists" else ConflictError)(message, operation=operation)
    if status in (400, 413, 415, 422):
        if any(field == "metadata.uid" for field, _ in causes):
            # a patch whose uid is not the object's is answered so: the object was replaced (kube-apiserver 1.36)
            return ConflictError(message, operation=operation)
        return InvalidError(message, operation=operation, causes=causes)
    after = _retry_after(answer)
    if status == 429 or (status == 503 and after is not None):
        return ThrottledError(message, operation=operation, after=after if after is not None else THROTTLED_WAIT)
    if status >= 500 or status == 408:
        return UnavailableError(message, operation=operation, after=after)
    return _SIMPLE.get(status, TerminalError)(message, operation=operation)


def message_with_causes(answer: Answer) -> str:
    """What an answer says, with what its causes add: an eviction that a budget forbids names the budget only there."""
    body = body_of(answer)
    message = _message(answer, body)
    return " ".join([message, *(text for _, text in _causes(body) if text and text not in message)])


def _message(answer: Answer, body: Mapping[str, Any]) -> str:
    if body.get("message"):
        return str(body["message"])
    said = str(body.get("reason", "")) if body else answer.body[:QUOTED_BYTES_MAX].decode(errors="replace").strip()
    return f"HTTP {answer.status} {said}".strip()


def _causes(body: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    details = body.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    return tuple((str(cause.get("field", "")), str(cause.get("message", ""))) for cause in causes or () if isinstance(cause, dict))


def _retry_after(answer: Answer) -> timedelta | None:
    value = answer.headers.get("retry-after") or answer.headers.get("Retry-After") or ""
    try:
        return timedelta(seconds=max(float(value), 0.0)) if value else None
    except ValueError:
        return THROTTLED_WAIT
