"""Causes, intents and spans: whatever the order of records and runs, spans make whole traces that begin with the change that caused them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from fleetwake.tracing.context import SpanId
from fleetwake.tracing.intents import is_ours
from fleetwake.tracing.receiver import Receiver, Span, TraceSummary
from fleetwake.tracing.spans import Tracer
from fleetwake.tracing.types import Cause
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import ADDED, MODIFIED, Actor, ObjectRecord, Version
from services.dev_infrastructure.registry import KINDS as DEV_KINDS
from services.reconcilers.registry import KINDS as RECONCILERS_KINDS

DEMO = ClusterKey("default", "demo")
CLUSTER = ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo")
PLANE = ObjectKey("controlplane.cluster.x-k8s.io", "KubeadmControlPlane", "default", "demo")
TEMPLATE = ObjectKey("infrastructure.cluster.x-k8s.io", "DevMachineTemplate", "default", "demo")
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
        self.reconcilers = Tracer("reconcilers", "r-0", receiver.endpoint, self.clock)
        self.infrastructure = Tracer("dev_infrastructure", "d-0", receiver.endpoint, self.clock)
        self.version = 100

    def record(self, key: ObjectKey, manager: str, cluster: ClusterKey | None = DEMO, kind: str = MODIFIED, **metadata: Any) -> ObjectRecord:
        self.version += 1
        at = self.clock.now().timestamp()
        value = orjson.dumps({"metadata": {"uid": str(key), **metadata}})
        return ObjectRecord(key, kind, Version(1, self.version), str(cluster or ""), value, at, at, Actor(manager))

    def run(self, tracer: Tracer, key: ObjectKey, *causes: Cause) -> SpanId:
        with tracer.run(key.kind, key, DEMO, causes, self.clock.now()) as span, span.step("patch", str(key)):
            self.clock.turn(0.01)
        found = SpanId.parse(span.traceparent)
        assert found is not None
        return found

    async def ended(self) -> tuple[Span, ...]:
        await self.reconcilers.stop()
        await self.infrastructure.stop()
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


async def test_our_own_change_of_an_object_of_no_cluster_causes_nothing(services: Services) -> None:
    assert services.reconcilers.received(services.record(TEMPLATE, "capi-cluster", None)) == Cause()
    assert await services.summaries() == []


async def test_the_deletion_of_a_cluster_opens_an_intent_though_the_last_writer_was_ours(services: Services) -> None:
    before = services.reconcilers.received(services.record(CLUSTER, "kubectl"))
    services.clock.turn(60)
    deleted = services.record(CLUSTER, "capi-cluster", deletionTimestamp="2026-01-01T00:01:00Z")
    assert services.reconcilers.received(deleted).change == "DELETING Cluster default/demo @102"
    opened = [tracer.received(deleted).intent for tracer in (services.reconcilers, services.infrastructure)]
    assert len({before.intent, *opened}) == 2
    services.clock.turn(60)
    again = services.reconcilers.received(services.record(CLUSTER, "capi-cluster", deletionTimestamp="2026-01-01T00:01:00Z"))
    assert again.intent == opened[0]
    assert all((summary.roots, summary.orphans) == (1, 0) for summary in await services.summaries())


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


@pytest.mark.parametrize("manager", sorted({kind.manager for kind in (*RECONCILERS_KINDS, *DEV_KINDS)}))
def test_every_kind_writes_as_one_of_ours(manager: str) -> None:
    assert is_ours(manager)
