"""Rebuild the read model in Redis from Kafka: by a command, when Redis was emptied, or after a time in which nobody wrote to it.

The ``objects`` topic is read whole, the model is emptied, and every Cluster is written unless somebody has meanwhile written it as new or newer: workers go
on beside it. What was produced while this took its time is read in a second pass, so that a Cluster deleted meanwhile does not stay.

Source: architecture.md §6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from redis.asyncio import Redis as Client
from redis.exceptions import RedisError

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.redis import Redis
from fleetwake.errors import UnavailableError
from fleetwake.shell.readmodel import CLUSTER, CLUSTERS_SET, glance, hash_key
from fleetwake.stream.replay import read_ranges
from schemas.records import DELETED, MOVED, ObjectRecord, Version

WRITES_PER_TURN = 500
TIMEOUT_SECONDS = 5.0
_WRITE = """
local held = tonumber(redis.call('HGET', KEYS[1], 'rv') or '-1')
if held >= tonumber(ARGV[1]) then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
redis.call('SADD', KEYS[2], ARGV[2])
return 1
"""


@dataclass(frozen=True, slots=True)
class Source:
    """Where to read: Kafka, the objects topic, how many partitions it has."""

    kafka: Kafka
    topic: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was done: Clusters found on the topic, hashes written (fewer when workers were quicker), hashes of Clusters that are gone."""

    found: int
    written: int
    gone: int


@dataclass(slots=True)
class _Clusters:
    """The newest state of every Cluster that was read; None for one that is gone."""

    newest: dict[str, tuple[int, Version, bytes | None]] = field(default_factory=dict)

    def take(self, message: Any) -> None:
        try:
            record = ObjectRecord.decode(message.key, message.value, message.headers)
        except ValueError:
            return  # the workers' dead letters tell of it
        if record.key.group_kind != CLUSTER:
            return
        name = f"{record.key.namespace}/{record.key.name}"
        gone = record.value is None or record.type in (DELETED, MOVED)
        held = self.newest.get(name)
        if held is not None and (held[0] != message.partition if gone else held[1] > record.version):
            return
        self.newest[name] = (message.partition, record.version, None if gone else record.value)


async def rebuild(source: Source, redis: Redis) -> Rebuilt:
    """Empty the read model and write it anew.

    Raises:
        UnavailableError: Redis does not answer.
        KafkaError: the broker does not.
    """
    clusters = _Clusters()
    ends = await _read(source, dict.fromkeys(range(source.partitions), 0), clusters.take)
    client = redis.async_client(TIMEOUT_SECONDS)
    try:
        before = await _empty(client)
        written = await _write(client, clusters)
        late = _Clusters()
        await _read(source, ends, late.take)
        written += await _write(client, late)
        clusters.newest |= late.newest
    except (RedisError, OSError) as error:
        raise UnavailableError(redis.told(error), operation="rebuild the read model") from error
    finally:
        await client.aclose()
    living = {name for name, (_, _, value) in clusters.newest.items() if value is not None}
    return Rebuilt(len(living), written, len(before - living))


async def _read(source: Source, starts: Mapping[int, int], take: Callable[[Any], None]) -> dict[int, int]:
    return await read_ranges(source.kafka, source.topic, starts, None, take, lambda: True)


async def _empty(client: Client) -> set[str]:
    """Remove every hash and their list; returns the Clusters there were."""
    names = {str(name) for name in await client.smembers(CLUSTERS_SET)}
    keys = [key async for key in client.scan_iter(match=hash_key("*"), count=1000)]
    await client.delete(CLUSTERS_SET, *keys)
    return names


async def _write(client: Client, clusters: _Clusters) -> int:
    """Remove what is gone and write what is newer than what Redis has; returns how many were written."""
    for name in [name for name, (_, _, value) in clusters.newest.items() if value is None]:
        await client.srem(CLUSTERS_SET, name)
        await client.delete(hash_key(name))
    living = [(name, version, value) for name, (_, version, value) in clusters.newest.items() if value is not None]
    written = 0
    for first in range(0, len(living), WRITES_PER_TURN):
        async with client.pipeline(transaction=False) as pipe:
            for name, version, value in living[first : first + WRITES_PER_TURN]:
                fields = [part for item in glance(orjson.loads(value)).items() if item[1] for part in item]
                pipe.eval(_WRITE, 2, hash_key(name), CLUSTERS_SET, str(version.resource_version), name, *fields)
            written += sum(await pipe.execute())
    return written
