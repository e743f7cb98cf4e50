"""Status writes that only inform wait a moment: what a person reads may come a little later, what somebody waits for may not.

An object whose neighbours all move at once would otherwise write its status at each step of each of them: messages, reasons and counters that the
next change replaces. Decisions say of each write whether it only informs (``Apply.informs``). Such a write waits STATUS_DELAY, counted from when it was
first wanted; then, or with the first write of the object that somebody waits for, the newest state is told. However much moves, nothing is told later.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from fleetwake.plan import Apply, Plan, Step

STATUS_DELAY = timedelta(seconds=1)
CLOCK_STEP_SECONDS = 0.002
"""A timer may ring this much before its time."""


class HeldBack:
    """Until when one key's informing writes wait. Times are of the clock that counts suspension, in seconds."""

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due: float | None = None

    def split(self, plan: Plan, at: float) -> tuple[Plan, timedelta | None]:
        """The part of the plan to carry out now, and how long until the rest is due; None when nothing is held back."""
        if not any(_informs(step) for step in plan.steps):
            self._due = None
            return plan, None
        if self._due is None:
            self._due = at + STATUS_DELAY.total_seconds()
        if self.due(at):
            return plan, None
        return replace(plan, steps=tuple(step for step in plan.steps if not _informs(step))), timedelta(seconds=self._due - at)

    def due(self, at: float) -> bool:
        """Whether something held back is to be written now."""
        return self._due is not None and self._due <= at + CLOCK_STEP_SECONDS

    def told(self) -> None:
        """What was held back has been written."""
        self._due = None


def _informs(step: Step) -> bool:
    return isinstance(step, Apply) and step.informs
