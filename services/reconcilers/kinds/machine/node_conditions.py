"""NodeReady and NodeHealthy of a Machine: what its Node reports, or why nothing can be said about it.

Source: kinds.md §2 (conditions NodeReady, NodeHealthy), §18 (grace); Cluster API v1.14 machine controller status (reasons and messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from fleetwake.conditions import FALSE, NOT_YET_REPORTED, TRUE, UNKNOWN, ConditionValue, get, wire_time
from schemas.api.meta import ConditionStatus
from services.reconcilers.kinds.machine.observed import Node, Observed

CONNECTION_GRACE = timedelta(minutes=5)
FAILURES_BEFORE_JUDGEMENT = 5
TYPES = ("NodeReady", "NodeHealthy")
GOOD = {"Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)
_STATUSES: dict[str, ConditionStatus] = {"True": TRUE, "False": FALSE, "Unknown": UNKNOWN}
_READY_REASONS = {TRUE: "NodeReady", FALSE: "NodeNotReady", UNKNOWN: "NodeReadyUnknown"}

Pair = tuple[ConditionValue, ConditionValue]


def node_conditions(observed: Observed, provider_id: str) -> Pair:
    """NodeReady and NodeHealthy. ``provider_id`` is the one recorded on the Machine when this run is done."""
    cluster, workload = observed.cluster, observed.workload
    if cluster is None or not cluster.status.initialization.infrastructure_provisioned:
        return _both(UNKNOWN, "InspectionFailed", "Waiting for Cluster status.initialization.infrastructureProvisioned to be true")
    initialized = observed.control_plane_initialized
    if initialized is None:
        return _both(UNKNOWN, "InspectionFailed", "Waiting for Cluster control plane to be initialized")
    last = workload.last_probe_success
    if last is None and workload.consecutive_failures < FAILURES_BEFORE_JUDGEMENT:
        return _kept(observed) or _both(UNKNOWN, "ConnectionDown", "Remote connection not established yet")
    well = workload.connected and not workload.consecutive_failures
    if not well and observed.at - (initialized if last is None else max(last, initialized)) > CONNECTION_GRACE:
        return _both(UNKNOWN, "ConnectionDown", _last_probe(last))
    node = observed.node
    if provider_id and (not workload.connected or (node is None and not workload.watch_synced)):
        return _kept(observed) or _both(UNKNOWN, "ConnectionDown", _last_probe(last))
    return _without_node(observed, provider_id) if node is None or not provider_id else (_ready(node), _healthy(node))


def connection_deadline(observed: Observed) -> timedelta | None:
    """When a connection that is down now has been down for too long; None while it is up, or not expected, or already judged."""
    initialized = observed.control_plane_initialized
    workload = observed.workload
    if initialized is None or (workload.connected and not workload.consecutive_failures):
        return None
    last = workload.last_probe_success
    left = (initialized if last is None else max(last, initialized)) + CONNECTION_GRACE - observed.at
    return left + timedelta(seconds=1) if left >= timedelta(0) else None


def _both(status: ConditionStatus, reason: str, message: str) -> Pair:
    return ConditionValue("NodeReady", status, reason, message), ConditionValue("NodeHealthy", status, reason, message)


def _kept(observed: Observed) -> Pair | None:
    """What was told before, while a connection is only briefly away."""
    found = [get(observed.machine.status.conditions, type_) for type_ in TYPES]
    if any(one is None or one.reason == NOT_YET_REPORTED for one in found):
        return None
    ready, healthy = (ConditionValue(one.type, one.status, one.reason, one.message) for one in found if one is not None)
    return ready, healthy


def _last_probe(last: datetime | None) -> str:
    return f"Last successful probe at {wire_time(last)}" if last is not None else ""


def _without_node(observed: Observed, provider_id: str) -> Pair:
    machine = observed.machine
    ref = machine.status.node_ref
    if machine.metadata.deleting:
        if ref is not None:
            return _both(FALSE, "NodeDeleted", f"Node {ref.name} has been deleted")
        return _both(UNKNOWN, "NodeDoesNotExist", "Node does not exist")
    if ref is not None:
        return _both(FALSE, "NodeDeleted", f"Node {ref.name} has been deleted while the Machine still exists")
    if provider_id:
        return _both(UNKNOWN, "InspectionFailed", f"Waiting for a Node with spec.providerID {provider_id} to exist")
    return _both(UNKNOWN, "InspectionFailed", f"Waiting for {machine.spec.infrastructure_ref.kind} to report spec.providerID")


def _reported(node: Node) -> Mapping[str, Mapping[str, Any]]:
    return {one["type"]: one for one in node.get("status", {}).get("conditions") or ()}


def _ready(node: Node) -> ConditionValue:
    found = _reported(node).get("Ready")
    status = _STATUSES.get(str(found.get("status"))) if found is not None else None
    if found is None or status is None:
        return ConditionValue("NodeReady", UNKNOWN, "NodeReadyUnknown", "* Node.Ready: Condition not yet reported")
    text = found.get("message")
    message = f"* Node.Ready: {text}" if status != TRUE and text else ""
    try:
        since = _TIME.validate_python(found.get("lastTransitionTime"))
    except ValidationError:
        since = None
    return ConditionValue("NodeReady", status, _READY_REASONS[status], message, since)


def _healthy(node: Node) -> ConditionValue:
    """Ready, and no pressure of memory, disk or process identifiers."""
    found = _reported(node)
    lines, texts = [], []
    bad = unknown = False
    for type_, good in GOOD.items():
        one = found.get(type_)
        if one is None:
            lines.append(f"* Node.{type_}: Condition not yet reported")
            unknown = True
        elif one.get("status") != good:
            text = one.get("message") or f"Condition is {one.get('status')}"
            texts.append(text)
            lines.append(f"* Node.{type_}: {text}")
            unknown, bad = (True, bad) if one.get("status") == "Unknown" else (unknown, True)
    if len(texts) > 1 and len(set(texts)) == 1:
        lines = [f"* Node.AllConditions: {texts[0]}"]
    message = "\n".join(lines)
    if bad:
        return ConditionValue("NodeHealthy", FALSE, "NodeNotHealthy", message)
    if unknown:
        return ConditionValue("NodeHealthy", UNKNOWN, "NodeHealthyUnknown", message)
    return ConditionValue("NodeHealthy", TRUE, "NodeHealthy")
