"""What a Cluster and a Machine tell when their controller cannot do its work."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Failure, Kind, Unread, Workload
from fleetwake.plan import Apply
from schemas.keys import ObjectKey
from services.reconcilers.kinds.cluster import KIND as CLUSTER_KIND
from services.reconcilers.kinds.machine import KIND as MACHINE_KIND
from tests.decide.machine_world import CLUSTER, cluster, condition, config, control_plane, infra, machine, node, stored, workload
from tests.decide.world import NOW, FakeView, Json

REFUSED = Failure("patch Machine default/m1", "Machine is invalid", (("spec.providerID", "too long"), ("spec.providerID", "too odd")))
TORN = Failure("read Machine default/bad", "spec.version: Input should be a valid string (1 problem(s)); correct the field or remove it")


def world() -> FakeView:
    found = infra("demo") | {"kind": "FooCluster"}
    ready: Json = {"initialization": {"controlPlaneInitialized": True}}
    objects = [cluster(), found, control_plane() | {"status": ready}, machine(), config(), infra()]
    view = FakeView(objects, workloads={CLUSTER: workload(node())})
    view.settle(MACHINE_KIND, "default", "m1")
    view.settle(CLUSTER_KIND, "default", "demo")
    return view


CASES = [
    pytest.param(CLUSTER_KIND, "demo", ("Available",), id="Cluster"),
    pytest.param(MACHINE_KIND, "m1", ("Ready",), id="Machine"),
]


@pytest.mark.parametrize(("kind", "name", "types"), CASES)
def test_a_refused_write_is_told_with_object_field_and_remedy(kind: Kind[Any], name: str, types: tuple[str, ...]) -> None:
    view = world()
    assert condition(view, types[0], kind=kind.name, name=name)["status"] == "True"
    view.terminal = REFUSED
    view.settle(kind, "default", name)
    told = condition(view, types[0], kind=kind.name, name=name)
    assert (told["status"], told["reason"]) == ("True", types[0]), "what works goes on counting as available: a rollout must not replace it"
    assert "* InternalError: patch Machine default/m1: Machine is invalid: correct spec.providerID" in told["message"].split("\n")
    view.terminal = None
    view.settle(kind, "default", name)
    assert condition(view, types[0], kind=kind.name, name=name)["status"] == "True"


def test_a_known_issue_stays_the_verdict() -> None:
    view = world()
    del view.store[ObjectKey("infrastructure.example.org", "FooMachine", "default", "m1")]
    view.terminal = replace(REFUSED, causes=())
    view.settle(MACHINE_KIND, "default", "m1")
    told = condition(view, "Ready")
    assert (told["status"], told["reason"]) == ("False", "NotReady")
    assert told["message"].startswith("* InfrastructureReady: ")
    assert told["message"].endswith("Machine is invalid: remove what the message names; any change here tries again")


def unread(view: FakeView, kind: str, name: str) -> Unread:
    return Unread(ObjectKey("cluster.x-k8s.io", kind, "default", name), view.at, stored(view, kind, name), TORN)


@pytest.mark.parametrize(
    ("kind", "name", "types"),
    [pytest.param(CLUSTER_KIND, "demo", ("Available",), id="Cluster"), pytest.param(MACHINE_KIND, "m1", ("Ready", "Available"), id="Machine")],
)
def test_what_cannot_be_read_is_told_once_and_all_else_stays(kind: Kind[Any], name: str, types: tuple[str, ...]) -> None:
    view = world()
    before = stored(view, kind.name, name)["status"]
    assert kind.unreadable is not None
    plan = kind.unreadable(unread(view, kind.name, name))
    (step,) = plan.steps
    assert isinstance(step, Apply) and step.subresource == "status" and step.manager == kind.manager
    assert plan.requeue_after == timedelta(seconds=30)
    view.carry_out(plan.steps)
    after = stored(view, kind.name, name)["status"]
    for type_ in types:
        told = condition(view, type_, kind=kind.name, name=name)
        assert (told["status"], told["reason"]) == ("Unknown", "InternalError")
        assert told["message"] == f"{TORN.operation}: {TORN.message}"
    assert {key: value for key, value in after.items() if key != "conditions"} == {key: value for key, value in before.items() if key != "conditions"}
    kept = [one for one in before["conditions"] if one["type"] not in types]
    assert kept and all(one in after["conditions"] for one in kept)
    view.later(60)
    again = kind.unreadable(unread(view, kind.name, name))
    assert not again.steps and again.requeue_after is not None
    view.workloads = {CLUSTER: Workload(connected=True, last_probe_success=view.at, first_connected=NOW, watch_synced=True, nodes=(node(),))}
    view.settle(kind, "default", name)
    assert condition(view, types[0], kind=kind.name, name=name)["status"] == "True"


def test_up_to_date_of_a_deployments_machine_is_not_dropped() -> None:
    view = world()
    found = stored(view, "Machine")
    found["metadata"]["labels"]["cluster.x-k8s.io/deployment-name"] = "md"
    current = {"type": "UpToDate", "status": "True", "reason": "UpToDate", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    found["status"]["conditions"].append(current)
    assert MACHINE_KIND.unreadable is not None
    (step,) = MACHINE_KIND.unreadable(unread(view, "Machine", "m1")).steps
    assert isinstance(step, Apply)
    assert "UpToDate" in {one["type"] for one in step.body["status"]["conditions"]}
