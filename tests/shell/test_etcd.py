"""The whole chain over real sockets: HTTPS, websocket, TLS, gRPC, to an emulated etcd cluster and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp
import kubernetes.client
import kubernetes.stream
import pytest
import uvloop
from aiohttp import web

from fleetwake.kube.etcd import CALL_LIMIT, EtcdAlarm, EtcdClient, EtcdError, EtcdTls
from fleetwake.kube.pki import CertificateSpec, KeyPair, certificate_expiry, generate_key, load_key_pair, self_signed_ca, sign_certificate
from fleetwake.kube.port_forward import DIAL_LIMIT, SUBPROTOCOL, ApiAccess, PodPort, PortForwardError, peer_certificate, port_forward
from fleetwake.sim.etcd import EmulatedEtcd, EtcdEndpoint, server_context
from fleetwake.sim.port_forward import ForwardTarget, PodPorts, PortForwardHandler

NOW = datetime.now(UTC)
ROUTE = "/api/v1/namespaces/{namespace}/pods/{pod}/portforward"
NODES = ("cp-0", "cp-1", "cp-2")


def _ca(name: str) -> KeyPair:
    return self_signed_ca(name, generate_key("ECDSA-P256"), now=NOW)


def _leaf(ca: KeyPair, name: str, *usages: str) -> KeyPair:
    spec = CertificateSpec(name, sans=(name, "localhost", "127.0.0.1"), usages=usages)  # type: ignore[arg-type]
    return sign_certificate(ca, spec, generate_key("ECDSA-P256"), now=NOW)


@dataclass
class Cluster:
    """An emulated workload cluster: an HTTPS API server that only forwards ports, and three etcd members behind it."""

    etcd: EmulatedEtcd
    etcd_ca: KeyPair
    api: ApiAccess
    pods: dict[tuple[str, str], dict[int, ForwardTarget]] = field(default_factory=dict)
    endpoints: dict[str, EtcdEndpoint] = field(default_factory=dict)
    saved: list[str] = field(default_factory=list)

    def id(self, node: str) -> int:
        member = self.etcd.find(node)
        assert member is not None
        return member.id

    def tls(self, ca: KeyPair | None = None, **more: str) -> EtcdTls:
        pair = _leaf(ca or self.etcd_ca, "apiserver-etcd-client", "client")
        return EtcdTls(self.etcd_ca.cert_pem, pair.cert_pem, pair.key_pem, **more)

    def client(self, node: str, tls: EtcdTls | None = None, *, timeout: timedelta = CALL_LIMIT, dial_timeout: timedelta = DIAL_LIMIT) -> EtcdClient:
        return EtcdClient.through(self.api, pod=f"etcd-{node}", tls=tls or self.tls(), timeout=timeout, dial_timeout=dial_timeout)


@contextlib.asynccontextmanager
async def forwarding(pods: Mapping[tuple[str, str], PodPorts]) -> AsyncIterator[ApiAccess]:
    """An HTTPS API server that only forwards ports of these pods, by namespace and name."""
    cluster_ca = _ca("kubernetes")
    app = web.Application()
    app.router.add_route("*", ROUTE, PortForwardHandler(lambda namespace, pod: pods.get((namespace, pod))).__call__)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    api_pair = _leaf(cluster_ca, "kube-apiserver", "server")
    load_key_pair(serving, api_pair.cert_pem, api_pair.key_pem)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=serving)
    await site.start()
    port = runner.addresses[0][1]
    trusting = ssl.create_default_context(cadata=cluster_ca.cert_pem.decode())
    try:
        async with aiohttp.ClientSession() as session:
            yield ApiAccess(session, f"https://127.0.0.1:{port}", trusting)
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _emulated() -> AsyncIterator[Cluster]:
    etcd_ca, etcd = _ca("etcd-ca"), EmulatedEtcd("default/c1")
    pods: dict[tuple[str, str], dict[int, ForwardTarget]] = {}
    async with forwarding(pods) as api:
        world = Cluster(etcd, etcd_ca, api, pods)
        for node in NODES:
            member = etcd.join(node, (f"https://{node}:2380",))
            context = server_context(etcd_ca.cert_pem, _leaf(etcd_ca, node, "server", "client"))
            endpoint = EtcdEndpoint(etcd, member.id, context, changed=lambda: world.saved.append(json.dumps(etcd.to_json())))
            world.endpoints[node] = endpoint
            pods["kube-system", f"etcd-{node}"] = {2379: endpoint}
        yield world


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with _emulated() as world:
        yield world


async def test_lists_members_status_and_alarms(cluster: Cluster) -> None:
    cluster.etcd.raise_alarm(cluster.id("cp-1"), "NOSPACE")
    async with cluster.client("cp-1") as etcd:
        members, status, alarms = await asyncio.gather(etcd.members(), etcd.status(), etcd.alarms())
    assert {(m.id, m.name, m.peer_urls, m.is_learner) for m in members} == {(cluster.id(n), n, (f"https://{n}:2380",), False) for n in NODES}
    assert [m.id for m in members] == sorted(m.id for m in members)
    assert (status.member_id, status.leader_id, status.raft_term) == (cluster.id("cp-1"), cluster.id("cp-0"), cluster.etcd.raft_term)
    assert status.db_size_bytes > 0 and not status.is_learner and len(status.errors) == 1
    assert alarms == (EtcdAlarm(cluster.id("cp-1"), "NOSPACE"),)


async def test_removes_a_member_for_good(cluster: Cluster) -> None:
    gone = cluster.id("cp-2")
    async with cluster.client("cp-0") as etcd:
        left = await etcd.remove_member(gone)
        with pytest.raises(EtcdError) as second:
            await etcd.remove_member(gone)
    assert {m.name for m in left} == {"cp-0", "cp-1"}
    assert (second.value.code, second.value.cause) == ("NOT_FOUND", "etcdserver: member not found")
    assert cluster.etcd.removed == {gone}
    assert EmulatedEtcd.from_json(json.loads(cluster.saved[-1])).to_json() == cluster.etcd.to_json()
    with pytest.raises(EtcdError, match="connection refused"):
        async with cluster.client("cp-2") as etcd:
            await etcd.members()


async def test_moves_the_leader_only_through_the_leader(cluster: Cluster) -> None:
    term = cluster.etcd.raft_term
    async with cluster.client("cp-1") as follower:
        with pytest.raises(EtcdError) as refused:
            await follower.move_leader(cluster.id("cp-1"))
    assert (refused.value.code, refused.value.cause) == ("FAILED_PRECONDITION", "etcdserver: not leader")
    assert refused.value.pod == "kube-system/etcd-cp-1"
    async with cluster.client("cp-0") as leader:
        with pytest.raises(EtcdError, match="bad leader transferee"):
            await leader.move_leader(42)
        await leader.move_leader(cluster.id("cp-2"))
        assert (await leader.status()).leader_id == cluster.id("cp-2")
    assert cluster.etcd.raft_term == term + 1


async def test_a_removed_leader_is_replaced_and_its_connection_ends(cluster: Cluster) -> None:
    async with cluster.client("cp-0") as etcd:
        await etcd.remove_member(cluster.id("cp-0"))
        with pytest.raises(EtcdError) as lost:
            await etcd.members()
    assert lost.value.code == "UNAVAILABLE"
    async with cluster.client("cp-1") as etcd:
        assert (await etcd.status()).leader_id == cluster.id("cp-1")


async def test_quorum_is_protected(cluster: Cluster) -> None:
    cluster.etcd.set_running(cluster.id("cp-2"), False)
    async with cluster.client("cp-0") as etcd:
        with pytest.raises(EtcdError) as unhealthy:
            await etcd.remove_member(cluster.id("cp-1"))
        assert (unhealthy.value.code, unhealthy.value.cause) == ("UNAVAILABLE", "etcdserver: unhealthy cluster")
        await etcd.remove_member(cluster.id("cp-2"))  # the dead one may go
        await etcd.remove_member(cluster.id("cp-1"))
        with pytest.raises(EtcdError, match="not enough started members"):
            await etcd.remove_member(cluster.id("cp-0"))
    assert [m.name for m in cluster.etcd.members.values()] == ["cp-0"]


async def test_without_a_majority_only_status_answers(cluster: Cluster) -> None:
    for node in ("cp-0", "cp-1"):
        cluster.etcd.set_running(cluster.id(node), False)
    async with cluster.client("cp-2") as etcd:
        status = await etcd.status()
        assert status.leader_id == 0 and "etcdserver: no leader" in status.errors
        with pytest.raises(EtcdError, match="request timed out"):
            await etcd.members()


async def test_a_learner_says_so(cluster: Cluster) -> None:
    cluster.etcd.members[cluster.id("cp-1")].is_learner = True
    async with cluster.client("cp-0") as etcd:
        assert [m.name for m in await etcd.members() if m.is_learner] == ["cp-1"]
        with pytest.raises(EtcdError, match="bad leader transferee"):
            await etcd.move_leader(cluster.id("cp-1"))
    async with cluster.client("cp-1") as learner:
        assert (await learner.status()).is_learner
        with pytest.raises(EtcdError, match="rpc not supported for learner"):
            await learner.members()


async def test_a_client_of_another_ca_is_refused(cluster: Cluster) -> None:
    with pytest.raises(EtcdError) as refused:
        async with cluster.client("cp-0", cluster.tls(_ca("etcd-ca"))) as etcd:
            await etcd.members()
    assert refused.value.code == "UNAVAILABLE"
    assert "PRIVATE KEY" not in str(refused.value)


async def test_a_member_of_another_ca_is_not_trusted(cluster: Cluster) -> None:
    other = _ca("etcd-ca")
    endpoint = EtcdEndpoint(cluster.etcd, cluster.id("cp-0"), server_context(cluster.etcd_ca.cert_pem, _leaf(other, "cp-0", "server")))
    cluster.pods["kube-system", "etcd-cp-0"] = {2379: endpoint}
    with pytest.raises(EtcdError, match="CERTIFICATE_VERIFY_FAILED") as refused:
        async with cluster.client("cp-0"):
            pytest.fail("a stranger's certificate was accepted")
    assert "dial" in refused.value.operation


@pytest.mark.parametrize(("server_name", "accepted"), [("cp-0", True), ("cp-1", False)])
async def test_names_are_checked_on_request(cluster: Cluster, server_name: str, accepted: bool) -> None:
    client = cluster.client("cp-0", cluster.tls(server_name=server_name))
    if accepted:
        async with client as etcd:
            assert len(await etcd.members()) == 3
    else:
        with pytest.raises(EtcdError, match="Hostname mismatch"):
            await client.__aenter__()


async def test_a_stopped_member_refuses(cluster: Cluster) -> None:
    cluster.etcd.set_running(cluster.id("cp-1"), False)
    with pytest.raises(EtcdError, match="connection refused") as down:
        async with cluster.client("cp-1") as etcd:
            await etcd.status()
    assert down.value.code == "UNAVAILABLE"
    async with cluster.client("cp-0") as etcd:
        assert (await etcd.status()).leader_id == cluster.id("cp-0")


async def test_a_member_that_dies_ends_its_connections(cluster: Cluster) -> None:
    cluster.endpoints["cp-0"].delay_seconds = 60
    async with cluster.client("cp-0") as etcd:
        pending = asyncio.create_task(etcd.members())
        while not cluster.endpoints["cp-0"].connections:
            await asyncio.sleep(0)
        cluster.endpoints["cp-0"].hang_up()
        with pytest.raises(EtcdError) as lost:
            await pending
    assert lost.value.code == "UNAVAILABLE"


async def test_a_call_has_a_limit(cluster: Cluster) -> None:
    cluster.endpoints["cp-0"].delay_seconds = 60
    async with cluster.client("cp-0", timeout=timedelta(milliseconds=200)) as etcd:
        with pytest.raises(EtcdError) as late:
            await etcd.members()
        assert late.value.code == "DEADLINE_EXCEEDED"
        assert late.value.operation == "etcd MemberList through kube-system/etcd-cp-0"
        cluster.endpoints["cp-0"].delay_seconds = 0
        assert len(await etcd.members()) == 3  # one late answer does not spoil the connection


async def test_dialling_has_a_limit(cluster: Cluster) -> None:
    class Mute:
        """Accepts and never says a word."""

        async def accept(self, sock: socket.socket) -> None:
            with sock:
                await asyncio.Event().wait()

    cluster.pods["kube-system", "etcd-cp-0"] = {2379: Mute()}
    with pytest.raises(EtcdError, match=r"within 0\.2 s"):
        await cluster.client("cp-0", dial_timeout=timedelta(milliseconds=200)).__aenter__()


@pytest.mark.parametrize(
    ("target", "http_status"),
    [(PodPort("kube-system", "etcd-nobody", 2379), 404), (PodPort("kube-system", "etcd-cp-0", 0), 400)],
    ids=["no such pod", "port 0"],
)
async def test_the_api_servers_refusal_is_told(cluster: Cluster, target: PodPort, http_status: int) -> None:
    with pytest.raises(PortForwardError) as refused:
        async with port_forward(cluster.api, target):
            pytest.fail("the upgrade was accepted")
    assert refused.value.http_status == http_status


async def test_a_pod_that_is_missing_is_an_etcd_error(cluster: Cluster) -> None:
    with pytest.raises(EtcdError) as refused:
        await cluster.client("nobody").__aenter__()
    assert (refused.value.http_status, refused.value.pod) == (404, "kube-system/etcd-nobody")


async def test_an_api_server_that_is_down_is_an_etcd_error(cluster: Cluster) -> None:
    nowhere = ApiAccess(cluster.api.session, "https://127.0.0.1:1", cluster.api.tls)
    with pytest.raises(EtcdError, match="dial") as refused:
        await EtcdClient.through(nowhere, pod="etcd-cp-0", tls=cluster.tls()).__aenter__()
    assert refused.value.code == "UNAVAILABLE"


async def test_other_upgrades_are_refused(cluster: Cluster) -> None:
    url = f"{cluster.api.base_url}/api/v1/namespaces/kube-system/pods/etcd-cp-0/portforward?ports=2379"
    assert cluster.api.tls is not None
    async with cluster.api.session.post(url, ssl=cluster.api.tls) as plain:
        assert plain.status == 400
        assert (await plain.json())["message"] == "Upgrade request required"
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await cluster.api.session.ws_connect(url, protocols=("SPDY/3.1+portforward.k8s.io",), ssl=cluster.api.tls)


async def test_ports_of_one_websocket_are_told_apart(cluster: Cluster) -> None:
    url = f"{cluster.api.base_url}/api/v1/namespaces/kube-system/pods/etcd-cp-0/portforward?ports=2379,6443"
    assert cluster.api.tls is not None
    async with cluster.api.session.ws_connect(url, protocols=(SUBPROTOCOL,), ssl=cluster.api.tls) as websocket:
        frames = [(await websocket.receive_bytes(timeout=5)) for _ in range(5)]
    opened = {frame for frame in frames if len(frame) == 3}
    assert opened == {bytes((c,)) + p.to_bytes(2, "little") for c, p in ((0, 2379), (1, 2379), (2, 6443), (3, 6443))}
    (refusal,) = (frame for frame in frames if len(frame) > 3)
    assert refusal[0] == 3 and b"port 6443" in refusal and b"connection refused" in refusal


async def test_another_projects_client_is_served(cluster: Cluster) -> None:
    """The client of the ``kubernetes`` package speaks the same websocket form, written by others."""

    class Shout:
        """Answers in capitals."""

        async def accept(self, sock: socket.socket) -> None:
            reader, writer = await asyncio.open_unix_connection(sock=sock)
            with contextlib.closing(writer):
                while chunk := await reader.read(65536):
                    writer.write(chunk.upper())
                    await writer.drain()

    def talk() -> bytes:
        configuration = kubernetes.client.Configuration()
        configuration.host, configuration.verify_ssl = cluster.api.base_url, False
        core = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(configuration))
        forward = kubernetes.stream.portforward(core.connect_get_namespaced_pod_portforward, "shout", "default", ports="80")
        with contextlib.closing(forward), contextlib.closing(forward.socket(80)) as near:
            near.setblocking(True)
            near.sendall(b"x" * 200_000)
            answer = b""
            while len(answer) < 200_000:
                answer += near.recv(65536)
        return answer

    cluster.pods["default", "shout"] = {80: Shout()}
    assert await asyncio.to_thread(talk) == b"X" * 200_000


async def test_reads_the_certificate_a_pod_serves(cluster: Cluster) -> None:
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname, looking.verify_mode = False, ssl.CERT_NONE
    der = await peer_certificate(cluster.api, PodPort("kube-system", "etcd-cp-0", 2379), looking)
    assert timedelta(days=364) < certificate_expiry(der) - NOW < timedelta(days=366)


async def test_nothing_is_left_open(cluster: Cluster) -> None:
    before = len(asyncio.all_tasks())
    for _ in range(3):
        async with cluster.client("cp-0") as etcd:
            await etcd.members()
    async with asyncio.timeout(5):
        while cluster.endpoints["cp-0"].connections:
            await asyncio.sleep(0.01)
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.01)


def test_the_chain_holds_on_uvloop() -> None:
    """Services run on uvloop, whose transports differ from asyncio's where TLS meets sockets."""

    async def scenario() -> None:
        async with _emulated() as cluster:
            async with cluster.client("cp-0") as etcd:
                assert len(await etcd.members()) == 3
                await etcd.move_leader(cluster.id("cp-1"))
                await etcd.remove_member(cluster.id("cp-2"))
            with pytest.raises(EtcdError, match="connection refused"):
                async with cluster.client("cp-2") as etcd:
                    await etcd.members()
            with pytest.raises(EtcdError):
                async with cluster.client("cp-1", cluster.tls(_ca("etcd-ca"))) as etcd:
                    await etcd.members()
            looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            looking.check_hostname, looking.verify_mode = False, ssl.CERT_NONE
            assert await peer_certificate(cluster.api, PodPort("kube-system", "etcd-cp-0", 2379), looking)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario())


def test_membership_survives_json() -> None:
    etcd = EmulatedEtcd("default/c1")
    first, second = etcd.join("a", ("https://a:2380",)), etcd.join("b", ("https://b:2380",), is_learner=True)
    etcd.raise_alarm(second.id, "CORRUPT")
    etcd.forget(first.id)
    again = EmulatedEtcd.from_json(json.loads(json.dumps(etcd.to_json())))
    assert again.to_json() == etcd.to_json()
    assert again.join("a", ("https://a:2380",)).id == etcd.join("a", ("https://a:2380",)).id != first.id


def test_pod_ports_accept_endpoints() -> None:
    etcd = EmulatedEtcd("default/c1")
    ca = _ca("etcd-ca")

    async def build() -> PodPorts:
        return {2379: EtcdEndpoint(etcd, etcd.join("a", ()).id, server_context(ca.cert_pem, _leaf(ca, "a", "server")))}

    assert list(asyncio.run(build())) == [2379]
