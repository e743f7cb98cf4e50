"""Causes, intents and spans: whatever the order of records and runs, spans make whole traces that begin with the change that caused them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from fleetwake.connections.otlp import Otlp
from fleetwake.tracing.context import SpanId
from fleetwake.tracing.intents import is_ours
from fleetwake.tracing.receiver import Receiver, Span, TraceSummary
from fleetwake.tracing.spans import Tracer
from fleetwake.tracing.types import Cause, Deletion
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import ADDED, MODIFIED, Actor, ObjectRecord, Version
from schemas.results import CauseRecord, Planned, StepRecord
from services.dev_infrastructure.registry import KINDS as DEV_KINDS
from services.reconcilers.registry import KINDS as RECONCILERS_KINDS

DEMO = ClusterKey("default", "demo")
CLUSTER = ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo")
PLANE = ObjectKey("controlplane.cluster.x-k8s.io", "KubeadmControlPlane", "default", "demo")
TEMPLATE = ObjectKey("infrastructure.cluster.x-k8s.io", "DevMachineTemplate", "default", "demo")
MACHINE = ObjectKey("cluster.x-k8s.io", "Machine", "default", "one")
INFRASTRUCTURE = ObjectKey("infrastructure.cluster.x-k8s.io", "DevMachine", "default", "one")
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT_SECONDS = 20


class Clock:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.time = BEGIN

    def now(self) -> datetime:
        return self.time

    def turn(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


class Services:
    """The tracers of two services that read the same records, and what they export."""

    def __init__(self, receiver: Receiver) -> None:
        self.clock = Clock()
        self.receiver = receiver
        self.reconcilers = Tracer("reconcilers", "r-0", Otlp(receiver.endpoint), self.clock)
        self.infrastructure = Tracer("dev_infrastructure", "d-0", Otlp(receiver.endpoint), self.clock)
        self.later: list[Tracer] = []
        self.version = 100

    def record(self, key: ObjectKey, manager: str, cluster: ClusterKey | None = DEMO, kind: str = MODIFIED, **metadata: Any) -> ObjectRecord:
        self.version += 1
        at = self.clock.now().timestamp()
        value = orjson.dumps({"metadata": {"uid": str(key), **metadata}})
        return ObjectRecord(key, kind, Version(1, self.version), str(cluster or ""), value, at, at, Actor(manager))

    def run(self, tracer: Tracer, key: ObjectKey, *causes: Cause, cluster: ClusterKey | None = DEMO) -> SpanId:
        with tracer.run(key.kind, key, cluster, causes, self.clock.now()) as span, span.step("patch", str(key)):
            self.clock.turn(0.01)
        found = SpanId.parse(span.traceparent)
        assert found is not None
        return found

    async def lives(self, *names: str) -> list[Tracer]:
        """Later lives of services: nothing is known to them yet."""
        tracers = [Tracer(name, f"{name}-again", Otlp(self.receiver.endpoint), self.clock) for name in names]
        self.later += tracers
        for tracer in tracers:
            await tracer.start()
        return tracers

    def planned(self, run: SpanId, intent: str, delete: ObjectKey | None = None) -> Planned:
        """The record of a run."""
        steps = () if delete is None else (StepRecord(index=0, verb="delete", target=str(delete), reason="scale down"),)
        return Planned(
            plan_id="p",
            service="reconcilers",
            instance="r-0",
            kind="Cluster",
            key=str(CLUSTER),
            cluster=str(DEMO),
            trace=run.traceparent(),
            intent=intent,
            at=self.clock.now(),
            cause=CauseRecord(),
            observed={},
            steps=steps,
        )

    async def ended(self) -> tuple[Span, ...]:
        await self.reconcilers.stop()
        await self.infrastructure.stop()
        for tracer in self.later:
            await tracer.stop()
        return self.receiver.spans

    async def summaries(self) -> list[TraceSummary]:
        await self.ended()
        return self.receiver.summaries()


@pytest.fixture
async def services() -> Any:
    with Receiver() as receiver:
        services = Services(receiver)
        await services.reconcilers.start()
        await services.infrastructure.start()
        yield services


async def test_what_a_user_applies_is_one_trace_in_every_service(services: Services) -> None:
    records = [services.record(CLUSTER, "kubectl", kind=ADDED), services.record(PLANE, "kubectl", kind=ADDED)]
    mine = [services.reconcilers.received(record) for record in records]
    theirs = [services.infrastructure.received(record) for record in records]
    services.run(services.reconcilers, CLUSTER, *mine)
    services.run(services.infrastructure, PLANE, *theirs)
    (summary,) = await services.summaries()
    assert (summary.roots, summary.orphans) == (1, 0)
    assert {cause.intent for cause in mine + theirs} == {summary.trace}


async def test_what_a_write_of_ours_causes_continues_its_trace_in_another_service(services: Services) -> None:
    applied = services.record(CLUSTER, "kubectl")
    cause = services.reconcilers.received(applied)
    services.infrastructure.received(applied)
    run = services.run(services.reconcilers, CLUSTER, cause)
    services.clock.turn(60)
    stamped = services.record(PLANE, "capi-cluster", annotations={"tracing.k8s.io/traceparent": run.traceparent()})
    found = services.run(services.infrastructure, PLANE, services.infrastructure.received(stamped))
    assert found.trace == run.trace
    assert all(summary.orphans == 0 for summary in await services.summaries())


async def test_a_change_of_an_object_of_no_cluster_joins_the_open_intent(services: Services) -> None:
    cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
    shared = services.reconcilers.received(services.record(TEMPLATE, "kubectl", None))
    assert services.run(services.reconcilers, PLANE, shared).trace == cause.intent
    assert [summary.orphans for summary in await services.summaries()] == [0]


async def test_a_change_of_an_object_of_no_cluster_opens_an_intent_when_none_is_active(services: Services) -> None:
    cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
    services.clock.turn(60)
    shared = services.reconcilers.received(services.record(TEMPLATE, "kubectl", None))
    run = services.run(services.reconcilers, PLANE, shared)
    assert run.trace != cause.intent
    spans = await services.ended()
    (root,) = [span for span in spans if span.trace == run.trace and not span.parent]
    assert root.attributes["fleetwake.change"].startswith("MODIFIED DevMachineTemplate default/demo @102 by kubectl")
    assert services.receiver.orphans == 0


async def test_a_run_for_an_object_of_no_cluster_begins_with_the_change_that_caused_it(services: Services) -> None:
    shared = services.infrastructure.received(services.record(TEMPLATE, "kubectl", None))
    run = services.run(services.infrastructure, TEMPLATE, shared, cluster=None)
    spans = [span for span in await services.ended() if span.trace == run.trace]
    (root,) = [span for span in spans if not span.parent]
    assert (root.name, root.attributes["fleetwake.change"]) == (
        "intent DevMachineTemplate default/demo",
        "MODIFIED DevMachineTemplate default/demo @101 by kubectl",
    )
    assert {span.name: span.parent for span in spans if span.name.startswith("reconcile")} == {"reconcile DevMachineTemplate": root.span}


async def test_our_own_change_of_an_object_of_no_cluster_causes_nothing(services: Services) -> None:
    assert services.reconcilers.received(services.record(TEMPLATE, "capi-cluster", None)) == Cause()
    assert await services.summaries() == []


DELETING = {"deletionTimestamp": "2026-01-01T00:01:00Z"}


async def test_the_deletion_of_a_cluster_opens_an_intent_though_the_last_writer_was_ours(services: Services) -> None:
    both = (services.reconcilers, services.infrastructure)
    applied = services.record(CLUSTER, "kubectl")
    (before,) = {tracer.received(applied).intent for tracer in both}
    services.clock.turn(60)
    deleted = services.record(CLUSTER, "capi-cluster", **DELETING)
    causes = [tracer.received(deleted, Deletion.BEGINS) for tracer in both]
    assert {cause.change for cause in causes} == {"DELETING Cluster default/demo @102"}
    (opened,) = {cause.intent for cause in causes}
    assert opened != before
    services.clock.turn(60)
    again = services.reconcilers.received(services.record(CLUSTER, "capi-cluster", **DELETING))
    assert again.intent == opened
    assert all((summary.roots, summary.orphans) == (1, 0) for summary in await services.summaries())


class TestDeletions:
    """Of anything but a Cluster, ours or somebody else's."""

    async def test_a_users_delete_opens_an_intent_though_the_last_writer_was_ours(self, services: Services) -> None:
        before = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
        services.clock.turn(60)
        deleted = services.reconcilers.received(services.record(MACHINE, "capi-machine", **DELETING), Deletion.BEGINS)
        assert deleted.change == "DELETING Machine default/one @102"
        assert deleted.intent != before.intent
        follower = services.reconcilers.received(services.record(INFRASTRUCTURE, "capi-machine", **DELETING), Deletion.FOLLOWS)
        assert follower.intent == deleted.intent
        assert all((summary.roots, summary.orphans) == (1, 0) for summary in await services.summaries())

    async def test_a_users_delete_soon_after_the_last_activity_joins(self, services: Services) -> None:
        before = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
        services.clock.turn(4)
        assert services.reconcilers.received(services.record(MACHINE, "capi-machine", **DELETING), Deletion.BEGINS).intent == before.intent

    async def test_a_delete_of_ours_continues_the_trace_of_its_run_whichever_comes_first(self, services: Services) -> None:
        """The record often overtakes the answer to the request."""
        cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
        services.clock.turn(60)
        with services.reconcilers.run("MachineSet", PLANE, DEMO, [cause], services.clock.now()) as run, run.step("delete", str(MACHINE)):
            services.clock.turn(10)
            deleted = services.reconcilers.received(services.record(MACHINE, "capi-machineset", **DELETING), Deletion.BEGINS)
        assert deleted.intent == cause.intent
        spans = {span.span: span for span in await services.ended()}
        process = next(span for span in spans.values() if deleted.traceparent.split("-")[2] == span.span)
        assert spans[spans[process.parent].parent].name == "reconcile MachineSet"

    async def test_a_delete_of_ours_that_came_to_nothing_hides_no_users_delete_later(self, services: Services) -> None:
        cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
        with services.reconcilers.run("MachineSet", PLANE, DEMO, [cause], services.clock.now()) as run, run.step("delete", str(MACHINE)):
            services.clock.turn(1)
        services.clock.turn(120)
        deleted = services.reconcilers.received(services.record(MACHINE, "capi-machineset", **DELETING), Deletion.BEGINS)
        assert deleted.intent not in ("", cause.intent)

    async def test_who_cannot_know_who_deleted_opens_nothing(self, services: Services) -> None:
        """The other service's run may have, so that the root of what is opened here would never be made."""
        cause = services.infrastructure.received(services.record(CLUSTER, "kubectl"))
        services.clock.turn(60)
        found = services.infrastructure.received(services.record(MACHINE, "capi-machineset", **DELETING), Deletion.BEGINS)
        assert found.intent == cause.intent


class TestAnEarlierLife:
    """A worker that starts goes on in the traces that were open, whatever it learns them from."""

    async def test_the_newest_results_tell_the_open_intent(self, services: Services) -> None:
        applied = services.record(CLUSTER, "kubectl")
        cause = services.reconcilers.received(applied)
        run = services.run(services.reconcilers, CLUSTER, cause)
        services.clock.turn(60)
        for tracer in await services.lives("reconcilers", "dev_infrastructure"):
            await tracer.restore([services.planned(run, cause.intent)])
            tracer.replayed(applied)
            assert services.run(tracer, PLANE).trace == cause.intent
        assert [(summary.roots, summary.orphans) for summary in await services.summaries()] == [(1, 0)]

    async def test_a_delete_that_a_dead_owner_had_sent_is_ours(self, services: Services) -> None:
        cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
        run = services.run(services.reconcilers, CLUSTER, cause)
        (tracer,) = await services.lives("reconcilers")
        await tracer.restore([services.planned(run, cause.intent, delete=MACHINE)])
        services.clock.turn(20)
        assert tracer.received(services.record(MACHINE, "capi-machineset", **DELETING), Deletion.BEGINS).intent == cause.intent
        assert all(summary.orphans == 0 for summary in await services.summaries())

    async def test_a_users_change_that_only_the_replay_tells_of_opens_the_intent_that_every_other_service_opened(self, services: Services) -> None:
        """The owner died before it took the record."""
        applied = services.record(CLUSTER, "kubectl", kind=ADDED)
        theirs = services.infrastructure.received(applied)
        services.clock.turn(10)
        (tracer,) = await services.lives("reconcilers")
        tracer.replayed(applied)
        assert services.run(tracer, CLUSTER).trace == theirs.intent
        services.run(services.infrastructure, CLUSTER, theirs)
        assert [(summary.roots, summary.orphans) for summary in await services.summaries()] == [(1, 0)]

    async def test_a_change_from_before_the_open_intent_opens_none_in_the_replay(self, services: Services) -> None:
        old = services.record(PLANE, "kubectl")
        services.clock.turn(60)
        cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
        run = services.run(services.reconcilers, CLUSTER, cause)
        (tracer,) = await services.lives("reconcilers")
        await tracer.restore([services.planned(run, cause.intent)])
        tracer.replayed(old)
        assert services.run(tracer, PLANE).trace == cause.intent

    async def test_a_run_that_continues_no_intent_leaves_none(self, services: Services) -> None:
        run = services.run(services.infrastructure, CLUSTER)
        assert services.infrastructure.wrote("u", "7", run.traceparent(), DEMO).intent == ""


async def test_a_run_that_fails_shows_its_error_and_its_step(services: Services) -> None:
    cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
    with (
        pytest.raises(OSError, match="boom"),
        services.reconcilers.run("Cluster", CLUSTER, DEMO, [cause], services.clock.now()) as span,
        span.step("patch", "x"),
    ):
        raise OSError("boom")
    spans = await services.ended()
    assert {span.name for span in spans if span.error} == {"reconcile Cluster", "patch x"}


async def test_spans_say_whose_work_they_tell_and_whom_they_ask(services: Services) -> None:
    """What a service graph is drawn from: the watcher's reading is the watcher's, whoever emits it, and a request has a node at its other end."""
    cause = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
    with services.reconcilers.run("Cluster", CLUSTER, DEMO, [cause], services.clock.now()) as run:
        with run.step("patch", str(CLUSTER), "the-audit-id"):
            pass
        with run.step("patch", "/Node//one@default/demo"):
            pass
    spans = {span.name: span for span in await services.ended()}
    assert spans["watch Cluster"].service == "fleetwake-watcher"
    assert {spans[name].service for name in ("objects process", "reconcile Cluster", "intent default/demo")} == {"fleetwake-reconcilers"}
    assert spans["patch Cluster"].attributes["peer.service"] == "kube-apiserver"
    assert spans["patch Cluster"].attributes["fleetwake.audit_id"] == "the-audit-id"
    assert spans["patch Node"].attributes["peer.service"] == "workload-apiserver"
    assert "fleetwake.audit_id" not in spans["patch Node"].attributes


@pytest.mark.parametrize("manager", sorted({kind.manager for kind in (*RECONCILERS_KINDS, *DEV_KINDS)}))
def test_every_kind_writes_as_one_of_ours(manager: str) -> None:
    assert is_ours(manager)
