"""What must not happen: no write for a paused Cluster, no request for a settled fleet, no drift."""

from __future__ import annotations

import time

import pytest

from tests.e2e import manifests
from tests.e2e.fleet import SERVICES, Fleet
from tests.e2e.recorder import World, condition

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

PAUSED_KINDS = ("Cluster", "MachineDeployment", "MachineSet", "Machine", "KubeadmControlPlane", "KubeadmConfig", "DevCluster", "DevMachine")
SILENCE_S = 90.0
DRIFT_PERIOD_S = 3.0
DRIFT_PERIODS = 4


def test_a_paused_cluster_is_left_alone_until_it_goes_on(fleet: Fleet) -> None:
    namespace, name = fleet.namespace("pause"), "still"
    fleet.apply(*manifests.cluster(name, namespace))
    fleet.settle(namespace, name)
    fleet.patch(namespace, f"cluster/{name}", {"spec": {"paused": True}})

    def running(world: World) -> list[str]:
        return [f"{kind} {value['metadata']['name']}" for kind in PAUSED_KINDS for value in world.all(kind, namespace) if condition(value, "Paused") != "True"]

    fleet.recorder.wait(running, 30.0, "all paused")
    # an answer reaches the audit log after the watch has told of the write
    before = fleet.fall_silent()
    workers = f"machinedeployment/{name}-workers"
    fleet.scale(namespace, workers, 5)
    fleet.scale(namespace, f"kubeadmcontrolplane/{name}-control-plane", 3)
    fleet.patch(namespace, workers, {"spec": {"template": {"spec": {"version": "v1.34.1"}}}})
    # another cluster made from nothing meanwhile: whatever wakes the services had its turn
    witness = fleet.namespace("witness")
    fleet.apply(*manifests.cluster("witness", witness))
    fleet.settle(witness, "witness")
    written = [event for event in fleet.our_writes(since=before) if event["objectRef"].get("namespace") == namespace]
    assert [(event["verb"], event["requestURI"]) for event in written] == []

    fleet.patch(namespace, f"cluster/{name}", {"spec": {"paused": False}})
    fleet.settle(namespace, name)
    assert len(fleet.recorder.world.all("Machine", namespace, name)) == 5 + 3
    fleet.check_history(namespace)


def test_a_settled_fleet_makes_no_request(fleet: Fleet) -> None:
    # its drift check lists every kind once in 10 minutes, counted from its start
    fleet.restart(["watcher-0"])
    world = fleet.recorder.world
    for namespace in fleet.namespaces:
        fleet.settle(namespace, *(value["metadata"]["name"] for value in world.all("Cluster", namespace)))
    assert len([key for key in world.objects if key.kind == "Cluster"]) > 1
    before = fleet.fall_silent()
    time.sleep(SILENCE_S)
    requests = [event for event in fleet.our_requests(since=before) if event["verb"] != "watch"]
    assert [(event["user"]["username"].rpartition(":")[2], event["verb"], event["requestURI"]) for event in requests] == []


def test_nothing_has_drifted(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace, name = fleet.namespace("drift"), "busy"
    monkeypatch.setenv("FLEETWAKE_DRIFT_SECONDS", str(DRIFT_PERIOD_S))
    fleet.restart(SERVICES)
    monkeypatch.undo()
    try:
        fleet.apply(*manifests.cluster(name, namespace))
        fleet.settle(namespace, name)
        time.sleep(DRIFT_PERIOD_S * DRIFT_PERIODS)
        found = {service: fleet.metric(service, "fleetwake_drift_total") for service in SERVICES}
        assert found == dict.fromkeys(SERVICES, 0.0)
    finally:
        fleet.restart(SERVICES)
