"""What happens on an emulated host as it starts, stage by stage: the Node, the etcd member, the API server. Each stage may be repeated.

Source: workload.md §4 (phases); kubeadm 1.36 init and join.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from fleetwake.errors import NotFoundError
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, sign_certificate
from fleetwake.sim.apiserver import ApiStatusError, WriteOptions
from fleetwake.sim.apiserver.store import Key
from fleetwake.sim.etcd import EmulatedMember, EtcdRefusal
from services.dev_infrastructure.emulation import bootstrap_data, fetched, kubelet, objects, user_data
from services.dev_infrastructure.emulation.bootstrap_data import BootstrapData
from services.dev_infrastructure.emulation.cluster import EmulatedCluster, Host
from services.dev_infrastructure.emulation.user_data import BootstrapError
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, NODE, MachineArguments

SecretReader = Callable[[str, str], Awaitable[Mapping[str, bytes]]]
"""Reads a Secret of the management API live, by namespace and name. Raises: FleetwakeError."""
Fetcher = Callable[[fetched.Order], Awaitable[bytes]]
"""Fetches, as a host, what its user data orders. Raises: BootstrapError when refused, UnavailableError when nobody answers."""
AS_KUBEADM = WriteOptions(field_manager="kubeadm")
SERVICE_NAMES = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", "10.96.0.1")


class Bootstrapper:
    """Carries out stages."""

    def __init__(self, secret: SecretReader, fetch: Fetcher, now: Callable[[], datetime]) -> None:
        self._secret, self._fetch, self._now = secret, fetch, now

    async def reach(self, cluster: EmulatedCluster, host: Host, stage: str, wanted: MachineArguments) -> None:
        """Bring a host to a stage and note when it got there.

        Raises:
            BootstrapError: a real host would fail here.
            FleetwakeError: the management API did not give what is needed.
        """
        if stage == NODE:
            await self._node(cluster, host, wanted)
        elif stage == ETCD:
            await self._etcd(cluster, host, wanted)
        elif stage == API_SERVER:
            await self._api_server(cluster, host, wanted)
        host.done[stage] = self._now()
        if stage == API_SERVER:
            await cluster.serve()

    # ---- Node -------------------------------------------------------------------------------------------------------------------------
    async def _node(self, cluster: EmulatedCluster, host: Host, wanted: MachineArguments) -> None:
        if not wanted.secret:
            raise BootstrapError("the Machine names no bootstrap Secret")
        data = await self._data(cluster, host, wanted)
        if data.control_plane != host.control_plane:
            kinds = ("a control plane host", "a worker")
            raise BootstrapError(f"the bootstrap data is that of {kinds[not data.control_plane]}, the Machine is {kinds[not host.control_plane]}")
        host.api_port = data.api_port
        if data.join:
            if not wanted.again:
                self._may_join(cluster, data)
                self._read_configuration(cluster, host)
        else:
            self._may_init(cluster, data, again=wanted.again)
        facts = objects.NodeFacts(
            name=host.name,
            uid=host.uid,
            provider_id=wanted.provider_id,
            version=host.version,
            address=wanted.address,
            zone=wanted.zone,
            control_plane=host.control_plane,
            labels=data.labels,
            taints=data.taints,
            windows=wanted.windows,
        )
        made = objects.node(facts, self._now())
        found = cluster.server.store.get(Key("nodes", "", host.name))
        if found is not None and found.obj.get("spec", {}).get("providerID") != wanted.provider_id:
            kubelet.delete(cluster.server, "nodes", "", host.name)
        if found is None or found.obj.get("spec", {}).get("providerID") != wanted.provider_id:
            cluster.server.create("nodes", made, options=WriteOptions(field_manager="kubelet"))
        host.fetched = b""

    async def _data(self, cluster: EmulatedCluster, host: Host, wanted: MachineArguments) -> BootstrapData:
        """What the host's user data makes of it. A host that ran before needs none: its own disk would tell."""
        try:
            found = user_data.read(await self._secret(cluster.key.namespace, wanted.secret), host.name, windows=wanted.windows)
        except NotFoundError:
            if wanted.again:
                return BootstrapData(True, wanted.control_plane, "")
            raise
        if found.fetch and not wanted.again:
            # a token opens the data once: what came of it is kept over further tries
            host.fetched = host.fetched or await self._fetch(fetched.order(found))
            found = fetched.applied(found, host.fetched, host.name)
        elif found.fetch:
            return BootstrapData(True, wanted.control_plane, "")
        return bootstrap_data.parse(found)

    def _may_init(self, cluster: EmulatedCluster, data: BootstrapData, *, again: bool) -> None:
        if cluster.initialized and cluster.etcd.members:
            if again:
                # what was kept is lost, and another host was rebuilt before the one that began it all: this one comes back beside it
                return
            raise BootstrapError("kubeadm init: the cluster has a control plane already")
        if cluster.initialized:
            cluster.begin_anew()
        cluster.configuration, cluster.external_etcd = data.cluster_configuration, data.external_etcd

    def _may_join(self, cluster: EmulatedCluster, data: BootstrapData) -> None:
        if not cluster.api_servers:
            raise BootstrapError("kubeadm join: no API server of the cluster answers", again=True)
        token_id, secret = data.token
        if not token_id:
            return
        found = cluster.server.store.get(Key("secrets", objects.SYSTEM, f"bootstrap-token-{token_id}"))
        stored = {key: base64.b64decode(value).decode("utf-8", "replace") for key, value in (found.obj.get("data") or {}).items()} if found is not None else {}
        if stored.get("token-secret") != secret:
            raise BootstrapError(f"kubeadm join: the cluster has no bootstrap token {token_id} with this secret", again=True)
        if stored.get("usage-bootstrap-authentication") != "true":
            raise BootstrapError(f"kubeadm join: the bootstrap token {token_id} does not serve for authentication", again=True)
        expires = stored.get("expiration")
        if expires and datetime.fromisoformat(expires.replace("Z", "+00:00")) <= self._now():
            raise BootstrapError(f"kubeadm join: the bootstrap token {token_id} has expired", again=True)

    def _read_configuration(self, cluster: EmulatedCluster, host: Host) -> None:
        """What kubeadm join reads in the cluster: a control plane host runs the version that stands there, whatever kubeadm it has itself."""
        found = cluster.server.store.get(Key("configmaps", objects.SYSTEM, "kubeadm-config"))
        text = (found.obj.get("data") or {}).get("ClusterConfiguration") if found is not None else None
        if not text:
            raise BootstrapError("kubeadm join: the ConfigMap kube-system/kubeadm-config has no ClusterConfiguration", again=True)
        configuration = bootstrap_data.stored_configuration(text, host.version)
        host.components = str(configuration.get("kubernetesVersion") or "") if host.control_plane else ""

    # ---- etcd -------------------------------------------------------------------------------------------------------------------------
    async def _etcd(self, cluster: EmulatedCluster, host: Host, wanted: MachineArguments) -> None:
        if cluster.external_etcd:
            return
        ca = await self._ca(cluster, "etcd")
        if cluster.etcd_ca != ca.cert_pem or cluster.etcd_serving is None:
            spec = CertificateSpec("etcd", sans=("localhost", "127.0.0.1", "etcd"), usages=("server", "client"))
            cluster.trust_etcd(ca.cert_pem, sign_certificate(ca, spec, generate_key("ECDSA-P256"), now=self._now()))
        host.member_id = self._member(cluster, host, wanted).id
        self._static_pod(cluster, host, "etcd")

    @staticmethod
    def _member(cluster: EmulatedCluster, host: Host, wanted: MachineArguments) -> EmulatedMember:
        found = cluster.etcd.find(host.name)
        if found is not None and found.running:
            return found
        peers = (f"https://{wanted.address}:2380",)
        if wanted.again:
            # what was lost with the store is brought back, not joined
            return cluster.etcd.join(host.name, peers)
        try:
            return cluster.etcd.add(host.name, peers)
        except EtcdRefusal as refusal:
            raise BootstrapError(f"kubeadm join: {refusal.message}", again=True) from refusal

    # ---- API server -------------------------------------------------------------------------------------------------------------------
    async def _api_server(self, cluster: EmulatedCluster, host: Host, wanted: MachineArguments) -> None:
        ca = await self._ca(cluster, "ca")
        sans = tuple(dict.fromkeys((*SERVICE_NAMES, cluster.host, host.name, wanted.address)))
        spec = CertificateSpec("kube-apiserver", sans=sans, usages=("server",))
        host.ca_pem, host.serving = ca.cert_pem, sign_certificate(ca, spec, generate_key("ECDSA-P256"), now=self._now())
        for component in objects.STATIC_PODS[1:]:
            self._static_pod(cluster, host, component)
        if not cluster.initialized:
            endpoint = f"{cluster.host}:{cluster.port}" if cluster.port else cluster.host
            configuration = cluster.configuration or objects.minimal_configuration(cluster.key.name, endpoint, host.version)
            for resource, body in objects.cluster_objects(configuration, host.version):
                _create(cluster, resource, body)
            cluster.initialized = True

    def _static_pod(self, cluster: EmulatedCluster, host: Host, component: str) -> None:
        node = cluster.server.store.get(Key("nodes", "", host.name))
        if node is None:
            raise BootstrapError(f"the Node {host.name} was deleted while its host started")
        made = _create(cluster, "pods", objects.static_pod(component, node.obj, host.components or host.version))
        if made is not None:
            kubelet.start(cluster.server, made)

    async def _ca(self, cluster: EmulatedCluster, purpose: str) -> KeyPair:
        """The CA of a purpose (``ca``, ``etcd``) with its key, read live."""
        name = f"{cluster.key.name}-{purpose}"
        data = await self._secret(cluster.key.namespace, name)
        if not data.get("tls.crt") or not data.get("tls.key"):
            raise BootstrapError(f"the Secret {name} lacks tls.crt or tls.key: an emulated host signs its own certificates")
        return KeyPair(data["tls.crt"], data["tls.key"])


def _create(cluster: EmulatedCluster, resource: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """Create an object; None when it is there already."""
    try:
        return cluster.server.create(resource, body, body["metadata"].get("namespace", ""), AS_KUBEADM)
    except ApiStatusError as error:
        if error.code != 409:
            raise
        return None
