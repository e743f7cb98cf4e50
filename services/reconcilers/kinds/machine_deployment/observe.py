"""What a MachineDeployment's decision reads, as one frozen snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from fleetwake import defaults
from fleetwake.kind import External, Failure, View
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kinds.machine_deployment.extension import Extension, extension
from services.reconcilers.kinds.machine_set import members
from services.reconcilers.kinds.machine_set.observe import controlled_by, referenced


@dataclass(frozen=True, slots=True)
class Observed:
    """A MachineDeployment and all its decision reads.

    ``stored`` is the MachineDeployment as the API server has it, ``deployment`` with the defaults filled in. ``machine_sets`` are those it
    controls, and those its selector matches that nobody controls, by name, those being deleted included. ``machines`` are those the selector
    matches. ``extension`` is the external strategy that plans its rollouts, None when it names none. ``child_uids`` are the uids of its MachineSets
    and of all others that name it as owner; ``taken`` the names of all MachineSets of the cluster.
    """

    at: datetime
    stored: MachineDeployment
    deployment: MachineDeployment
    cluster: Cluster | None
    machine_sets: tuple[MachineSet, ...] = ()
    machines: tuple[Machine, ...] = ()
    child_uids: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()
    bootstrap_template: External | None = None
    infrastructure_template: External | None = None
    extension: Extension | None = None
    failure: Failure | None = None

    @property
    def bootstrap_template_missing(self) -> bool:
        """Whether the bootstrap template is asked for and does not exist."""
        ref = self.deployment.spec.template.spec.bootstrap.config_ref
        return ref is not None and members.is_template(ref.kind) and self.bootstrap_template is None

    @property
    def infrastructure_template_missing(self) -> bool:
        """Whether the infrastructure template does not exist."""
        return members.is_template(self.deployment.spec.template.spec.infrastructure_ref.kind) and self.infrastructure_template is None

    @property
    def templates_exist(self) -> bool:
        """Whether a MachineSet of the current template could make Machines."""
        return not self.bootstrap_template_missing and not self.infrastructure_template_missing


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a MachineDeployment and what it depends on; None when it is gone."""
    namespace, name = key.namespace, key.name
    stored = view.get(MachineDeployment, namespace, name)
    if stored is None:
        return None
    deployment, uid = defaults.machine_deployment(stored), stored.metadata.uid
    spec, cluster_key = deployment.spec, ClusterKey(namespace, deployment.spec.cluster_name)
    candidates = view.of_cluster(MachineSet, cluster_key)
    machine_sets = tuple(
        one for one in candidates if controlled_by(one, uid) or (one.metadata.controller is None and spec.selector.matches(one.metadata.labels))
    )
    return Observed(
        at=view.at,
        stored=stored,
        deployment=deployment,
        cluster=view.get(Cluster, namespace, spec.cluster_name),
        machine_sets=machine_sets,
        machines=tuple(one for one in view.of_cluster(Machine, cluster_key) if spec.selector.matches(one.metadata.labels)),
        child_uids=tuple({one.metadata.uid for one in (*view.owned(MachineSet, uid), *machine_sets)}),
        taken=frozenset(one.name for one in candidates),
        bootstrap_template=referenced(view, spec.template.spec.bootstrap.config_ref, namespace),
        infrastructure_template=referenced(view, spec.template.spec.infrastructure_ref, namespace),
        extension=extension(view, deployment),
        failure=view.failure(),
    )
