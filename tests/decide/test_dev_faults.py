"""What annotations ask the emulated hosts and clusters to suffer, and what DevMachine and DevCluster do about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from fleetwake.plan import Local
from schemas.api.infrastructure.v1beta2.dev_machine import InMemoryMachineBackend
from services.dev_infrastructure.kinds import dev_cluster, dev_machine
from services.dev_infrastructure.kinds.faults import faults, slowed
from services.dev_infrastructure.kinds.state import NODE, VM, Faults, MachineState
from tests.decide.test_dev_infrastructure import EVERYTHING, actions, cluster, conditions, dev, dev_of, machine, made, world
from tests.decide.world import NOW

P = "dev.fleetwake.io/"


@pytest.mark.parametrize(
    ("annotations", "wanted"),
    [
        ({}, Faults()),
        ({"cluster.x-k8s.io/paused": ""}, Faults()),
        ({P + "fail-bootstrap": ""}, Faults(fail_bootstrap="node")),
        ({P + "fail-bootstrap": "etcd"}, Faults(fail_bootstrap="etcd")),
        ({P + "fail-bootstrap": "ectd"}, Faults(fail_bootstrap="node")),
        ({P + "node-not-ready": "true"}, Faults(node_not_ready="False")),
        ({P + "node-not-ready": "Unknown"}, Faults(node_not_ready="Unknown")),
        ({P + "api-server-down": ""}, Faults(api_server_down=True)),
        ({P + "etcd-alarm": ""}, Faults(etcd_alarm="NOSPACE")),
        ({P + "etcd-alarm": "CORRUPT"}, Faults(etcd_alarm="CORRUPT")),
        ({P + "slow": ""}, Faults(slow_seconds=30)),
        ({P + "slow": "1m30s"}, Faults(slow_seconds=90)),
        ({P + "slow": "very"}, Faults(slow_seconds=30)),
        ({P + "partition": ""}, Faults(partition=True)),
    ],
)
def test_annotations_are_read(annotations: dict[str, str], wanted: Faults) -> None:
    assert faults(annotations) == wanted


def test_the_host_comes_before_its_machine() -> None:
    assert faults({P + "slow": "5s"}, {P + "slow": "9s", P + "partition": ""}) == Faults(slow_seconds=5, partition=True)


def test_a_slow_host_takes_so_much_longer_at_each_stage() -> None:
    backend = InMemoryMachineBackend.model_validate({"node": {"provisioning": {"startupDuration": "2s", "startupJitter": "0.5"}}})
    found = slowed(backend, 10)
    assert found.node.provisioning is not None and found.vm.provisioning is not None
    assert (found.node.provisioning.startup_duration, found.node.provisioning.startup_jitter) == ("12.000s", "0.5")
    assert found.vm.provisioning.startup_duration == "10.000s"
    assert slowed(backend, 0) is backend
    view = world(cluster(), dev(), machine(control_plane=False), dev_of(annotations={P + "slow": "10s"}), state=made())
    view.run(dev_machine.KIND, "default", "m")
    slow = Faults(slow_seconds=10)
    view.locals = {"clusters": {"default/demo": made({"uid-DevMachine-m": MachineState(NOW, faults=slow)})}}
    assert view.run(dev_machine.KIND, "default", "m").requeue_after == timedelta(seconds=10)


def test_a_host_is_told_what_to_suffer_and_told_again_when_that_changes() -> None:
    wanted = Faults(node_not_ready="False")
    state = made({"uid-DevMachine-m": MachineState(NOW, {VM: NOW, NODE: NOW})})
    view = world(cluster(), dev(), machine(control_plane=False), dev_of(annotations={P + "node-not-ready": ""}), state=state)
    [step] = [one for one in view.run(dev_machine.KIND, "default", "m").steps if isinstance(one, Local)]
    assert Faults.model_validate(step.arguments["faults"]) == wanted
    assert step.arguments["stages"] == []
    view.locals = {"clusters": {"default/demo": made({"uid-DevMachine-m": MachineState(NOW, {VM: NOW, NODE: NOW}, faults=wanted)})}}
    assert actions(view.run(dev_machine.KIND, "default", "m")) == []
    next(obj for key, obj in view.sorted() if key.kind == "DevMachine")["metadata"]["annotations"] = {}
    assert actions(view.run(dev_machine.KIND, "default", "m")) == ["ensure_machine"]


def test_its_machine_can_carry_the_annotation() -> None:
    carrier = machine(control_plane=False)
    carrier["metadata"]["annotations"] = {P + "partition": ""}
    view = world(cluster(), dev(), carrier, dev_of(), state=made({"uid-DevMachine-m": MachineState(NOW, {VM: NOW, NODE: NOW})}))
    [step] = [one for one in view.run(dev_machine.KIND, "default", "m").steps if isinstance(one, Local)]
    assert step.arguments["faults"]["partition"] is True


def test_a_bootstrap_that_fails_is_told_with_its_reason_and_tried_again_without_the_fault() -> None:
    failing = MachineState(NOW, {VM: NOW}, "kubeadm failed: no sentinel", "", None, Faults(fail_bootstrap="node"))
    view = world(cluster(), dev(), machine(control_plane=False), dev_of(annotations={P + "fail-bootstrap": ""}), state=made({"uid-DevMachine-m": failing}))
    assert actions(view.run(dev_machine.KIND, "default", "m")) == []
    told = conditions(view, "DevMachine", "m")
    assert told["NodeProvisioned"] == "False/BootstrapFailed" and told["Ready"] == "False/NotReady" and told["VMProvisioned"] == "True/Provisioned"
    ready = next(one for one in next(obj for key, obj in view.sorted() if key.kind == "DevMachine")["status"]["conditions"] if one["type"] == "Ready")
    assert ready["message"] == "* NodeProvisioned: kubeadm failed: no sentinel"
    next(obj for key, obj in view.sorted() if key.kind == "DevMachine")["metadata"]["annotations"] = {}
    [step] = [one for one in view.run(dev_machine.KIND, "default", "m").steps if isinstance(one, Local)]
    assert step.arguments["stages"] == [NODE]


def test_a_host_that_does_not_start_has_no_identity() -> None:
    failing = MachineState(NOW, {}, "the host does not start", "", None, Faults(fail_bootstrap="vm"))
    view = world(cluster(), dev(), machine(), dev_of(annotations={P + "fail-bootstrap": "vm"}), state=made({"uid-DevMachine-m": failing}))
    view.run(dev_machine.KIND, "default", "m")
    found = next(obj for key, obj in view.sorted() if key.kind == "DevMachine")
    assert "providerID" not in found["spec"] and "provisioned" not in found["status"].get("initialization", {})
    assert conditions(view, "DevMachine", "m")["VMProvisioned"] == "False/BootstrapFailed"


def test_a_cluster_is_told_what_to_suffer() -> None:
    view = world(cluster(), dev(annotations={P + "partition": ""}), state=made({"uid-DevMachine-m": MachineState(NOW, EVERYTHING)}))
    [step] = [one for one in view.run(dev_cluster.KIND, "default", "infra").steps if isinstance(one, Local)]
    assert step.arguments["faults"]["partition"] is True
    view.locals = {"clusters": {"default/demo": replace(made(), faults=Faults(partition=True))}}
    assert actions(view.run(dev_cluster.KIND, "default", "infra")) == []
