"""kubeadm's own configuration, where v1beta1 differs from the hub (bootstrap.cluster.x-k8s.io/v1beta1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from schemas.api.bootstrap.v1beta2.kubeadm import (
    EnvVar,
    HostPathMount,
    KubeConfigAuthExecEnv,
    KubeConfigAuthProvider,
    NodeTaint,
)
from schemas.api.bootstrap.v1beta2.kubeadm import KubeConfigCluster as HubKubeConfigCluster
from schemas.api.meta import Frozen
from schemas.api.scalars import Text39, Text63, Text253, Text256, Text512, Text1024

CertSANs = Annotated[tuple[Text253, ...], Field(max_length=100)]
SkipPhases = Annotated[tuple[Text256, ...], Field(max_length=50)]


class TypeMeta(Frozen):
    """Kubeadm's name for the configuration; of no effect."""

    api_version: str | None = None
    """Of no effect."""
    kind: str | None = None
    """Of no effect."""


class ControlPlaneComponent(Frozen):
    """Settings every control plane component has."""

    extra_args: Mapping[str, str] = Field(default_factory=dict)
    """Command line arguments that are added or replaced, by name."""
    extra_volumes: Annotated[tuple[HostPathMount, ...], Field(max_length=100)] = ()
    """Paths of the host that the component sees."""
    extra_envs: Annotated[tuple[EnvVar, ...], Field(max_length=100)] = ()
    """Environment variables of the component."""


class APIServer(ControlPlaneComponent):
    """Settings of kube-apiserver."""

    cert_sans: Annotated[CertSANs, Field(alias="certSANs")] = ()
    """Further names in the serving certificate."""
    timeout_for_control_plane: str | None = None
    """How long kubeadm waits for a control plane component, as in 4m."""


class DNS(Frozen):
    """Settings of CoreDNS."""

    image_repository: Text512 | None = None
    """Registry of the image."""
    image_tag: Text256 | None = None
    """Tag of the image."""


class LocalEtcd(Frozen):
    """An etcd that runs beside the API server."""

    image_repository: Text512 | None = None
    """Registry of the image."""
    image_tag: Text256 | None = None
    """Tag of the image."""
    data_dir: Text512 | None = None
    """Directory of the data; /var/lib/etcd by default."""
    extra_args: Mapping[str, str] = Field(default_factory=dict)
    """Command line arguments that are added or replaced, by name."""
    extra_envs: Annotated[tuple[EnvVar, ...], Field(max_length=100)] = ()
    """Environment variables of etcd."""
    server_cert_sans: Annotated[CertSANs, Field(alias="serverCertSANs")] = ()
    """Further names in the server certificate."""
    peer_cert_sans: Annotated[CertSANs, Field(alias="peerCertSANs")] = ()
    """Further names in the peer certificate."""


class ExternalEtcd(Frozen):
    """An etcd outside the cluster."""

    endpoints: Annotated[tuple[Text512, ...], Field(max_length=50)]
    """Endpoints of the members."""
    ca_file: Text512
    """Path of the certificate authority on the host."""
    cert_file: Text512
    """Path of the client certificate on the host."""
    key_file: Text512
    """Path of the client key on the host."""


class Etcd(Frozen):
    """Which etcd the cluster uses; local unless external is set."""

    local: LocalEtcd | None = None
    """An etcd that runs beside the API server."""
    external: ExternalEtcd | None = None
    """An etcd outside the cluster."""


class Networking(Frozen):
    """Of no effect: the Cluster's network is what counts."""

    service_subnet: Text1024 | None = None
    """Of no effect."""
    pod_subnet: Text1024 | None = None
    """Of no effect."""
    dns_domain: Text253 | None = None
    """Of no effect."""


class ClusterConfiguration(TypeMeta):
    """What holds for the whole cluster (kubeadm ClusterConfiguration)."""

    etcd: Etcd = Etcd()
    """Which etcd the cluster uses."""
    networking: Networking = Networking()
    """Of no effect: the Cluster's network is what counts."""
    kubernetes_version: Text256 | None = None
    """Of no effect: the Machine's version is what counts."""
    control_plane_endpoint: Text512 | None = None
    """Stable host or host:port of the control plane; the Cluster's endpoint by default."""
    api_server: Annotated[APIServer, Field(alias="apiServer")] = APIServer()
    """Settings of kube-apiserver."""
    controller_manager: ControlPlaneComponent = ControlPlaneComponent()
    """Settings of kube-controller-manager."""
    scheduler: ControlPlaneComponent = ControlPlaneComponent()
    """Settings of kube-scheduler."""
    dns: DNS = DNS()
    """Settings of CoreDNS."""
    certificates_dir: Text512 | None = None
    """Directory of the certificates; /etc/kubernetes/pki by default."""
    image_repository: Text512 | None = None
    """Registry of the images; registry.k8s.io by default."""
    feature_gates: Mapping[str, bool] = Field(default_factory=dict)
    """Feature gates of kubeadm."""
    cluster_name: Text63 | None = None
    """Of no effect: the Cluster's name is what counts."""
    certificate_validity_period_days: Annotated[int, Field(ge=1, le=1095)] | None = None
    """Validity of leaf certificates in days; 365 by default."""
    ca_certificate_validity_period_days: Annotated[int, Field(ge=1, le=36500)] | None = None
    """Validity of certificate authorities in days; 3650 by default."""
    encryption_algorithm: Literal["ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072", "RSA-4096"] | None = None
    """Algorithm of keys; RSA-2048 by default."""


class BootstrapToken(Frozen):
    """A token with which Nodes join."""

    token: str
    """The token, id.secret."""
    description: Text512 | None = None
    """What the token is for."""
    ttl: str | None = None
    """Life of the token, as in 24h; excludes expires."""
    expires: AwareDatetime | None = None
    """End of the token's life; excludes ttl."""
    usages: Annotated[tuple[Text256, ...], Field(max_length=100)] = ()
    """What the token may be used for."""
    groups: Annotated[tuple[Text256, ...], Field(max_length=100)] = ()
    """Groups that the holder belongs to."""


class NodeRegistrationOptions(Frozen):
    """How a Node registers itself."""

    name: Text253 | None = None
    """Name of the Node; the host's name by default."""
    cri_socket: Text512 | None = None
    """Socket of the container runtime."""
    taints: Annotated[tuple[NodeTaint, ...], Field(max_length=100)] | None = None
    """Taints of the Node; unset leaves kubeadm's default, an empty list means none."""
    kubelet_extra_args: Mapping[str, str] = Field(default_factory=dict)
    """Command line arguments of the kubelet, by name."""
    ignore_preflight_errors: Annotated[tuple[Text512, ...], Field(max_length=50)] = ()
    """Preflight checks whose failure is only a warning."""
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = None
    """When kubeadm pulls images; IfNotPresent by default."""
    image_pull_serial: bool | None = None
    """Whether images are pulled one after the other; true by default."""


class LocalAPIEndpoint(Frozen):
    """Where the API server of this host listens."""

    advertise_address: Text39 | None = None
    """Address that is advertised."""
    bind_port: int | None = None
    """Port; 6443 by default."""


class Patches(Frozen):
    """Patches of the components' manifests."""

    directory: Text512 | None = None
    """Directory on the host that holds the patches."""


class InitConfiguration(TypeMeta):
    """What `kubeadm init` does on the first control plane host."""

    bootstrap_tokens: Annotated[tuple[BootstrapToken, ...], Field(max_length=100)] = ()
    """Tokens to create."""
    node_registration: NodeRegistrationOptions = NodeRegistrationOptions()
    """How the Node registers itself."""
    local_api_endpoint: Annotated[LocalAPIEndpoint, Field(alias="localAPIEndpoint")] = LocalAPIEndpoint()
    """Where the API server of this host listens."""
    skip_phases: SkipPhases = ()
    """Phases to skip."""
    patches: Patches | None = None
    """Patches of the components' manifests."""


class BootstrapTokenDiscovery(Frozen):
    """Trust in the control plane established with a token."""

    token: Text512 | None = None
    """Token that validates the cluster information."""
    api_server_endpoint: Annotated[Text512 | None, Field(alias="apiServerEndpoint")] = None
    """Where the API server is reached."""
    ca_cert_hashes: Annotated[tuple[Text512, ...], Field(max_length=100)] = ()
    """Hashes of the certificate authority's public key, type:value."""
    unsafe_skip_ca_verification: Annotated[bool | None, Field(alias="unsafeSkipCAVerification")] = None
    """Whether to join without hashes."""


class KubeConfigCluster(HubKubeConfigCluster):
    """The cluster of a discovery kubeconfig."""

    MIN_PROPERTIES = 0


class KubeConfigAuthExec(Frozen):
    """A command that prints credentials."""

    command: Text1024
    """The command."""
    args: Annotated[tuple[Text512, ...], Field(max_length=100)] = ()
    """Its arguments."""
    env: Annotated[tuple[KubeConfigAuthExecEnv, ...], Field(max_length=100)] = ()
    """Environment variables added to the host's."""
    api_version: Text512 | None = None
    """Version of the ExecCredential exchanged."""
    provide_cluster_info: bool | None = None
    """Whether the command is told the cluster."""


class KubeConfigUser(Frozen):
    """The user of a discovery kubeconfig; one of the two."""

    auth_provider: KubeConfigAuthProvider | None = None
    """An authentication plugin built into clients."""
    exec: KubeConfigAuthExec | None = None
    """A command that prints credentials."""


class FileDiscoveryKubeConfig(Frozen):
    """A kubeconfig that is generated for discovery."""

    cluster: KubeConfigCluster | None = None
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

    bootstrap_token: BootstrapTokenDiscovery | None = None
    """With a token."""
    file: FileDiscovery | None = None
    """With a kubeconfig."""
    tls_bootstrap_token: Text512 | None = None
    """Token for the TLS bootstrap; the discovery token by default."""
    timeout: str | None = None
    """How long kubeadm waits for the TLS bootstrap, as in 5m."""


class JoinControlPlane(Frozen):
    """Makes the joining host a further control plane host; its presence alone matters."""

    local_api_endpoint: Annotated[LocalAPIEndpoint, Field(alias="localAPIEndpoint")] = LocalAPIEndpoint()
    """Where the API server of this host listens."""


class JoinConfiguration(TypeMeta):
    """What `kubeadm join` does on every other host."""

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
    patches: Patches | None = None
    """Patches of the components' manifests."""
