"""The hosts of a DevMachinePool: how many there shall be, where, and which of them go first.

Source: contracts.md §4 (delete-machine has precedence); kinds.md §3 (what is broken goes before what works); Cluster API v1.14 development provider.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleetwake import defaults, labels, names
from fleetwake.conditions import is_false, is_true
from fleetwake.kind import View
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.infrastructure.v1beta2 import DevMachine, DevMachinePool
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.dev_infrastructure.kinds.birth import REVISION, Birth, birth_of

POOL = GroupKind(MachinePool.GROUP, MachinePool.KIND)
REPLICAS = "dev.fleetwake.io/replicas"
"""Annotation on a DevMachinePool whose MachinePool is marked replicas-managed-by: what the emulated cloud's own autoscaler wants."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host by its DevMachine, and the Machine that stands for it (None: still to come)."""

    dev: DevMachine
    machine: Machine | None

    @property
    def name(self) -> str:
        """The host's name."""
        return self.dev.name

    @property
    def revision(self) -> str:
        """What it was made as."""
        return self.dev.metadata.annotations.get(REVISION, "")

    @property
    def provisioned(self) -> bool:
        """Whether the host runs."""
        return bool(self.dev.status.initialization.provisioned)

    @property
    def available(self) -> bool:
        """Whether its Node can be counted on."""
        return self.machine is not None and is_true(self.machine.status.conditions, "Available")

    @property
    def broken(self) -> bool:
        """Whether nothing is lost with it: it has no Node yet, or that is known to be unhealthy. What merely cannot be seen is not broken."""
        if self.machine is None or not self.provisioned:
            return True
        told = self.machine.status
        return told.node_ref is None or is_false(told.conditions, "NodeHealthy") or is_false(told.conditions, "HealthCheckSucceeded")

    @property
    def going(self) -> bool:
        """Whether it has been asked to go."""
        return self.dev.metadata.deleting or (self.machine is not None and self.machine.metadata.deleting)


@dataclass(frozen=True, slots=True)
class Observed:
    """A DevMachinePool with its surroundings. ``hosts`` are all its DevMachines by name, ``machines`` the Machines of its MachinePool that stand for
    DevMachines, ``taken`` the names of all DevMachines and Machines of the cluster.
    """

    at: datetime
    found: DevMachinePool
    pool: MachinePool | None
    cluster: Cluster | None
    hosts: tuple[Host, ...] = ()
    machines: tuple[Machine, ...] = ()
    taken: frozenset[str] = frozenset()

    @property
    def living(self) -> tuple[Host, ...]:
        """The hosts that have not been asked to go."""
        return tuple(host for host in self.hosts if not host.going)

    @property
    def externally_managed(self) -> bool:
        """Whether the emulated cloud decides the number of hosts."""
        return self.pool is not None and defaults.replicas_managed_elsewhere(self.pool.metadata.annotations)


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read what a DevMachinePool is decided from."""
    found = view.get(DevMachinePool, key.namespace, key.name)
    if found is None:
        return None
    owner = next((ref for ref in found.metadata.owner_references if GroupKind(ref.group, ref.kind) == POOL), None)
    stored = view.get(MachinePool, key.namespace, owner.name) if owner is not None else None
    if stored is None:
        return Observed(view.at, found, None, None, tuple(Host(dev, None) for dev in view.owned(DevMachine, found.metadata.uid)))
    pool = defaults.machine_pool(stored)
    cluster_key = ClusterKey(key.namespace, pool.spec.cluster_name)
    devs, machines = view.of_cluster(DevMachine, cluster_key), view.of_cluster(Machine, cluster_key)
    mine = tuple(one for one in machines if _controlled(one, pool) and one.spec.infrastructure_ref.kind == DevMachine.KIND)
    by_host = {one.spec.infrastructure_ref.name: one for one in mine}
    label = names.label_value(pool.name)
    hosts = tuple(Host(dev, by_host.get(dev.name)) for dev in devs if dev.metadata.labels.get(labels.POOL_NAME) == label)
    taken = frozenset(one.name for one in devs) | {one.name for one in machines}
    return Observed(view.at, found, pool, view.get(Cluster, key.namespace, pool.spec.cluster_name), hosts, mine, taken)


def _controlled(machine: Machine, pool: MachinePool) -> bool:
    controller = machine.metadata.controller
    return controller is not None and controller.uid == pool.metadata.uid


def replicas(observed: Observed, pool: MachinePool) -> int:
    """How many hosts are wanted: as the MachinePool says, or the emulated cloud's own autoscaler where the pool leaves that to it."""
    text = observed.found.metadata.annotations.get(REPLICAS, "")
    if observed.externally_managed and text.isdecimal():
        return int(text)
    return pool.spec.replicas or 0


def zones(observed: Observed, pool: MachinePool, revision: str) -> Iterator[str]:
    """The failure domains of hosts to be made, so that those of one kind are spread evenly; "" for a pool without any."""
    if not pool.spec.failure_domains:
        while True:
            yield ""
    held = Counter(birth_of(host.dev).zone for host in observed.living if host.revision == revision)
    while True:
        least = min(sorted(pool.spec.failure_domains), key=lambda zone: held[zone])
        held[least] += 1
        yield least


def difference(host: Host, wanted: Birth) -> str:
    """In words, what a host of another revision is and what one made now would be."""
    was = birth_of(host.dev)
    told = [f"Version {was.version or 'none'}, {wanted.version or 'none'} required"] if was.version != wanted.version else []
    told += [f"bootstrap data {was.secret or 'none'}, {wanted.secret or 'none'} required"] if was.secret != wanted.secret else []
    return f"of another revision: {'; '.join(told) or 'its backend changed'}"


def surplus(living: Sequence[Host], revision: str, wanted: int, at: datetime) -> tuple[Host, ...]:
    """The hosts to go: those too many of the present kind, and those of other kinds that the pool can spare."""
    current = _in_order([host for host in living if host.revision == revision], at)
    outdated = _in_order([host for host in living if host.revision != revision], at)
    going = current[: max(len(current) - wanted, 0)]
    spare = sum(host.available for host in (*current[len(going) :], *outdated)) - wanted
    for host in outdated:
        if host.broken or spare > 0:
            going.append(host)
            spare -= host.available
    return tuple(going)


def _in_order(hosts: Sequence[Host], at: datetime) -> list[Host]:
    """First to go first: those asked for by name, those that are not available, then the oldest; equals by name."""

    def rank(host: Host) -> tuple[bool, bool, datetime, str]:
        marked = host.machine is not None and host.machine.annotated(labels.DELETE_MACHINE)
        return not marked, host.available, host.dev.metadata.creation_timestamp or at, host.name

    return sorted(hosts, key=rank)
