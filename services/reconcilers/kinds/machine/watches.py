"""Which changes wake a Machine.

Source: kinds.md §16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake import labels
from fleetwake.kind import ANY_KIND, CONNECTION, NODE, Change, Lookup, Watch, members_of_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_drain_rule import MachineDrainRule
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.meta import KubeObject
from schemas.keys import ClusterKey, GroupKind, ObjectKey

MACHINE = GroupKind(Machine.GROUP, Machine.KIND)
HEALTH, REMEDIATED = "HealthCheckSucceeded", "OwnerRemediated"
NOT_PROVIDERS = ("", MACHINE.group, CONNECTION.group)
"""API groups no Machine refers to: their changes are not worth a search."""


def _of(model: type[KubeObject]) -> GroupKind:
    return GroupKind(model.GROUP, model.KIND)


def _existence(change: Change) -> bool:
    return change.before is None or change.after is None or change.differs("metadata", "deletionTimestamp")


def _meta(change: Change, *names: str) -> bool:
    return any(change.differs("metadata", name) for name in names)


def own_change(change: Change) -> bool:
    """Whether a change of the Machine itself is more than our own status write: metadata, spec, its health check or a readiness gate."""
    if _existence(change) or change.differs("spec") or _meta(change, "annotations", "finalizers", "labels", "ownerReferences"):
        return True
    return _gates(change.before, change.state) != _gates(change.after, change.state)


def _gates(state: Mapping[str, Any] | None, machine: Mapping[str, Any]) -> list[Any]:
    wanted = {HEALTH, REMEDIATED, *(gate["conditionType"] for gate in machine.get("spec", {}).get("readinessGates") or ())}
    return [one for one in _conditions(state) if one["type"] in wanted]


def _conditions(state: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    return ((state or {}).get("status") or {}).get("conditions") or ()


def _cluster_matters(change: Change) -> bool:
    """A Cluster's pause, deletion, labels and first steps are all a Machine reads of it."""
    if _existence(change) or change.differs("spec", "paused") or change.differs("metadata", "labels"):
        return True
    if change.differs("spec", "controlPlaneRef") or change.differs("status", "initialization", "infrastructureProvisioned"):
        return True
    return bool(_initialized(change.before) != _initialized(change.after))


def _initialized(state: Mapping[str, Any] | None) -> Any:
    return next(((one.get("status"), one.get("lastTransitionTime")) for one in _conditions(state) if one["type"] == "ControlPlaneInitialized"), None)


def _members(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Machines of the Cluster whose key the change bears (the Cluster itself, its connection)."""
    return lookup.cluster_keys(MACHINE, ClusterKey(change.key.namespace, change.key.name))


def _of_set(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    return lookup.owned_keys(MACHINE, change.state["metadata"].get("uid", ""))


def _of_deployment(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    for key in members_of_cluster(MACHINE)(change, lookup):
        machine = lookup.read(Machine, key)
        if machine is not None and machine.metadata.labels.get(labels.DEPLOYMENT_NAME) == change.key.name:
            yield key


def _maker_matters(change: Change) -> bool:
    """Template, revision and when to roll out: what decides whether a Machine is up to date."""
    if _existence(change) or change.differs("spec", "template", "spec") or change.differs("spec", "rollout"):
        return True
    return change.differs("metadata", "annotations", labels.REVISION) or change.differs("metadata", "labels", labels.DEPLOYMENT_NAME)


def _of_node(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Machine of a Node: by provider identity, else by name."""
    states = [state for state in (change.before, change.after) if state is not None]
    identities = {state.get("spec", {}).get("providerID") for state in states} - {None, ""}
    for key in members_of_cluster(MACHINE)(change, lookup):
        machine = lookup.read(Machine, key)
        if machine is None:
            continue
        ref = machine.status.node_ref
        if machine.spec.provider_id in identities or (ref is not None and ref.name == change.key.name):
            yield key


def node_matters(change: Change) -> bool:
    """Whether a Node changed in more than its heartbeat."""
    if _existence(change) or change.differs("spec") or _meta(change, "labels", "annotations"):
        return True
    if change.differs("status", "nodeInfo") or change.differs("status", "volumesAttached"):
        return True
    return _reports(change.before) != _reports(change.after)


def _reports(state: Mapping[str, Any] | None) -> list[tuple[Any, ...]]:
    return [tuple(one.get(name) for name in ("type", "status", "message", "lastTransitionTime")) for one in _conditions(state)]


def _deleting(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Machines of the namespace that are being deleted: only they read drain rules."""
    for key in lookup.namespace_keys(MACHINE, change.key.namespace):
        machine = lookup.read(Machine, key)
        if machine is not None and machine.metadata.deleting:
            yield key


def _referring(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The Machines that own a provider's object or refer to it."""
    found: dict[ObjectKey, None] = {}
    if change.key.group in NOT_PROVIDERS:
        return found
    for state in (change.before, change.after):
        for ref in (state or {}).get("metadata", {}).get("ownerReferences") or ():
            if ref["kind"] == MACHINE.kind and ref["apiVersion"].rpartition("/")[0] == MACHINE.group:
                found[ObjectKey(*MACHINE, change.key.namespace, ref["name"])] = None
    if not found:
        found.update((key, None) for key in members_of_cluster(MACHINE)(change, lookup) if _refers(lookup.read(Machine, key), change.key))
    return found


def _refers(machine: Machine | None, key: ObjectKey) -> bool:
    refs = (machine.spec.bootstrap.config_ref, machine.spec.infrastructure_ref) if machine is not None else ()
    return any(ref is not None and (ref.api_group, ref.kind, ref.name) == (key.group, key.kind, key.name) for ref in refs)


def _reference_matters(change: Change) -> bool:
    if _existence(change) or change.differs("spec") or change.differs("status"):
        return True
    return _meta(change, "labels", "ownerReferences") or change.differs("metadata", "annotations", labels.CERTIFICATES_EXPIRY)


WATCHES = (
    Watch(_of(Cluster), _members, _cluster_matters),
    Watch(_of(MachineSet), _of_set, _maker_matters),
    Watch(_of(MachineDeployment), _of_deployment, _maker_matters),
    Watch(NODE, _of_node, node_matters),
    Watch(CONNECTION, _members),
    Watch(_of(MachineDrainRule), _deleting),
    Watch(ANY_KIND, _referring, _reference_matters),
)
