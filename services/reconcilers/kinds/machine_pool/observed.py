"""What a decision about a MachinePool is made from.

Source: kinds.md §6 (what is read), §16 (what wakes it); contracts.md §4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from fleetwake import defaults, labels, names
from fleetwake.contracts import BootstrapConfig, InfraMachinePool
from fleetwake.kind import External, Failure, View, Workload
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference
from schemas.keys import ClusterKey, GroupKind, ObjectKey

Node = Mapping[str, Any]


@dataclass(frozen=True)
class Observed:
    """A MachinePool and all its decision reads.

    ``stored`` is the MachinePool as the API server has it, ``pool`` with the defaults filled in. ``machines`` are those that carry its label and that
    nobody else controls, by name, those being deleted included; ``taken`` are the names of all other Machines of the cluster. ``infra_machines``
    are the objects that the infrastructure has made for its hosts. ``*_readable``: the contract version of the referenced kind is known.
    """

    at: datetime
    stored: MachinePool
    pool: MachinePool
    cluster: Cluster | None
    bootstrap: BootstrapConfig | None = None
    bootstrap_readable: bool = True
    infra: InfraMachinePool | None = None
    infra_readable: bool = True
    machines: tuple[Machine, ...] = ()
    taken: frozenset[str] = frozenset()
    infra_machines: tuple[External, ...] = ()
    workload: Workload = field(default_factory=Workload)
    failure: Failure | None = None

    @property
    def cluster_key(self) -> ClusterKey:
        """The Cluster the MachinePool belongs to."""
        return ClusterKey(self.pool.namespace, self.pool.spec.cluster_name)

    @property
    def replicas(self) -> int:
        """How many hosts are wanted."""
        return self.pool.spec.replicas or 0

    @property
    def externally_managed(self) -> bool:
        """Whether the number of hosts is decided outside."""
        return defaults.replicas_managed_elsewhere(self.pool.metadata.annotations)

    @property
    def has_machines(self) -> bool:
        """Whether a Machine stands for each host: as the infrastructure says, else as there are some."""
        return bool(self.infra.machine_kind) if self.infra is not None else bool(self.machines)

    @property
    def nodes_known(self) -> bool:
        """Whether a Node that is not seen is not there."""
        return self.workload.connected and self.workload.watch_synced

    @cached_property
    def nodes(self) -> Mapping[str, Node]:
        """The Nodes by the identity of their host. Of an identity that two claim neither can be trusted."""
        found: dict[str, Node] = {}
        doubled: set[str] = set()
        for node in self.workload.nodes:
            identity = str(node.get("spec", {}).get("providerID") or "")
            if identity in found:
                doubled.add(identity)
            found[identity] = node
        return {identity: node for identity, node in found.items() if identity and identity not in doubled}


def pool_labels(pool: MachinePool) -> dict[str, str]:
    """The labels by which infrastructure machines and Machines are known to be of the pool."""
    return {labels.POOL_NAME: names.label_value(pool.name), labels.CLUSTER_NAME: pool.spec.cluster_name}


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a MachinePool and what belongs to it; None when it is gone."""
    stored = view.get(MachinePool, key.namespace, key.name)
    if stored is None:
        return None
    pool, namespace = defaults.machine_pool(stored), key.namespace
    spec = pool.spec.template.spec
    cluster_key = ClusterKey(namespace, pool.spec.cluster_name)
    bootstrap, bootstrap_readable = _referred(view, namespace, spec.bootstrap.config_ref)
    infra, infra_readable = _referred(view, namespace, spec.infrastructure_ref)
    pool_object = InfraMachinePool(infra) if infra is not None else None
    candidates = view.of_cluster(Machine, cluster_key)
    machines = tuple(one for one in candidates if _of(pool, one))
    return Observed(
        at=view.at,
        stored=stored,
        pool=pool,
        cluster=view.get(Cluster, namespace, pool.spec.cluster_name),
        bootstrap=BootstrapConfig(bootstrap) if bootstrap is not None else None,
        bootstrap_readable=bootstrap_readable,
        infra=pool_object,
        infra_readable=infra_readable,
        machines=machines,
        taken=frozenset(one.name for one in candidates) - {one.name for one in machines},
        infra_machines=_infra_machines(view, pool, pool_object),
        workload=view.workload(cluster_key),
        failure=view.failure(),
    )


def _of(pool: MachinePool, machine: Machine) -> bool:
    controller = machine.metadata.controller
    mine = controller is None or controller.uid == pool.metadata.uid
    return mine and machine.metadata.labels.get(labels.POOL_NAME) == names.label_value(pool.name)


def _referred(view: View, namespace: str, ref: ContractVersionedObjectReference | None) -> tuple[External | None, bool]:
    """The object behind a reference and whether its contract version is known."""
    if ref is None:
        return None, True
    kind = GroupKind(ref.api_group, ref.kind)
    return view.external(kind, namespace, ref.name), bool(view.api_version(kind))


def _infra_machines(view: View, pool: MachinePool, infra: InfraMachinePool | None) -> tuple[External, ...]:
    """The provider's objects for single hosts: of the kind its pool names, owned by it, and labelled as of this pool."""
    if infra is None or not infra.machine_kind:
        return ()
    wanted = pool_labels(pool)
    found = view.externals_owned(infra.obj.metadata.uid, GroupKind(infra.obj.key.group, infra.machine_kind))
    return tuple(one for one in found if wanted.items() <= one.metadata.labels.items())
