"""Which Machines go first: the table of priorities, and ties."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineDeletionOrder
from services.reconcilers.kinds.machine_set.deletion_order import in_order, priority
from tests.decide.workers_world import machine_template
from tests.decide.world import NOW

DAY = timedelta(days=1)


def machine(name: str = "m", *, age: timedelta = DAY, node: bool = True, annotations: dict[str, str] | None = None, **extra: Any) -> Machine:
    conditions = [
        {"type": type_, "status": status, "reason": "R", "message": "", "lastTransitionTime": NOW} for type_, status in extra.get("conditions", {}).items()
    ]
    metadata = {"name": name, "creationTimestamp": NOW - age, "annotations": annotations or {}, "deletionTimestamp": extra.get("deleted")}
    status = {"conditions": conditions, **({"nodeRef": {"name": "n"}} if node else {})}
    return Machine.model_validate({"metadata": metadata, "spec": machine_template()["spec"], "status": status})


DELETE, UPDATE = "cluster.x-k8s.io/delete-machine", "in-place-updates.internal.cluster.x-k8s.io/update-in-progress"


@pytest.mark.parametrize(
    ("one", "order", "expected"),
    [
        pytest.param(machine(deleted=NOW, annotations={DELETE: ""}), "Newest", 100.0, id="deleting"),
        pytest.param(machine(annotations={DELETE: "", UPDATE: ""}), "Oldest", 80.0, id="asked-for"),
        pytest.param(machine(annotations={UPDATE: ""}, node=False), "Random", 75.0, id="updating"),
        pytest.param(machine(node=False), "Oldest", 50.0, id="no-node"),
        pytest.param(machine(conditions={"NodeHealthy": "False"}), "Newest", 50.0, id="node-unhealthy"),
        pytest.param(machine(conditions={"HealthCheckSucceeded": "False"}), None, 50.0, id="health-check-failed"),
        pytest.param(machine(conditions={"NodeHealthy": "Unknown"}), None, 20.0, id="unknown-is-no-verdict"),
        pytest.param(machine(), "Random", 20.0, id="random"),
        pytest.param(machine(age=10 * DAY), "Oldest", 31.606, id="oldest-ten-days"),
        pytest.param(machine(age=10 * DAY), "Newest", 18.394, id="newest-ten-days"),
        pytest.param(machine(age=timedelta(0)), "Oldest", 0.0, id="oldest-just-made"),
        pytest.param(machine(age=-DAY), "Newest", 50.0, id="newest-from-the-future"),
    ],
)
def test_priority(one: Machine, order: MachineDeletionOrder | None, expected: float) -> None:
    assert priority(one, order, NOW) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(("order", "expected"), [("Oldest", "cab"), ("Newest", "bac"), ("Random", "abc"), (None, "abc")])
def test_order(order: MachineDeletionOrder | None, expected: str) -> None:
    machines = [machine("b", age=DAY), machine("c", age=3 * DAY), machine("a", age=2 * DAY)]
    assert "".join(one.name for one in in_order(machines, order, NOW)) == expected


def test_equals_go_by_name_whatever_the_clock() -> None:
    at: datetime = NOW + 40 * DAY
    assert [one.name for one in in_order([machine("b"), machine("a")], "Oldest", at)] == ["a", "b"]
