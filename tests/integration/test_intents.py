"""Open intents outlive the process that opened them: in Redis, and when that was flushed, in the results of the last minutes."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import redis.asyncio as redis

from fleetwake.connections.otlp import Otlp
from fleetwake.connections.redis import Redis
from fleetwake.rig.records import Endpoints
from fleetwake.shell.service import SystemClock
from fleetwake.tracing.context import SpanId
from fleetwake.tracing.spans import INTENTS, Tracer
from fleetwake.tracing.types import Cause
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import ADDED, Actor, ObjectRecord, Version
from schemas.results import CauseRecord, Planned, cloud_event
from tests.integration.bus_world import Bus, cluster_in, record_of, until
from tests.integration.test_worker_intake import living

pytestmark = [pytest.mark.kafka, pytest.mark.redis]

CLUSTERS = tuple(f"default/c{number}" for number in range(20))


@pytest.fixture
async def store(rig_endpoints: Endpoints) -> AsyncIterator[redis.Redis]:
    """Redis without an intent."""
    async with redis.from_url(rig_endpoints.redis_url, decode_responses=True) as found:
        await found.delete(INTENTS)
        yield found


def applied(cluster: str) -> ObjectRecord:
    """A user applies a cluster."""
    namespace, _, name = cluster.partition("/")
    key, now = ObjectKey("cluster.x-k8s.io", "Cluster", namespace, name), datetime.now(UTC).timestamp()
    return ObjectRecord(key, ADDED, Version(1, 7), cluster, b'{"metadata": {}}', now, now, Actor("kubectl"))


async def test_each_of_many_intents_that_open_one_after_the_other_is_in_redis(store: redis.Redis, rig_endpoints: Endpoints) -> None:
    tracer = Tracer("reconcilers", "r-0", Otlp(), SystemClock(), Redis(rig_endpoints.redis_url))
    for cluster in CLUSTERS:
        tracer.received(applied(cluster))
        # the save of the one before is on its way
        await asyncio.sleep(0)
    await tracer.stop()
    assert set(await store.hkeys(INTENTS)) == set(CLUSTERS)


CLUSTER = f"default/{cluster_in(0)}"


@asynccontextmanager
async def owner(bus: Bus, rig_endpoints: Endpoints) -> AsyncIterator[Tracer]:
    """A worker that has just started, the owner of the partition, ready."""
    tracer = Tracer("reconcilers", "r-0", Otlp(), SystemClock(), Redis(rig_endpoints.redis_url))
    async with living(bus, tracer=tracer) as life:
        life.assign(0)
        await life.swept()
        yield tracer
        await until(lambda: life.worker.idle, "idle")
    await tracer.stop()


def trace_of_a_run(tracer: Tracer, *causes: Cause) -> tuple[str, str]:
    """The trace of a run of the cluster, and its own traceparent."""
    key, clock = ObjectKey("", "ConfigMap", "default", "m1"), SystemClock()
    with tracer.run("ConfigMap", key, ClusterKey.parse(CLUSTER), causes, clock.now()) as run:
        found = SpanId.parse(run.traceparent)
    assert found is not None
    return found.trace, run.traceparent


async def put_planned(bus: Bus, traceparent: str, intent: str) -> None:
    """The record of a run, as its worker produces it."""
    record = Planned(
        plan_id="p",
        service="reconcilers",
        instance="r-0",
        kind="ConfigMap",
        key="/ConfigMap/default/m1",
        cluster=CLUSTER,
        trace=traceparent,
        intent=intent,
        at=datetime.now(UTC),
        cause=CauseRecord(),
        observed={},
        steps=(),
    )
    value = record.model_dump_json(by_alias=True, exclude_defaults=True).encode()
    await bus.put(bus.topics.results, 0, CLUSTER.encode(), value, cloud_event(record))


async def put_applied(bus: Bus) -> ObjectRecord:
    """A user applies a ConfigMap of the cluster."""
    record = dataclasses.replace(record_of(bus.config_map("m1", n=1)), actor=Actor("kubectl"))
    await bus.put_record(record, 0)
    return record


@pytest.mark.parametrize("flushed", [True, False], ids=["Redis flushed", "Redis as it was"])
async def test_a_worker_restarted_goes_on_in_the_trace_that_was_open(store: redis.Redis, bus: Bus, rig_endpoints: Endpoints, flushed: bool) -> None:
    async with owner(bus, rig_endpoints) as tracer:
        opened = tracer.received(await put_applied(bus))
        trace, traceparent = trace_of_a_run(tracer, opened)
        await put_planned(bus, traceparent, opened.intent)
    # what opened the intent is gone from the topic: a write of ours came after it
    await bus.put_record(dataclasses.replace(record_of(bus.config_map("m1", n=2)), actor=Actor("capi-under-test")), 0)
    assert await store.hkeys(INTENTS) == [CLUSTER]
    if flushed:
        await store.flushall()
    async with owner(bus, rig_endpoints) as tracer:
        assert trace_of_a_run(tracer)[0] == trace == opened.intent


async def test_a_users_change_that_the_dead_owner_never_took_opens_its_intent(store: redis.Redis, bus: Bus, rig_endpoints: Endpoints) -> None:
    record = await put_applied(bus)
    async with owner(bus, rig_endpoints) as tracer:
        expected = SpanId.derive(f"intent/{CLUSTER}/{record.key}/1/{record.version.resource_version}").trace
        assert trace_of_a_run(tracer)[0] == expected
    assert await store.hkeys(INTENTS) == [CLUSTER]
