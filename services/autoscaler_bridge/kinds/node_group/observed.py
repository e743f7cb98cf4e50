"""What a node group is decided from: its object, its Machines, the template of its hosts, who else writes its size, and what is asked of it.

The template is read from the cache and never confirmed: it is advice on what a host would be, and nothing harmful rests on it.

Source: kinds.md §15; contracts.md §3, §4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeAlias

from fleetwake import labels
from fleetwake.kind import External, Failure, View
from fleetwake.patches import key_of
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import GroupKind, ObjectKey
from services.autoscaler_bridge.kinds.node_group.bounds import BadBounds, Bounds, bounds_of
from services.autoscaler_bridge.kinds.node_group.wanted import Wanted

Scalable: TypeAlias = MachineDeployment | MachineSet | MachinePool
MODELS: tuple[type[MachineDeployment] | type[MachineSet] | type[MachinePool], ...] = (MachineDeployment, MachineSet, MachinePool)

REQUESTS, WRITERS, TEMPLATES = "requests", "writers", "templates"
"""Names of what the process offers to its kinds: what is asked of each group, who writes its size, and the templates in the cache."""

ReadTemplate: TypeAlias = Callable[[GroupKind, str, str], External | None]


@dataclass(frozen=True, slots=True)
class Writer:
    """Somebody else whom the API server names as owner of ``spec.replicas``. ``declares``: by server-side apply; else by the scale subresource."""

    name: str
    declares: bool


@dataclass(frozen=True, slots=True)
class Writers:
    """Who else writes the size, as the API server said of one generation of one object."""

    uid: str
    generation: int
    others: tuple[Writer, ...] = ()


@dataclass(frozen=True, slots=True)
class Observed:
    """An object that may be a node group.

    ``machines`` are its Machines by name; ``holders`` counts the MachineSets that have some; ``asked`` is oldest first.
    """

    at: datetime
    obj: Scalable
    cluster: Cluster | None = None
    machines: tuple[Machine, ...] = ()
    holders: int = 1
    template: External | None = None
    writers: Writers | None = None
    asked: tuple[Wanted, ...] = ()
    failure: Failure | None = None

    @property
    def key(self) -> ObjectKey:
        """The key of the object."""
        return key_of(self.obj)

    @property
    def bounds(self) -> Bounds | BadBounds | None:
        """The bounds; None where the object is no node group: a MachineSet's deployment is it."""
        return None if owned_by_deployment(self.obj) else bounds_of(self.obj.metadata.annotations)

    @property
    def live(self) -> tuple[Machine, ...]:
        """The Machines that stay."""
        return tuple(machine for machine in self.machines if not machine.metadata.deleting)

    @property
    def written(self) -> tuple[Writer, ...] | None:
        """Who else writes the size; None while the API server has not been asked since the object last changed."""
        known = self.writers
        return self.last_written if known is not None and known.generation >= self.obj.metadata.generation else None

    @property
    def last_written(self) -> tuple[Writer, ...] | None:
        """Who else wrote the size when the API server was asked last; None where this process never asked."""
        known = self.writers
        return known.others if known is not None and known.uid == self.obj.metadata.uid else None


def owned_by_deployment(obj: Scalable) -> bool:
    """Whether a MachineDeployment sets the object's size."""
    return any(ref.kind == MachineDeployment.KIND and ref.group == MachineDeployment.GROUP for ref in obj.metadata.owner_references)


def observe(view: View, model: type[Scalable], key: ObjectKey) -> Observed | None:
    """Read what may be a node group and what it depends on; None when it is gone."""
    obj = view.get(model, key.namespace, key.name)
    if obj is None:
        return None
    asked: Mapping[ObjectKey, Sequence[Wanted]] = view.local(REQUESTS) or {}
    writers: Mapping[ObjectKey, Writers] = view.local(WRITERS) or {}
    found = Observed(view.at, obj, writers=writers.get(key), asked=tuple(asked.get(key, ())), failure=view.failure())
    cluster = view.get(Cluster, key.namespace, obj.spec.cluster_name)
    if found.bounds is None and not found.asked:
        # most objects of a fleet: what they hold is not read
        return replace(found, cluster=cluster)
    sets = view.owned(MachineSet, obj.metadata.uid) if isinstance(obj, MachineDeployment) else ()
    members = [view.owned(Machine, one.metadata.uid) for one in sets] if isinstance(obj, MachineDeployment) else [view.owned(Machine, obj.metadata.uid)]
    read: ReadTemplate = view.local(TEMPLATES) or _none
    ref = obj.spec.template.spec.infrastructure_ref
    return Observed(
        at=view.at,
        obj=obj,
        cluster=cluster,
        machines=tuple(sorted((machine for some in members for machine in some), key=lambda machine: machine.name)),
        holders=sum(bool(some) for some in members),
        template=read(GroupKind(ref.api_group, ref.kind), key.namespace, ref.name),
        writers=found.writers,
        asked=found.asked,
        failure=found.failure,
    )


def _none(ref: GroupKind, namespace: str, name: str) -> External | None:
    return None


def registered(machine: Machine) -> bool:
    """Whether the Machine has become a Node."""
    return machine.status.node_ref is not None


def marked(machine: Machine) -> bool:
    """Whether the Machine is to go first when its group shrinks, whoever said so."""
    return labels.DELETE_MACHINE in machine.metadata.annotations
