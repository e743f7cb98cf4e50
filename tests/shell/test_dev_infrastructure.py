"""Emulated clusters over real sockets: kubectl over TLS, etcd through port-forward, restarts, failures of a bootstrap."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import uvloop

from fleetwake.errors import NotFoundError, UnavailableError
from fleetwake.kube import config
from fleetwake.kube.client import ApiClient
from fleetwake.kube.etcd import EtcdClient, EtcdTls
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, render_kubeconfig, self_signed_ca, sign_certificate
from fleetwake.kube.port_forward import ApiAccess, PodPort, peer_certificate
from schemas.keys import ObjectKey
from services.dev_infrastructure.emulation import cluster as cluster_module
from services.dev_infrastructure.emulation.emulator import Emulator, Outside
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, NODE, VM, ClusterState, MachineState

KUBECTLS = [
    "/usr/bin/kubectl",
    *(str(path) for path in sorted((Path.home() / ".cache/fleetwake").glob("kube-*/kubectl"))),
]
CONTROL_PLANE = (VM, NODE, ETCD, API_SERVER)
WORKER = (VM, NODE)
TOKEN = ("abcdef", "0123456789abcdef")
FIRST_PORT = 23000 + 250 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS = (FIRST_PORT, FIRST_PORT + 249)
"""First and last port, a range for each process of a test run: one that a restart lets go of for a moment must not be taken by the neighbour."""


def bootstrap(kind: str, *, version: str = "v1beta4", token: tuple[str, str] = TOKEN) -> bytes:
    """A small cloud-config of the shape that KubeadmConfig renders."""
    api = f"kubeadm.k8s.io/{version}"
    registration = {"init": "{}", "join-control-plane": "{}", "join": "{taints: [{key: node.cluster.x-k8s.io/uninitialized, effect: NoSchedule}]}"}[kind]
    if kind == "init":
        path, verb = "/run/kubeadm/kubeadm.yaml", "init"
        kubeadm = [
            "---",
            f"apiVersion: {api}",
            "kind: ClusterConfiguration",
            "clusterName: demo",
            "kubernetesVersion: v1.34.2",
            "---",
            f"apiVersion: {api}",
            "kind: InitConfiguration",
            f"nodeRegistration: {registration}",
        ]
    else:
        path, verb = "/run/kubeadm/kubeadm-join-config.yaml", "join"
        kubeadm = ["---", f"apiVersion: {api}", "kind: JoinConfiguration", f"nodeRegistration: {registration}"]
        kubeadm += [f"discovery: {{bootstrapToken: {{token: {'.'.join(token)}, apiServerEndpoint: 'x:1'}}}}"]
        kubeadm += ["controlPlane: {}"] if kind == "join-control-plane" else []
    files = {path: kubeadm}
    if kind != "join":
        files |= {f"/etc/kubernetes/pki/ca.{end}": ["pem"] for end in ("crt", "key")}
    lines = ["## template: jinja", "#cloud-config", "", "write_files:"]
    for name, content in files.items():
        lines += [f"-   path: {name}", "    owner: root:root", "    permissions: '0640'", "    content: |", *(f"      {line}" for line in content)]
    lines += ["runcmd:", f'  - "kubeadm {verb} --config {path} && echo success > /run/cluster-api/bootstrap-success.complete"']
    return "\n".join(lines).encode()


@dataclass
class World:
    """The Secrets of a management API, and the emulation beside it."""

    folder: Path
    pool: PortPool
    secrets: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    woken: list[ObjectKey] = field(default_factory=list)
    cas: dict[str, KeyPair] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for purpose in ("ca", "etcd"):
            ca = self.cas[purpose] = self_signed_ca(purpose, generate_key("ECDSA-P256"), now=datetime.now(UTC))
            self.secrets[f"default/demo-{purpose}"] = {"tls.crt": ca.cert_pem, "tls.key": ca.key_pem}
        self.emulator = self.new()

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """Read a Secret."""
        if f"{namespace}/{name}" not in self.secrets:
            raise NotFoundError("there is none", operation=f"get Secret {namespace}/{name}")
        return self.secrets[f"{namespace}/{name}"]

    def new(self) -> Emulator:
        """An emulation over the same folder."""
        return Emulator(Outside(self.pool, self.secret, lambda: datetime.now(UTC), self.woken.append, self.folder))

    async def restart(self) -> None:
        """End the emulation and begin it again, as another process would."""
        await self.emulator.close()
        self.emulator = self.new()
        await self.emulator.open()

    @property
    def state(self) -> ClusterState:
        """What decisions see."""
        return self.emulator.states["default/demo"]

    async def cluster(self, **more: Any) -> ClusterState:
        """Make the emulated cluster."""
        await self.emulator.ensure_cluster({"cluster": "default/demo", "name": "demo-infra", "uid": "uid-demo", **more})
        return self.state

    async def machine(self, name: str, kind: str, data: bytes | None = None, **more: Any) -> MachineState:
        """Start a machine through all its stages."""
        self.secrets[f"default/{name}"] = {"value": bootstrap(kind) if data is None else data, "format": b"cloud-config"}
        wanted: dict[str, Any] = {
            "cluster": "default/demo",
            "name": name,
            "uid": f"uid-{name}",
            "stages": WORKER if kind == "join" else CONTROL_PLANE,
            "machine": name,
            "control_plane": kind != "join",
            "version": "v1.34.2",
            "provider_id": f"in-memory://{name}",
            "address": "10.1.2.3",
            "zone": "",
            "secret": name,
            "data": "1",
        }
        await self.emulator.ensure_machine(wanted | more)
        return self.state.machines[f"uid-{name}"]

    def kubeconfig(self) -> bytes:
        """The admin's kubeconfig."""
        spec = CertificateSpec("kubernetes-admin", ("system:masters",))
        client = sign_certificate(self.cas["ca"], spec, generate_key("ECDSA-P256"), now=datetime.now(UTC))
        return render_kubeconfig("demo", f"https://{self.state.host}:{self.state.port}", self.cas["ca"].cert_pem, client)

    async def client(self) -> ApiClient:
        """A client of the emulated cluster, as admin."""
        return ApiClient(config.from_kubeconfig(self.kubeconfig()))

    async def token(self) -> None:
        """Give the cluster the bootstrap token that joins use."""
        data = {"token-id": TOKEN[0], "token-secret": TOKEN[1], "usage-bootstrap-authentication": "true", "expiration": "2099-01-01T00:00:00Z"}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"bootstrap-token-{TOKEN[0]}", "namespace": "kube-system"},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        async with await self.client() as api:
            answer = await api.request("POST", "/api/v1/namespaces/kube-system/secrets", body=orjson.dumps(body))
        assert answer.status == 201, answer.body

    async def kubectl(self, binary: str, *arguments: str) -> tuple[int, str, str]:
        """Run kubectl with the admin's kubeconfig."""
        path = self.folder.parent / "kubeconfig"
        path.write_bytes(self.kubeconfig())
        environment = {**os.environ, "HOME": str(self.folder.parent)}
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(binary, "--kubeconfig", str(path), *arguments, stdout=pipe, stderr=pipe, env=environment)
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode or 0, out.decode(), err.decode()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found = World(tmp_path / "clusters", PortPool("127.0.0.1", *PORTS))
    await found.emulator.open()
    yield found
    await found.emulator.close()


def _connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_port_is_promised_before_it_serves(world: World) -> None:
    state = await world.cluster()
    assert PORTS[0] <= state.port <= PORTS[1]
    assert not _connects(state.port)
    with socket.socket() as other, pytest.raises(OSError):
        other.bind(("127.0.0.1", state.port))
    await world.machine("cp-0", "init")
    assert _connects(state.port)


@pytest.mark.parametrize("binary", KUBECTLS)
async def test_kubectl_sees_the_nodes(world: World, binary: str) -> None:
    await world.cluster()
    await world.machine("cp-0", "init")
    await world.token()
    state = await world.machine("w-0", "join")
    assert state.failure == "" and set(state.done) == set(WORKER)
    code, out, err = await world.kubectl(binary, "get", "nodes", "--no-headers")
    assert code == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert [(row[0], row[1]) for row in rows] == [("cp-0", "Ready"), ("w-0", "Ready")], out
    code, out, err = await world.kubectl(binary, "-n", "kube-system", "get", "pods", "-l", "tier=control-plane", "-o", "name")
    assert code == 0 and len(out.split()) == 4, out + err
    code, out, err = await world.kubectl(binary, "version")
    assert "v1.34.2" in out, out + err


async def test_objects_of_a_new_cluster(world: World) -> None:
    await world.cluster()
    await world.machine("cp-0", "init")
    async with await world.client() as api:
        node = (await api.request("GET", "/api/v1/nodes/cp-0")).json()
        found = (await api.request("GET", "/api/v1/namespaces/kube-system/configmaps/kubeadm-config")).json()
        proxy = (await api.request("GET", "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy")).json()
        pod = (await api.request("GET", "/api/v1/namespaces/kube-system/pods/kube-apiserver-cp-0")).json()
    assert node["spec"]["providerID"] == "in-memory://cp-0"
    assert node["spec"]["taints"] == [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    assert node["status"]["nodeInfo"]["kubeletVersion"] == "v1.34.2"
    assert {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "True"
    assert "clusterName: demo" in found["data"]["ClusterConfiguration"]
    assert proxy["spec"]["template"]["spec"]["containers"][0]["image"].endswith("kube-proxy:v1.34.2")
    assert pod["status"]["phase"] == "Running" and "kubernetes.io/config.mirror" in pod["metadata"]["annotations"]


async def test_nobody_without_a_certificate(world: World) -> None:
    state = await world.cluster()
    await world.machine("cp-0", "init")
    async with aiohttp.ClientSession() as session, session.get(f"https://127.0.0.1:{state.port}/api/v1/nodes", ssl=_anonymous(world)) as answer:
        assert answer.status == 401


def _anonymous(world: World) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=world.cas["ca"].cert_pem.decode())


async def test_etcd_through_port_forward(world: World) -> None:
    state = await world.cluster()
    await world.machine("cp-0", "init")
    await world.token()
    await world.machine("cp-1", "join-control-plane")
    ca = world.cas["etcd"]
    pair = sign_certificate(ca, CertificateSpec("apiserver-etcd-client"), generate_key("ECDSA-P256"), now=datetime.now(UTC))
    tls = EtcdTls(ca.cert_pem, pair.cert_pem, pair.key_pem)
    async with await world.client() as api:
        access = ApiAccess(api._session, f"https://127.0.0.1:{state.port}")
        async with EtcdClient.through(access, pod="etcd-cp-1", tls=tls) as etcd:
            members = await etcd.members()
            assert [member.name for member in members] == ["cp-0", "cp-1"]
            status = await etcd.status()
            assert status.leader_id == members[0].id
            await etcd.remove_member(members[0].id)
        await world.emulator.remove_machine({"uid": "uid-cp-0"})
        async with EtcdClient.through(access, pod="etcd-cp-1", tls=tls) as etcd:
            assert [member.name for member in await etcd.members()] == ["cp-1"]
        context = _anonymous(world)
        context.check_hostname = False
        assert await peer_certificate(access, PodPort("kube-system", "kube-apiserver-cp-1", 6443), context)


async def test_a_lost_host_leaves_its_member_and_takes_the_majority(world: World) -> None:
    state = await world.cluster()
    await world.machine("cp-0", "init")
    await world.token()
    await world.machine("cp-1", "join-control-plane")
    await world.emulator.remove_machine({"uid": "uid-cp-0"})
    cluster = world.emulator.clusters["default/demo"]
    assert {member.name: member.running for member in cluster.etcd.members.values()} == {"cp-0": False, "cp-1": True}
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", state.port)
    await world.emulator.remove_machine({"uid": "uid-cp-1"})
    assert not cluster.etcd.members, "nothing is left of the control plane: the next one begins with nothing"


async def test_a_port_that_somebody_took_is_told_and_tried_again_without_haste(world: World) -> None:
    port = (await world.cluster()).port
    await world.emulator.close()
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        world.emulator = world.new()
        await world.emulator.open()
        assert str(port) in world.state.failure
        world.woken.clear()
        with pytest.raises(UnavailableError, match=str(port)):
            await world.cluster()
        assert not world.woken, "whoever asked is repeated by its backoff, not at once"
    assert (await world.cluster()).port == port
    assert world.woken


@pytest.mark.parametrize("graceful", [True, False], ids=["closed", "killed"])
async def test_restart_keeps_objects_members_and_port(world: World, graceful: bool) -> None:
    state = await world.cluster()
    await world.machine("cp-0", "init")
    async with await world.client() as api:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"a": "1"}}
        made = (await api.request("POST", "/api/v1/namespaces/default/configmaps", body=orjson.dumps(body))).json()
    cluster = world.emulator.clusters["default/demo"]
    leader = cluster.etcd.leader_id
    if graceful:
        await world.restart()
    else:
        assert b'"mine"' in (world.folder / "default_demo.jsonl").read_bytes(), "who was told that it is stored must not lose it by a kill"
        world.emulator._saves.clear()
        await cluster.close()
        world.emulator = world.new()
        await world.emulator.open()
    assert world.state.port == state.port and world.state.machines.keys() == state.machines.keys() | {"uid-cp-0"}
    async with await world.client() as api:
        again = (await api.request("GET", "/api/v1/namespaces/default/configmaps/mine")).json()
    assert again == made
    assert world.emulator.clusters["default/demo"].etcd.leader_id == leader
    kept = (world.folder / "default_demo.jsonl").stat().st_mode & 0o777
    assert kept == 0o600
    assert world.cas["ca"].key_pem.strip().splitlines()[1] not in (world.folder / "default_demo.jsonl").read_bytes()


async def test_last_api_server_stops_the_listener(world: World) -> None:
    state = await world.cluster()
    await world.machine("cp-0", "init")
    await world.emulator.remove_machine({"uid": "uid-cp-0"})
    assert not _connects(state.port)
    assert world.state.port == state.port and not world.state.machines
    await world.machine("cp-9", "init")
    async with await world.client() as api:
        names = [one["metadata"]["name"] for one in (await api.request("GET", "/api/v1/nodes")).json()["items"]]
    assert names == ["cp-9"], "a control plane that lost all its members begins anew"


async def test_removed_cluster_leaves_nothing(world: World) -> None:
    state = await world.cluster()
    await world.machine("cp-0", "init")
    await world.emulator.remove_cluster({"uid": "uid-demo"})
    assert not _connects(state.port) and not world.emulator.states and not list(world.folder.iterdir())
    await asyncio.sleep(0)
    world.pool.reopen(state.port).close()


async def test_join_waits_for_its_token(world: World) -> None:
    await world.cluster()
    state = await world.machine("w-0", "join")
    assert "no API server" in state.failure and NODE not in state.done
    await world.machine("cp-0", "init")
    assert world.state.machines["uid-w-0"].failure == "", "an API server came: it may try again"
    state = await world.machine("w-0", "join")
    assert "no bootstrap token abcdef" in state.failure
    world.woken.clear()
    await world.token()
    assert ObjectKey("infrastructure.cluster.x-k8s.io", "DevMachine", "default", "w-0") in world.woken
    state = await world.machine("w-0", "join")
    assert state.failure == "" and NODE in state.done


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"#!/bin/sh\n", "does not begin with #cloud-config", id="script"),
        pytest.param(b"#cloud-config\nwrite_files: [\n", "the cloud-config is no YAML", id="yaml"),
        pytest.param(bootstrap("join"), "is that of a worker", id="other-kind"),
        pytest.param(bootstrap("init", version="v1beta9"), "v1beta9", id="version"),
    ],
)
async def test_unusable_data_is_told_not_raised(world: World, data: bytes, message: str) -> None:
    await world.cluster()
    state = await world.machine("cp-0", "init", data)
    assert message in state.failure and state.failed_data == "1"
    assert set(state.done) == {VM}


async def test_missing_ca_is_told_and_tried_again(world: World) -> None:
    await world.cluster()
    ca = world.secrets.pop("default/demo-ca")
    state = await world.machine("cp-0", "init")
    assert "demo-ca" in state.failure and state.failed_at is not None and set(state.done) == {VM, NODE, ETCD}
    world.secrets["default/demo-ca"] = ca
    state = await world.machine("cp-0", "init")
    assert state.failure == "" and API_SERVER in state.done


async def test_what_went_while_nobody_looked_is_forgotten(world: World) -> None:
    state = await world.cluster()
    await world.machine("cp-0", "init")
    await world.token()
    await world.machine("w-0", "join")
    await world.restart()
    await world.emulator.keep_only(frozenset({"uid-demo", "uid-cp-0"}))
    assert set(world.state.machines) == {"uid-cp-0"} and _connects(state.port)
    await world.emulator.keep_only(frozenset())
    assert not world.emulator.states and not _connects(state.port)


async def test_pods_of_a_node_come_and_go(world: World) -> None:
    await world.cluster()
    await world.machine("cp-0", "init")
    async with await world.client() as api:
        spec = {"nodeName": "cp-0", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 1}
        body = orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
        await api.request("POST", "/api/v1/namespaces/default/pods", body=body)
        pod = (await api.request("GET", "/api/v1/namespaces/default/pods/p")).json()
        assert pod["status"]["phase"] == "Running"
        eviction = orjson.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p", "namespace": "default"}})
        assert (await api.request("POST", "/api/v1/namespaces/default/pods/p/eviction", body=eviction)).status == 201
        leaving = (await api.request("GET", "/api/v1/namespaces/default/pods/p")).json()
        assert leaving["metadata"]["deletionTimestamp"]
        version = leaving["metadata"]["resourceVersion"]
        query = {"watch": "true", "fieldSelector": "metadata.name=p", "resourceVersion": version}
        async with asyncio.timeout(5), api.open("/api/v1/namespaces/default/pods", query=query) as stream:
            assert orjson.loads(await stream.content.readline())["type"] == "DELETED"


async def test_pod_stays_on_an_unreachable_node(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "NODE_MONITOR_SECONDS", 0.05)
    await world.cluster()
    await world.machine("cp-0", "init")
    await world.token()
    await world.machine("w-0", "join")
    async with await world.client() as api:
        spec = {"nodeName": "w-0", "containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 1}
        body = orjson.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
        await api.request("POST", "/api/v1/namespaces/default/pods", body=body)
        await world.emulator.remove_machine({"uid": "uid-w-0"})
        query = {"watch": "true", "fieldSelector": "metadata.name=w-0"}
        async with asyncio.timeout(5), api.open("/api/v1/nodes", query=query) as stream:
            while True:
                node = orjson.loads(await stream.content.readline())["object"]
                if {one["type"]: one["status"] for one in node["status"]["conditions"]}["Ready"] == "Unknown":
                    break
        assert any(taint["key"] == "node.kubernetes.io/unreachable" for taint in node["spec"]["taints"])
        await api.request("DELETE", "/api/v1/namespaces/default/pods/p")
        await asyncio.sleep(1.2)  # longer than the pod's grace: what must not happen cannot be awaited
        assert (await api.request("GET", "/api/v1/namespaces/default/pods/p")).status == 200
        await api.request("DELETE", "/api/v1/nodes/w-0")
        assert (await api.request("GET", "/api/v1/namespaces/default/pods/p")).status == 404


def test_all_of_it_holds_on_uvloop(tmp_path: Path) -> None:
    """Services run on uvloop, whose transports differ from asyncio's where TLS meets sockets."""

    async def chain() -> None:
        found = World(tmp_path / "clusters", PortPool("127.0.0.1", *PORTS))
        await found.emulator.open()
        try:
            await test_etcd_through_port_forward(found)
            await found.restart()
            code, out, err = await found.kubectl(KUBECTLS[0], "get", "nodes", "-o", "name")
            assert (code, out) == (0, "node/cp-0\nnode/cp-1\n"), err
            await found.emulator.remove_cluster({"uid": "uid-demo"})
            await test_last_api_server_stops_the_listener(found)
        finally:
            await found.emulator.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(chain())
