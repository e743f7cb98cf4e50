"""Runs of keys: backoff, terminal failures, conflicts, deadlines, limits, audit records, runs of dead owners."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import Kind
from fleetwake.plan import Apply, Create, Patch, Plan
from fleetwake.shell.policy import BACKOFF_CAP, FORBIDDEN_CAP
from fleetwake.shell.ports import Request, Response
from fleetwake.shell.results import open_runs
from fleetwake.sim.apiserver import PatchType
from fleetwake.sim.kube import respond
from schemas.results import Done, Planned, Recovered
from tests.shell.shell_world import CLUSTER, GROUP, NAMESPACE, Seen, ShellWorld, Tuning, child_body, child_key, kind_of, parent_key, simulated, status_response

API = f"{GROUP}/v1"


def status(seen: Seen, **fields: Any) -> Apply:
    return Apply(seen.key, API, seen.uid, {"status": fields}, "status", subresource="status")


def counting(runs: list[float], plan: Plan = Plan()) -> Kind[Seen]:  # noqa: B008 -- a frozen value
    """A kind that notes when it decided."""

    def reconcile(seen: Seen) -> Plan:
        runs.append(asyncio.get_running_loop().time())
        return plan

    return kind_of(reconcile)


def one_child(seen: Seen) -> Plan:
    """Wants one Child and tells how many there are."""
    steps: list[Any] = [] if seen.children else [Create(child_body("c", seen), "a child is missing", seen.uid)]
    if seen.parent.status.get("children") != len(seen.children):
        steps.append(status(seen, children=len(seen.children)))
    return Plan(tuple(steps))


@simulated
async def test_a_new_object_is_reconciled_to_rest() -> None:
    world = ShellWorld(kind_of(one_child))
    world.own_all()
    world.parent()
    await world.settle()
    parent = world.get(parent_key("p"))
    assert world.get(child_key("c")) is not None
    assert parent is not None and parent["status"] == {"children": 1}
    written = len(world.kube.requests)
    await world.settle(3600)
    assert len(world.kube.requests) == written, "a settled world is left alone"


@simulated
async def test_failures_back_off_per_key_and_success_forgets_them() -> None:
    runs: list[float] = []

    def reconcile(seen: Seen) -> Plan:
        if seen.parent.name == "bad":
            runs.append(asyncio.get_running_loop().time())
        return Plan((status(seen, ok=True),)) if not seen.parent.status else Plan()

    world = ShellWorld(kind_of(reconcile))
    world.own_all()
    world.kube.answer("PATCH", "parents/bad", status_response(500, "InternalError", "etcd is gone"), times=8)
    world.parent("bad")
    world.parent("good")
    await world.settle(0.02)
    good = world.get(parent_key("good"))
    assert good is not None and good["status"] == {"ok": True}, "another key does not wait"
    await world.settle(60)
    assert (world.get(parent_key("bad")) or {})["status"] == {"ok": True}
    gaps = [later - earlier for earlier, later in itertools.pairwise(runs)]
    waits = [gap for gap in gaps if gap > 0.0025]
    assert len(waits) >= 7 and all(gap < BACKOFF_CAP.total_seconds() * 1.1 for gap in gaps)
    assert waits[-1] > 8 * waits[0], waits


@simulated
async def test_throttling_waits_as_long_as_the_server_says() -> None:
    world = ShellWorld(kind_of(lambda seen: Plan() if seen.parent.status else Plan((status(seen, ok=True),))))
    world.own_all()
    answer = status_response(429, "TooManyRequests", "slow down")
    world.kube.answer("PATCH", "parents/p", Response(429, answer.body, {"retry-after": "7"}))
    world.parent()
    await world.settle(6.9)
    assert len(world.kube.writes) == 1
    await world.settle(0.5)
    assert len(world.kube.writes) == 2


def posts(world: ShellWorld) -> int:
    """How often a create was tried."""
    return sum(request.method == "POST" for request in world.kube.writes)


class TestTerminalFailures:
    @staticmethod
    def kind(shown: list[str]) -> Kind[Seen]:
        """Creates a Child whose name the Parent's spec gives, and shows the failure in its status."""

        def reconcile(seen: Seen) -> Plan:
            failure = seen.failure.message if seen.failure is not None else ""
            shown.append(failure)
            steps: list[Any] = [] if seen.children else [Create(child_body(str(seen.parent.spec["child"]), seen), "missing", seen.uid)]
            if seen.parent.status.get("failure") != failure:
                steps.append(status(seen, failure=failure))
            return Plan(tuple(steps))

        return kind_of(reconcile)

    @simulated
    async def test_it_is_shown_and_not_hammered_and_a_changed_spec_tries_again(self) -> None:
        world = ShellWorld(self.kind([]))
        world.own_all()
        world.parent(spec={"child": "Not A Name"})
        await world.settle(3600)
        assert (
            "invalid" in (world.get(parent_key("p")) or {})["status"]["failure"].lower()
            or "Not A Name" in (world.get(parent_key("p")) or {})["status"]["failure"]
        )
        assert len([request for request in world.kube.writes if request.method == "POST"]) <= 2
        world.api.patch(f"parents.{GROUP}", (NAMESPACE, "p"), {"spec": {"child": "c"}}, PatchType.MERGE)
        await world.settle(1)
        assert world.get(child_key("c")) is not None
        assert (world.get(parent_key("p")) or {})["status"]["failure"] == ""

    @simulated
    async def test_a_change_of_what_it_reads_tries_again(self) -> None:
        """The refusal may rest on another object: a template that is corrected must not need an edit of the owner."""
        world = ShellWorld(self.kind([]))
        world.own_all()
        refused = [True]

        def refuse(request: Request) -> Response | None:
            if request.method == "POST" and "children" in request.path and refused[0]:
                return status_response(422, "Invalid", "the template is wrong")
            return None

        world.kube.before.append(refuse)
        parent = world.parent(spec={"child": "c"})
        await world.settle(600)
        assert (world.get(parent_key("p")) or {})["status"]["failure"] == "the template is wrong"
        refused[0] = False
        await world.settle(600)
        assert world.get(child_key("c")) is None, "no blind retries"
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"]}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "other", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        world.api.delete(f"children.{GROUP}", NAMESPACE, "other")
        await world.settle(1)
        assert world.get(child_key("c")) is not None

    @simulated
    async def test_a_refused_permission_is_tried_again_slowly(self) -> None:
        """A role or a quota is no object that a kind watches."""
        world = ShellWorld(self.kind([]))
        world.own_all()
        world.kube.answer("POST", "children", status_response(403, "Forbidden", "exceeded quota"), times=40)
        world.parent(spec={"child": "c"})
        await world.settle(10)
        early = posts(world)
        assert 4 <= early <= 8, "what just started and has not read its roles is asked again soon"
        assert (world.get(parent_key("p")) or {})["status"]["failure"] == "exceeded quota"
        await world.settle(600)
        assert posts(world) - early <= 600 / (FORBIDDEN_CAP.total_seconds() / 2) + 4, "then slowly"
        await world.settle(3600)
        assert world.get(child_key("c")) is not None
        assert (world.get(parent_key("p")) or {})["status"]["failure"] == ""

    @simulated
    async def test_an_object_that_cannot_be_read_blocks_only_itself(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        world.parent("sick", spec="not a mapping")
        world.parent("p")
        await world.settle(60)
        assert world.get(child_key("c")) is not None
        assert world.worker.metrics.terminal_errors.labels("Parent")._value.get() >= 1
        world.api.patch(f"parents.{GROUP}", (NAMESPACE, "sick"), {"spec": {}}, PatchType.MERGE)
        await world.settle(1)
        assert not world.worker.runner._states["Parent", parent_key("sick")].blocked


@simulated
async def test_a_conflict_is_decided_anew_from_the_api_server() -> None:
    """The cache is stale: the guarded write conflicts, and the next decision sees the truth although no record has come."""
    seen_specs: list[Any] = []

    def reconcile(seen: Seen) -> Plan:
        seen_specs.append(dict(seen.parent.spec))
        if seen.parent.spec.get("latched") or seen.parent.spec.get("by") == "somebody":
            return Plan()
        meta = seen.parent.metadata
        return Plan((Patch(seen.key, API, seen.uid, {"spec": {"latched": True}}, "latch", resource_version=meta.resource_version),))

    world = ShellWorld(kind_of(reconcile))
    world.own_all()
    world.worker.revoke()
    world.parent(spec={})
    world.deaf = True
    world.api.patch(f"parents.{GROUP}", (NAMESPACE, "p"), {"spec": {"by": "somebody"}}, PatchType.MERGE)
    for number in list(world.worker.partitions):
        world.worker.resume(number)
    await world.settle(5)
    assert (world.get(parent_key("p")) or {})["spec"] == {"by": "somebody"}
    assert seen_specs[0] == {} and seen_specs[-1] == {"by": "somebody"}


class TestDeadlines:
    @simulated
    async def test_requeue_after_comes_once_and_is_replaced(self) -> None:
        runs: list[float] = []
        world = ShellWorld(counting(runs, Plan(requeue_after=timedelta(minutes=5))))
        world.own_all()
        world.parent()
        await world.settle(100)
        assert len(runs) == 1
        world.api.patch(f"parents.{GROUP}", (NAMESPACE, "p"), {"spec": {"a": 1}}, PatchType.MERGE)
        await world.settle(299)
        assert len(runs) == 2, "the deadline moved with the later run"
        await world.settle(2)
        assert len(runs) == 3

    @simulated
    async def test_a_deleted_object_has_no_deadline(self) -> None:
        runs: list[float] = []
        world = ShellWorld(counting(runs, Plan(requeue_after=timedelta(seconds=10))))
        world.own_all()
        world.parent()
        await world.settle(1)
        world.api.delete(f"parents.{GROUP}", NAMESPACE, "p")
        await world.settle(100)
        assert len(runs) == 1


class TestLimits:
    @simulated
    async def test_a_run_is_cut_at_its_limit_and_tried_again(self) -> None:
        world = ShellWorld(kind_of(one_child), tuning=Tuning(options={"run_seconds_max": 3.0}))
        world.own_all()
        world.kube.gate = asyncio.Event()
        world.parent()
        await world.settle(4)
        assert world.worker.metrics.timeouts.labels("Parent")._value.get() >= 1
        world.kube.gate.set()
        await world.settle(60)
        assert world.get(child_key("c")) is not None
        assert all(done["outcome"] in ("done", "failed") for done in world.bus.results("done"))

    @simulated
    async def test_runs_at_once_are_bounded_and_all_get_their_turn(self) -> None:
        world = ShellWorld(kind_of(lambda seen: Plan() if seen.parent.status else Plan((status(seen, ok=True),))), tuning=Tuning(options={"runs_max": 3}))
        world.own_all()
        world.kube.gate = asyncio.Event()
        for number in range(10):
            world.parent(f"p{number}")
        await world.settle(1)
        assert (world.worker.runner.running, world.worker.runner.free) == (3, 0)
        world.kube.gate.set()
        await world.settle(1)
        assert all((world.get(parent_key(f"p{number}")) or {})["status"] == {"ok": True} for number in range(10))
        assert world.worker.idle

    @simulated
    async def test_a_bug_in_a_decision_costs_only_its_key(self) -> None:
        def reconcile(seen: Seen) -> Plan:
            if seen.parent.name == "bad":
                raise AttributeError("a bug")
            return one_child(seen)

        world = ShellWorld(kind_of(reconcile))
        world.own_all()
        world.parent("bad")
        world.parent("p")
        await world.settle(100)
        assert world.get(child_key("c")) is not None
        assert 5 < world.worker.metrics.panics.labels("Parent")._value.get() < 40

    @simulated
    async def test_drain_starts_nothing_and_waits(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        world.kube.gate = asyncio.Event()
        world.parent()
        await world.settle(0.1)
        drained = asyncio.ensure_future(world.worker.runner.drain(5))
        world.parent("late")
        await world.settle(1)
        assert not drained.done()
        world.kube.gate.set()
        await drained
        assert world.loop.time() < 5
        assert world.get(child_key("c")) is not None
        assert not (world.get(parent_key("late")) or {}).get("status")


class TestAudit:
    @simulated
    async def test_planned_is_acknowledged_before_the_first_write_and_done_tells_the_outcome(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        planned_when_written: list[int] = []
        world.kube.before.append(lambda request: planned_when_written.append(len(world.bus.results("planned"))) if request.method != "GET" else None)
        world.parent()
        await world.settle()
        planned, done = world.bus.results("planned"), world.bus.results("done")
        assert planned_when_written[0] == 1
        assert [record["planId"] for record in planned] == [record["planId"] for record in done]
        first = done[0]
        assert first["key"] == str(parent_key("p")) and first["cluster"] == CLUSTER and first["outcome"] == "done"
        ids = {request.audit_id for request in world.kube.writes}
        assert ids == {step["auditId"] for record in planned for step in record["steps"]}, "every write can be joined with the API server's audit log"
        assert first["steps"][0]["changes"] == {"": [None, "created"]}

    @simulated
    async def test_a_run_that_writes_nothing_leaves_no_record(self) -> None:
        world = ShellWorld(counting([]))
        world.own_all()
        world.parent()
        await world.settle()
        assert not world.bus.produced

    @simulated
    async def test_a_run_that_a_dead_owner_left_is_closed_after_a_look(self) -> None:
        runs: list[float] = []
        world = ShellWorld(counting(runs))
        world.own_all()
        parent = world.parent()
        await world.settle()
        left = Planned(
            plan_id="p-1",
            service="reconcilers",
            instance="w9",
            kind="Parent",
            key=str(parent_key("p")),
            cluster=CLUSTER,
            at=world.clock.now(),
            cause={},
            observed={},
            steps=(),
        )
        await world.worker.runner.recover(left, 1)
        await world.settle()
        (record,) = world.bus.results("recovered")
        assert (record["planId"], record["found"], record["resourceVersion"]) == ("p-1", "present", parent["metadata"]["resourceVersion"])
        assert len(runs) == 2, "it is observed anew"
        world.api.delete(f"parents.{GROUP}", NAMESPACE, "p")
        await world.worker.runner.recover(left, 1)
        assert world.bus.results("recovered")[-1]["found"] == "absent"


@pytest.mark.parametrize(
    ("closing", "left"),
    [pytest.param([], ["a", "b"], id="none closed"), pytest.param(["done a"], ["b"], id="done"), pytest.param(["recovered b", "done a"], [], id="both")],
)
def test_open_runs(closing: list[str], left: list[str]) -> None:
    run = {"service": "s", "instance": "i", "kind": "Parent", "key": "g/Parent/n/p", "at": "2026-01-01T00:00:00Z"}
    records: list[Any] = [Planned.model_validate({**run, "planId": name, "cause": {}, "observed": {}, "steps": []}) for name in "ab"]
    for text in closing:
        what, name = text.split()
        more = {"outcome": "done", "steps": [], "durationMs": 1} if what == "done" else {"found": "absent"}
        records.append((Done if what == "done" else Recovered).model_validate({**run, "planId": name, **more}))
    assert [record.plan_id for record in open_runs(records)] == left


class TestTwoReconcilersOfAKind:
    """Each has its own queue, deadlines, failures and confirmations; what one cannot do keeps the other from nothing."""

    @simulated
    async def test_a_failure_of_one_blocks_only_that_one(self) -> None:
        def refused(seen: Seen) -> Plan:
            return Plan((Patch(seen.key, API, seen.uid, {"spec": {"by": "other"}}, "never taken"),))

        world = ShellWorld(kind_of(one_child), replace(kind_of(refused), manager="other", controller="topology/parent"))
        world.kube.answer("PATCH", "/parents/p", status_response(422, "Invalid", "no", causes=[{"field": "spec", "message": "no"}]), times=1000)
        world.kube.before.insert(0, lambda request: None if request.query.get("fieldManager") == "other" else respond(world.api, request))
        world.own_all()
        world.parent()
        await world.settle(5)
        assert world.get(child_key("c")) is not None
        assert (world.get(parent_key("p")) or {})["status"] == {"children": 1}
        states = world.worker.runner._states
        assert states["topology/parent", parent_key("p")].failure is not None and states["Parent", parent_key("p")].failure is None
        metrics = world.worker.metrics
        assert metrics.terminal_errors.labels("topology/parent")._value.get() >= 1 and metrics.terminal_errors.labels("Parent")._value.get() == 0

    @simulated
    async def test_each_confirms_what_it_was_decided_from(self) -> None:
        """A plan of the one that was confirmed says nothing of the other's, which rests on other reads."""

        def noting(seen: Seen) -> Plan:
            return Plan() if seen.parent.metadata.labels.get("seen") else Plan((Patch(seen.key, API, seen.uid, {"metadata": {"labels": {"seen": "1"}}}, "x"),))

        world = ShellWorld(kind_of(one_child), replace(kind_of(noting), manager="other", controller="topology/parent"))
        world.parent()
        parent = world.get(parent_key("p"))
        assert parent is not None
        world.own_all(verified=False)
        world.deliver("ADDED", parent)
        world.worker.unverified |= {("Parent", parent_key("p")), ("topology/parent", parent_key("p"))}
        await world.settle(5)
        confirmed = {name: world.worker.metrics.verified.labels(name, "same")._value.get() for name in ("Parent", "topology/parent")}
        assert min(confirmed.values()) >= 1, confirmed
        assert not {name for name, key in world.worker.unverified if key == parent_key("p")}

    @simulated
    async def test_each_has_its_own_deadline(self) -> None:
        runs: dict[str, list[float]] = {"Parent": [], "topology/parent": []}

        def every(name: str, seconds: float) -> Kind[Seen]:
            def reconcile(seen: Seen) -> Plan:
                runs[name].append(asyncio.get_running_loop().time())
                return Plan(requeue_after=timedelta(seconds=seconds))

            return kind_of(reconcile)

        world = ShellWorld(every("Parent", 10), replace(every("topology/parent", 25), manager="other", controller="topology/parent"))
        world.own_all()
        world.parent()
        await world.settle(101)
        assert (len(runs["Parent"]), len(runs["topology/parent"])) == (11, 5)
