"""Emulated control plane hosts that join: what they read in the cluster, what etcd says to them, and what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
import yaml

from fleetwake.kube.client import MERGE_PATCH
from fleetwake.kube.etcd import EtcdClient, EtcdTls
from fleetwake.kube.pki import CertificateSpec, generate_key, sign_certificate
from fleetwake.kube.port_forward import ApiAccess, PodPort, peer_certificate
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.kinds.state import API_SERVER, VM
from tests.shell.test_dev_infrastructure import CONTROL_PLANE, PORTS, World, _anonymous, bootstrap

CONFIGURATION = "/api/v1/namespaces/kube-system/configmaps/kubeadm-config"
LIMIT_SECONDS = 10


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found = World(tmp_path / "clusters", PortPool("127.0.0.1", *PORTS))
    await found.emulator.open()
    await found.cluster()
    await found.machine("cp-0", "init")
    await found.token()
    yield found
    await found.emulator.close()


async def configure(world: World, **changes: str) -> None:
    """Change kubeadm's configuration in the cluster, as its control plane does for an upgrade."""
    async with await world.client() as api:
        stored = (await api.request("GET", CONFIGURATION)).json()
        document = {**yaml.safe_load(stored["data"]["ClusterConfiguration"]), **changes}
        body = orjson.dumps({"data": {"ClusterConfiguration": yaml.safe_dump(document)}})
        answer = await api.request("PATCH", CONFIGURATION, body=body, content_type=MERGE_PATCH)
        assert answer.status == 200, answer.body


async def image(world: World, component: str, node: str) -> str:
    async with await world.client() as api:
        pod = (await api.request("GET", f"/api/v1/namespaces/kube-system/pods/{component}-{node}")).json()
    return str(pod["spec"]["containers"][0]["image"])


async def woken(world: World, name: str) -> None:
    """Wait until a DevMachine is to be looked at again."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not any(key.name == name for key in world.woken):
            await asyncio.sleep(0.01)


async def test_host_runs_the_version_that_the_cluster_is_to_have(world: World) -> None:
    await configure(world, kubernetesVersion="v1.34.5")
    state = await world.machine("cp-1", "join-control-plane")
    assert set(state.done) == set(CONTROL_PLANE), state.failure
    assert (await image(world, "kube-apiserver", "cp-1")).endswith(":v1.34.5")
    assert (await image(world, "kube-apiserver", "cp-0")).endswith(":v1.34.2")


@pytest.mark.parametrize(
    ("version", "words"),
    [
        pytest.param("v1.30.4", "cannot read a ClusterConfiguration of kubeadm.k8s.io/v1beta4", id="kubeadm too old"),
        pytest.param("v1.36.0", "one minor version before at most, not v1.34.2", id="cluster too old"),
    ],
)
async def test_host_waits_for_a_configuration_that_it_can_read(world: World, version: str, words: str) -> None:
    api = "v1beta3" if version == "v1.30.4" else "v1beta4"
    data = bootstrap("join-control-plane", version=api)
    state = await world.machine("cp-1", "join-control-plane", data, version=version)
    assert set(state.done) == {VM}
    assert words in state.failure
    world.woken.clear()
    await configure(world, apiVersion=f"kubeadm.k8s.io/{api}", kubernetesVersion=version)
    await woken(world, "cp-1")
    state = await world.machine("cp-1", "join-control-plane", data, version=version)
    assert set(state.done) == set(CONTROL_PLANE)


async def test_host_waits_until_etcd_takes_new_members(world: World) -> None:
    for name in ("cp-1", "cp-2"):
        await world.machine(name, "join-control-plane")
    await world.emulator.remove_machine({"uid": "uid-cp-2"})
    state = await world.machine("cp-3", "join-control-plane")
    assert API_SERVER not in state.done
    assert "etcdserver: unhealthy cluster" in state.failure
    world.woken.clear()
    ca = world.cas["etcd"]
    pair = sign_certificate(ca, CertificateSpec("apiserver-etcd-client"), generate_key("ECDSA-P256"), now=datetime.now(UTC))
    async with await world.client() as api:
        access = ApiAccess(api.session, f"https://127.0.0.1:{world.state.port}")
        async with EtcdClient.through(access, pod="etcd-cp-0", tls=EtcdTls(ca.cert_pem, pair.cert_pem, pair.key_pem)) as etcd:
            away = next(member.id for member in await etcd.members() if member.name == "cp-2")
            await etcd.remove_member(away)
            await woken(world, "cp-3")
            await world.machine("cp-3", "join-control-plane")
            assert {member.name for member in await etcd.members()} == {"cp-0", "cp-1", "cp-3"}


async def test_api_server_listens_where_kubeadm_is_told(world: World) -> None:
    data = bootstrap("join-control-plane").replace(b"controlPlane: {}", b"controlPlane: {localAPIEndpoint: {bindPort: 7443}}")
    await world.machine("cp-1", "join-control-plane", data)
    context = _anonymous(world)
    context.check_hostname = False
    async with await world.client() as api:
        access = ApiAccess(api.session, f"https://127.0.0.1:{world.state.port}")
        assert await peer_certificate(access, PodPort("kube-system", "kube-apiserver-cp-1", 7443), context)
