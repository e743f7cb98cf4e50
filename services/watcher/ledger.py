"""What the topics say of every object: the last record of each key in each place, known by tailing ``objects`` and ``objects.shared``.

Leader and standby both keep it, so that a takeover starts from what was really written, not from memory of who wrote it. Values are not
kept: the last record of a key is never compacted away, so ``read`` fetches it from its offset when a final state is needed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import unavailable_async
from fleetwake.errors import TerminalError, UnavailableError
from schemas.keys import ObjectKey
from schemas.records import DELETED, MOVED, ObjectRecord, Version
from schemas.topics import MESSAGE_BYTES_MAX, Topics
from services.watcher.metrics import WatcherMetrics

SHARED_PLACE = -1
"""The place of cluster-less objects; other places are partitions of ``objects``."""

POLL_MS = 1000
POLL_RECORDS_MAX = 2000
READ_TIMEOUT_SECONDS = 30.0

Place: TypeAlias = int
log = logging.getLogger("services.watcher.ledger")


class Entry(NamedTuple):
    """The last record of a key in one place. ``live`` is False for DELETED and MOVED whose tombstone has not come yet."""

    version: Version
    offset: int
    live: bool
    cluster: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A record of the tail. ``entry`` is None for a tombstone."""

    place: Place
    key: ObjectKey
    offset: int
    entry: Entry | None


class Ledger:
    """The tail of both topics. ``on_record`` is called for every record once ``caught_up`` is set."""

    def __init__(self, kafka: Kafka, topics: Topics, partitions: int, metrics: WatcherMetrics) -> None:
        self._kafka, self._topics, self._metrics = kafka, topics, metrics
        self._places: dict[TopicPartition, Place] = {TopicPartition(topics.objects, number): number for number in range(partitions)}
        self._places[TopicPartition(topics.shared, 0)] = SHARED_PLACE
        self.entries: dict[Place, dict[ObjectKey, Entry]] = {place: {} for place in self._places.values()}
        self.positions: dict[Place, int] = dict.fromkeys(self._places.values(), 0)
        self.epoch_max = 0
        self.resource_version_max = 0
        self.caught_up = asyncio.Event()
        self.on_record: Callable[[Seen], None] | None = None

    def where(self, place: Place) -> tuple[str, int]:
        """Topic and partition of a place."""
        return (self._topics.shared, 0) if place == SHARED_PLACE else (self._topics.objects, place)

    def find(self, key: ObjectKey) -> tuple[Place, Entry] | None:
        """Some place with a record of the key, a live one if there is one."""
        found = [(place, entries[key]) for place, entries in self.entries.items() if key in entries]
        return max(found, key=lambda item: (item[1].live, item[1].version), default=None)

    async def run(self) -> None:
        """Tail for ever.

        Raises:
            UnavailableError: no broker answers at the start (later the consumer waits for it by itself).
            TerminalError: a topic is missing.
        """
        consumer = _consumer(self._kafka)
        try:
            await consumer.start()
        except KafkaError as error:
            raise await unavailable_async(self._kafka, error, "tail topics") from error
        try:
            for name in (self._topics.objects, self._topics.shared):
                if not consumer.partitions_for_topic(name) and name not in await consumer.topics():
                    raise TerminalError(f"topic {name} does not exist; run: fleetwake topics create", operation="tail topics")
            consumer.assign(list(self._places))
            await consumer.seek_to_beginning()
            await self._catch_up(consumer)
            while True:
                await self._take_some(consumer)
        finally:
            await consumer.stop()

    async def _catch_up(self, consumer: AIOKafkaConsumer) -> None:
        ends = await consumer.end_offsets(list(self._places))
        waiting = {partition for partition, end in ends.items() if end > 0}
        while waiting:
            await self._take_some(consumer)
            waiting = {partition for partition in waiting if await consumer.position(partition) < ends[partition]}
        self.caught_up.set()
        log.info("caught up: objects=%s epoch=%s", sum(len(entries) for entries in self.entries.values()), self.epoch_max)

    async def _take_some(self, consumer: AIOKafkaConsumer) -> None:
        try:
            batches = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS_MAX)
        except KafkaError as error:
            log.warning("tail interrupted: error=%s", error)
            await asyncio.sleep(POLL_MS / 1000)
            return
        for partition, records in batches.items():
            place = self._places[partition]
            for record in records:
                self._take(place, record)

    def _take(self, place: Place, record: ConsumerRecord) -> None:
        self.positions[place] = record.offset + 1
        if record.key is None or b"@" in record.key:
            return  # objects of workload clusters are written, and answered for, by the reconcilers
        try:
            key = ObjectKey.parse(record.key.decode())
            entry = None if record.value is None else _entry(record)
        except (ValueError, KeyError) as error:
            self._metrics.undecodable.inc()
            # its key may be anything: it is named by where it lies
            log.warning("undecodable record: place=%s offset=%s error=%s", place, record.offset, error)
            return
        if entry is None:
            self.entries[place].pop(key, None)
        else:
            self.entries[place][key] = entry
            if entry.version.epoch > self.epoch_max:
                self.epoch_max, self.resource_version_max = entry.version
            elif entry.version.epoch == self.epoch_max:
                self.resource_version_max = max(self.resource_version_max, entry.version.resource_version)
        if self.on_record is not None and self.caught_up.is_set():
            self.on_record(Seen(place, key, record.offset, entry))

    async def read(self, wanted: Iterable[tuple[Place, int]]) -> dict[tuple[Place, int], ObjectRecord]:
        """Read single records by place and offset; one that is gone meanwhile is left out."""
        ordered = sorted(set(wanted))
        found: dict[tuple[Place, int], ObjectRecord] = {}
        if not ordered:
            return found
        consumer = _consumer(self._kafka)
        try:
            await consumer.start()
            for place, offset in ordered:
                partition = TopicPartition(*self.where(place))
                consumer.assign([partition])
                consumer.seek(partition, offset)
                async with asyncio.timeout(READ_TIMEOUT_SECONDS):
                    record = await consumer.getone(partition)
                if record.offset == offset:
                    found[(place, offset)] = ObjectRecord.decode(record.key, record.value, record.headers)
        except (TimeoutError, KafkaError) as error:
            raise UnavailableError(f"{type(error).__name__}: {error}", operation="read last records") from error
        finally:
            await consumer.stop()
        return found


def _entry(record: ConsumerRecord) -> Entry:
    headers = dict(record.headers)
    live = headers["type"] not in (DELETED.encode(), MOVED.encode())
    return Entry(Version(int(headers["epoch"]), int(headers["rv"])), record.offset, live, headers["cluster"].decode())


def _consumer(kafka: Kafka) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        **kafka.client(),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=MESSAGE_BYTES_MAX,
        fetch_max_bytes=8 * MESSAGE_BYTES_MAX,
        metadata_max_age_ms=30_000,
    )
