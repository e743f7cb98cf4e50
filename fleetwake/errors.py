"""The errors of fleetwake, by what to do about them. ``fleetwake.shell.policy`` is the only place that judges them.

FleetwakeError
├── RetryableError            wait, then try again
│   ├── ConflictError         409: observe again, from the API server
│   ├── ThrottledError        429 (or 503 with Retry-After): the server's delay
│   ├── UnavailableError      5xx, no connection, no answer: unknown outcome
│   └── NotConnectedError     the workload cluster is not connected; its connect event wakes the key
├── TerminalError             no retry until something changes
│   ├── InvalidError          422 / 400
│   ├── ForbiddenError        403 / 401
│   ├── DecodeError           an object or record that cannot be read
│   └── SettingsError         a setting is unknown, contradicts another, or names a file that cannot be used
├── NotFoundError             404
├── AlreadyExistsError        409 AlreadyExists
├── WatchExpiredError         410: list again
└── FencedError               this process may no longer write
"""

from __future__ import annotations

from datetime import timedelta


class FleetwakeError(Exception):
    """Base of all errors. ``operation`` says what was being done (``patch Machine default/m1``)."""

    def __init__(self, message: str, *, operation: str = "") -> None:
        super().__init__(f"{operation}: {message}" if operation else message)
        self.message = message
        self.operation = operation


class RetryableError(FleetwakeError):
    """Worth another attempt, not before ``after`` if given."""

    def __init__(self, message: str, *, operation: str = "", after: timedelta | None = None) -> None:
        super().__init__(message, operation=operation)
        self.after = after


class ConflictError(RetryableError):
    """The object changed under us (resourceVersion or uid)."""


class ThrottledError(RetryableError):
    """The server asked to slow down."""


class UnavailableError(RetryableError):
    """The server failed or did not answer: whether the request took effect is unknown."""


class NotConnectedError(RetryableError):
    """No connection to the workload cluster."""


class TerminalError(FleetwakeError):
    """Trying again without a change cannot help."""


class InvalidError(TerminalError):
    """The API server rejected the content. ``causes`` are (field path, message) pairs."""

    def __init__(self, message: str, *, operation: str = "", causes: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message, operation=operation)
        self.causes = causes


class ForbiddenError(TerminalError):
    """The account lacks the permission, or admission refused."""


class DecodeError(TerminalError):
    """Something that came in cannot be read as what it claims to be."""


class SettingsError(TerminalError):
    """A setting is unknown, has no meaning, or contradicts another; the message names the variable and the remedy, and holds no secret."""


class NotFoundError(FleetwakeError):
    """The object does not exist."""


class AlreadyExistsError(FleetwakeError):
    """A create found the name taken."""


class WatchExpiredError(FleetwakeError):
    """The watch's resourceVersion is too old."""


class FencedError(FleetwakeError):
    """The group membership of this worker may have lapsed; nothing may be sent."""
