"""The producer's bounded memory, against a broker that stops answering."""

from __future__ import annotations

import asyncio

import pytest

from fleetwake.connections.kafka import Kafka
from fleetwake.rig import Rig
from fleetwake.rig.records import Endpoints
from fleetwake.stream.producer import Outgoing, RecordProducer
from fleetwake.stream.topics import TopicAdmin
from schemas.topics import Topics

pytestmark = pytest.mark.kafka

LIMIT_SECONDS = 40.0
RECORD_BYTES = 100_000


async def start(bootstrap: str, prefix: str, *, fence: bool = True, buffer_bytes_max: int = 10 * RECORD_BYTES) -> RecordProducer:
    def prepare() -> None:
        with TopicAdmin(Kafka(bootstrap)) as admin:
            admin.create(Topics(prefix).specs(2))

    await asyncio.to_thread(prepare)
    producer = RecordProducer(Kafka(bootstrap), fence=lambda: fence, buffer_bytes_max=buffer_bytes_max)
    await producer.start()
    return producer


async def test_a_full_buffer_holds_the_reader_until_the_broker_takes_it(rig_servers: Rig, rig_endpoints: Endpoints, topic_prefix: str) -> None:
    producer = await start(rig_endpoints.bootstrap_servers, topic_prefix)
    offsets: list[int | None] = []
    try:
        rig_servers.pause("kafka-0")
        try:
            put = 0
            async with asyncio.timeout(LIMIT_SECONDS):
                while True:
                    room = asyncio.ensure_future(producer.room())
                    done, _ = await asyncio.wait({room}, timeout=0.5)
                    if not done:
                        room.cancel()
                        break
                    producer.put(Outgoing(Topics(topic_prefix).objects, 0, b"k", b"x" * RECORD_BYTES, [], offsets.append))
                    put += 1
            assert put == 10, "the reader stops when the buffer is full"
        finally:
            rig_servers.resume("kafka-0")
        await asyncio.wait_for(producer.flush(), LIMIT_SECONDS)
        assert offsets == list(range(10)), "every record is acknowledged, in order"
        await asyncio.wait_for(producer.room(), LIMIT_SECONDS)
    finally:
        await producer.stop()


async def test_a_fenced_producer_writes_nothing(rig_endpoints: Endpoints, topic_prefix: str) -> None:
    producer = await start(rig_endpoints.bootstrap_servers, topic_prefix, fence=False)
    offsets: list[int | None] = []
    try:
        producer.put(Outgoing(Topics(topic_prefix).objects, 0, b"k", b"v", [], offsets.append))
        await asyncio.wait_for(producer.flush(), LIMIT_SECONDS)
        assert offsets == [None]
    finally:
        await producer.stop()
