"""Which changes wake a MachinePool.

Source: kinds.md §6 (triggers), §16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake import labels
from fleetwake.kind import ANY_KIND, CONNECTION, NODE, Change, Lookup, Watch, controller_owner, members_of_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.machine.watches import NOT_PROVIDERS, node_matters

POOL = GroupKind(MachinePool.GROUP, MachinePool.KIND)
_CONTROLLED = controller_owner(POOL)
_MEMBERS = members_of_cluster(POOL)


def _existence(change: Change) -> bool:
    return change.before is None or change.after is None or change.differs("metadata", "deletionTimestamp")


def _meta(change: Change) -> bool:
    return any(change.differs("metadata", name) for name in ("annotations", "finalizers", "labels", "ownerReferences"))


def own_change(change: Change) -> bool:
    """Whether a change of the MachinePool itself is more than our own status write."""
    return _existence(change) or change.differs("spec") or _meta(change)


def _labelled(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The pool whose label the object carries (before or after), for those that are not owned (yet)."""
    for state in (change.before, change.after):
        name = ((state or {}).get("metadata", {}).get("labels") or {}).get(labels.POOL_NAME)
        if name:
            yield ObjectKey(*POOL, change.key.namespace, str(name))


def _of_machine(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    return dict.fromkeys((*_CONTROLLED(change, lookup), *_labelled(change, lookup)))


def _machine_matters(change: Change) -> bool:
    if _existence(change) or _meta(change) or change.differs("spec"):
        return True
    return change.differs("status", "conditions") or change.differs("status", "nodeRef") or change.differs("status", "nodeInfo")


def _cluster_matters(change: Change) -> bool:
    return _existence(change) or change.differs("spec", "paused") or change.differs("metadata", "uid")


def _connected(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    return lookup.cluster_keys(POOL, ClusterKey(change.key.namespace, change.key.name))


def _of_node(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The pools that know a Node: by its identity, or by its name where it is recorded."""
    states = [state for state in (change.before, change.after) if state is not None]
    identities = {str(state.get("spec", {}).get("providerID") or "") for state in states} - {""}
    for key in _MEMBERS(change, lookup):
        pool = lookup.read(MachinePool, key)
        if pool is None:
            continue
        named = any(ref.name == change.key.name for ref in pool.status.node_refs)
        if named or identities & set(pool.spec.provider_id_list) or _hosts(lookup, pool, identities):
            yield key


def _hosts(lookup: Lookup, pool: MachinePool, identities: set[str]) -> bool:
    """Whether a Machine of the pool has one of the identities: its version is the Node's."""
    for key in lookup.owned_keys(GroupKind(Machine.GROUP, Machine.KIND), pool.metadata.uid):
        machine = lookup.read(Machine, key)
        if machine is not None and machine.spec.provider_id in identities:
            return True
    return False


def _referring(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The pool that owns a provider's object, refers to it, or whose host it stands for."""
    if change.key.group in NOT_PROVIDERS:
        return ()
    found = dict.fromkeys((*_CONTROLLED(change, lookup), *_labelled(change, lookup)))
    if not found:
        found.update((key, None) for key in _MEMBERS(change, lookup) if _refers(lookup.read(MachinePool, key), change.key))
    return found


def _refers(pool: MachinePool | None, key: ObjectKey) -> bool:
    spec = pool.spec.template.spec if pool is not None else None
    refs = (spec.bootstrap.config_ref, spec.infrastructure_ref) if spec is not None else ()
    return any(ref is not None and (ref.api_group, ref.kind, ref.name) == (key.group, key.kind, key.name) for ref in refs)


def _reference_matters(change: Change) -> bool:
    if _existence(change) or change.differs("spec") or _told(change.before) != _told(change.after):
        return True
    return change.differs("metadata", "labels") or change.differs("metadata", "ownerReferences")


def _told(state: Mapping[str, Any] | None) -> Any:
    """The status of a provider's object but for what only its own controller reads."""
    return {name: value for name, value in ((state or {}).get("status") or {}).items() if name not in ("observedGeneration", "instances")}


WATCHES = (
    Watch(GroupKind(Machine.GROUP, Machine.KIND), _of_machine, _machine_matters),
    Watch(GroupKind(Cluster.GROUP, Cluster.KIND), _MEMBERS, _cluster_matters),
    Watch(NODE, _of_node, node_matters),
    Watch(CONNECTION, _connected),
    Watch(ANY_KIND, _referring, _reference_matters),
)
