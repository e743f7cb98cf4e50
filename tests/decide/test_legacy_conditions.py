"""Conditions of the v1beta1 contract: sums, order, times; and kind by kind what they say of the same situation."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fleetwake.kind import Failure
from fleetwake.legacy_conditions import ERROR, INFO, WARNING, Legacy, aggregate, bad, good, summary, unknown, wire
from fleetwake.plan import Apply
from schemas.api.core.v1beta2 import Machine, MachineDeployment, MachineSet
from schemas.api.meta import LegacyCondition
from services.reconcilers.kinds.cluster import KIND as CLUSTER_KIND
from services.reconcilers.kinds.kubeadm_config import KIND as CONFIG_KIND
from services.reconcilers.kinds.machine import KIND as MACHINE_KIND
from tests.decide import control_plane_fleet, health_check_world, machine_set_world
from tests.decide.cluster_world import cluster as of_cluster
from tests.decide.cluster_world import infra as cluster_infra
from tests.decide.cluster_world import initialized, member
from tests.decide.kubeadm_world import KubeadmWorld, kubeadm_config
from tests.decide.kubeadm_world import cluster as kubeadm_cluster
from tests.decide.kubeadm_world import machine as kubeadm_machine
from tests.decide.machine_world import CLUSTER, cluster, config, control_plane, infra, machine, node, stored, workload, world
from tests.decide.workers_world import deployment, templates, workers
from tests.decide.world import FakeView, Json
from tests.status_rules import LEGACY_TYPES, legacy

AT, EARLIER = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


def told(obj: Json) -> dict[str, tuple[str, str, str]]:
    """Status, severity and reason by type."""
    return {one["type"]: (one["status"], one.get("severity", ""), one.get("reason", "")) for one in legacy(obj).get("conditions", ())}


def words(obj: Json, type_: str) -> str:
    return next(str(one.get("message", "")) for one in legacy(obj)["conditions"] if one["type"] == type_)


TRUE = ("True", "", "")


# --- the engine ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param((good("A"), good("B")), good("Ready"), id="all-true"),
        pytest.param((good("A"), unknown("B", "NotSeen", "?")), unknown("Ready", "NotSeen", "?"), id="unknown-over-true"),
        pytest.param((unknown("A", "NotSeen"), bad("B", INFO, "Waits", "w")), bad("Ready", INFO, "Waits", "w"), id="false-over-unknown"),
        pytest.param((bad("A", INFO, "Waits"), bad("B", WARNING, "Late", "l")), bad("Ready", WARNING, "Late", "l"), id="warning-over-info"),
        pytest.param((bad("A", WARNING, "Late"), bad("B", ERROR, "Broken", "b")), bad("Ready", ERROR, "Broken", "b"), id="error-over-warning"),
        pytest.param((bad("B", ERROR, "Second"), bad("A", ERROR, "First", "f")), bad("Ready", ERROR, "First", "f"), id="first-of-the-order"),
        pytest.param((good("A"), bad("Other", ERROR, "No")), good("Ready"), id="others-do-not-count"),
    ],
)
def test_a_sum_follows_the_weightiest(values: tuple[Legacy, ...], expected: Legacy) -> None:
    assert summary(("A", "B"), values) == (expected,)


def test_nothing_to_sum_up_tells_nothing() -> None:
    assert summary(("A",), (good("B"),)) == ()
    assert aggregate("All", [("Machine/a", None)]) == ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param((bad("A", INFO, "Waits", "w"),), "0 of 2 completed", id="one-told"),
        pytest.param((good("A"), bad("B", INFO, "Waits", "w")), "1 of 2 completed", id="one-done"),
        pytest.param((good("A"), bad("B", INFO, "Waits", "w"), good("C")), "w", id="no-steps-any-more"),
    ],
)
def test_steps_are_counted_while_there_are_no_others(values: tuple[Legacy, ...], message: str) -> None:
    [found] = summary(("A", "B", "C"), values, ("A", "B"))
    assert found.message == message


def test_an_aggregate_names_the_first_of_the_weightiest_and_counts() -> None:
    sources = [("Machine/c", bad("Ready", WARNING, "Late")), ("Machine/b", bad("Ready", WARNING, "Sick")), ("Machine/a", good("Ready")), ("Machine/d", None)]
    assert aggregate("MachinesReady", sources) == (bad("MachinesReady", WARNING, "Sick @ Machine/b", "1 of 4 completed"),)
    nested = [("MachineSet/x", bad("Ready", INFO, "Sick @ Machine/b"))]
    assert aggregate("All", nested)[0].reason == "Sick @ Machine/b"
    assert aggregate("All", [("Machine/a", good("Ready"))]) == (good("All"),)


def _stored(**changes: Any) -> LegacyCondition:
    found = {"type": "A", "status": "False", "severity": "Info", "reason": "Waits", "message": "for b", "last_transition_time": EARLIER}
    return LegacyCondition(**(found | changes))


@pytest.mark.parametrize(
    ("value", "since"),
    [
        pytest.param(bad("A", INFO, "Waits", "for b"), "2026-01-01T00:00:00Z", id="the-same"),
        pytest.param(bad("A", INFO, "Waits", "for c"), "2026-01-02T03:04:05Z", id="other-words"),
        pytest.param(bad("A", ERROR, "Waits", "for b"), "2026-01-02T03:04:05Z", id="worse"),
        pytest.param(good("A"), "2026-01-02T03:04:05Z", id="true-now"),
        pytest.param(good("B"), "2026-01-02T03:04:05Z", id="new"),
    ],
)
def test_the_time_is_that_of_the_last_change(value: Legacy, since: str) -> None:
    [found] = wire((_stored(),), (value,), AT)
    assert found["lastTransitionTime"] == since


def test_ready_comes_first_and_empty_words_are_left_out() -> None:
    found = wire((), (good("Z"), bad("A", INFO, "Waits"), good("Ready")), AT)
    assert [one["type"] for one in found] == ["Ready", "A", "Z"]
    assert set(found[0]) == {"type", "status", "lastTransitionTime"}
    assert set(found[1]) == {"type", "status", "lastTransitionTime", "severity", "reason"}


def test_words_stay_while_what_they_sum_up_moves() -> None:
    [kept] = wire((_stored(),), (bad("A", INFO, "Other", "for c"),), AT, settled=False)
    assert (kept["reason"], kept["message"], kept["lastTransitionTime"]) == ("Waits", "for b", "2026-01-01T00:00:00Z")
    [changed] = wire((_stored(),), (bad("A", ERROR, "Other", "for c"),), AT, settled=False)
    assert (changed["severity"], changed["reason"]) == ("Error", "Other")


# --- kind by kind ----------------------------------------------------------------------------------------------------------------------------------


def test_a_running_machine_is_well() -> None:
    view = world(machine(), cluster(), config(), infra())
    view.settle(MACHINE_KIND, "default", "m1")
    assert told(stored(view, "Machine")) == dict.fromkeys(LEGACY_TYPES["Machine"], TRUE)


def test_a_machine_counts_its_steps_while_it_comes_up() -> None:
    view = world(machine(), cluster(), config(done=False), infra(done=False), found=workload())
    view.run(MACHINE_KIND, "default", "m1")
    found = stored(view, "Machine")
    assert told(found)["Ready"] == ("False", "Info", "WaitingForInfrastructure")
    assert (told(found)["BootstrapReady"], words(found, "Ready")) == (("False", "Info", "WaitingForDataSecret"), "0 of 2 completed")
    assert told(found)["NodeHealthy"] == ("False", "Info", "WaitingForNodeRef")
    view.put(config())
    view.run(MACHINE_KIND, "default", "m1")
    assert words(stored(view, "Machine"), "Ready") == "1 of 2 completed"
    view.put(infra())
    view.settle(MACHINE_KIND, "default", "m1")
    assert told(stored(view, "Machine"))["Ready"] == TRUE
    assert told(stored(view, "Machine"))["NodeHealthy"] == ("False", "Warning", "NodeProvisioning")


@pytest.mark.parametrize("contract", ["v1beta1", "v1beta2"])
def test_what_the_provider_says_in_the_older_form_is_mirrored(contract: str) -> None:
    ready = {
        "type": "Ready",
        "status": "False",
        "severity": "Error",
        "reason": "InstanceStopped",
        "message": "by hand",
        "lastTransitionTime": EARLIER.isoformat(),
    }
    own = {"conditions": [ready]}
    status = own | {"ready": True} if contract == "v1beta1" else {"deprecated": {"v1beta1": own}}
    host = infra(status=status)
    view = world(machine(), cluster(), config(), host)
    view.contracts = {key.group_kind: contract for key in view.store if key.kind == "FooMachine"}
    view.settle(MACHINE_KIND, "default", "m1")
    found = stored(view, "Machine")
    assert told(found)["InfrastructureReady"] == told(found)["Ready"] == ("False", "Error", "InstanceStopped")
    assert words(found, "Ready") == "by hand"


def test_a_node_that_is_bad_or_gone() -> None:
    view = world(machine(), cluster(), config(), infra(), found=workload(node(ready="False")))
    view.settle(MACHINE_KIND, "default", "m1")
    assert told(stored(view, "Machine"))["NodeHealthy"] == ("False", "Warning", "NodeConditionsFailed")
    view.workloads = {CLUSTER: workload()}
    view.settle(MACHINE_KIND, "default", "m1")
    assert told(stored(view, "Machine"))["NodeHealthy"] == ("False", "Error", "NodeNotFound")


def test_health_and_remediation_are_taken_over() -> None:
    view = world(machine(), cluster(), config(), infra())
    view.settle(MACHINE_KIND, "default", "m1")
    for type_, reason in (("HealthCheckSucceeded", "NodeDeleted"), ("OwnerRemediated", "RemediationDeferred")):
        one = {"type": type_, "status": "False", "reason": reason, "message": "why", "lastTransitionTime": EARLIER.isoformat()}
        stored(view, "Machine")["status"]["conditions"].append(one)
    view.settle(MACHINE_KIND, "default", "m1")
    found = told(stored(view, "Machine"))
    assert found["HealthCheckSucceeded"] == found["Ready"] == ("False", "Warning", "NodeNotFound")
    assert found["OwnerRemediated"] == ("False", "Warning", "WaitingForRemediation")


HOOK = "pre-terminate.delete.hook.machine.cluster.x-k8s.io/x"


def test_the_stages_of_a_deletion() -> None:
    known = {"nodeRef": {"name": "m1"}, "initialization": {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}}
    excluded = dict.fromkeys((f"machine.cluster.x-k8s.io/exclude-{one}" for one in ("node-draining", "wait-for-node-volume-detach")), "")
    hooks = {"pre-drain.delete.hook.machine.cluster.x-k8s.io/x": "", HOOK: "", **excluded}
    own = machine(spec={"providerID": "foo://m1"}, deletionTimestamp="2026-01-02T03:04:00Z", annotations=hooks) | {"status": known}
    other = machine("cp", labels={"cluster.x-k8s.io/control-plane": ""})
    view = world(own, cluster(), control_plane(), other, config(), infra())
    view.run(MACHINE_KIND, "default", "m1")
    waiting = ("False", "Info", "WaitingExternalHook")
    assert told(stored(view, "Machine"))["PreDrainDeleteHookSucceeded"] == waiting
    annotations = stored(view, "Machine")["metadata"]["annotations"]
    del annotations["pre-drain.delete.hook.machine.cluster.x-k8s.io/x"]
    for _ in range(3):
        view.run(MACHINE_KIND, "default", "m1")
    found = told(stored(view, "Machine"))
    assert (found["PreDrainDeleteHookSucceeded"], found["PreTerminateDeleteHookSucceeded"]) == (TRUE, waiting)
    del annotations[HOOK]
    view.run(MACHINE_KIND, "default", "m1")
    assert told(stored(view, "Machine"))["PreTerminateDeleteHookSucceeded"] == TRUE


def test_a_cluster() -> None:
    view = FakeView([of_cluster(), cluster_infra(done=False), control_plane()])
    view.run(CLUSTER_KIND, "default", "demo")
    found = told(stored(view, "Cluster", "demo"))
    assert found["InfrastructureReady"] == ("False", "Info", "WaitingForInfrastructure")
    assert found["ControlPlaneReady"] == found["Ready"] == ("False", "Info", "WaitingForControlPlane")
    assert found["ControlPlaneInitialized"] == ("False", "Info", "WaitingForControlPlaneProviderInitialized")
    view = FakeView([of_cluster(), cluster_infra(), initialized()])
    view.settle(CLUSTER_KIND, "default", "demo")
    assert told(stored(view, "Cluster", "demo")) == dict.fromkeys(LEGACY_TYPES["Cluster"], TRUE)


def test_a_cluster_of_machines_alone_waits_for_a_node() -> None:
    plane = member("Machine", "cp", labels={"cluster.x-k8s.io/control-plane": "", "cluster.x-k8s.io/cluster-name": "demo"})
    view = FakeView([of_cluster(spec={"infrastructureRef": of_cluster()["spec"]["infrastructureRef"]}), cluster_infra(), plane])
    view.run(CLUSTER_KIND, "default", "demo")
    found = told(stored(view, "Cluster", "demo"))
    assert found["ControlPlaneInitialized"] == ("False", "Info", "MissingNodeRef")
    assert "ControlPlaneReady" not in found


def test_a_machine_set_and_its_deployment() -> None:
    view = workers(*templates(), deployment(2))
    view.settle_kinds()
    [machine_set] = view.sets()
    found = told(view.json(MachineSet, machine_set.name))
    assert (found["MachinesCreated"], found["Resized"], found["Ready"]) == (TRUE, ("False", "Warning", "ScalingUp"), ("False", "Warning", "ScalingUp"))
    older = told(view.json(MachineDeployment, view.md().name))
    assert older["Available"] == older["Ready"] == ("False", "Warning", "WaitingForAvailableMachines")
    assert older["MachineSetReady"] == ("False", "Warning", "ScalingUp")
    view.converge()
    assert told(view.json(MachineSet, machine_set.name)) == dict.fromkeys(LEGACY_TYPES["MachineSet"], TRUE)
    assert told(view.json(MachineDeployment, view.md().name)) == dict.fromkeys(LEGACY_TYPES["MachineDeployment"], TRUE)


def test_a_machine_set_without_its_template_says_so_at_once() -> None:
    view = workers(machine_set_world.alone())
    for key in [key for key in view.store if key.kind.endswith("Template") and key.group.startswith("bootstrap")]:
        del view.store[key]
    for _ in range(3):
        view.run_set(machine_set_world.SET)
    found = told(view.json(MachineSet, machine_set_world.SET))
    assert found["MachinesCreated"] == found["Ready"] == ("False", "Error", "BootstrapTemplateCloningFailed")


def test_words_of_a_sum_ride_along_and_alone_wait_until_the_machines_are_quiet() -> None:
    view = workers(deployment(2))
    view.converge()
    [machine_set] = view.sets()
    sick = view.machines()[0].name

    def say(reason: str) -> None:
        older = {"type": "Ready", "status": "False", "severity": "Warning", "reason": reason, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        view.json(Machine, sick)["status"]["deprecated"] = {"v1beta1": {"conditions": [older]}}

    say("First")
    view.condition(sick, "Ready", False, "sick")
    view.run_set(machine_set.name)
    assert told(view.json(MachineSet, machine_set.name))["MachinesReady"] == ("False", "Warning", f"First @ Machine/{sick}")
    say("Second")
    plan = view.run_set(machine_set.name)
    assert not plan.writes and plan.requeue_after is not None
    view.later(plan.requeue_after.total_seconds())
    [step] = view.run_set(machine_set.name).steps
    assert isinstance(step, Apply) and step.informs
    assert told(view.json(MachineSet, machine_set.name))["MachinesReady"] == ("False", "Warning", f"Second @ Machine/{sick}")
    assert not view.run_set(machine_set.name).writes


def test_a_control_plane() -> None:
    fleet = control_plane_fleet.fleet(1)
    fleet.settle_kcp()
    found = told(fleet.kcp())
    assert found["Available"] == ("False", "Info", "WaitingForKubeadmInit")
    assert (found["CertificatesAvailable"], found["MachinesSpecUpToDate"], found["MachinesCreated"]) == (TRUE, TRUE, TRUE)
    running = control_plane_fleet.running(3)
    assert {type_ for type_, one in told(running.kcp()).items() if one == TRUE} >= set(LEGACY_TYPES["KubeadmControlPlane"])
    counted = {field: legacy(running.kcp())[field] for field in ("updatedReplicas", "readyReplicas", "unavailableReplicas")}
    assert counted["updatedReplicas"] == 3
    running.edit("KubeadmControlPlane", running.kcp()["metadata"]["name"], {"spec": {"replicas": 5}})
    running.settle_kcp()
    assert told(running.kcp())["Resized"] == ("False", "Warning", "ScalingUp")


def test_a_configuration_waits_fails_and_is_there() -> None:
    made = KubeadmWorld([kubeadm_cluster(initialization={}), kubeadm_machine("m"), kubeadm_config("m", "m")])

    def now() -> dict[str, tuple[str, str, str]]:
        made.run(CONFIG_KIND, "default", "m")
        found = told(made.stored("KubeadmConfig", "m") or {})
        assert found["Ready"] == found["DataSecretAvailable"]
        return found

    assert now()["Ready"] == ("False", "Info", "WaitingForClusterInfrastructure")
    made.edit("Cluster", "demo", {"status": {"initialization": {"infrastructureProvisioned": True}}})
    assert now()["Ready"] == ("False", "Info", "WaitingForControlPlaneAvailable")
    made.terminal = Failure("create Secret default/m", "Secret is too large")
    assert now()["Ready"] == ("False", "Warning", "DataSecretGenerationFailed")


def test_a_health_check_that_may_not_remediate() -> None:
    bad_node = {"unhealthyNodeConditions": [{"type": "Ready", "status": "False", "timeoutSeconds": 60}]}
    sick = health_check_world.node("m1", health_check_world.stated("Ready", "False"))
    check = health_check_world.check(bad_node, {"triggerIf": {"unhealthyLessThanOrEqualTo": 0}})
    view = health_check_world.World([health_check_world.cluster(), check, health_check_world.machine("m1")])
    view.workloads = {CLUSTER: workload(sick)}
    view.go()
    assert view.allowed()[:2] == ("False", "TooManyUnhealthy")
    assert told(stored(view, "MachineHealthCheck", health_check_world.NAME)) == {"RemediationAllowed": ("False", "Warning", "TooManyUnhealthy")}
