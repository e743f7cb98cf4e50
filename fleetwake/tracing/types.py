"""What tracing shares with the shell, without importing it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
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


class Deletion(Enum):
    """What a change says of its object's deletion, which names no author: nothing, that it begins, or that it begins because an owner of it goes."""

    NONE = "none"
    BEGINS = "begins"
    FOLLOWS = "follows"


class Clock(Protocol):
    """The wall clock."""

    def now(self) -> datetime:
        """Now, UTC."""
        ...
