"""What an object tells when its controller cannot do its work: a write that was refused for good, or an object that cannot be read.

Shared by the kinds of all services; pure. Nothing else would tell: a run that ends so writes no other status.

Source: kinds.md §1, §2 (reason InternalError); Cluster API v1.14 conditions with status Unknown while a controller cannot judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fleetwake.conditions import MESSAGE_LENGTH_MAX, UNKNOWN, ConditionValue, merge, order, wire_time
from fleetwake.kind import Failure, Unread
from fleetwake.pausing import OwnedStatus
from fleetwake.plan import Apply, Plan

INTERNAL_ERROR = "InternalError"
"""The reason of a condition that tells of a failure of ours."""

LOOK_AGAIN = timedelta(seconds=30)
"""When to try to read again: the object that cannot be read may be one whose repair wakes nobody."""


def explained(failure: Failure) -> str:
    """A failure as conditions word it: what was done to which object, what was wrong, and what to do."""
    fields = ", ".join(dict.fromkeys(field for field, _ in failure.causes if field))
    remedy = f"correct {fields}" if fields else "remove what the message names; any change here tries again"
    return f"{failure.operation}: {failure.message}: {remedy}"


def with_failure(told: ConditionValue, failure: Failure | None) -> ConditionValue:
    """A summary with the failure as one more bullet. The verdict stays: a write that fails takes no working Machine out of service, nor out of a rollout."""
    if failure is None:
        return told
    return replace(told, message="\n".join(filter(None, (told.message, f"* {INTERNAL_ERROR}: {explained(failure)}"))))


def telling(owned: OwnedStatus, api_version: str, *types: str) -> Callable[[Unread], Plan]:
    """The plan of a kind for an object whose observation cannot be read: the conditions of ``types`` tell it, all else of the status stays."""

    def unreadable(unread: Unread) -> Plan:
        stored: Mapping[str, Any] = unread.state.get("status") or {}
        kept = {one["type"]: one for one in stored.get("conditions") or () if one.get("type") in owned.condition_types}
        told = {type_: _told(unread, type_, kept.get(type_)) for type_ in types}
        untold = owned.untold(kept.keys() | told.keys())
        if not untold and all(kept.get(type_) == condition for type_, condition in told.items()):
            return Plan(requeue_after=LOOK_AGAIN)
        status = {name: stored[name] for name in owned.fields if name in stored}
        absent = merge((), untold, unread.state["metadata"].get("generation", 0), unread.at)
        status["conditions"] = sorted((*(kept | told).values(), *absent), key=lambda one: order(one["type"]))
        step = Apply(
            key=unread.key,
            api_version=api_version,
            uid=str(unread.state["metadata"]["uid"]),
            body={"status": status},
            reason=f"cannot be read: {unread.failure.operation}",
            manager=owned.manager,
            subresource="status",
        )
        return Plan((step,), LOOK_AGAIN)

    return unreadable


def _told(unread: Unread, type_: str, stored: Mapping[str, Any] | None) -> dict[str, Any]:
    since = stored.get("lastTransitionTime") if stored is not None and stored.get("status") == UNKNOWN else None
    return {
        "type": type_,
        "status": UNKNOWN,
        "observedGeneration": unread.state["metadata"].get("generation", 0),
        "lastTransitionTime": since or wire_time(unread.at),
        "reason": INTERNAL_ERROR,
        "message": f"{unread.failure.operation}: {unread.failure.message}"[:MESSAGE_LENGTH_MAX],
    }
