"""Which changes wake a DevMachinePool.

Source: kinds.md §14, §16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake import labels
from fleetwake.conditions import TRUE
from fleetwake.kind import Change, Lookup, Watch, any_owner, members_of_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.infrastructure.v1beta2 import DevMachine, DevMachinePool
from schemas.keys import GroupKind, ObjectKey

DEV_MACHINE_POOL = GroupKind(DevMachinePool.GROUP, DevMachinePool.KIND)
POOL = GroupKind(MachinePool.GROUP, MachinePool.KIND)


def _existence(change: Change) -> bool:
    return change.before is None or change.after is None or change.differs("metadata", "deletionTimestamp")


def _of_pool(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The DevMachinePool that a MachinePool refers to."""
    spec = ((change.state.get("spec") or {}).get("template") or {}).get("spec") or {}
    ref = spec.get("infrastructureRef") or {}
    if (ref.get("apiGroup"), ref.get("kind")) == DEV_MACHINE_POOL:
        yield ObjectKey(*DEV_MACHINE_POOL, change.key.namespace, ref["name"])


def _pool_matters(change: Change) -> bool:
    return _existence(change) or change.differs("spec") or change.differs("metadata", "annotations")


def _of_machine(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The DevMachinePool of the pool whose label a Machine carries."""
    name = (change.state["metadata"].get("labels") or {}).get(labels.POOL_NAME)
    pool = lookup.read(MachinePool, ObjectKey(*POOL, change.key.namespace, str(name))) if name else None
    ref = pool.spec.template.spec.infrastructure_ref if pool is not None else None
    if ref is not None and (ref.api_group, ref.kind) == DEV_MACHINE_POOL:
        yield ObjectKey(*DEV_MACHINE_POOL, change.key.namespace, ref.name)


def _machine_matters(change: Change) -> bool:
    if _existence(change) or change.differs("metadata", "annotations") or change.differs("metadata", "ownerReferences"):
        return True
    return _available(change.before) != _available(change.after)


def _available(state: Mapping[str, Any] | None) -> bool:
    conditions = ((state or {}).get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Available" and one["status"] == TRUE for one in conditions)


def _host_matters(change: Change) -> bool:
    if _existence(change) or change.differs("spec", "providerID") or change.differs("metadata", "ownerReferences"):
        return True
    return change.differs("status", "initialization") or change.differs("status", "addresses")


def _of_host(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The pool that owns a DevMachine; by its label where it has lost the owner."""
    return dict.fromkeys((*any_owner(DEV_MACHINE_POOL)(change, lookup), *_of_machine(change, lookup)))


def _cluster_matters(change: Change) -> bool:
    return _existence(change) or change.differs("spec", "paused") or change.differs("status", "initialization", "infrastructureProvisioned")


WATCHES = (
    Watch(POOL, _of_pool, _pool_matters),
    Watch(GroupKind(DevMachine.GROUP, DevMachine.KIND), _of_host, _host_matters),
    Watch(GroupKind(Machine.GROUP, Machine.KIND), _of_machine, _machine_matters),
    Watch(GroupKind(Cluster.GROUP, Cluster.KIND), members_of_cluster(DEV_MACHINE_POOL), _cluster_matters),
)
