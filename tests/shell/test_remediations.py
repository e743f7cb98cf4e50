"""``fleetwake audit --remediations``: what was found unhealthy, why, and what came of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fleetwake.views.remediations import as_json, remediations, render
from fleetwake.views.runs import join
from schemas.keys import ObjectKey
from schemas.results import Run, StepResult
from tests.shell.view_records import at, golden, run, step, text_of

CHECK = ObjectKey("cluster.x-k8s.io", "MachineHealthCheck", "default", "check")
OWNER = ObjectKey("cluster.x-k8s.io", "MachineSet", "default", "workers-abcde")
WHY = "Health check failed:\n  * Condition Ready on Node is reporting status False with reason KubeletNotReady for more than 5m0s"


def machine(name: str, namespace: str = "default") -> ObjectKey:
    """A Machine."""
    return ObjectKey("cluster.x-k8s.io", "Machine", namespace, name)


def told(key: ObjectKey, type_: str, status: str, reason: str, message: str = "", before: str | None = None) -> StepResult:
    """A step that makes a condition so: one that is new, or (``before``) one that had another status."""
    if before is None:
        changes: dict[str, Any] = {f"status.conditions.[{type_}]": (None, {"type": type_, "status": status, "reason": reason, "message": message})}
    else:
        path = f"status.conditions.[{type_}]"
        changes = {f"{path}.status": (before, status), f"{path}.reason": ("Before", reason), f"{path}.message": ("before", message)}
    return step(1, "apply status", key, "because", changes=changes)


def marked(number: int, key: ObjectKey, *, handed: bool = True, before: str | None = "True") -> list[Run]:
    """A health check finds a Machine unhealthy, and asks its owner."""
    steps = [told(key, "HealthCheckSucceeded", "False", "UnhealthyNode", WHY, before)]
    if handed:
        steps.append(told(key, "OwnerRemediated", "False", "WaitingForRemediation", "Waiting for remediation"))
    return run(f"mark-{key.name}-{number}", CHECK, (number, number + 10), *steps, service="remediation", cause="MODIFIED Node a of default/demo")


def owned(number: int, key: ObjectKey, reason: str, message: str) -> list[Run]:
    """The owner says what it does about one."""
    before = "False"
    changes = {"status.conditions.[OwnerRemediated].reason": (before, reason), "status.conditions.[OwnerRemediated].message": (before, message)}
    return run(f"say-{key.name}-{number}", OWNER, (number, number + 10), step(1, "apply status", key, "because", changes=changes))


def records() -> list[Run]:
    """One is replaced, one waits its turn, one recovers, one is refused, one is only unhealthy, one belongs elsewhere."""
    deleting = told(machine("a"), "OwnerRemediated", "False", "MachineDeleting", "Machine is deleting", "False")
    return [
        *marked(0, machine("a")),
        *marked(100, machine("b")),
        *run("go", OWNER, (200, 250), deleting, step(2, "delete", machine("a"), "a health check handed the Machine over")),
        *owned(300, machine("b"), "RemediationDeferred", "Waiting because there are already too many remediations in progress"),
        *run("new", OWNER, (5_000, 5_100), step(1, "create", machine("n"), "0 of 1 Machines exist")),
        *marked(6_000, machine("c")),
        *run("well", CHECK, (7_000, 7_010), told(machine("c"), "HealthCheckSucceeded", "True", "HealthCheckSucceeded", "", "False"), service="remediation"),
        *marked(8_000, machine("d")),
        *owned(8_100, machine("d"), "CannotBeRemediated", "Machine won't be remediated because it is pending removal due to rollout"),
        *marked(9_000, machine("e"), handed=False, before=None),
        *marked(9_500, machine("f", "elsewhere")),
    ]


def test_the_history_tells_what_why_and_what_came_of_it() -> None:
    golden("remediations", text_of(render(remediations(join(records()), "default"))))


def test_outcomes() -> None:
    found = {ObjectKey.parse(one.machine).name: one for one in remediations(join(records()))}
    assert {name: one.outcome for name, one in found.items()} == {
        "a": "replaced",
        "b": "deferred",
        "c": "recovered by itself",
        "d": "refused",
        "e": "unhealthy, not handed over",
        "f": "waiting for its owner",
    }
    assert found["a"].replacement == str(machine("n")) and found["a"].owner == str(OWNER)
    assert found["a"].why == "Condition Ready on Node is reporting status False with reason KubeletNotReady for more than 5m0s"
    assert found["a"].cause == "MODIFIED Node a of default/demo"


def test_a_machine_deleted_without_having_been_handed_over_was_not_remediated() -> None:
    runs = [*marked(0, machine("a"), handed=False), *run("go", OWNER, (200, 250), step(1, "delete", machine("a"), "2 Machines exist, 1 is wanted"))]
    assert [one.outcome for one in remediations(join(runs))] == ["unhealthy, not handed over"]


def test_an_external_remediation() -> None:
    request = ObjectKey("remediation.example.org", "Reboot", "default", "a")
    unhealthy = told(machine("a"), "HealthCheckSucceeded", "False", "UnhealthyNode", WHY, "True")
    runs = [
        *run("ask", CHECK, (0, 10), unhealthy, step(2, "create", request, "asks"), service="remediation"),
        *run("say", CHECK, (20, 30), told(machine("a"), "ExternallyRemediated", "False", "WaitingForRemediation"), service="remediation"),
    ]
    [one] = remediations(join(runs))
    assert (one.outcome, [word.reason for word in one.words]) == ("requested of others", ["Requested", "WaitingForRemediation"])


def test_an_owner_that_is_quicker_than_the_record_of_what_it_answers() -> None:
    deleting = told(machine("a"), "OwnerRemediated", "False", "MachineDeleting", "Machine is deleting", "False")
    found = told(machine("a"), "HealthCheckSucceeded", "False", "UnhealthyNode", WHY, "True")
    asked = told(machine("a"), "OwnerRemediated", "False", "WaitingForRemediation", "Waiting for remediation")
    slow = run("mark", CHECK, (0, 500), found, asked, service="remediation")
    quick = run("go", OWNER, (100, 200), deleting, step(2, "delete", machine("a"), "a health check handed the Machine over"))
    [one] = remediations(join([*slow, *quick]))
    assert one.outcome == "deleted" and one.deleted is not None and one.deleted > one.began


def test_since_leaves_out_what_is_over() -> None:
    names = [ObjectKey.parse(one.machine).name for one in remediations(join(records()), "default", at(6_500))]
    assert names == ["c", "d", "e"]


def test_a_remediation_as_json() -> None:
    plain = as_json(remediations(join(records()), "default")[0])
    assert (plain["outcome"], plain["check"], plain["reason"]) == ("replaced", "MachineHealthCheck/check", "UnhealthyNode")
    assert [word["reason"] for word in plain["words"]] == ["WaitingForRemediation", "MachineDeleting"]
    orjson.dumps(plain)


@pytest.mark.parametrize("arguments", [["--remediations", "md/workers"], ["show"]])
def test_what_cannot_be_shown_is_refused(arguments: list[str]) -> None:
    from typer.testing import CliRunner

    from fleetwake.cli.main import app

    refused = CliRunner().invoke(app, ["audit", *arguments])
    assert refused.exit_code != 0
    assert "machine" in refused.output
