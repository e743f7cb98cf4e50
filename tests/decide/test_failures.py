"""Failures that providers call terminal: told on under ``deprecated`` alone, and no decision knows of them."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from fleetwake.kind import Failure, Kind
from fleetwake.plan import Apply, Patch, Plan, Step, flatten
from schemas.keys import ObjectKey
from services.reconcilers.kinds.cluster import KIND as CLUSTER_KIND
from services.reconcilers.kinds.machine import KIND as MACHINE_KIND
from services.reconcilers.kinds.machine_pool import KIND as POOL_KIND
from tests.decide.cluster_world import cluster as of_cluster
from tests.decide.cluster_world import infra as cluster_infra
from tests.decide.cluster_world import initialized
from tests.decide.machine_world import CORE, cluster, config, infra, machine, ref, stored, world
from tests.decide.world import FakeView, Json
from tests.status_rules import legacy

REPORTED = {"failureReason": "CreateError", "failureMessage": "no quota left"}


def _machine() -> FakeView:
    return world(machine(), cluster(), config(), infra())


def _cluster() -> FakeView:
    return FakeView([of_cluster(), cluster_infra(), initialized()])


def _pool() -> FakeView:
    template = {"clusterName": "demo", "version": "v1.35.0", "bootstrap": {"configRef": ref("FooConfig", "p", "bootstrap.example.org")}}
    spec = {"clusterName": "demo", "replicas": 1, "template": {"spec": {**template, "infrastructureRef": ref("FooMachinePool", "p")}}}
    own = {"apiVersion": CORE, "kind": "MachinePool", "metadata": {"name": "p", "namespace": "default"}, "spec": spec}
    meta = {"name": "p", "namespace": "default"}
    hosts = {"apiVersion": "infrastructure.example.org/v1", "kind": "FooMachinePool", "metadata": meta, "spec": {"providerIDList": ["foo://p"]}}
    return world(own, cluster(), config("p"), hosts | {"status": {"ready": True, "replicas": 1}})


CASES = [
    pytest.param(_machine, MACHINE_KIND, "m1", "FooMachine", id="Machine-infrastructure"),
    pytest.param(_machine, MACHINE_KIND, "m1", "FooConfig", id="Machine-bootstrap"),
    pytest.param(_cluster, CLUSTER_KIND, "demo", "FooCluster", id="Cluster-infrastructure"),
    pytest.param(_cluster, CLUSTER_KIND, "demo", "FooControlPlane", id="Cluster-control-plane"),
    pytest.param(_pool, POOL_KIND, "p", "FooMachinePool", id="MachinePool-infrastructure"),
    pytest.param(_pool, POOL_KIND, "p", "FooConfig", id="MachinePool-bootstrap"),
]


def _without_deprecated(step: Step) -> Step:
    if isinstance(step, Apply):
        step.body.get("status", {}).pop("deprecated", None)  # type: ignore[union-attr]
    return step


def _steps(plan: Plan) -> list[Step]:
    """What a plan does, but for what it tells readers of the older contract."""
    return [_without_deprecated(copy.deepcopy(step)) for step in flatten(plan.steps)]


@pytest.mark.parametrize("contract", ["v1beta1", "v1beta2"])
@pytest.mark.parametrize(("make", "kind", "name", "reporter"), CASES)
def test_a_failure_is_told_on_while_it_lasts(make: Callable[[], FakeView], kind: Kind[object], name: str, reporter: str, contract: str) -> None:
    view = make()
    provider = next(obj for key, obj in view.store.items() if key.kind == reporter)
    if contract == "v1beta1":
        view.contracts = {key.group_kind: contract for key in view.store if key.kind == reporter}
        provider["status"] |= {"ready": True, "initialized": True}
    view.settle(kind, "default", name)
    before = copy.deepcopy(stored(view, kind.name, name))
    provider["status"] |= REPORTED
    view.settle(kind, "default", name)
    found = stored(view, kind.name, name)
    assert legacy(found)["failureReason"] == "CreateError"
    assert legacy(found)["failureMessage"] == f"{reporter} default/{provider['metadata']['name']} reports a failure: no quota left"
    rest = [{key: value for key, value in one["status"].items() if key != "deprecated"} for one in (before, found)]
    assert rest[0] == rest[1]
    for field in REPORTED:
        del provider["status"][field]
    view.settle(kind, "default", name)
    assert not {"failureReason", "failureMessage"} & set(legacy(stored(view, kind.name, name)))


@pytest.mark.parametrize(("make", "kind", "name", "reporter"), CASES)
def test_no_decision_rests_on_a_failure(make: Callable[[], FakeView], kind: Kind[object], name: str, reporter: str) -> None:
    """From nothing to the end, two objects do the same, of which one is told of a failure all the time."""
    sound, failed = make(), make()
    next(obj for key, obj in failed.store.items() if key.kind == reporter)["status"] |= REPORTED
    for _ in range(5):
        assert _steps(sound.run(kind, "default", name)) == _steps(failed.run(kind, "default", name))
    assert legacy(stored(failed, kind.name, name))["failureReason"] == "CreateError"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"failureReason": "CreateError"}, {"failureReason": "CreateError"}, id="reason alone"),
        pytest.param({"failureMessage": "x"}, {"failureMessage": "FooMachine default/m1 reports a failure: x"}, id="message alone"),
        pytest.param({"failureReason": "", "failureMessage": ""}, {}, id="empty"),
        pytest.param({"failureReason": 7, "failureMessage": ["x"]}, {}, id="of another shape"),
    ],
)
def test_parts_of_a_failure(status: Json, expected: Json) -> None:
    view = world(machine(), cluster(), config(), infra(status=status))
    view.settle(MACHINE_KIND, "default", "m1")
    assert {field: text for field, text in legacy(stored(view, "Machine")).items() if field.startswith("failure")} == expected


def test_a_host_that_is_gone_is_a_failure_until_it_is_back() -> None:
    view = _machine()
    view.settle(MACHINE_KIND, "default", "m1")
    host = view.store.pop(ObjectKey("infrastructure.example.org", "FooMachine", "default", "m1"))
    view.settle(MACHINE_KIND, "default", "m1")
    found = stored(view, "Machine")
    assert legacy(found)["failureReason"] == "InvalidConfiguration"
    assert legacy(found)["failureMessage"] == "FooMachine default/m1 was provisioned and does not exist any more"
    view.put(host)
    view.settle(MACHINE_KIND, "default", "m1")
    assert "failureReason" not in legacy(stored(view, "Machine"))


def test_a_host_that_never_was_is_none() -> None:
    view = world(machine(), cluster(), config())
    view.settle(MACHINE_KIND, "default", "m1")
    assert "failureReason" not in legacy(stored(view, "Machine"))


# --- failures of our own ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "kind", "name"), [pytest.param(*case.values[:3], id=str(case.id)) for case in CASES[::2]])  # type: ignore[arg-type]
def test_a_status_that_tells_what_the_run_brings_about_follows_it(make: Callable[[], FakeView], kind: Kind[object], name: str) -> None:
    """The endpoint, the providerID, the list of them: a status that tells of them is not told when they could not be stored, but for a failure that stays."""

    def told(failure: Failure | None) -> list[bool]:
        view = make()
        if kind is CLUSTER_KIND:
            stored(view, "Cluster", "demo")["spec"].pop("controlPlaneEndpoint", None)
        view.terminal = failure
        plan = kind.reconcile(kind.observe(view, ObjectKey(kind.model.GROUP, kind.name, "default", name)))
        patched = [step for step in flatten(plan.steps) if isinstance(step, Patch) and "spec" in step.body]
        assert patched
        return [step.follows for step in flatten(plan.steps) if isinstance(step, Apply) and step.subresource == "status"]

    assert told(None) == [True]
    assert told(Failure(f"patch {kind.name} default/{name}", "it is invalid")) == [False]
