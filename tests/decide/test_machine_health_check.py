"""MachineHealthCheck: who is unhealthy, from when on, and what is then written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Failure
from fleetwake.plan import Apply, Create, Delete, Patch, flatten
from schemas.keys import GroupKind, ObjectKey
from services.remediation.kinds.machine_health_check.targets import go_duration
from tests.decide.health_check_world import (
    CONTROL_PLANE,
    NAME,
    NAMESPACE,
    READY_FALSE,
    World,
    ago,
    check,
    cluster,
    events,
    machine,
    node,
    stated,
    world,
)
from tests.decide.world import Json, plan_writes

AFTER = timedelta(milliseconds=1)
BROKEN = stated("Ready", "False", 301, "KubeletNotReady")
REMEDIATION = "remediation.example.org"


def broken(*names: str, of: int = 3, **made: Any) -> World:
    """Machines m1 … of which some have had a broken Node for too long."""
    every = [f"m{number}" for number in range(1, of + 1)]
    return world(*(machine(name) for name in every), nodes=[node(name, *([BROKEN] if name in names else [])) for name in every], **made)


# --- judging ---------------------------------------------------------------------------------------------------------------------------------

JUDGED = [
    pytest.param(machine(), node(), "True", "HealthCheckSucceeded", id="healthy"),
    pytest.param(machine(), node("m1", BROKEN), "False", "UnhealthyNode", id="node condition"),
    pytest.param(machine(), node("m1", stated("Ready", "Unknown", 9999)), "True", "HealthCheckSucceeded", id="another status is none that is checked"),
    pytest.param(machine(), node("m1", stated("MemoryPressure", "True", 9999)), "True", "HealthCheckSucceeded", id="another type is none that is checked"),
    pytest.param(machine(), node("m1", {"type": "Ready", "status": "False"}), "True", "HealthCheckSucceeded", id="a condition without a time"),
    pytest.param(machine(annotations={"cluster.x-k8s.io/remediate-machine": ""}), node(), "False", "HasRemediateAnnotation", id="annotation"),
    pytest.param(machine(), None, "", "", id="a Node that only the records miss"),
    pytest.param(machine("m1", stated("NodeHealthy", "False", 1, "NodeDeleted")), None, "False", "NodeDeleted", id="Node deleted"),
    pytest.param(machine("m1", stated("NodeHealthy", "False", 1, "NodeDeleted")), node(), "True", "HealthCheckSucceeded", id="a Node that is there"),
    pytest.param(machine(node=False, created=599), None, "", "", id="starting"),
    pytest.param(machine(node=False, created=601), None, "False", "NodeStartupTimeout", id="start-up timeout"),
    pytest.param(machine("m1", stated("InfrastructureReady", "True", 100), node=False, created=9999), None, "", "", id="its host is new"),
    pytest.param(
        machine("m1", stated("InfrastructureReady", "False", 100), node=False, created=9999), None, "False", "NodeStartupTimeout", id="it has no host"
    ),
    pytest.param(machine(deletionTimestamp=ago(1)), node(), "", "", id="on its way out"),
]


@pytest.mark.parametrize(("target", "its_node", "status", "reason"), JUDGED)
def test_a_target_is_judged(target: Json, its_node: Json | None, status: str, reason: str) -> None:
    view = world(target, nodes=[its_node] if its_node is not None else [])
    view.go()
    assert view.health() == (status, reason)
    assert not view.go().writes


MACHINE_CHECKS = {"unhealthyMachineConditions": [{"type": "GPUHealthy", "status": "False", "timeoutSeconds": 60}], "unhealthyNodeConditions": [READY_FALSE]}


def test_the_machines_own_conditions_come_first_and_all_that_is_wrong_is_told() -> None:
    view = world(machine("m1", stated("GPUHealthy", "False", 61, "Xid")), nodes=[node("m1", BROKEN)], the_check=check(MACHINE_CHECKS))
    view.go()
    assert view.condition("m1", "HealthCheckSucceeded") == (
        "False",
        "UnhealthyMachine",
        "Health check failed:\n"
        "  * Condition GPUHealthy on Machine is reporting status False with reason Xid for more than 1m0s\n"
        "  * Condition Ready on Node is reporting status False with reason KubeletNotReady for more than 5m0s",
    )


def test_machine_conditions_are_judged_before_there_is_a_node() -> None:
    view = world(machine("m1", stated("GPUHealthy", "False", 61), node=False, created=61), the_check=check(MACHINE_CHECKS))
    view.go()
    assert view.health() == ("False", "UnhealthyMachine")


@pytest.mark.parametrize(
    ("made", "target", "judged"),
    [
        pytest.param(cluster(initialized=None), machine(node=False, created=9999), False, id="workers wait for the control plane"),
        pytest.param(cluster(initialized=None), machine(node=False, created=9999, labels=CONTROL_PLANE), True, id="control planes do not"),
        pytest.param(cluster(infrastructure=None), machine(node=False, created=9999, labels=CONTROL_PLANE), False, id="infrastructure first"),
        pytest.param(cluster(initialized=599), machine(node=False, created=9999), False, id="counted from the control plane"),
        pytest.param(cluster(infrastructure=599), machine(node=False, created=9999), False, id="counted from the infrastructure"),
        pytest.param(cluster(initialized=601, infrastructure=602), machine(node=False, created=9999), True, id="all are past"),
    ],
)
def test_nobody_is_blamed_for_what_comes_before(made: Json, target: Json, judged: bool) -> None:
    view = world(target, the_cluster=made)
    view.go()
    assert (view.health() == ("False", "NodeStartupTimeout")) is judged


def test_the_startup_timeout_can_be_set_and_turned_off() -> None:
    late = machine(node=False, created=31)
    for seconds, status in ((30, "False"), (0, "")):
        view = world(late, the_check=check({"nodeStartupTimeoutSeconds": seconds}))
        plan = view.go()
        assert view.health()[0] == status
        assert plan.requeue_after is None
        assert plan.rests_on_absence is bool(status)


# --- time ------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["node", "machine", "startup"])
def test_a_deadline_is_met_to_the_millisecond(kind: str) -> None:
    """Invariant 9: with a frozen clock, asked to look again exactly when the deadline is over, and acting then."""
    checks = {**MACHINE_CHECKS, "nodeStartupTimeoutSeconds": 300}
    target = machine(
        "m1", *([stated("GPUHealthy", "False", 50)] if kind == "machine" else []), node=kind != "startup", created=100 if kind == "startup" else 3600
    )
    nodes = [node("m1", stated("Ready", "False", 100))] if kind == "node" else [node()]
    view = world(target, nodes=nodes, the_check=check(checks))
    left = timedelta(seconds=10) if kind == "machine" else timedelta(seconds=200)
    plan = view.go()
    assert (view.health(), plan.requeue_after) == (("", ""), left + AFTER)
    view.at += left
    assert view.go().requeue_after == AFTER, "a deadline that is reached is not over"
    assert view.health() == ("", "")
    view.at += AFTER
    assert view.go().requeue_after is None
    assert view.health()[0] == "False"


def test_the_soonest_deadline_of_all_targets_is_waited_for() -> None:
    waiting = [node(f"m{number}", stated("Ready", "False", since)) for number, since in ((1, 100), (2, 290), (3, 200))]
    view = world(*(machine(f"m{number}") for number in (1, 2, 3)), nodes=waiting)
    assert view.go().requeue_after == timedelta(seconds=10) + AFTER
    view.later(10.001)
    assert view.go().requeue_after == timedelta(seconds=90)
    assert [view.health(f"m{number}")[0] for number in (1, 2, 3)] == ["", "False", ""]


def test_a_verdict_stays_while_the_next_is_awaited() -> None:
    view = world(machine("m1", stated("HealthCheckSucceeded")), nodes=[node("m1", stated("Ready", "False", 10))])
    view.go()
    assert view.health()[0] == "True"
    assert view.status.status.current_healthy == 0, "but it does not count as healthy"


@pytest.mark.parametrize(("seconds", "text"), [(0, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"), (5430, "1h30m30s")])
def test_durations_are_spelt_as_upstream_spells_them(seconds: int, text: str) -> None:
    assert go_duration(timedelta(seconds=seconds)) == text


# --- targets and counters --------------------------------------------------------------------------------------------------------------------


def test_targets_are_selected_machines_that_nobody_excepts() -> None:
    view = world(
        machine("b"),
        machine("a"),
        machine("other", labels={"pool": "b"}),
        machine("foreign", labels={"cluster.x-k8s.io/cluster-name": "another"}),
        machine("paused", annotations={"cluster.x-k8s.io/paused": ""}),
        machine("skipped", annotations={"cluster.x-k8s.io/skip-remediation": ""}),
        nodes=[node(name, BROKEN) for name in ("a", "b", "other", "foreign", "paused", "skipped")],
    )
    view.go()
    assert view.status.status.targets == ("a", "b")
    assert view.handed_over() == {"a", "b"}


def test_the_status_counts() -> None:
    view = broken("m2")
    view.go()
    told = view.status.status
    assert (told.expected_machines, told.current_healthy, told.remediations_allowed, told.targets) == (3, 2, 2, ("m1", "m2", "m3"))
    assert view.allowed() == ("True", "RemediationAllowed", "")
    assert told.observed_generation == view.status.metadata.generation
    assert not view.go().steps


def test_the_check_belongs_to_its_cluster() -> None:
    view = world(machine(), nodes=[node()])
    [patch] = [step for step in flatten(view.go().steps) if isinstance(step, Patch)]
    assert patch.key.kind == "MachineHealthCheck"
    assert view.status.metadata.labels["cluster.x-k8s.io/cluster-name"] == "demo"
    [owner] = view.status.metadata.owner_references
    assert (owner.kind, owner.name, owner.controller) == ("Cluster", "demo", False)


# --- budget ----------------------------------------------------------------------------------------------------------------------------------

BUDGETS = [
    pytest.param({}, 1, True, 2, id="none: all may"),
    pytest.param({}, 3, True, 0, id="all at once"),
    pytest.param({"unhealthyLessThanOrEqualTo": 1}, 1, True, 0, id="a number, reached"),
    pytest.param({"unhealthyLessThanOrEqualTo": 1}, 2, False, 0, id="a number, exceeded"),
    pytest.param({"unhealthyLessThanOrEqualTo": 0}, 1, False, 0, id="none may"),
    pytest.param({"unhealthyLessThanOrEqualTo": "66%"}, 1, True, 0, id="percent are rounded down"),
    pytest.param({"unhealthyLessThanOrEqualTo": "66%"}, 2, False, 0, id="percent, exceeded"),
    pytest.param({"unhealthyInRange": "[1-2]"}, 2, True, 0, id="in the range"),
    pytest.param({"unhealthyInRange": "[2-3]"}, 1, False, 0, id="below the range"),
    pytest.param({"unhealthyInRange": "[0-1]"}, 2, False, 0, id="above the range"),
    pytest.param({"unhealthyInRange": "[1-3]", "unhealthyLessThanOrEqualTo": 0}, 2, True, 1, id="the range wins"),
]


@pytest.mark.parametrize(("trigger", "sick", "allowed", "left"), BUDGETS)
def test_the_budget(trigger: Json, sick: int, allowed: bool, left: int) -> None:
    names = [f"m{number}" for number in range(1, sick + 1)]
    view = broken(*names, the_check=check(remediation={"triggerIf": trigger} if trigger else None))
    plan = view.go()
    assert [view.health(name)[0] for name in names] == ["False"] * sick, "what is unhealthy is told whether or not something may be done"
    assert view.handed_over() == (set(names) if allowed else set())
    assert view.status.status.remediations_allowed == left
    assert view.allowed()[:2] == (("True", "RemediationAllowed") if allowed else ("False", "TooManyUnhealthy"))
    assert ("RemediationRestricted" in events(plan)) is not allowed
    assert not view.go().steps, "said once"


def test_what_cannot_be_judged_counts_against_the_budget_and_is_not_touched() -> None:
    view = world(
        machine("m1"),
        machine("m2", node=False, created=10),
        nodes=[node("m1", BROKEN)],
        the_check=check(remediation={"triggerIf": {"unhealthyLessThanOrEqualTo": 1}}),
    )
    view.go()
    assert view.allowed() == (
        "False",
        "TooManyUnhealthy",
        "Remediation is not allowed, the number of not started or unhealthy machines exceeds maxUnhealthy (total: 2, unhealthy: 1, maxUnhealthy: 1)",
    )
    assert view.health("m2") == ("", "")


def test_a_range_that_ends_before_it_begins_is_told() -> None:
    view = broken("m1", the_check=check(remediation={"triggerIf": {"unhealthyInRange": "[3-1]"}}))
    view.go()
    assert view.allowed()[:2] == ("Unknown", "InvalidConfiguration")
    assert "[3-1] ends before it begins: correct it" in view.allowed()[2]
    assert not view.handed_over()


def test_remediation_goes_on_when_enough_are_healthy_again() -> None:
    view = broken("m1", "m2", the_check=check(remediation={"triggerIf": {"unhealthyLessThanOrEqualTo": 1}}))
    view.go()
    view.see(nodes=(node("m1", BROKEN), node("m2"), node("m3")))
    view.go()
    assert view.handed_over() == {"m1"}
    assert view.health("m2") == ("True", "HealthCheckSucceeded")


# --- handing over ----------------------------------------------------------------------------------------------------------------------------


def test_a_machine_is_marked_before_it_is_handed_over_each_under_its_own_manager() -> None:
    view = broken("m1", of=1)
    plan = view.go()
    marks = [step for step in flatten(plan.steps) if isinstance(step, Apply) and step.key.kind == "Machine"]
    assert [(step.body["status"]["conditions"][0]["type"], step.manager) for step in marks] == [
        ("HealthCheckSucceeded", "capi-machinehealthcheck"),
        ("OwnerRemediated", "capi-machinehealthcheck-remediation"),
    ]
    assert view.condition("m1", "OwnerRemediated") == ("False", "WaitingForRemediation", "Waiting for remediation")
    assert events(plan) == ["MachineMarkedUnhealthy"]
    assert "Condition Ready on Node is reporting status False with reason KubeletNotReady" in marks[0].reason


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        pytest.param(stated("OwnerRemediated", "False", 10, "RemediationDeferred"), False, id="its owner is at it"),
        pytest.param(stated("OwnerRemediated", "True", 10, "Remediated"), True, id="unhealthy once more"),
    ],
)
def test_what_the_owner_says_is_not_overwritten(stored: Json, asked: bool) -> None:
    view = world(machine("m1", stored), nodes=[node("m1", BROKEN)])
    view.go()
    assert (view.condition("m1", "OwnerRemediated")[1] == "WaitingForRemediation") is asked


def test_a_machine_on_its_way_out_is_not_handed_over() -> None:
    view = world(machine(deletionTimestamp=ago(1)), nodes=[node("m1", BROKEN)])
    view.go()
    assert view.health()[0] == "False"
    assert not view.handed_over()


def test_a_machine_that_is_healthy_again_is_told_so_and_nothing_else() -> None:
    view = world(machine("m1", stated("HealthCheckSucceeded", "False"), stated("OwnerRemediated", "False")), nodes=[node()])
    view.go()
    assert view.health() == ("True", "HealthCheckSucceeded")
    assert view.condition("m1", "OwnerRemediated")[0] == "False", "its owner takes that away"


def test_a_first_verdict_of_health_may_wait_and_one_of_sickness_may_not() -> None:
    view = broken("m2", of=2)
    found = {step.key.name: step.informs for step in plan_writes(view.go()) if isinstance(step, Apply) and step.manager == "capi-machinehealthcheck"}
    assert (found["m1"], found["m2"], found[NAME]) == (True, False, True)


def test_checks_that_target_the_same_machine_do_not_overwrite_each_other() -> None:
    view = broken("m1", of=2)
    view.put(check({"unhealthyNodeConditions": [{"type": "Other", "status": "False", "timeoutSeconds": 1}]}, name="also"))
    view.go()
    view.go("also")
    assert view.health("m1") == ("False", "UnhealthyNode") and view.health("m2")[0] == "True"
    assert not view.go().steps and not view.go("also").steps
    del view.store[ObjectKey("cluster.x-k8s.io", "MachineHealthCheck", NAMESPACE, NAME)]
    view.go("also")
    assert view.health("m1") == ("True", "HealthCheckSucceeded"), "who was the only one to find fault is gone"


# --- an external remediation -----------------------------------------------------------------------------------------------------------------


def external(*objects: Json, **made: Any) -> World:
    """A check that names a remediation template, over one broken Machine."""
    ref = {"apiVersion": f"{REMEDIATION}/v1", "kind": "RebootTemplate", "name": "reboot"}
    return world(machine(), *objects, nodes=[node("m1", BROKEN)], the_check=check(remediation={"templateRef": ref}), **made)


def template(**inner: Any) -> Json:
    """The remediation template."""
    spec = {"template": {"spec": {"strategy": "hard"}, **inner}}
    return {"apiVersion": f"{REMEDIATION}/v1", "kind": "RebootTemplate", "metadata": {"name": "reboot", "namespace": NAMESPACE}, "spec": spec}


REQUEST = ObjectKey(REMEDIATION, "Reboot", NAMESPACE, "m1")


def test_a_request_is_made_from_the_template() -> None:
    view = external(template())
    view.go()
    made = view.store[REQUEST]
    assert made["spec"] == {"strategy": "hard"}
    assert made["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == "demo"
    assert [(ref["kind"], ref["name"], "controller" in ref) for ref in made["metadata"]["ownerReferences"]] == [("Machine", "m1", False)]
    assert made["metadata"]["annotations"]["cluster.x-k8s.io/cloned-from-name"] == "reboot"
    view.go()
    assert view.condition("m1", "ExternallyRemediated")[:2] == ("False", "WaitingForRemediation")
    assert view.condition("m1", "OwnerRemediated") == ("", "", "")
    assert not view.go().steps


def test_a_request_made_again_begins_anew() -> None:
    view = external(template())
    view.store[ObjectKey("cluster.x-k8s.io", "Machine", NAMESPACE, "m1")]["status"]["conditions"].append(stated("ExternallyRemediated", "True", 10, "Rebooted"))
    view.go()
    assert view.condition("m1", "ExternallyRemediated")[:2] == ("False", "WaitingForRemediation")


def test_a_request_goes_when_the_machine_is_healthy_again() -> None:
    view = external(template())
    view.go()
    view.see(nodes=(node(),))
    [gone] = [step for step in plan_writes(view.go()) if isinstance(step, Delete)]
    assert gone.key == REQUEST and gone.uid
    assert REQUEST not in view.store


def test_a_missing_template_is_told_with_its_remedy() -> None:
    view = external()
    view.go()
    status, reason, message = view.condition("m1", "ExternallyRemediated")
    assert (status, reason) == ("False", "RemediationTemplateNotFound")
    assert message == (
        "Error retrieving remediation template RebootTemplate default/reboot: create it or correct spec.remediation.templateRef of MachineHealthCheck check"
    )
    view.unknown_kinds = frozenset({GroupKind(REMEDIATION, "RebootTemplate")})
    view.go()
    assert "no CustomResourceDefinition of RebootTemplate.remediation.example.org carries a label" in view.condition("m1", "ExternallyRemediated")[2]
    view.unknown_kinds = frozenset()
    view.put(template())
    view.go()
    assert REQUEST in view.store
    view.go()
    assert view.condition("m1", "ExternallyRemediated")[1] == "WaitingForRemediation"


def test_a_request_that_is_refused_is_told() -> None:
    view = external(template())
    view.terminal = Failure(f"create {REQUEST}", "spec.strategy: Unsupported value", (("spec.strategy", "soft or hard"),))
    plan = view.go()
    assert not [step for step in plan_writes(plan) if isinstance(step, Create)]
    assert view.condition("m1", "ExternallyRemediated")[1] == "RemediationRequestCreationFailed"
    assert "spec.strategy: Unsupported value" in view.condition("m1", "ExternallyRemediated")[2]


# --- waiting ---------------------------------------------------------------------------------------------------------------------------------


def test_a_paused_cluster_is_left_alone() -> None:
    view = broken("m1", the_cluster=cluster(paused=True))
    plan = view.go()
    assert {step.key.kind for step in plan_writes(plan) if isinstance(step, Apply | Patch)} == {"MachineHealthCheck"}
    assert next(one for one in view.status.status.conditions if one.type == "Paused").status == "True"
    assert not view.go().steps


def test_a_cluster_that_is_not_seen_is_not_judged() -> None:
    view = broken("m1", "m2", "m3")
    view.store[ObjectKey("cluster.x-k8s.io", "Machine", NAMESPACE, "m1")]["metadata"]["annotations"] = {"cluster.x-k8s.io/remediate-machine": ""}
    view.see(connected=False, watch_synced=False, last_probe_success=view.at - timedelta(seconds=20))
    plan = view.go()
    assert not view.handed_over()
    assert [view.health(name) for name in ("m1", "m2", "m3")] == [("", "")] * 3
    assert plan.requeue_after == timedelta(seconds=280)
    assert not view.go().steps


def test_a_cluster_that_is_not_seen_for_long_is_the_reason_told() -> None:
    view = broken("m1")
    view.go()
    before = view.status.status
    view.see(connected=False, watch_synced=False, last_probe_success=view.at, nodes=())
    view.later(299)
    view.go()
    assert view.allowed()[0] == "True", "what was told stays for a while"
    view.later(1)
    assert view.go().requeue_after is None
    assert view.allowed()[:2] == ("Unknown", "ConnectionDown")
    assert view.allowed()[2].startswith("Last successful probe at ")
    after = view.status.status
    assert (after.expected_machines, after.current_healthy, after.targets) == (before.expected_machines, before.current_healthy, before.targets)
    assert not view.go().steps
    view.see(connected=True, watch_synced=True, nodes=tuple(node(f"m{number}") for number in (1, 2, 3)))
    view.go()
    assert view.allowed()[:2] == ("True", "RemediationAllowed")


def test_a_cluster_that_was_never_seen_is_told_of() -> None:
    view = broken("m1", the_cluster=cluster(initialized=400))
    view.see(connected=False, watch_synced=False)
    view.go()
    assert view.allowed() == ("Unknown", "ConnectionDown", "Remote connection not established yet")


def test_nothing_is_done_without_a_cluster_or_when_the_check_goes() -> None:
    view = broken("m1")
    del view.store[ObjectKey("cluster.x-k8s.io", "Cluster", NAMESPACE, "demo")]
    assert not view.go().steps
    view = broken("m1", the_check=check(deletionTimestamp=ago(1), finalizers=["foreign"]))
    assert not view.go().steps
