"""DevCluster: the endpoint of an emulated cluster, and the load balancer at it if the spec asks for one.

Source: kinds.md §14; contracts.md §2; Cluster API v1.14 DevCluster (type and reasons of LoadBalancerAvailable).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, merge
from fleetwake.kind import Change, Kind, Lookup, View, Watch
from fleetwake.patches import MetadataChange, metadata_patch, status_apply, target, without_finalizer
from fleetwake.pausing import PAUSED, OwnedStatus, paused_condition, paused_plan
from fleetwake.plan import Local, Plan, Step
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.infrastructure.v1beta2 import DevCluster
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.dev_infrastructure.kinds.faults import faults
from services.dev_infrastructure.kinds.state import LOCAL, ClusterArguments, ClusterState
from services.dev_infrastructure.kinds.told import READY

MANAGER = "capi-devcluster"
LOAD_BALANCER_AVAILABLE = "LoadBalancerAvailable"
OWNED = OwnedStatus(MANAGER, ("initialization", "failureDomains"), (READY, LOAD_BALANCER_AVAILABLE, PAUSED), conditional=(LOAD_BALANCER_AVAILABLE,))
FAILURE_DOMAINS = "dev.fleetwake.io/failure-domains"
"""Annotation: the failure domains that the emulated infrastructure reports, comma separated; hosts can be anywhere. Read for kinds.md §14."""
CLUSTER = GroupKind(Cluster.GROUP, Cluster.KIND)


@dataclass(frozen=True, slots=True)
class Observed:
    """A DevCluster, its Cluster (None: not its owner yet, or gone), and the emulated cluster behind it (None: not made yet)."""

    at: datetime
    dev_cluster: DevCluster
    cluster: Cluster | None
    state: ClusterState | None


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read what a DevCluster is decided from."""
    found = view.get(DevCluster, key.namespace, key.name)
    if found is None:
        return None
    owner = next((ref for ref in found.metadata.owner_references if GroupKind(ref.group, ref.kind) == CLUSTER), None)
    cluster = view.get(Cluster, key.namespace, owner.name) if owner is not None else None
    states = view.local(LOCAL) or {}
    state = states.get(str(ClusterKey(key.namespace, owner.name))) if owner is not None else None
    return Observed(view.at, found, cluster, state if state is not None and state.uid == found.metadata.uid else None)


def reconcile(observed: Observed) -> Plan:
    """Decide what a DevCluster does next."""
    found, cluster = observed.dev_cluster, observed.cluster
    if cluster is not None:
        paused = paused_condition(found, cluster)
        if paused.status == TRUE:
            return paused_plan(found, found.status.conditions, paused, OWNED, observed.at)
    if found.metadata.deleting:
        return _deleted(found)
    if cluster is None or labels.MANAGED_BY in found.metadata.annotations:
        return Plan()
    if found.spec.backend.in_memory is None:
        return _told(observed, "only the inMemory backend is available here: set spec.backend.inMemory")
    state = observed.state
    if state is None or (state.faults, state.balancer) != (faults(found.metadata.annotations), load_balancer(found)):
        return Plan((ensure_cluster(found, cluster),))
    if state.failure or state.balancer_failure:
        told = _told(observed, state.failure or state.balancer_failure)
        return Plan((*told.steps, ensure_cluster(found, cluster)))
    return _provisioned(observed, state)


def load_balancer(found: DevCluster) -> str:
    """The type of the load balancer that a DevCluster asks for; "" for none."""
    backend = found.spec.backend.in_memory
    return backend.load_balancer.type if backend is not None and backend.load_balancer is not None else ""


def ensure_cluster(found: DevCluster, cluster: Cluster) -> Local:
    """The step that makes the emulated cluster; an endpoint already in the spec is the one to serve, else one that the user gave the Cluster."""
    given = found.spec.control_plane_endpoint
    endpoint = given if given.valid else cluster.spec.control_plane_endpoint
    key = str(ClusterKey(cluster.namespace, cluster.name))
    arguments = ClusterArguments(cluster=key, name=found.name, uid=found.metadata.uid, host=endpoint.host or "", port=endpoint.port or 0)
    arguments = arguments.model_copy(update={"balancer": load_balancer(found), "faults": faults(found.metadata.annotations)})
    return Local("ensure_cluster", "the cluster needs an endpoint", arguments.model_dump())


def _deleted(found: DevCluster) -> Plan:
    released = without_finalizer(target(found), labels.DEV_CLUSTER_FINALIZER, "the emulated cluster is gone")
    if released is None:
        return Plan()
    return Plan((Local("remove_cluster", "the DevCluster is being deleted", {"uid": found.metadata.uid}), released))


def _provisioned(observed: Observed, state: ClusterState) -> Plan:
    found = observed.dev_cluster
    finalizers = found.metadata.finalizers
    if labels.DEV_CLUSTER_FINALIZER not in finalizers:
        finalizers = (*finalizers, labels.DEV_CLUSTER_FINALIZER)
    spec = {} if found.spec.control_plane_endpoint.valid else {"controlPlaneEndpoint": {"host": state.host, "port": state.port}}
    patch = metadata_patch(target(found), MetadataChange(finalizers=finalizers), "the endpoint is reserved", spec=spec)
    told = _told(observed, "", found.metadata.generation + (1 if spec else 0))
    return Plan((*((patch,) if patch is not None else ()), *told.steps))


def _told(observed: Observed, failure: str, generation: int = 0) -> Plan:
    found = observed.dev_cluster
    values = [
        ConditionValue(READY, FALSE, "NotReady", failure) if failure else ConditionValue(READY, TRUE, "Ready"),
        ConditionValue(PAUSED, FALSE, "NotPaused"),
    ]
    if observed.state is not None and observed.state.balancer:
        values.insert(1, _load_balancer_told(observed.state))
    provisioned = not failure or bool(found.status.initialization.provisioned)
    status = {
        "initialization": {"provisioned": provisioned or None},
        "failureDomains": [{"name": name, "controlPlane": True} for name in failure_domains(found)] or None,
        "conditions": merge(found.status.conditions, values, generation or found.metadata.generation, observed.at),
    }
    step = status_apply(found, MANAGER, status)
    steps: tuple[Step, ...] = (step,) if step is not None else ()
    return Plan(steps)


def _load_balancer_told(state: ClusterState) -> ConditionValue:
    failure = state.failure or state.balancer_failure
    return ConditionValue(LOAD_BALANCER_AVAILABLE, FALSE, "NotAvailable", failure) if failure else ConditionValue(LOAD_BALANCER_AVAILABLE, TRUE, "Available")


def failure_domains(found: DevCluster) -> tuple[str, ...]:
    """The failure domains a DevCluster is told to have, each once, in order of name."""
    return tuple(sorted({name.strip() for name in found.metadata.annotations.get(FAILURE_DOMAINS, "").split(",")} - {""}))


def _of_cluster(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The DevCluster that a Cluster refers to."""
    ref = (change.state.get("spec") or {}).get("infrastructureRef") or {}
    if ref.get("kind") == DevCluster.KIND and ref.get("apiGroup") == DevCluster.GROUP:
        yield ObjectKey(DevCluster.GROUP, DevCluster.KIND, change.key.namespace, ref["name"])


def _cluster_matters(change: Change) -> bool:
    return change.before is None or change.after is None or change.differs("spec", "paused") or change.differs("spec", "infrastructureRef")


KIND: Kind[Observed] = Kind(
    model=DevCluster,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=(Watch(CLUSTER, _of_cluster, _cluster_matters),),
)
