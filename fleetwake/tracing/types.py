"""What tracing shares with the shell, without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a key was woken: the trace to continue and the change at its root.

    ``traceparent`` is W3C; ``change`` names the change in words; ``intent`` is the trace id of the open intent, hex.
    """

    traceparent: str = ""
    change: str = ""
    intent: str = ""


NO_CAUSE = Cause()


class Clock(Protocol):
    """The wall clock."""

    def now(self) -> datetime:
        """Now, UTC."""
        ...
