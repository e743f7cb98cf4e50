"""Whether an object is a node group that the bridge may serve, and why not: the condition NodeGroupReady.

One writer to a size: where the object, its Cluster or the API server names another, the bridge keeps its hands off. The API server knows by its field
managers who writes ``spec.replicas``: whoever declares it by server-side apply goes on declaring it, and whoever changed it last through the scale
subresource is taken for another autoscaler (kubectl aside, which is a person). ``TAKE_OVER`` on the object says that such an autoscaler has been switched
off.

Source: kinds.md §15, §0.5; roadmap.md row 19 (single writer); Cluster API v1.14 (replicas-managed-by, replicas of topologies).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue
from fleetwake.failing import INTERNAL_ERROR, explained
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine_pool import MachinePool
from services.autoscaler_bridge.kinds.node_group.bounds import BadBounds
from services.autoscaler_bridge.kinds.node_group.capacity import host_template
from services.autoscaler_bridge.kinds.node_group.observed import Observed, Scalable, Writer

NODE_GROUP_READY = "NodeGroupReady"
SERVED, INVALID_SIZE, ANOTHER_WRITER, REPLICAS_UNSET, CAPACITY_UNKNOWN = "Served", "InvalidSize", "AnotherWriter", "ReplicasUnset", "CapacityUnknown"
TAKE_OVER = "fleetwake.io/autoscaler-takes-over"
"""Annotation on the object: whoever scaled it before does so no more."""

NOT_MANAGED = "false"
MANAGER_PREFIX = "capi-autoscaler-bridge-"


def manager_of(model: Scalable | type[Scalable]) -> str:
    """The field manager for node groups of a kind."""
    return MANAGER_PREFIX + model.KIND.lower()


def standing(observed: Observed) -> ConditionValue | None:
    """What NodeGroupReady says; None where the object asks for no node group."""
    obj, bounds = observed.obj, observed.bounds
    if bounds is None:
        return None
    if isinstance(bounds, BadBounds):
        return _refused(INVALID_SIZE, bounds.message)
    other = next(_others(observed), "")
    if other:
        return _refused(ANOTHER_WRITER, other)
    if observed.failure is not None:
        return ConditionValue(NODE_GROUP_READY, UNKNOWN, INTERNAL_ERROR, explained(observed.failure))
    if obj.spec.replicas is None:
        return _refused(REPLICAS_UNSET, "spec.replicas is not set: admission or the object's controller sets it")
    if bounds.most == 0:
        return _refused(INVALID_SIZE, f"annotation {labels.AUTOSCALER_MAX_SIZE} is 0: the group can never have a Machine")
    if obj.spec.replicas == 0 and not (host := host_template(observed)).known:
        if host.unreadable:
            return _refused(CAPACITY_UNKNOWN, f"there is no Machine and what one would be cannot be read: {'; '.join(host.unreadable)}")
        ref = obj.spec.template.spec.infrastructure_ref
        text = (
            f"there is no Machine and nothing tells what one would be: {ref.kind} {ref.name} has no status.capacity with cpu and memory; "
            f"set annotations {labels.CAPACITY_PREFIX}cpu and {labels.CAPACITY_PREFIX}memory"
        )
        return _refused(CAPACITY_UNKNOWN, text)
    return ConditionValue(NODE_GROUP_READY, TRUE, SERVED)


def _refused(reason: str, message: str) -> ConditionValue:
    return ConditionValue(NODE_GROUP_READY, FALSE, reason, message)


def _others(observed: Observed) -> Iterator[str]:
    obj = observed.obj
    managed = obj.metadata.annotations.get(labels.REPLICAS_MANAGED_BY)
    if managed is not None and managed != NOT_MANAGED:
        yield f"annotation {labels.REPLICAS_MANAGED_BY} says that {managed or 'somebody else'} sets spec.replicas: remove it, or the bounds"
    if observed.cluster is not None and _topology_sets(obj, observed.cluster):
        yield f"the topology of Cluster {observed.cluster.name} sets the replicas of {obj.name}: leave them out there, or remove the bounds"
    taken_over = TAKE_OVER in obj.metadata.annotations
    for writer in observed.last_written or ():
        if writer.declares:
            yield f"{writer.name} declares spec.replicas by server-side apply: leave it out there, or remove the bounds"
        elif not taken_over:
            yield (
                f"{writer.name} scaled it through the scale subresource: two autoscalers on one group would undo each other. "
                f"Remove the bounds, or switch the other off and set annotation {TAKE_OVER}"
            )


def _topology_sets(obj: Scalable, cluster: Cluster) -> bool:
    if labels.TOPOLOGY_OWNED not in obj.metadata.labels or cluster.spec.topology is None:
        return False
    workers, pool = cluster.spec.topology.workers, isinstance(obj, MachinePool)
    name = obj.metadata.labels.get(labels.TOPOLOGY_POOL_NAME if pool else labels.TOPOLOGY_DEPLOYMENT_NAME)
    found = workers.machine_pools if pool else workers.machine_deployments
    return any(one.name == name and one.replicas is not None for one in found)


def writers_of(managed_fields: Any) -> tuple[Writer, ...]:
    """Who, beside us and people at kubectl, the API server names as owner of ``spec.replicas``; declarers first, by name."""
    found = set()
    for entry in managed_fields or ():
        spec = ((entry.get("fieldsV1") or {}).get("f:spec")) or {}
        name, declares = str(entry.get("manager", "")), entry.get("operation") == "Apply"
        if "f:replicas" not in spec or name.startswith(MANAGER_PREFIX):
            continue
        scales = entry.get("subresource") == "scale" and not name.startswith("kubectl")
        if declares or scales:
            found.add(Writer(name, declares))
    return tuple(sorted(found, key=lambda one: (not one.declares, one.name)))
