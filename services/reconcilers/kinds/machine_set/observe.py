"""What a MachineSet's decision reads, as one frozen snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fleetwake import defaults, labels
from fleetwake.kind import External, Failure, View
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference
from schemas.api.meta import KubeObject
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.machine_set import members


@dataclass(frozen=True, slots=True)
class Observed:
    """A MachineSet and all its decision reads.

    ``stored`` is the MachineSet as the API server has it, ``machine_set`` with the defaults filled in. ``machines`` are those the selector matches
    and no other controller holds, by name, those being deleted included; ``child_uids`` are the uids of these and of every other Machine that names
    the MachineSet as owner; ``taken`` are the names of all Machines of the cluster. ``objects`` holds the infrastructure and bootstrap objects that
    exist, by key; ``own_objects`` those still owned by the MachineSet itself. ``deployment`` is None for a MachineSet of no deployment (or while
    its deployment is missing).
    """

    at: datetime
    stored: MachineSet
    machine_set: MachineSet
    cluster: Cluster | None
    deployment: MachineDeployment | None = None
    machines: tuple[Machine, ...] = ()
    child_uids: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()
    bootstrap_template: External | None = None
    infrastructure_template: External | None = None
    control_plane: External | None = None
    objects: Mapping[ObjectKey, External] = field(default_factory=dict)
    own_objects: tuple[External, ...] = ()
    failure: Failure | None = None

    @property
    def of_deployment(self) -> bool:
        """Whether the MachineSet was made by a MachineDeployment, going by its label (owner references may be lost in a restore)."""
        return labels.DEPLOYMENT_NAME in self.machine_set.metadata.labels

    @property
    def bootstrap_template_missing(self) -> bool:
        """Whether the bootstrap template is asked for and does not exist."""
        ref = self.machine_set.spec.template.spec.bootstrap.config_ref
        return ref is not None and members.is_template(ref.kind) and self.bootstrap_template is None

    @property
    def infrastructure_template_missing(self) -> bool:
        """Whether the infrastructure template does not exist."""
        return members.is_template(self.machine_set.spec.template.spec.infrastructure_ref.kind) and self.infrastructure_template is None


def reference_key(ref: ContractVersionedObjectReference, namespace: str) -> ObjectKey:
    """The key of what a reference names."""
    return ObjectKey(ref.api_group, ref.kind, namespace, ref.name)


def referenced(view: View, ref: ContractVersionedObjectReference | None, namespace: str) -> External | None:
    """The provider's object a reference names, None when there is no reference or no object."""
    return view.external(GroupKind(ref.api_group, ref.kind), namespace, ref.name) if ref is not None else None


def machine_references(machine: Machine) -> tuple[ContractVersionedObjectReference, ...]:
    """The references of a Machine to its infrastructure and bootstrap objects."""
    config = machine.spec.bootstrap.config_ref
    return (machine.spec.infrastructure_ref, *((config,) if config is not None else ()))


def controlled_by(obj: KubeObject, uid: str) -> bool:
    """Whether the object's controller is the one with the uid."""
    controller = obj.metadata.controller
    return controller is not None and controller.uid == uid


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a MachineSet and what it depends on; None when it is gone."""
    stored = view.get(MachineSet, key.namespace, key.name)
    if stored is None:
        return None
    machine_set, namespace, uid = defaults.machine_set(stored), key.namespace, stored.metadata.uid
    spec = machine_set.spec
    cluster = view.get(Cluster, namespace, spec.cluster_name)
    candidates = view.of_cluster(Machine, ClusterKey(namespace, spec.cluster_name))
    machines = tuple(
        machine
        for machine in candidates
        if spec.selector.matches(machine.metadata.labels) and (machine.metadata.controller is None or controlled_by(machine, uid))
    )
    objects = {}
    for machine in machines:
        for ref in machine_references(machine):
            found = referenced(view, ref, namespace)
            if found is not None:
                objects[found.key] = found
    deployment_name = stored.metadata.labels.get(labels.DEPLOYMENT_NAME, "")
    return Observed(
        at=view.at,
        stored=stored,
        machine_set=machine_set,
        cluster=cluster,
        deployment=view.get(MachineDeployment, namespace, deployment_name) if deployment_name else None,
        machines=machines,
        child_uids=tuple({machine.metadata.uid for machine in (*view.owned(Machine, uid), *machines)}),
        taken=frozenset(machine.name for machine in candidates),
        bootstrap_template=referenced(view, spec.template.spec.bootstrap.config_ref, namespace),
        infrastructure_template=referenced(view, spec.template.spec.infrastructure_ref, namespace),
        control_plane=referenced(view, cluster.spec.control_plane_ref, namespace) if cluster is not None else None,
        objects=objects,
        own_objects=tuple(one for one in view.externals_owned(uid) if one.key.group != stored.GROUP),
        failure=view.failure(),
    )
