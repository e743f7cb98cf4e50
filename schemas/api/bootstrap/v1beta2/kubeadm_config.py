"""KubeadmConfig: the bootstrap data of one host (bootstrap.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.bootstrap.v1beta2.fleetwake import FleetwakeSpec
from schemas.api.bootstrap.v1beta2.kubeadm import ClusterConfiguration, InitConfiguration, JoinConfiguration
from schemas.api.core.v1beta2.shared import DeprecatedConditions, TemplateMetadata
from schemas.api.meta import Conditions, Frozen, KubeObject
from schemas.api.scalars import Positive, Text16, Text36, Text128, Text253, Text256, Text512, Text2048, Text10240, Text32768
from schemas.cel import IGNITION_RULES, added, exclusive
from schemas.markers import AGE, ATOMIC, CLUSTER_LABEL_COLUMN, INT64, OPTIONAL, PAUSED, Column, Rule

GROUP = "bootstrap.cluster.x-k8s.io"
VERSION = "v1beta2"

Commands = Annotated[tuple[Text10240, ...], Field(min_length=1, max_length=1000), ATOMIC]
MountPoints = Annotated[tuple[Text512, ...], Field(min_length=1, max_length=100)]


class SecretKeySource(Frozen):
    """A key of a Secret in the same namespace."""

    name: Text253
    """Name of the Secret."""
    key: Text256
    """Key within the Secret."""


class FileSource(Frozen):
    """Where the content of a file comes from."""

    secret: SecretKeySource
    """A key of a Secret."""


class File(Frozen):
    """A file to write on the host."""

    RULES: ClassVar[tuple[Rule, ...]] = (exclusive("content", "contentFrom"),)

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


class PasswdSource(Frozen):
    """Where the hash of a password comes from."""

    secret: SecretKeySource
    """A key of a Secret."""


class User(Frozen):
    """A user to create on the host."""

    RULES: ClassVar[tuple[Rule, ...]] = (exclusive("passwd", "passwdFrom"),)

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
    ssh_authorized_keys: Annotated[tuple[Text2048, ...], Field(max_length=100), ATOMIC] = ()
    """Public keys that may log in."""


class NTP(Frozen):
    """Time synchronisation of the host."""

    MIN_PROPERTIES: ClassVar[int] = 1

    servers: Annotated[tuple[Text512, ...], Field(max_length=100), ATOMIC] = ()
    """Servers to use."""
    enabled: bool | None = None
    """Whether NTP is on."""


class DiskLayout(Frozen):
    """A partition of a disk."""

    percentage: Annotated[int, Field(ge=1, le=100)]
    """Share of the disk in percent."""
    partition_type: (
        Annotated[
            Text36,
            Rule(
                "self.matches('^(Linux|LinuxSwap|LinuxRAID|LVM|Fat32|NTFS|LinuxExtended|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$')",
                "partitionType must be one of Linux, LinuxSwap, LinuxRAID, LVM, Fat32, NTFS, LinuxExtended or a full GPT partition GUID",
            ),
        ]
        | None
    ) = None
    """Type of the partition: a known name or a GPT GUID."""


class Partition(Frozen):
    """How a disk is partitioned."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "[has(self.layout),has(self.diskLayout)].filter(x,x==true).size() == 1",
            "exactly one of the fields in [layout diskLayout] must be set",
        ),
        added(
            "!has(self.diskLayout) || self.diskLayout.map(x, int(x.percentage)).sum() <= 100",
            "percentages must not sum up to more than 100",
            field_path=".diskLayout",
        ),
    )

    device: Text256
    """Device of the disk."""
    layout: bool | None = None
    """Whether to make one partition of the whole disk."""
    disk_layout: Annotated[tuple[DiskLayout, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
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
    extra_opts: Annotated[tuple[Text256, ...], Field(max_length=100), ATOMIC] = ()
    """Further options of the command that makes it."""


class DiskSetup(Frozen):
    """Partitions and file systems of the host."""

    MIN_PROPERTIES: ClassVar[int] = 1

    partitions: Annotated[tuple[Partition, ...], Field(max_length=100), ATOMIC] = ()
    """How disks are partitioned."""
    filesystems: Annotated[tuple[Filesystem, ...], Field(max_length=100), ATOMIC] = ()
    """File systems to make."""


class ContainerLinuxConfig(Frozen):
    """Butane (Container Linux Config) that is merged into the Ignition data."""

    MIN_PROPERTIES: ClassVar[int] = 1

    additional_config: Text32768 | None = None
    """The configuration, YAML."""
    strict: bool | None = None
    """Whether warnings of the translation are errors."""


class IgnitionSpec(Frozen):
    """Settings of the format ignition."""

    MIN_PROPERTIES: ClassVar[int] = 1

    container_linux_config: ContainerLinuxConfig = ContainerLinuxConfig()
    """Configuration that is merged in."""


class KubeadmConfigSpec(Frozen):
    """What the host does at its first boot."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = IGNITION_RULES

    cluster_configuration: ClusterConfiguration = ClusterConfiguration()
    """What holds for the whole cluster."""
    init_configuration: InitConfiguration = InitConfiguration()
    """What `kubeadm init` does."""
    join_configuration: JoinConfiguration = JoinConfiguration()
    """What `kubeadm join` does."""
    files: Annotated[
        tuple[File, ...],
        Field(min_length=1, max_length=200),
        ATOMIC,
        added("self.all(x, self.exists_one(y, x.path == y.path))", "paths must be unique"),
    ] = ()
    """Files to write."""
    disk_setup: DiskSetup = DiskSetup()
    """Partitions and file systems."""
    mounts: Annotated[tuple[MountPoints, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Mounts, each as the fields of an fstab line."""
    boot_commands: Commands = ()
    """Commands run at every boot, early (cloud-init bootcmd)."""
    pre_kubeadm_commands: Commands = ()
    """Commands run before kubeadm."""
    post_kubeadm_commands: Commands = ()
    """Commands run after kubeadm."""
    users: Annotated[tuple[User, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Users to create."""
    ntp: NTP = NTP()
    """Time synchronisation."""
    format: Literal["cloud-config", "ignition"] | None = None
    """Format of the bootstrap data; cloud-config by default."""
    verbosity: int | None = None
    """Log level of kubeadm."""
    ignition: IgnitionSpec = IgnitionSpec()
    """Settings of the format ignition."""
    fleetwake: FleetwakeSpec = FleetwakeSpec()
    """Settings that Cluster API does not have."""


class KubeadmConfigInitializationStatus(Frozen):
    """Steps that are done; they never become false again."""

    MIN_PROPERTIES: ClassVar[int] = 1

    data_secret_created: bool | None = None
    """Whether the Secret with the bootstrap data exists."""


class KubeadmConfigV1Beta1DeprecatedStatus(DeprecatedConditions):
    """Fields of the v1beta1 contract."""

    failure_reason: Text256 | None = None
    """Terminal failure, as a word for programs."""
    failure_message: Text10240 | None = None
    """Terminal failure, for people."""


class KubeadmConfigDeprecatedStatus(Frozen):
    """Fields kept for readers of older contracts."""

    v1beta1: KubeadmConfigV1Beta1DeprecatedStatus = Field(default=KubeadmConfigV1Beta1DeprecatedStatus(), alias="v1beta1")
    """Fields of the v1beta1 contract."""


class KubeadmConfigStatus(Frozen):
    """What is known about the bootstrap data."""

    MIN_PROPERTIES: ClassVar[int] = 1

    conditions: Conditions = ()
    """Conditions of the KubeadmConfig."""
    initialization: KubeadmConfigInitializationStatus = KubeadmConfigInitializationStatus()
    """Steps that are done."""
    data_secret_name: Text253 | None = None
    """Name of the Secret with the bootstrap data."""
    observed_generation: Annotated[Positive, INT64] | None = None
    """metadata.generation that the status was computed from."""
    deprecated: KubeadmConfigDeprecatedStatus = KubeadmConfigDeprecatedStatus()
    """Fields kept for readers of older contracts."""


class KubeadmConfig(KubeObject):
    """The bootstrap data of one host, or of a MachinePool's hosts."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "KubeadmConfig"
    PLURAL: ClassVar[str] = "kubeadmconfigs"
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        CLUSTER_LABEL_COLUMN,
        PAUSED,
        Column("Data secret created", ".status.initialization.dataSecretCreated"),
        AGE,
    )

    spec: KubeadmConfigSpec = KubeadmConfigSpec()
    """What the host does at its first boot."""
    status: KubeadmConfigStatus = KubeadmConfigStatus()
    """What is known about the bootstrap data."""


class KubeadmConfigTemplateResource(Frozen):
    """What KubeadmConfigs made from the template look like."""

    MIN_PROPERTIES: ClassVar[int] = 1

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
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("ClusterClass", '.metadata.ownerReferences[?(@.kind=="ClusterClass")].name'),
        Column("Cluster", '.metadata.ownerReferences[?(@.kind=="Cluster")].name'),
        AGE,
    )

    spec: Annotated[KubeadmConfigTemplateSpec, OPTIONAL]
    """What KubeadmConfigs made from the template look like."""
