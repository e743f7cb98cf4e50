"""Emulated hosts that are told to fail: what kubectl and the probes of a cluster then see, and that it ends with the fault."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from fleetwake.errors import FleetwakeError
from services.dev_infrastructure.emulation import cluster as cluster_module
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.kinds.state import NODE, VM, Faults
from tests.shell.test_dev_infrastructure import PORTS, World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    found = World(tmp_path / "clusters", PortPool("127.0.0.1", *PORTS))
    await found.emulator.open()
    await found.cluster()
    yield found
    await found.emulator.close()


async def suffer(world: World, name: str = "cp-0", kind: str = "init", **faults: Any) -> None:
    """Let a host suffer exactly this."""
    await world.machine(name, kind, faults=Faults(**faults).model_dump())


async def get(world: World, path: str) -> Any:
    """Read an object of the emulated cluster."""
    async with await world.client() as api:
        return (await api.request("GET", path)).json()


def ready(node: Any) -> tuple[str, str]:
    """Status and reason of a Node's Ready."""
    return next((one["status"], one["reason"]) for one in node["status"]["conditions"] if one["type"] == "Ready")


async def answers(world: World) -> bool:
    """Whether the cluster's API server answers."""
    async with await world.client() as api:
        try:
            return (await api.request("GET", "/version")).status == 200
        except FleetwakeError:
            return False


@pytest.mark.parametrize(("stage", "reached"), [("vm", set()), ("node", {VM}), ("etcd", {VM, NODE}), ("apiServer", {VM, NODE, "etcd"})])
async def test_a_bootstrap_fails_at_the_stage_named_and_goes_on_without_the_fault(world: World, stage: str, reached: set[str]) -> None:
    await suffer(world, fail_bootstrap=stage)
    state = world.state.machines["uid-cp-0"]
    assert set(state.done) == reached
    assert state.failure.endswith("(told to fail by annotation)")
    if stage == "node":
        assert "/run/cluster-api/bootstrap-success.complete was not written" in state.failure
    await suffer(world)
    assert world.state.machines["uid-cp-0"].failure == "" and await answers(world)


async def test_a_node_that_is_not_ready_says_so(world: World) -> None:
    await suffer(world, node_not_ready="False")
    node = await get(world, "/api/v1/nodes/cp-0")
    assert ready(node) == ("False", "KubeletNotReady")
    await suffer(world, node_not_ready="False")
    assert await get(world, "/api/v1/nodes/cp-0") == node, "said once"
    await suffer(world)
    assert ready(await get(world, "/api/v1/nodes/cp-0")) == ("True", "KubeletReady")


async def test_a_node_that_is_not_heard_of_is_unknown_and_unreachable(world: World) -> None:
    await suffer(world, node_not_ready="Unknown")
    node = await get(world, "/api/v1/nodes/cp-0")
    assert ready(node) == ("Unknown", "NodeStatusUnknown")
    assert any(taint["key"] == "node.kubernetes.io/unreachable" for taint in node["spec"]["taints"])
    await suffer(world)
    node = await get(world, "/api/v1/nodes/cp-0")
    assert ready(node)[0] == "True"
    assert not any(taint["key"] == "node.kubernetes.io/unreachable" for taint in node["spec"]["taints"])


async def test_what_others_write_into_a_node_stays(world: World) -> None:
    await suffer(world)
    cluster = world.emulator.clusters["default/demo"]
    node = cluster.server.get("nodes", "", "cp-0")
    conditions = [{**one, "status": "False", "reason": "Patched"} if one["type"] == "Ready" else one for one in node["status"]["conditions"]]
    cluster.server.update("nodes", {**node, "status": {**node["status"], "conditions": conditions}}, "", cluster_module.AS_NODE_CONTROLLER)
    await suffer(world)
    assert ready(await get(world, "/api/v1/nodes/cp-0")) == ("False", "Patched")


async def test_an_api_server_that_is_down_answers_nobody_until_it_is_up(world: World) -> None:
    await suffer(world)
    assert await answers(world)
    await suffer(world, api_server_down=True)
    assert not await answers(world)
    pod = world.emulator.clusters["default/demo"].server.get("pods", "kube-system", "kube-apiserver-cp-0")
    assert pod["status"]["containerStatuses"][0]["state"] == {"waiting": {"reason": "CrashLoopBackOff"}}
    await suffer(world)
    assert await answers(world)
    pod = await get(world, "/api/v1/namespaces/kube-system/pods/kube-apiserver-cp-0")
    assert pod["status"]["containerStatuses"][0]["ready"] is True


async def test_an_etcd_member_raises_its_alarm_and_lowers_it(world: World) -> None:
    await suffer(world, etcd_alarm="NOSPACE")
    etcd = world.emulator.clusters["default/demo"].etcd
    assert [alarm for _, alarm in etcd.alarms] == ["NOSPACE"]
    await suffer(world, etcd_alarm="CORRUPT")
    assert [alarm for _, alarm in etcd.alarms] == ["CORRUPT"]
    await suffer(world)
    assert not etcd.alarms


async def test_a_host_that_is_cut_off_is_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_module, "NODE_MONITOR_SECONDS", 0.0)
    await suffer(world)
    await world.token()
    await suffer(world, "w-0", "join")
    await suffer(world, "w-0", "join", partition=True)
    async with await world.client() as api:
        node: Any = {}
        for _ in range(200):
            node = (await api.request("GET", "/api/v1/nodes/w-0")).json()
            if ready(node)[0] == "Unknown":
                break
    assert ready(node)[0] == "Unknown"
    await suffer(world, "w-0", "join")
    assert ready(await get(world, "/api/v1/nodes/w-0"))[0] == "True"
    await suffer(world, partition=True)
    assert not await answers(world)
    assert not world.emulator.clusters["default/demo"].etcd.has_quorum
    await suffer(world)
    assert await answers(world) and world.emulator.clusters["default/demo"].etcd.has_quorum


async def test_a_cluster_is_cut_off_and_slow(world: World) -> None:
    await suffer(world)
    wanted = {"cluster": "default/demo", "name": "demo-infra", "uid": "uid-demo"}
    await world.emulator.ensure_cluster({**wanted, "faults": Faults(partition=True).model_dump()})
    assert world.state.faults.partition and not await answers(world)
    await world.emulator.ensure_cluster({**wanted, "faults": Faults(slow_seconds=0.2).model_dump()})
    assert world.state.faults == Faults(slow_seconds=0.2)
    async with await world.client() as api:
        with pytest.raises(FleetwakeError):
            await api.request("GET", "/version", timeout_seconds=0.1)
    assert await answers(world)
    await world.emulator.ensure_cluster(wanted)
    assert world.state.faults == Faults()
