"""Failures that providers of older contracts call terminal: told on for who reads them, and nothing else. No decision rests on them.

A provider's object may say in ``status.failureReason`` and ``status.failureMessage`` that it gave up. Whoever refers to the object repeats that under
``status.deprecated.v1beta1`` for as long as it is said, and goes on as if it were not: what mends itself, or is mended, needs nobody's hand here.

Source: roadmap row 14; contracts.md §2 (terminal failures), §10; kinds.md §2 step 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetwake import contracts
from fleetwake.kind import External

INVALID_CONFIGURATION = "InvalidConfiguration"
"""The reason for an object that was there and is gone."""
MESSAGE_LENGTH_MAX = 10240


@dataclass(frozen=True, slots=True)
class Told:
    """A failure as it is told on; empty where there is none."""

    reason: str = ""
    message: str = ""

    def wire(self) -> dict[str, str | None]:
        """The fields of ``status.deprecated.v1beta1``."""
        return {"failureReason": self.reason or None, "failureMessage": self.message[:MESSAGE_LENGTH_MAX] or None}


def told_by(*objects: External | None) -> Told:
    """The failure of the first of the objects that tells one; its message names who does."""
    for obj in objects:
        if obj is None:
            continue
        reason, message = contracts.failure(obj)
        if reason or message:
            name = f"{obj.key.kind} {obj.key.namespace}/{obj.key.name}"
            return Told(reason, f"{name} reports a failure: {message}" if message else "")
    return Told()


def lost(kind: str, namespace: str, name: str) -> Told:
    """What is told of an infrastructure object that is gone although it was provisioned and its owner lives."""
    return Told(INVALID_CONFIGURATION, f"{kind} {namespace}/{name} was provisioned and does not exist any more")
