"""Read the results topic: whole, from a time on, with a plain consumer outside any group."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from pydantic import ValidationError

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import refusal
from fleetwake.views.connection import ViewError
from schemas.results import RESULT_TYPES, Run
from schemas.topics import MESSAGE_BYTES_MAX

POLL_MS = 500
RECORDS_PER_POLL = 2_000
SILENCE_POLLS_MAX = 40
"""Polls without a record before the reader gives up on a broker that announced more."""

MODELS = {model.TYPE.encode(): model for model in RESULT_TYPES}


def decode(headers: list[tuple[str, bytes]], value: bytes | None) -> Run | None:
    """The record of one message; None for what is no result that this version knows."""
    model = MODELS.get(dict(headers).get("ce_type", b""))
    if model is None or value is None:
        return None
    try:
        return model.model_validate(orjson.loads(value))
    except (ValidationError, orjson.JSONDecodeError):
        return None


def read_results(kafka: Kafka, topic: str, since: datetime | None = None, progress: Callable[[int], None] | None = None) -> list[Run]:
    """Every result on the topic up to its present end, in order of time.

    Args:
        kafka: where, and how to be let in.
        topic: the results topic's name.
        since: leave out what was produced earlier.
        progress: told how many records were read so far.

    Raises:
        ViewError: no broker answers, or the topic does not exist.
    """
    if why := refusal(kafka):  # the client would try again for half a minute
        raise ViewError(f"no Kafka broker serves us at {kafka}: {why}")
    try:
        consumer = KafkaConsumer(
            **kafka.client(),
            client_id="fleetwake-views",
            enable_auto_commit=False,
            max_partition_fetch_bytes=MESSAGE_BYTES_MAX,
            fetch_max_wait_ms=100,
        )
    except KafkaError as error:
        raise ViewError(f"no Kafka broker answers at {kafka} ({error}): is the rig up (`fleetwake dev status`), is FLEETWAKE_KAFKA_BOOTSTRAP right?") from error
    try:
        found = _read(consumer, topic, since, progress)
    except KafkaError as error:
        raise ViewError(f"topic {topic} could not be read from {kafka}: {kafka.told(error)}") from error
    finally:
        consumer.close()
    return sorted(found, key=lambda run: run.at)  # type: ignore[attr-defined]


def _read(consumer: Any, topic: str, since: datetime | None, progress: Callable[[int], None] | None) -> list[Run]:
    numbers = consumer.partitions_for_topic(topic)
    if not numbers:
        raise ViewError(f"topic {topic} does not exist: no service of ours has run on this Kafka, or FLEETWAKE_TOPIC_PREFIX is another")
    partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
    consumer.assign(partitions)
    ends: dict[TopicPartition, int] = consumer.end_offsets(partitions)
    starts: dict[TopicPartition, int] = consumer.beginning_offsets(partitions)
    if since is not None:
        found = consumer.offsets_for_times(dict.fromkeys(partitions, int(since.timestamp() * 1000)))
        starts = {tp: found[tp].offset if found.get(tp) is not None else ends[tp] for tp in partitions}
    left = {tp for tp in partitions if starts[tp] < ends[tp]}
    if not left:
        return []
    consumer.assign(sorted(left))
    for tp in left:
        consumer.seek(tp, starts[tp])
    runs: list[Run] = []
    silent = 0
    while left and silent < SILENCE_POLLS_MAX:
        batches = consumer.poll(timeout_ms=POLL_MS, max_records=RECORDS_PER_POLL)
        silent = 0 if batches else silent + 1
        for tp, messages in batches.items():
            for message in messages:
                if message.offset < ends[tp] and (run := decode(message.headers, message.value)) is not None:
                    runs.append(run)
        left = {tp for tp in left if consumer.position(tp) < ends[tp]}
        if progress is not None:
            progress(len(runs))
    if left:
        raise ViewError(f"topic {topic}: the broker stopped answering for partitions {', '.join(str(tp.partition) for tp in sorted(left))}")
    return runs
