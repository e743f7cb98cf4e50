"""Whether a Machine is healthy: by its own conditions, by its Node, by how long it takes to get one.

Deadlines are exact: a status is bad from the first instant after its timeout, and the next such instant of any target is when to look again.

Source: kinds.md §5 step 3; Cluster API v1.14 MachineHealthCheck (order of judgement, reasons and messages of HealthCheckSucceeded).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, get
from fleetwake.plan import soonest
from schemas.api.core.v1beta2.machine import Machine
from services.remediation.kinds.machine_health_check.observed import CONTROL_PLANE_INITIALIZED, INFRASTRUCTURE_READY, Node, Observed

HEALTH_CHECK_SUCCEEDED = "HealthCheckSucceeded"
UNHEALTHY_MACHINE, UNHEALTHY_NODE = "UnhealthyMachine", "UnhealthyNode"
NODE_DELETED, NODE_STARTUP_TIMEOUT, HAS_ANNOTATION = "NodeDeleted", "NodeStartupTimeout", "HasRemediateAnnotation"
NODE_STARTUP_TIMEOUT_DEFAULT = timedelta(minutes=10)
AFTER = timedelta(milliseconds=1)
"""A deadline has passed when it is over, not when it is reached."""

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


class Held(NamedTuple):
    """A condition of a Machine or Node: its status, why, and since when."""

    status: str
    reason: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is found of one target. ``value`` is HealthCheckSucceeded as it is now, None while nothing can be said; ``wait`` is when that may change by time."""

    machine: Machine
    value: ConditionValue | None = None
    wait: timedelta | None = None

    @property
    def healthy(self) -> bool:
        """Found healthy."""
        return self.value is not None and self.value.status == TRUE

    @property
    def unhealthy(self) -> bool:
        """Found unhealthy."""
        return self.value is not None and self.value.status == FALSE


@dataclass(frozen=True, slots=True)
class _Found:
    """What one side, the Machine's or its Node's, says: what is wrong, or when it may be."""

    reason: str = ""
    texts: tuple[str, ...] = ()
    wait: timedelta | None = None


def judge(observed: Observed, machine: Machine) -> Verdict:
    """Judge one target."""
    if machine.annotated(labels.REMEDIATE_MACHINE):
        text = f"Health check failed: marked for remediation via {labels.REMEDIATE_MACHINE} annotation"
        return Verdict(machine, ConditionValue(HEALTH_CHECK_SUCCEEDED, FALSE, HAS_ANNOTATION, text))
    if not observed.initialized and labels.CONTROL_PLANE not in machine.metadata.labels:
        return Verdict(machine)
    if observed.since(INFRASTRUCTURE_READY) is None:
        return Verdict(machine)
    own, node = _machine(observed, machine), _node(observed, machine)
    if own.texts or node.texts:
        text = "Health check failed:\n" + "\n".join(f"  * {one}" for one in (*own.texts, *node.texts))
        return Verdict(machine, ConditionValue(HEALTH_CHECK_SUCCEEDED, FALSE, own.reason or node.reason, text))
    wait = soonest(own.wait, node.wait)
    if wait is not None or machine.metadata.deleting or observed.node(machine) is None:
        return Verdict(machine, wait=wait)
    return Verdict(machine, ConditionValue(HEALTH_CHECK_SUCCEEDED, TRUE, HEALTH_CHECK_SUCCEEDED))


def _machine(observed: Observed, machine: Machine) -> _Found:
    conditions = machine.status.conditions
    checks = []
    for one in observed.check.spec.checks.unhealthy_machine_conditions:
        held = get(conditions, one.type)
        if held is not None and held.last_transition_time is not None:
            checks.append((one.type, one.status, one.timeout_seconds, Held(held.status, held.reason, held.last_transition_time)))
    return _conditions(observed, checks, UNHEALTHY_MACHINE, "Machine")


def _node(observed: Observed, machine: Machine) -> _Found:
    ref, node = machine.status.node_ref, observed.node(machine)
    if ref is None:
        return _startup(observed, machine)
    if node is None:
        # absent from the records is not enough: who holds the connection must say so too
        gone = observed.workload.watch_synced and _told_deleted(machine)
        return _Found(NODE_DELETED, (f"Node {ref.name} has been deleted",)) if gone else _Found()
    checks = []
    for one in observed.check.spec.checks.unhealthy_node_conditions:
        held = _reported(node, one.type)
        if held is not None:
            checks.append((one.type, one.status, one.timeout_seconds, held))
    return _conditions(observed, checks, UNHEALTHY_NODE, "Node")


def _told_deleted(machine: Machine) -> bool:
    """Whether the Machine's own controller, which watches the Nodes, says that the Node has been deleted."""
    found = get(machine.status.conditions, "NodeHealthy")
    return found is not None and found.status == FALSE and found.reason == NODE_DELETED


def _reported(node: Node, type_: str) -> Held | None:
    """A condition of the Node; None when it has none of the type, or none that can be read."""
    found: Mapping[str, Any] | None = next((one for one in node.get("status", {}).get("conditions") or () if one.get("type") == type_), None)
    if found is None:
        return None
    try:
        since = _TIME.validate_python(found.get("lastTransitionTime"))
    except ValidationError:
        return None
    return Held(str(found.get("status")), str(found.get("reason") or ""), since)


def _conditions(observed: Observed, checks: Iterable[tuple[str, str, int, Held]], reason: str, of: str) -> _Found:
    """Which of the conditions have been bad for too long; else when the first will have been."""
    texts, waits = [], []
    for type_, bad, seconds, held in checks:
        if held.status != bad:
            continue
        timeout = timedelta(seconds=seconds)
        left = held.since + timeout - observed.at
        if left < timedelta(0):
            texts.append(f"Condition {type_} on {of} is reporting status {bad} with reason {held.reason} for more than {go_duration(timeout)}")
        else:
            waits.append(left + AFTER)
    return _Found(reason, tuple(texts)) if texts else _Found(wait=soonest(*waits))


def _startup(observed: Observed, machine: Machine) -> _Found:
    """Whether the Machine has been without a Node for too long, counted from the last thing that it had to wait for."""
    seconds = observed.check.spec.checks.node_startup_timeout_seconds
    timeout = timedelta(seconds=seconds) if seconds is not None else NODE_STARTUP_TIMEOUT_DEFAULT
    created = machine.metadata.creation_timestamp
    if not timeout or created is None:
        return _Found()
    provisioned = get(machine.status.conditions, INFRASTRUCTURE_READY)
    ready = provisioned.last_transition_time if provisioned is not None and provisioned.status == TRUE else None
    begins = max(time for time in (created, observed.since(CONTROL_PLANE_INITIALIZED), observed.since(INFRASTRUCTURE_READY), ready) if time is not None)
    left = begins + timeout - observed.at
    if left < timedelta(0):
        return _Found(NODE_STARTUP_TIMEOUT, (f"Node failed to report startup in {go_duration(timeout)}",))
    return _Found(wait=left + AFTER)


def go_duration(value: timedelta) -> str:
    """A duration of whole seconds as Go prints it (``5m0s``): messages are compared by other tools."""
    total = int(value.total_seconds())
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
