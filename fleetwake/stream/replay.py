"""Reading a compacted topic whole, with a bare consumer: 20 times faster than Faust delivers, and independent of its offsets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import aiokafka

from fleetwake.connections.kafka import Kafka
from schemas.topics import MESSAGE_BYTES_MAX

FETCH_BYTES_MAX = 64 * 1024 * 1024
RECORDS_PER_TURN = 2000
"""Records handled before other tasks get their turn."""
POLL_MS = 200


def plain_consumer(kafka: Kafka, **extra: Any) -> aiokafka.AIOKafkaConsumer:
    """A consumer without a group."""
    return aiokafka.AIOKafkaConsumer(
        **kafka.client(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_bytes=FETCH_BYTES_MAX,
        max_partition_fetch_bytes=MESSAGE_BYTES_MAX + 1024,
        **extra,
    )


async def read_ranges(
    kafka: Kafka, topic: str, starts: Mapping[int, int], ends: Mapping[int, int] | None, take: Callable[[Any], None], go_on: Callable[[], bool]
) -> dict[int, int]:
    """Read partitions of a topic from ``starts`` to ``ends`` (default: the end offsets taken now) and hand every record to ``take``.

    Returns the end offsets. Stops early, returning an empty mapping, when ``go_on`` turns False.
    """
    consumer = plain_consumer(kafka)
    await consumer.start()
    try:
        partitions = {aiokafka.TopicPartition(topic, number): number for number in starts}
        consumer.assign(list(partitions))
        found = {tp.partition: offset for tp, offset in (await consumer.end_offsets(list(partitions))).items()}
        until = {number: min(ends[number], found[number]) if ends is not None else found[number] for number in starts}
        for tp, number in partitions.items():
            consumer.seek(tp, starts[number])
        left = set(partitions)
        while go_on():
            for tp in list(left):
                if await consumer.position(tp) >= until[tp.partition]:
                    left.discard(tp)
                    consumer.pause(tp)
            if not left:
                return until
            for tp, messages in (await consumer.getmany(timeout_ms=POLL_MS, max_records=RECORDS_PER_TURN)).items():
                for message in messages:
                    if message.offset < until[tp.partition]:
                        take(message)
            await asyncio.sleep(0)
        return {}
    finally:
        await consumer.stop()


async def end_offsets(kafka: Kafka, topic: str, partitions: set[int]) -> dict[int, int]:
    """The end offsets of partitions now."""
    consumer = plain_consumer(kafka)
    await consumer.start()
    try:
        wanted = [aiokafka.TopicPartition(topic, number) for number in partitions]
        return {tp.partition: offset for tp, offset in (await consumer.end_offsets(wanted)).items()}
    finally:
        await consumer.stop()
