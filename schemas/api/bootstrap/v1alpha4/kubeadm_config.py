"""KubeadmConfig and what it holds of kubeadm's configuration (bootstrap.cluster.x-k8s.io/v1alpha4)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.bootstrap.v1beta1 import kubeadm, kubeadm_config
from schemas.api.core.v1alpha4.cluster import VERSION
from schemas.api.scalars import Text512
from schemas.markers import AGE, OPTIONAL, Column


class ControlPlaneComponent(kubeadm.ControlPlaneComponent):
    """Settings every control plane component has."""

    LACKS = frozenset({"extra_envs"})


class APIServer(kubeadm.APIServer):
    """Settings of kube-apiserver."""

    LACKS = frozenset({"extra_envs"})


class LocalEtcd(kubeadm.LocalEtcd):
    """An etcd that runs beside the API server."""

    LACKS = frozenset({"extra_envs"})


class Etcd(kubeadm.Etcd):
    """Which etcd the cluster uses; local unless external is set."""

    local: LocalEtcd | None = None
    """An etcd that runs beside the API server."""


class ClusterConfiguration(kubeadm.ClusterConfiguration):
    """What holds for the whole cluster (kubeadm ClusterConfiguration)."""

    LACKS = frozenset({"certificate_validity_period_days", "ca_certificate_validity_period_days", "encryption_algorithm"})

    etcd: Etcd = Etcd()
    """Which etcd the cluster uses."""
    api_server: Annotated[APIServer, Field(alias="apiServer")] = APIServer()
    """Settings of kube-apiserver."""
    controller_manager: ControlPlaneComponent = ControlPlaneComponent()
    """Settings of kube-controller-manager."""
    scheduler: ControlPlaneComponent = ControlPlaneComponent()
    """Settings of kube-scheduler."""


class NodeRegistrationOptions(kubeadm.NodeRegistrationOptions):
    """How a Node registers itself."""

    LACKS = frozenset({"image_pull_policy", "image_pull_serial"})


class InitConfiguration(kubeadm.InitConfiguration):
    """What `kubeadm init` does on the first control plane host."""

    LACKS = frozenset({"skip_phases", "patches"})

    node_registration: NodeRegistrationOptions = NodeRegistrationOptions()
    """How the Node registers itself."""


class BootstrapTokenDiscovery(kubeadm.BootstrapTokenDiscovery):
    """Trust in the control plane established with a token."""

    token: Text512
    """Token that validates the cluster information."""


class FileDiscovery(kubeadm.FileDiscovery):
    """Trust in the control plane established with a kubeconfig."""

    LACKS = frozenset({"kube_config"})


class Discovery(kubeadm.Discovery):
    """How a joining host learns to trust the control plane."""

    bootstrap_token: BootstrapTokenDiscovery | None = None
    """With a token."""
    file: FileDiscovery | None = None
    """With a kubeconfig."""


class JoinConfiguration(kubeadm.JoinConfiguration):
    """What `kubeadm join` does on every other host."""

    LACKS = frozenset({"skip_phases", "patches"})

    node_registration: NodeRegistrationOptions = NodeRegistrationOptions()
    """How the Node registers itself."""
    discovery: Discovery = Discovery()
    """How the host learns to trust the control plane."""


class File(kubeadm_config.File):
    """A file to write on the host."""

    LACKS = frozenset({"append", "content_format"})


class User(kubeadm_config.User):
    """A user to create on the host."""

    LACKS = frozenset({"passwd_from"})


class Partition(kubeadm_config.Partition):
    """How a disk is partitioned."""

    LACKS = frozenset({"disk_layout"})


class Filesystem(kubeadm_config.Filesystem):
    """A file system to make."""

    label: Text512
    """Label of the file system; empty means none."""


class DiskSetup(kubeadm_config.DiskSetup):
    """Partitions and file systems of the host."""

    partitions: Annotated[tuple[Partition, ...], Field(max_length=100)] = ()
    """How disks are partitioned."""
    filesystems: Annotated[tuple[Filesystem, ...], Field(max_length=100)] = ()
    """File systems to make."""


class KubeadmConfigSpec(kubeadm_config.KubeadmConfigSpec):
    """What the host does at its first boot."""

    LACKS = frozenset({"boot_commands", "ignition"})

    cluster_configuration: ClusterConfiguration | None = None
    """What holds for the whole cluster."""
    init_configuration: InitConfiguration | None = None
    """What `kubeadm init` does."""
    join_configuration: JoinConfiguration | None = None
    """What `kubeadm join` does."""
    files: Annotated[tuple[File, ...], Field(max_length=200)] = ()
    """Files to write."""
    disk_setup: DiskSetup | None = None
    """Partitions and file systems."""
    users: Annotated[tuple[User, ...], Field(max_length=100)] = ()
    """Users to create."""
    format: Literal["cloud-config"] | None = None
    """Format of the bootstrap data."""


class KubeadmConfigStatus(kubeadm_config.KubeadmConfigStatus):
    """What is known about the bootstrap data."""

    LACKS = frozenset({"v1beta2"})


class KubeadmConfig(kubeadm_config.KubeadmConfig):
    """The bootstrap data of one host, or of a MachinePool's hosts."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: KubeadmConfigSpec = KubeadmConfigSpec()
    """What the host does at its first boot."""
    status: KubeadmConfigStatus = KubeadmConfigStatus()
    """What is known about the bootstrap data."""


class KubeadmConfigTemplateResource(kubeadm_config.KubeadmConfigTemplateResource):
    """What KubeadmConfigs made from the template look like."""

    LACKS = frozenset({"metadata"})

    spec: KubeadmConfigSpec = KubeadmConfigSpec()
    """Spec of the KubeadmConfigs."""


class KubeadmConfigTemplateSpec(kubeadm_config.KubeadmConfigTemplateSpec):
    """What KubeadmConfigs made from the template look like."""

    template: KubeadmConfigTemplateResource
    """The template."""


class KubeadmConfigTemplate(kubeadm_config.KubeadmConfigTemplate):
    """A template of KubeadmConfigs."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False

    spec: Annotated[KubeadmConfigTemplateSpec, OPTIONAL]
    """What KubeadmConfigs made from the template look like."""
