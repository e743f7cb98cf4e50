"""What a KubeadmConfig's decision reads.

Source: kinds.md §9 (owner, cluster, init lock, certificates, token).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from fleetwake import contracts, labels
from fleetwake.conditions import is_true
from fleetwake.errors import InvalidError
from fleetwake.kind import External, Failure, View, Workload
from fleetwake.patches import key_of, wire
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.api.core.v1beta2 import Cluster, Machine, MachinePool
from schemas.api.meta import ObjectMeta
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.bootstrap import files, proxy
from services.reconcilers.bootstrap.host import Role
from services.reconcilers.bootstrap.request import FetchPoint, Request, fetches
from services.reconcilers.kinds.kubeconfig import server_url
from services.reconcilers.kubeadm.documents import ClusterFacts
from services.reconcilers.kubeadm.secrets import TOKEN_TTL, Purpose, certificate_files, secret_key
from services.reconcilers.kubeadm.versions import normalized

Owner: TypeAlias = Machine | MachinePool
SECRET, CONFIG_MAP = GroupKind("", "Secret"), GroupKind("", "ConfigMap")
LOCK_KEY = "lock-information"
FETCH_POINT = "bootstrap-data"
"""What ``view.local`` calls the service that hosts fetch from."""
TOKEN_LIFE = "bootstrap-token-ttl"
"""What it calls the time that bootstrap tokens live."""
TOKEN_ROTATION = "fleetwake.io/bootstrap-token-rotation"
"""Annotation on a KubeadmConfig of a MachinePool: how often its token was exchanged."""


@dataclass(frozen=True, slots=True)
class Lock:
    """The init lock of a cluster and the Machine that holds it."""

    key: ObjectKey
    metadata: ObjectMeta
    holder: str
    holder_exists: bool


@dataclass(frozen=True, slots=True)
class Observed:
    """A KubeadmConfig with its owner and Cluster; ``spec`` is its spec as JSON, as it was stored (sensitive values as hashes).

    What only the making of data needs is empty once there is data. ``lock`` is read for control plane Machines only.

    ``certificates`` are the purposes whose Secrets exist. ``missing_sources`` are Secrets of files and users that the cache does not have:
    they may exist unlabelled, so their absence stops nothing. ``control_plane_version`` is normalised, ``""`` when not known.
    """

    at: datetime
    config: KubeadmConfig
    owner: Owner
    cluster: Cluster
    workload: Workload
    lock: Lock | None = None
    certificates: frozenset[Purpose] = frozenset()
    data_secret: External | None = None
    missing_sources: tuple[str, ...] = ()
    control_plane_version: str = ""
    failure: Failure | None = None
    spec: Mapping[str, Any] = field(default_factory=dict)
    fetch: FetchPoint | None = None
    token_ttl: timedelta = TOKEN_TTL

    @property
    def token_check_every(self) -> timedelta:
        """How often a bootstrap token is looked at."""
        return self.token_ttl / 3

    @property
    def cluster_key(self) -> ClusterKey:
        """The Cluster's key."""
        return ClusterKey(self.cluster.namespace, self.cluster.name)

    @property
    def is_control_plane(self) -> bool:
        """Whether the owner is a control plane Machine."""
        return isinstance(self.owner, Machine) and labels.CONTROL_PLANE in self.owner.metadata.labels

    @property
    def has_joined(self) -> bool:
        """Whether the owner needs the bootstrap data no more: its Node is there. A MachinePool may always grow."""
        return isinstance(self.owner, Machine) and self.owner.status.node_ref is not None

    @property
    def whole_pool(self) -> bool:
        """Whether the owner is a MachinePool that has all the Nodes it asks for."""
        return isinstance(self.owner, MachinePool) and len(self.owner.status.node_refs) == (1 if self.owner.spec.replicas is None else self.owner.spec.replicas)

    @property
    def token_counter(self) -> int:
        """How often the bootstrap token was exchanged."""
        text = self.config.metadata.annotations.get(TOKEN_ROTATION, "")
        return int(text) if text.isascii() and text.isdigit() else 0

    @property
    def role(self) -> Role:
        """How the host comes into the cluster, as things are now."""
        if not self.is_control_plane:
            return Role.JOIN_WORKER
        return Role.JOIN_CONTROL_PLANE if self.initialized else Role.INIT

    @property
    def request(self) -> Request:
        """Whose data to render."""
        return Request(
            cluster=self.cluster_key,
            config=key_of(self.config),
            config_uid=self.config.metadata.uid,
            spec=self.spec,
            facts=self.facts,
            control_plane_version=self.control_plane_version,
            token_counter=self.token_counter,
            own_token=labels.BOOTSTRAP_TOKEN_ID in self.config.metadata.annotations,
            fetch=self.fetch,
        )

    @property
    def owner_data_secret_name(self) -> str:
        """The bootstrap Secret the owner already names."""
        bootstrap = self.owner.spec.bootstrap if isinstance(self.owner, Machine) else self.owner.spec.template.spec.bootstrap
        return bootstrap.data_secret_name or ""

    @property
    def version(self) -> str:
        """The Kubernetes version the owner asks for."""
        spec = self.owner.spec if isinstance(self.owner, Machine) else self.owner.spec.template.spec
        return spec.version or ""

    @property
    def initialized(self) -> bool:
        """Whether the control plane takes requests."""
        return is_true(self.cluster.status.conditions, "ControlPlaneInitialized")

    @property
    def created(self) -> bool:
        """Whether our status names the bootstrap data."""
        return bool(self.config.status.initialization.data_secret_created) and bool(self.config.status.data_secret_name)

    @property
    def endpoint(self) -> str:
        """The API server as host:port, ``""`` while the Cluster has none."""
        endpoint = self.cluster.spec.control_plane_endpoint
        return server_url(endpoint).removeprefix("https://") if endpoint.valid else ""

    @property
    def facts(self) -> ClusterFacts:
        """What of the cluster goes into kubeadm's documents."""
        network = self.cluster.spec.cluster_network
        return ClusterFacts(
            cluster_name=self.cluster.name,
            kubernetes_version=self.version,
            endpoint=self.endpoint,
            dns_domain=network.service_domain or "",
            service_subnet=",".join(network.services.cidr_blocks) if network.services else "",
            pod_subnet=",".join(network.pods.cidr_blocks) if network.pods else "",
        )

    def needed(self, *, control_plane: bool) -> tuple[Purpose, ...]:
        """The certificates a node of this kind is bootstrapped with."""
        if not control_plane:
            return (Purpose.CA,)
        return tuple(file.purpose for file in certificate_files(self.spec.get("clusterConfiguration") or {}))

    def missing(self, *, control_plane: bool) -> tuple[Purpose, ...]:
        """Those needed whose Secrets do not exist."""
        return tuple(purpose for purpose in self.needed(control_plane=control_plane) if purpose not in self.certificates)


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a KubeadmConfig and all its decision needs; None while it has no owner or no Cluster (their appearance wakes it)."""
    config = view.get(KubeadmConfig, key.namespace, key.name)
    if config is None:
        return None
    owner = _owner(view, config)
    cluster = view.get(Cluster, key.namespace, owner.spec.cluster_name) if owner is not None else None
    if owner is None or cluster is None:
        return None
    cluster_key, spec = ClusterKey(cluster.namespace, cluster.name), wire(config.spec)
    control_plane = labels.CONTROL_PLANE in owner.metadata.labels and isinstance(owner, Machine)
    # only what this state can use is read: what was read is what a live confirmation has to read again
    created = bool(config.status.initialization.data_secret_created) and bool(config.status.data_secret_name)
    rendered_again = isinstance(owner, MachinePool) or fetches(spec)
    templated = (not created or rendered_again) and any(file.content_format == "Template" for file in config.spec.files)
    sources = (*files.secrets_of(spec, key.namespace), *proxy.secrets_of(spec, key.namespace))
    return Observed(
        at=view.at,
        config=config,
        owner=owner,
        cluster=cluster,
        workload=view.workload(cluster_key),
        lock=_lock(view, cluster) if control_plane else None,
        certificates=frozenset() if created else _certificates(view, cluster_key, spec, control_plane),
        data_secret=view.external(SECRET, key.namespace, key.name),
        missing_sources=() if created else tuple(source.name for source in sources if not view.exists(source)),
        control_plane_version=_control_plane_version(view, cluster) if templated else "",
        failure=view.failure(),
        spec=spec,
        fetch=view.local(FETCH_POINT),
        token_ttl=view.local(TOKEN_LIFE) or TOKEN_TTL,
    )


def _owner(view: View, config: KubeadmConfig) -> Owner | None:
    for ref in config.metadata.owner_references:
        if ref.group == Machine.GROUP and ref.kind == Machine.KIND:
            return view.get(Machine, config.namespace, ref.name)
        if ref.group == MachinePool.GROUP and ref.kind == MachinePool.KIND:
            return view.get(MachinePool, config.namespace, ref.name)
    return None


def _certificates(view: View, cluster: ClusterKey, spec: Mapping[str, Any], control_plane: bool) -> frozenset[Purpose]:
    """The certificates that exist, of those a node of this kind needs."""
    needed = [file.purpose for file in certificate_files(spec.get("clusterConfiguration") or {})] if control_plane else [Purpose.CA]
    return frozenset(purpose for purpose in needed if view.exists(secret_key(cluster, purpose)))


def _lock(view: View, cluster: Cluster) -> Lock | None:
    found = view.external(CONFIG_MAP, cluster.namespace, f"{cluster.name}-lock")
    if found is None:
        return None
    try:
        holder = str(json.loads((found.fields.get("data") or {}).get(LOCK_KEY, "{}")).get("machineName", ""))
    except (ValueError, AttributeError):
        holder = ""
    exists = bool(holder) and view.get(Machine, cluster.namespace, holder) is not None
    return Lock(found.key, found.metadata, holder, exists)


def _control_plane_version(view: View, cluster: Cluster) -> str:
    ref = cluster.spec.control_plane_ref
    found = view.external(GroupKind(ref.api_group, ref.kind), cluster.namespace, ref.name) if ref is not None else None
    try:
        return normalized(contracts.ControlPlane(found).version) if found is not None else ""
    except InvalidError:
        return ""
