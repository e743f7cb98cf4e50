"""KubeadmConfig: the bootstrap data of one host (bootstrap.cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.bootstrap.v1beta1.kubeadm import ClusterConfiguration, InitConfiguration, JoinConfiguration
from schemas.api.bootstrap.v1beta2.kubeadm_config import (
    GROUP,
    DiskLayout,
    FileSource,
    KubeadmConfigV1Beta1DeprecatedStatus,
    PasswdSource,
)
from schemas.api.core.v1beta1.shared import VERSION, TemplateMetadata, V1Beta2Status
from schemas.api.meta import Frozen, KubeObject
from schemas.api.scalars import Text16, Text128, Text253, Text256, Text512, Text2048, Text10240, Text32768
from schemas.markers import AGE, CLUSTER_LABEL_COLUMN, INT64, OPTIONAL, Column

Commands = Annotated[tuple[Text10240, ...], Field(max_length=1000)]
MountPoints = Annotated[tuple[Text512, ...], Field(min_length=1, max_length=100)]


class File(Frozen):
    """A file to write on the host."""

    path: Text512
    """Path of the file."""
    owner: Text256 | None = None
    """Owner, as in root:root."""
    permissions: Text16 | None = None
    """Permissions, as in 0640."""
    encoding: Literal["base64", "gzip", "gzip+base64"] | None = None
    """How the content is encoded."""
    append: bool | None = None
    """Whether the content is added to an existing file."""
    content: Text10240 | None = None
    """The content; excludes contentFrom."""
    content_format: Literal["Raw", "Template"] | None = None
    """Whether the content is taken as it is or rendered as a Go template."""
    content_from: FileSource | None = None
    """Where the content comes from; excludes content."""


class User(Frozen):
    """A user to create on the host."""

    name: Text256
    """Name of the user."""
    gecos: Text256 | None = None
    """Full name and the like."""
    groups: Text256 | None = None
    """Further groups, separated by commas."""
    home_dir: Text256 | None = None
    """Home directory."""
    inactive: bool | None = None
    """Whether the user is inactive."""
    shell: Text256 | None = None
    """Login shell."""
    passwd: Text256 | None = None
    """Hash of the password; excludes passwdFrom."""
    passwd_from: PasswdSource | None = None
    """Where the hash comes from; excludes passwd."""
    primary_group: Text256 | None = None
    """Primary group."""
    lock_password: bool | None = None
    """Whether login by password is off."""
    sudo: Text256 | None = None
    """Sudo rule."""
    ssh_authorized_keys: Annotated[tuple[Text2048, ...], Field(max_length=100)] = ()
    """Public keys that may log in."""


class NTP(Frozen):
    """Time synchronisation of the host."""

    servers: Annotated[tuple[Text512, ...], Field(max_length=100)] = ()
    """Servers to use."""
    enabled: bool | None = None
    """Whether NTP is on."""


class Partition(Frozen):
    """How a disk is partitioned."""

    device: Text256
    """Device of the disk."""
    layout: bool
    """Whether to make one partition of the whole disk; moot with diskLayout."""
    disk_layout: Annotated[tuple[DiskLayout, ...], Field(min_length=1, max_length=100)] = ()
    """Partitions to make."""
    overwrite: bool | None = None
    """Whether an existing partition table is replaced."""
    table_type: Literal["mbr", "gpt"] | None = None
    """Kind of partition table; mbr by default."""


class Filesystem(Frozen):
    """A file system to make."""

    device: Text256
    """Device to make it on."""
    filesystem: Text128
    """Kind of file system."""
    label: Text512 | None = None
    """Label of the file system; empty means none."""
    partition: Text128 | None = None
    """Partition: auto, any, none or a number."""
    overwrite: bool | None = None
    """Whether an existing file system is replaced."""
    replace_fs: Annotated[Text128 | None, Field(alias="replaceFS")] = None
    """Kind of file system that may be replaced (Azure only)."""
    extra_opts: Annotated[tuple[Text256, ...], Field(max_length=100)] = ()
    """Further options of the command that makes it."""


class DiskSetup(Frozen):
    """Partitions and file systems of the host."""

    partitions: Annotated[tuple[Partition, ...], Field(max_length=100)] = ()
    """How disks are partitioned."""
    filesystems: Annotated[tuple[Filesystem, ...], Field(max_length=100)] = ()
    """File systems to make."""


class ContainerLinuxConfig(Frozen):
    """Butane (Container Linux Config) that is merged into the Ignition data."""

    additional_config: Text32768 | None = None
    """The configuration, YAML."""
    strict: bool | None = None
    """Whether warnings of the translation are errors."""


class IgnitionSpec(Frozen):
    """Settings of the format ignition."""

    container_linux_config: ContainerLinuxConfig | None = None
    """Configuration that is merged in."""


class KubeadmConfigSpec(Frozen):
    """What the host does at its first boot."""

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
    mounts: Annotated[tuple[MountPoints, ...], Field(max_length=100)] = ()
    """Mounts, each as the fields of an fstab line."""
    boot_commands: Commands = ()
    """Commands run at every boot, early (cloud-init bootcmd)."""
    pre_kubeadm_commands: Commands = ()
    """Commands run before kubeadm."""
    post_kubeadm_commands: Commands = ()
    """Commands run after kubeadm."""
    users: Annotated[tuple[User, ...], Field(max_length=100)] = ()
    """Users to create."""
    ntp: NTP | None = None
    """Time synchronisation."""
    format: Literal["cloud-config", "ignition"] | None = None
    """Format of the bootstrap data; cloud-config by default."""
    verbosity: int | None = None
    """Log level of kubeadm."""
    use_experimental_retry_join: bool | None = None
    """Of no effect."""
    ignition: IgnitionSpec | None = None
    """Settings of the format ignition."""


class KubeadmConfigStatus(KubeadmConfigV1Beta1DeprecatedStatus):
    """What is known about the bootstrap data."""

    ready: bool | None = None
    """Whether the Secret with the bootstrap data exists."""
    data_secret_name: Text253 | None = None
    """Name of the Secret with the bootstrap data."""
    observed_generation: Annotated[int, INT64] | None = None
    """metadata.generation that the status was computed from."""
    v1beta2: V1Beta2Status = Field(default=V1Beta2Status(), alias="v1beta2")
    """What became the hub's status."""


class KubeadmConfig(KubeObject):
    """The bootstrap data of one host, or of a MachinePool's hosts."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "KubeadmConfig"
    PLURAL: ClassVar[str] = "kubeadmconfigs"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (CLUSTER_LABEL_COLUMN, AGE)

    spec: KubeadmConfigSpec = KubeadmConfigSpec()
    """What the host does at its first boot."""
    status: KubeadmConfigStatus = KubeadmConfigStatus()
    """What is known about the bootstrap data."""


class KubeadmConfigTemplateResource(Frozen):
    """What KubeadmConfigs made from the template look like."""

    metadata: TemplateMetadata = TemplateMetadata()
    """Labels and annotations of the KubeadmConfigs."""
    spec: KubeadmConfigSpec = KubeadmConfigSpec()
    """Spec of the KubeadmConfigs."""


class KubeadmConfigTemplateSpec(Frozen):
    """What KubeadmConfigs made from the template look like."""

    template: KubeadmConfigTemplateResource
    """The template."""


class KubeadmConfigTemplate(KubeObject):
    """A template of KubeadmConfigs."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "KubeadmConfigTemplate"
    PLURAL: ClassVar[str] = "kubeadmconfigtemplates"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE,)

    spec: Annotated[KubeadmConfigTemplateSpec, OPTIONAL]
    """What KubeadmConfigs made from the template look like."""
