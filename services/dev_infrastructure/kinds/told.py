"""What all kinds tell alike: pausing, and a status that says no more than what they own.

Source: kinds.md §0.1 step 4; Cluster API v1.14 util/paused (message format).
"""

from __future__ import annotations

from datetime import datetime

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, Reasons, get, merge, order
from fleetwake.patches import api_version_of, key_of, status_kept
from fleetwake.plan import Apply, Plan
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.infrastructure.v1beta2 import DevCluster, DevMachine, DevMachinePool

PAUSED, READY = "Paused", "Ready"
READY_REASONS = Reasons("NotReady", "ReadyUnknown", "Ready")


def paused_condition(obj: DevCluster | DevMachine | DevMachinePool, cluster: Cluster) -> ConditionValue:
    """The Paused condition of an object of the cluster."""
    messages = []
    if cluster.spec.paused:
        messages.append("Cluster spec.paused is set to true")
    if obj.annotated(labels.PAUSED):
        messages.append(f"{obj.KIND} has the {labels.PAUSED} annotation")
    return ConditionValue(PAUSED, TRUE, "Paused", ", ".join(messages)) if messages else ConditionValue(PAUSED, FALSE, "NotPaused")


def paused_plan(
    obj: DevCluster | DevMachine | DevMachinePool, condition: ConditionValue, owned: tuple[str, tuple[str, ...], tuple[str, ...]], at: datetime
) -> Plan:
    """The plan of a paused object: tell it once. ``owned``: the field manager, its fields of status, its condition types."""
    stored = obj.status.conditions
    have = get(stored, PAUSED)
    if have is not None and (have.status, have.reason, have.message) == (condition.status, condition.reason, condition.message):
        return Plan()
    manager, fields, types = owned
    status = status_kept(obj, fields, tuple(one for one in types if one != PAUSED))
    flipped = merge(stored, (condition,), obj.metadata.generation, at)
    status["conditions"] = sorted((*status["conditions"], *flipped), key=lambda one: order(one["type"]))
    reason = "paused: " + condition.message
    return Plan((Apply(key_of(obj), api_version_of(obj), obj.metadata.uid, {"status": status}, reason, manager, "status"),))
