"""kubeadm's own configuration: ClusterConfiguration, InitConfiguration, JoinConfiguration (bootstrap.cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.meta import Frozen
from schemas.api.scalars import NonNegative, Positive, Quantity, Text39, Text253, Text256, Text512, Text1024, Text51200
from schemas.cel import CERTIFICATES_WITHIN_CA, IMAGE_TAG, exclusive
from schemas.markers import ATOMIC, BYTE, ListMap, Rule, ServerDefault

_UNIQUE_NAMES = "self.all(x, self.exists_one(y, x.name == y.name))"


class Arg(Frozen):
    """A command line argument of a component."""

    name: Text256
    """Name of the argument, without leading dashes."""
    value: Annotated[str, Field(min_length=0, max_length=1024)]
    """Value of the argument."""


ExtraArgs = Annotated[tuple[Arg, ...], Field(min_length=1, max_length=100), ListMap(("name", "value")), Rule(_UNIQUE_NAMES, "extraArgs name must be unique")]
KubeletExtraArgs = Annotated[
    tuple[Arg, ...], Field(min_length=1, max_length=100), ListMap(("name", "value")), Rule(_UNIQUE_NAMES, "kubeletExtraArgs name must be unique")
]
CertSANs = Annotated[tuple[Text253, ...], Field(min_length=1, max_length=100), ATOMIC]
SkipPhases = Annotated[tuple[Text256, ...], Field(min_length=1, max_length=50), ATOMIC]


class KeySelector(Frozen):
    """A key of a ConfigMap or Secret (corev1)."""

    ATOMIC_MAP: ClassVar[bool] = True

    name: Annotated[str | None, ServerDefault("")] = None
    """Name of the object."""
    key: str
    """Key within the object."""
    optional: bool | None = None
    """Whether the object or key may be missing."""


class FieldSelector(Frozen):
    """A field of the Pod (corev1)."""

    ATOMIC_MAP: ClassVar[bool] = True

    api_version: str | None = None
    """Version the path is written for; v1 by default."""
    field_path: str
    """Path of the field."""


class FileKeySelector(Frozen):
    """A key of an environment file in a volume (corev1)."""

    ATOMIC_MAP: ClassVar[bool] = True

    volume_name: str
    """Volume that holds the file."""
    path: str
    """Path of the file within the volume."""
    key: str
    """Key within the file."""
    optional: Annotated[bool | None, ServerDefault(False)] = None
    """Whether the file or key may be missing."""


class ResourceFieldSelector(Frozen):
    """A resource of a container (corev1)."""

    ATOMIC_MAP: ClassVar[bool] = True

    container_name: str | None = None
    """Container the resource is of."""
    resource: str
    """Resource, as in limits.cpu."""
    divisor: Quantity | None = None
    """Unit of the value; 1 by default."""


class EnvVarSource(Frozen):
    """Where the value of an environment variable comes from (corev1)."""

    field_ref: FieldSelector | None = None
    """A field of the Pod."""
    resource_field_ref: ResourceFieldSelector | None = None
    """A resource of a container."""
    config_map_key_ref: KeySelector | None = None
    """A key of a ConfigMap."""
    secret_key_ref: KeySelector | None = None
    """A key of a Secret."""
    file_key_ref: FileKeySelector | None = None
    """A key of an environment file."""


class EnvVar(Frozen):
    """An environment variable of a component."""

    name: str
    """Name of the variable."""
    value: str | None = None
    """Value of the variable."""
    value_from: EnvVarSource | None = None
    """Where the value comes from."""


ExtraEnvs = Annotated[tuple[EnvVar, ...], Field(min_length=1, max_length=100), ATOMIC]


class HostPathMount(Frozen):
    """A path of the host that a component sees."""

    name: Text512
    """Name of the volume."""
    host_path: Text512
    """Path on the host."""
    mount_path: Text512
    """Path in the component's Pod."""
    read_only: bool | None = None
    """Whether the component may not write."""
    path_type: str | None = None
    """What must exist at the path, as for corev1 hostPath volumes."""


class ControlPlaneComponent(Frozen):
    """Settings every control plane component has."""

    MIN_PROPERTIES: ClassVar[int] = 1

    extra_args: ExtraArgs = ()
    """Command line arguments that are added or replaced."""
    extra_volumes: Annotated[tuple[HostPathMount, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Paths of the host that the component sees."""
    extra_envs: ExtraEnvs = ()
    """Environment variables of the component."""


class APIServer(ControlPlaneComponent):
    """Settings of kube-apiserver."""

    cert_sans: Annotated[CertSANs, Field(alias="certSANs")] = ()
    """Further names in the serving certificate."""


class ControllerManager(ControlPlaneComponent):
    """Settings of kube-controller-manager."""


class Scheduler(ControlPlaneComponent):
    """Settings of kube-scheduler."""


class DNS(Frozen):
    """Settings of CoreDNS."""

    MIN_PROPERTIES: ClassVar[int] = 1

    image_repository: Text512 | None = None
    """Registry of the image."""
    image_tag: Annotated[Text256, IMAGE_TAG] | None = None
    """Tag of the image."""


class LocalEtcd(Frozen):
    """An etcd that runs beside the API server."""

    MIN_PROPERTIES: ClassVar[int] = 1

    image_repository: Text512 | None = None
    """Registry of the image."""
    image_tag: Annotated[Text256, IMAGE_TAG] | None = None
    """Tag of the image."""
    data_dir: Text512 | None = None
    """Directory of the data; /var/lib/etcd by default."""
    extra_args: ExtraArgs = ()
    """Command line arguments that are added or replaced."""
    extra_envs: ExtraEnvs = ()
    """Environment variables of etcd."""
    server_cert_sans: Annotated[CertSANs, Field(alias="serverCertSANs")] = ()
    """Further names in the server certificate."""
    peer_cert_sans: Annotated[CertSANs, Field(alias="peerCertSANs")] = ()
    """Further names in the peer certificate."""


class ExternalEtcd(Frozen):
    """An etcd outside the cluster."""

    endpoints: Annotated[tuple[Text512, ...], Field(min_length=1, max_length=50), ATOMIC]
    """Endpoints of the members."""
    ca_file: Text512
    """Path of the certificate authority on the host."""
    cert_file: Text512
    """Path of the client certificate on the host."""
    key_file: Text512
    """Path of the client key on the host."""


class Etcd(Frozen):
    """Which etcd the cluster uses; local unless external is set."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = (exclusive("local", "external"),)

    local: LocalEtcd = LocalEtcd()
    """An etcd that runs beside the API server."""
    external: ExternalEtcd | None = None
    """An etcd outside the cluster."""


class ClusterConfiguration(Frozen):
    """What holds for the whole cluster (kubeadm ClusterConfiguration)."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = (CERTIFICATES_WITHIN_CA,)

    etcd: Etcd = Etcd()
    """Which etcd the cluster uses."""
    control_plane_endpoint: Text512 | None = None
    """Stable host or host:port of the control plane; the Cluster's endpoint by default."""
    api_server: Annotated[APIServer, Field(alias="apiServer")] = APIServer()
    """Settings of kube-apiserver."""
    controller_manager: ControllerManager = ControllerManager()
    """Settings of kube-controller-manager."""
    scheduler: Scheduler = Scheduler()
    """Settings of kube-scheduler."""
    dns: DNS = DNS()
    """Settings of CoreDNS."""
    certificates_dir: Text512 | None = None
    """Directory of the certificates; /etc/kubernetes/pki by default."""
    image_repository: Text512 | None = None
    """Registry of the images; registry.k8s.io by default."""
    feature_gates: Mapping[str, bool] = Field(default_factory=dict)
    """Feature gates of kubeadm."""
    certificate_validity_period_days: Annotated[int, Field(ge=1, le=1095)] | None = None
    """Validity of leaf certificates in days; 365 by default."""
    ca_certificate_validity_period_days: Annotated[int, Field(ge=1, le=36500)] | None = None
    """Validity of certificate authorities in days; 3650 by default."""
    encryption_algorithm: Literal["ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072", "RSA-4096"] | None = None
    """Algorithm of keys; RSA-2048 by default."""


class BootstrapToken(Frozen):
    """A token with which Nodes join."""

    RULES: ClassVar[tuple[Rule, ...]] = (exclusive("ttlSeconds", "expires"),)

    # the bound is the API server's to check: in caches and records a longer hash stands for the token
    token: Annotated[str, Field(min_length=1, json_schema_extra={"maxLength": 23})]
    """The token, id.secret."""
    description: Text512 | None = None
    """What the token is for."""
    ttl_seconds: NonNegative | None = None
    """Life of the token; excludes expires."""
    expires: AwareDatetime | None = None
    """End of the token's life; excludes ttlSeconds."""
    usages: Annotated[tuple[Text256, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """What the token may be used for."""
    groups: Annotated[tuple[Text256, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Groups that the holder belongs to."""


class NodeTaint(Frozen):
    """A taint (corev1)."""

    key: str
    """Key of the taint."""
    value: str | None = None
    """Value of the taint."""
    effect: str
    """What happens to Pods that do not tolerate the taint."""
    time_added: AwareDatetime | None = None
    """When the taint was set."""


class NodeRegistrationOptions(Frozen):
    """How a Node registers itself."""

    MIN_PROPERTIES: ClassVar[int] = 1

    name: Text253 | None = None
    """Name of the Node; the host's name by default."""
    cri_socket: Text512 | None = None
    """Socket of the container runtime."""
    taints: Annotated[tuple[NodeTaint, ...], Field(min_length=0, max_length=100)] | None = None
    """Taints of the Node; unset leaves kubeadm's default, an empty list means none."""
    kubelet_extra_args: KubeletExtraArgs = ()
    """Command line arguments of the kubelet."""
    ignore_preflight_errors: Annotated[tuple[Text512, ...], Field(min_length=1, max_length=50), ATOMIC] = ()
    """Preflight checks whose failure is only a warning."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When kubeadm pulls images; IfNotPresent by default."""
    image_pull_serial: bool | None = None
    """Whether images are pulled one after the other; true by default."""


class LocalAPIEndpoint(Frozen):
    """Where the API server of this host listens."""

    MIN_PROPERTIES: ClassVar[int] = 1

    advertise_address: Text39 | None = None
    """Address that is advertised."""
    bind_port: Positive | None = None
    """Port; 6443 by default."""


class Patches(Frozen):
    """Patches of the components' manifests."""

    MIN_PROPERTIES: ClassVar[int] = 1

    directory: Text512 | None = None
    """Directory on the host that holds the patches."""


class Timeouts(Frozen):
    """How long kubeadm waits."""

    MIN_PROPERTIES: ClassVar[int] = 1

    control_plane_component_health_check_seconds: NonNegative | None = None
    """For a control plane component to become healthy; 240 by default."""
    kubelet_health_check_seconds: NonNegative | None = None
    """For the kubelet to become healthy; 240 by default."""
    kubernetes_api_call_seconds: Annotated[NonNegative | None, Field(alias="kubernetesAPICallSeconds")] = None
    """For a call of the API server; 60 by default."""
    etcd_api_call_seconds: Annotated[NonNegative | None, Field(alias="etcdAPICallSeconds")] = None
    """For a call of etcd; 120 by default."""
    tls_bootstrap_seconds: NonNegative | None = None
    """For the kubelet's TLS bootstrap; 300 by default."""
    discovery_seconds: NonNegative | None = None
    """For discovery; 300 by default."""


class InitConfiguration(Frozen):
    """What `kubeadm init` does on the first control plane host."""

    MIN_PROPERTIES: ClassVar[int] = 1

    bootstrap_tokens: Annotated[tuple[BootstrapToken, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Tokens to create."""
    node_registration: NodeRegistrationOptions = NodeRegistrationOptions()
    """How the Node registers itself."""
    local_api_endpoint: Annotated[LocalAPIEndpoint, Field(alias="localAPIEndpoint")] = LocalAPIEndpoint()
    """Where the API server of this host listens."""
    skip_phases: SkipPhases = ()
    """Phases to skip."""
    patches: Patches = Patches()
    """Patches of the components' manifests."""
    timeouts: Timeouts = Timeouts()
    """How long kubeadm waits."""


class BootstrapTokenDiscovery(Frozen):
    """Trust in the control plane established with a token."""

    MIN_PROPERTIES: ClassVar[int] = 1

    token: Text512 | None = None
    """Token that validates the cluster information."""
    api_server_endpoint: Annotated[Text512 | None, Field(alias="apiServerEndpoint")] = None
    """Where the API server is reached."""
    ca_cert_hashes: Annotated[tuple[Text512, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Hashes of the certificate authority's public key, type:value."""
    unsafe_skip_ca_verification: Annotated[bool | None, Field(alias="unsafeSkipCAVerification")] = None
    """Whether to join without hashes."""


class KubeConfigCluster(Frozen):
    """The cluster of a discovery kubeconfig."""

    MIN_PROPERTIES: ClassVar[int] = 1

    server: Text512 | None = None
    """URL of the API server; from the Cluster's endpoint by default."""
    tls_server_name: Text512 | None = None
    """Name expected in the server's certificate."""
    insecure_skip_tls_verify: Annotated[bool | None, Field(alias="insecureSkipTLSVerify")] = None
    """Whether the server's certificate is not verified."""
    certificate_authority_data: Annotated[Text51200, BYTE] | None = None
    """Certificate authority, PEM in base64; the Cluster's by default."""
    proxy_url: Annotated[Text512 | None, Field(alias="proxyURL")] = None
    """Proxy toward the API server."""


class KubeConfigAuthProvider(Frozen):
    """An authentication plugin built into clients."""

    name: Text256
    """Name of the plugin."""
    config: Mapping[str, str] = Field(default_factory=dict)
    """Settings of the plugin."""


class KubeConfigAuthExecEnv(Frozen):
    """An environment variable of a credential command."""

    name: Text512
    """Name of the variable."""
    value: Text512
    """Value of the variable."""


class KubeConfigAuthExec(Frozen):
    """A command that prints credentials."""

    command: Text1024
    """The command."""
    args: Annotated[tuple[Text512, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Its arguments."""
    env: Annotated[tuple[KubeConfigAuthExecEnv, ...], Field(min_length=1, max_length=100), ATOMIC] = ()
    """Environment variables added to the host's."""
    api_version: Text512 | None = None
    """Version of the ExecCredential exchanged."""
    provide_cluster_info: bool | None = None
    """Whether the command is told the cluster."""


class KubeConfigUser(Frozen):
    """The user of a discovery kubeconfig; one of the two."""

    MIN_PROPERTIES: ClassVar[int] = 1
    RULES: ClassVar[tuple[Rule, ...]] = (exclusive("authProvider", "exec"),)

    auth_provider: KubeConfigAuthProvider | None = None
    """An authentication plugin built into clients."""
    exec: KubeConfigAuthExec | None = None
    """A command that prints credentials."""


class FileDiscoveryKubeConfig(Frozen):
    """A kubeconfig that is generated for discovery."""

    cluster: KubeConfigCluster = KubeConfigCluster()
    """The cluster."""
    user: KubeConfigUser
    """The user."""


class FileDiscovery(Frozen):
    """Trust in the control plane established with a kubeconfig."""

    kube_config_path: Text512
    """Path of the kubeconfig on the host."""
    kube_config: FileDiscoveryKubeConfig | None = None
    """A kubeconfig to generate at the path."""


class Discovery(Frozen):
    """How a joining host learns to trust the control plane."""

    MIN_PROPERTIES: ClassVar[int] = 1

    bootstrap_token: BootstrapTokenDiscovery = BootstrapTokenDiscovery()
    """With a token."""
    file: FileDiscovery | None = None
    """With a kubeconfig."""
    tls_bootstrap_token: Text512 | None = None
    """Token for the TLS bootstrap; the discovery token by default."""


class JoinControlPlane(Frozen):
    """Makes the joining host a further control plane host; its presence alone matters."""

    local_api_endpoint: Annotated[LocalAPIEndpoint, Field(alias="localAPIEndpoint")] = LocalAPIEndpoint()
    """Where the API server of this host listens."""


class JoinConfiguration(Frozen):
    """What `kubeadm join` does on every other host."""

    MIN_PROPERTIES: ClassVar[int] = 1

    node_registration: NodeRegistrationOptions = NodeRegistrationOptions()
    """How the Node registers itself."""
    ca_cert_path: Text512 | None = None
    """Path of the certificate authority on the host."""
    discovery: Discovery = Discovery()
    """How the host learns to trust the control plane."""
    control_plane: JoinControlPlane | None = None
    """Set for a control plane host."""
    skip_phases: SkipPhases = ()
    """Phases to skip."""
    patches: Patches = Patches()
    """Patches of the components' manifests."""
    timeouts: Timeouts = Timeouts()
    """How long kubeadm waits."""
