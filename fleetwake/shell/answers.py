"""From an API server's answer to one of our errors, or to the object it holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson

from fleetwake.errors import (
    AlreadyExistsError,
    ConflictError,
    FleetwakeError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    ThrottledError,
    UnavailableError,
    WatchExpiredError,
)
from fleetwake.shell.ports import Response


def body_of(response: Response) -> dict[str, Any]:
    """The JSON body; an empty mapping when it is not JSON."""
    try:
        parsed = orjson.loads(response.body)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def error_of(response: Response, operation: str) -> FleetwakeError | None:
    """The error an answer stands for; None for success (2xx)."""
    status = response.status
    if status < 300:
        return None
    body = body_of(response)
    message = str(body.get("message") or f"HTTP {status}")
    reason = str(body.get("reason", ""))
    if status == 409:
        return (AlreadyExistsError if reason == "AlreadyExists" else ConflictError)(message, operation=operation)
    if status == 404:
        return NotFoundError(message, operation=operation)
    if status == 410:
        return WatchExpiredError(message, operation=operation)
    if status in (401, 403):
        return ForbiddenError(message, operation=operation)
    if status == 429 or (status == 503 and "retry-after" in response.headers):
        return ThrottledError(message, operation=operation, after=timedelta(seconds=_seconds(response.headers.get("retry-after", ""))))
    if status >= 500 or status == 408:
        return UnavailableError(message, operation=operation)
    causes = tuple((str(cause.get("field", "")), str(cause.get("message", ""))) for cause in (body.get("details") or {}).get("causes") or ())
    if any(field == "metadata.uid" for field, _ in causes):
        # a patch whose uid is not the object's is answered so: the object was replaced (kube-apiserver 1.36)
        return ConflictError(message, operation=operation)
    return InvalidError(message, operation=operation, causes=causes)


def _seconds(text: str) -> float:
    try:
        return max(float(text), 0.0)
    except ValueError:
        return 1.0
