"""The read model in Redis: lost with everything, made anew from the topic by a command, beside whoever writes it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import redis
from typer.testing import CliRunner

from fleetwake.cli.main import app
from fleetwake.connections.redis import Redis
from fleetwake.kind import Change
from fleetwake.rig.records import Endpoints
from fleetwake.shell.readmodel import CLUSTERS_SET, ReadModel, hash_key
from fleetwake.stream.partition import partition_of
from fleetwake.views.fleet import Truth, note_of, read_fleet, stale_since
from schemas.keys import ObjectKey
from schemas.records import ADDED, DELETED, MODIFIED, ObjectRecord, Version
from tests.integration.bus_world import NAMESPACE, PARTITIONS, Bus, until

pytestmark = [pytest.mark.kafka, pytest.mark.redis]


def cluster(name: str, version: int, available: str = "True") -> dict[str, Any]:
    condition = {"type": "Available", "status": available, "reason": "Because", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "resourceVersion": str(version)},
        "spec": {"controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443}},
        "status": {"phase": "Provisioned", "conditions": [condition], "workers": {"desiredReplicas": 3, "availableReplicas": 3}},
    }


async def put(bus: Bus, state: dict[str, Any], type_: str = MODIFIED) -> None:
    meta = state["metadata"]
    place = f"{NAMESPACE}/{meta['name']}"
    key = ObjectKey("cluster.x-k8s.io", "Cluster", NAMESPACE, meta["name"])
    record = ObjectRecord(key, type_, Version(1, int(meta["resourceVersion"])), place, orjson.dumps(state))
    partition = partition_of(place, PARTITIONS)
    await bus.put_record(record, partition)
    if type_ == DELETED:
        await bus.put(bus.topics.objects, partition, str(key).encode(), None)


@pytest.fixture
def client(rig_endpoints: Endpoints) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(rig_endpoints.redis_url, decode_responses=True) as found:
        found.flushall()
        yield found
        found.flushall()


@pytest.fixture
def command(rig_endpoints: Endpoints, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    for name, value in (
        ("KUBECONFIG", rig_endpoints.kubeconfig),
        ("KAFKA_BOOTSTRAP", rig_endpoints.bootstrap_servers),
        ("REDIS_URL", rig_endpoints.redis_url),
        ("TOPIC_PREFIX", topic_prefix),
    ):
        monkeypatch.setenv(f"FLEETWAKE_{name}", value)
    return CliRunner()


async def rebuilt(command: CliRunner) -> str:
    """Run the command as a user does; returns what it prints."""
    done = await asyncio.to_thread(command.invoke, app, ["readmodel", "rebuild"])
    assert done.exit_code == 0, done.output
    return done.output


async def test_a_rebuild_brings_back_what_the_workers_wrote(rig_endpoints: Endpoints, topic_prefix: str, client: redis.Redis, command: CliRunner) -> None:
    at = Redis(rig_endpoints.redis_url)
    states = [cluster("a", 10), cluster("b", 11, "False"), cluster("c", 12)]
    model = ReadModel(at)
    await model.start()
    async with Bus(rig_endpoints.bootstrap_servers, topic_prefix) as bus:
        await put(bus, cluster("a", 5, "Unknown"), ADDED)
        await put(bus, cluster("gone", 6), ADDED)
        await bus.put_config_map("no-cluster")
        await bus.put(bus.topics.objects, 0, b"no key of ours", b"\x00\xff")
        for state in states:
            await put(bus, state)
            model.changed(Change(ObjectKey("cluster.x-k8s.io", "Cluster", NAMESPACE, state["metadata"]["name"]), None, None, state))
        await put(bus, cluster("gone", 13), DELETED)
        await until(lambda: len(read_fleet(at)) == 3, "the workers' part")
        await model.stop()
        before = read_fleet(at)
        truth = {name: Truth(fields["rv"], datetime.now(UTC) - timedelta(minutes=1)) for name, fields in before.items()}
        client.flushall()
        now = datetime.now(UTC)
        assert "stale since" in note_of(stale_since(read_fleet(at), truth, now), now)[0]
        assert "3 Clusters" in await rebuilt(command)
        assert read_fleet(at) == before
        assert stale_since(read_fleet(at), truth, now) is None


async def test_a_rebuild_removes_what_is_gone(rig_endpoints: Endpoints, topic_prefix: str, client: redis.Redis, command: CliRunner) -> None:
    async with Bus(rig_endpoints.bootstrap_servers, topic_prefix) as bus:
        await put(bus, cluster("a", 10), ADDED)
        client.hset(hash_key("default/ghost"), mapping={"rv": "3"})
        client.sadd(CLUSTERS_SET, "default/ghost")
        assert "1 that are gone removed" in await rebuilt(command)
        assert set(read_fleet(Redis(rig_endpoints.redis_url))) == {"default/a"}
    assert not client.exists(hash_key("default/ghost"))


async def test_no_topic_is_told(client: redis.Redis, command: CliRunner) -> None:
    done = await asyncio.to_thread(command.invoke, app, ["readmodel", "rebuild"])
    assert done.exit_code == 1
    assert "does not exist" in done.output
