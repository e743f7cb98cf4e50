"""What a KubeadmControlPlane's decision reads.

Source: kinds.md §8 (reads), §8.1 (which Machines are ours).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleetwake import defaults, labels
from fleetwake.kind import External, Failure, View, Workload
from fleetwake.patches import wire
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.api.controlplane.v1beta2 import KubeadmControlPlane
from schemas.api.core.v1beta2 import Cluster, Machine, MachinePool
from schemas.keys import ClusterKey, GroupKind
from services.reconcilers.kinds.kubeadm_control_plane.declared_kubeconfigs import ISSUED_FOR, KUBECONFIGS, DeclarationError, declared, secret_name
from services.reconcilers.kubeadm.secrets import Purpose, certificate_files, secret_key

SECRET = GroupKind("", "Secret")
KUBEADM_CONFIG_MAP = "ConfigMap/kube-system/kubeadm-config"
NODE_ROLE = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True, slots=True)
class Member:
    """A control plane Machine with its two objects, None where they do not exist."""

    machine: Machine
    config: KubeadmConfig | None = None
    infra: External | None = None

    @property
    def name(self) -> str:
        """The Machine's name."""
        return self.machine.name

    @property
    def node(self) -> str:
        """The name of the Machine's Node, ``""`` while it has none."""
        return self.machine.status.node_ref.name if self.machine.status.node_ref is not None else ""

    @property
    def deleting(self) -> bool:
        """Whether the Machine is being deleted."""
        return self.machine.metadata.deleting

    @property
    def updating(self) -> bool:
        """Whether the Machine is updated in place."""
        return self.machine.annotated(labels.UPDATE_IN_PROGRESS)


@dataclass(frozen=True, slots=True)
class Observed:
    """A control plane with its Cluster and Machines.

    ``members`` are the control plane Machines this object controls, by name; ``adoptable`` those that nobody controls; ``foreign`` names those of
    another controller. ``workers`` and ``pools`` name what must be gone before the control plane. ``secrets`` are those that exist, with hashed data;
    ``kubeconfigs`` the Secrets of declared kubeconfigs, and whatever has the name of one, by name.
    """

    at: datetime
    kcp: KubeadmControlPlane
    cluster: Cluster
    members: tuple[Member, ...] = ()
    adoptable: tuple[Machine, ...] = ()
    foreign: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    secrets: Mapping[Purpose, External] = field(default_factory=dict)
    kubeconfigs: Mapping[str, External] = field(default_factory=dict)
    template: External | None = None
    workload: Workload = field(default_factory=Workload)
    failure: Failure | None = None

    @property
    def cluster_key(self) -> ClusterKey:
        """The Cluster's key."""
        return ClusterKey(self.cluster.namespace, self.cluster.name)

    @property
    def replicas(self) -> int:
        """The Machines wanted."""
        return 1 if self.kcp.spec.replicas is None else self.kcp.spec.replicas

    @property
    def version(self) -> str:
        """The version wanted, with its v."""
        return defaults.version(self.kcp.spec.version) or ""

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The ClusterConfiguration wanted, as JSON."""
        return wire(self.kcp.spec.kubeadm_config_spec.cluster_configuration)

    @property
    def etcd_managed(self) -> bool:
        """Whether etcd runs on the control plane's Machines."""
        return self.kcp.spec.kubeadm_config_spec.cluster_configuration.etcd.external is None

    @property
    def initialized(self) -> bool:
        """Whether the control plane has once taken requests: latched, or seen now by kubeadm's ConfigMap.

        Not believed of an only Machine that is on its way out: what it initialized goes with it.
        """
        if self.kcp.status.initialization.control_plane_initialized:
            return True
        if len(self.members) == 1 and (self.members[0].deleting or _handed_over(self.members[0].machine)):
            return False
        return bool(self.members) and self.workload.connected and KUBEADM_CONFIG_MAP in self.workload.objects

    def member(self, name: str) -> Member | None:
        """The Machine of that name."""
        return next((member for member in self.members if member.name == name), None)

    @property
    def living(self) -> tuple[Member, ...]:
        """The Machines that are not being deleted."""
        return tuple(member for member in self.members if not member.deleting)

    @property
    def leaving(self) -> tuple[Member, ...]:
        """The Machines that are being deleted."""
        return tuple(member for member in self.members if member.deleting)


def _handed_over(machine: Machine) -> bool:
    states = {condition.type: condition.status for condition in machine.status.conditions}
    return states.get("HealthCheckSucceeded") == "False" and states.get("OwnerRemediated") == "False"


def observe(view: View, key: Any) -> Observed | None:
    """Read a KubeadmControlPlane and all its decision needs; None while no Cluster owns it (the Cluster's controller makes it the owner)."""
    kcp = view.get(KubeadmControlPlane, key.namespace, key.name)
    if kcp is None:
        return None
    owner = next((ref.name for ref in kcp.metadata.owner_references if ref.group == Cluster.GROUP and ref.kind == Cluster.KIND), "")
    cluster = view.get(Cluster, key.namespace, owner) if owner else None
    if cluster is None:
        return None
    cluster_key, uid = ClusterKey(cluster.namespace, cluster.name), kcp.metadata.uid
    machines = view.of_cluster(Machine, cluster_key)
    control = [machine for machine in machines if labels.CONTROL_PLANE in machine.metadata.labels]
    ours = [machine for machine in control if machine.metadata.controller is not None and machine.metadata.controller.uid == uid]
    ref = kcp.spec.machine_template.spec.infrastructure_ref
    purposes = (*(file.purpose for file in certificate_files(wire(kcp.spec.kubeadm_config_spec.cluster_configuration))), Purpose.KUBECONFIG)
    found = {purpose: view.external(SECRET, key.namespace, secret_key(cluster_key, purpose).name) for purpose in purposes}
    return Observed(
        at=view.at,
        kcp=kcp,
        cluster=cluster,
        members=tuple(_member(view, machine) for machine in ours),
        adoptable=tuple(machine for machine in control if machine.metadata.controller is None),
        foreign=tuple(machine.name for machine in control if machine.metadata.controller is not None and machine not in ours),
        workers=tuple(machine.name for machine in machines if machine not in control),
        pools=tuple(pool.name for pool in view.of_cluster(MachinePool, cluster_key)),
        secrets={purpose: secret for purpose, secret in found.items() if secret is not None},
        kubeconfigs=_kubeconfigs(view, kcp, cluster_key),
        template=view.external(GroupKind(ref.api_group, ref.kind), key.namespace, ref.name),
        workload=view.workload(cluster_key),
        failure=view.failure(),
    )


def _kubeconfigs(view: View, kcp: KubeadmControlPlane, cluster: ClusterKey) -> dict[str, External]:
    found = {one.key.name: one for one in view.externals_owned(kcp.metadata.uid, SECRET) if ISSUED_FOR in one.metadata.annotations}
    try:
        names = [secret_name(cluster.name, entry.name) for entry in declared(kcp.metadata.annotations.get(KUBECONFIGS))]
    except DeclarationError:
        return found
    held = {name: view.external(SECRET, cluster.namespace, name) for name in names}
    return found | {name: one for name, one in held.items() if one is not None}


def _member(view: View, machine: Machine) -> Member:
    config, infra = machine.spec.bootstrap.config_ref, machine.spec.infrastructure_ref
    return Member(
        machine=machine,
        config=view.get(KubeadmConfig, machine.namespace, config.name) if config is not None and config.kind == KubeadmConfig.KIND else None,
        infra=view.external(GroupKind(infra.api_group, infra.kind), machine.namespace, infra.name),
    )
