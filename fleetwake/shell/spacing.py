"""Status writes that only inform are spaced: what a person reads may come a moment later, what another decision waits for may not.

An object whose neighbours all move at once would otherwise write its status at each step of each of them: messages, reasons and counters that the
next change replaces. A write *informs* when it changes no latch, no condition to or from True, and nothing beside conditions and the counters of a
Cluster. It waits until STATUS_SPACING has passed since the key's last status write; the newest state is then written once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fleetwake.plan import Apply, Plan
from schemas.keys import ObjectKey

STATUS_SPACING = timedelta(seconds=1)
COUNTERS = ("controlPlane", "workers", "observedGeneration", "lastUpdated")
"""Status fields that sum up what other objects say: no decision waits for them."""


def informs(plan: Plan, key: ObjectKey, state: Mapping[str, Any]) -> bool:
    """Whether all that a plan writes is the status of its own object, and that write only informs."""
    for step in plan.steps:
        if not isinstance(step, Apply) or step.subresource != "status" or step.key != key:
            return False
        if not _informs(state.get("status") or {}, step.body.get("status") or {}):
            return False
    return bool(plan.steps)


def _informs(held: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    if not held:
        return False
    for name, value in wanted.items():
        if name == "conditions":
            before = {condition["type"]: condition["status"] for condition in held.get("conditions") or ()}
            for condition in value:
                was = before.get(condition["type"], "")
                if condition["status"] != was and "True" in (condition["status"], was):
                    return False
        elif name not in COUNTERS and held.get(name) != value:
            return False
    return True
