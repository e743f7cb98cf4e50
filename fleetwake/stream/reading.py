"""Reading a topic with kafka-python outside any group: partitions and offsets are the caller's, and so is what it remembers of them.

One thread, no callbacks. What is not asked for is not fetched: a caller that is slow is never sent more than the fetch buffers hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError, OffsetOutOfRangeError

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import refusal
from fleetwake.errors import NotFoundError, UnavailableError
from schemas.topics import MESSAGE_BYTES_MAX

POLL_MS = 500
RECORDS_PER_POLL = 2_000
SILENCE_POLLS_MAX = 40
"""Polls without a record before the reader gives up on a broker that announced more."""
FETCH_BYTES_MAX = 16 * 1024 * 1024
FETCH_WAIT_MS = 100
REPLACED_BY_EARLIEST, RAISED = "earliest", "none"


class TooOldError(UnavailableError):
    """The broker no longer has (or has not yet) the offset that was asked for. ``partition`` and ``offset`` say which."""

    def __init__(self, partition: int, offset: int, operation: str) -> None:
        super().__init__(f"offset {offset} of partition {partition} is not there", operation=operation)
        self.partition, self.offset = partition, offset


class TopicReader:
    """One topic, read from offsets of the caller's choice. Use it as a context manager."""

    def __init__(self, kafka: Kafka, topic: str, client_id: str, *, missing_offset: str = REPLACED_BY_EARLIEST) -> None:
        """Connect. ``missing_offset`` says whether an offset the broker does not have is replaced by the first it has, or raised.

        Raises:
            UnavailableError: no broker answers, or it does not let us in; the message says what to look at.
            SettingsError: a file of the connection cannot be used.
        """
        self.topic, self._kafka = topic, kafka
        if why := refusal(kafka):  # the client would try again for half a minute
            raise UnavailableError(f"no Kafka broker serves us at {kafka}: {why}", operation=f"read {topic}")
        try:
            self._consumer = KafkaConsumer(
                **kafka.client(),
                client_id=client_id,
                enable_auto_commit=False,
                auto_offset_reset=missing_offset,
                fetch_max_bytes=FETCH_BYTES_MAX,
                max_partition_fetch_bytes=MESSAGE_BYTES_MAX,
                fetch_max_wait_ms=FETCH_WAIT_MS,
            )
        except KafkaError as error:
            raise UnavailableError(
                f"no Kafka broker answers at {kafka} ({error}): is the rig up (`fleetwake dev status`), is FLEETWAKE_KAFKA_BOOTSTRAP right?",
                operation=f"read {topic}",
            ) from error

    def __enter__(self) -> TopicReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except OffsetOutOfRangeError as error:
            tp, offset = next(iter(error.args[0].items()))
            raise TooOldError(tp.partition, offset, f"read {self.topic}") from error
        except KafkaError as error:
            told = f"topic {self.topic} could not be read from {self._kafka}: {self._kafka.told(error)}"
            raise UnavailableError(told, operation=f"read {self.topic}") from error

    def partitions(self) -> tuple[int, ...]:
        """The topic's partitions.

        Raises:
            NotFoundError: there is no such topic.
            UnavailableError: the broker does not answer.
        """
        with self._asking():
            numbers = self._consumer.partitions_for_topic(self.topic)
        if not numbers:
            raise NotFoundError(f"topic {self.topic} does not exist: no service of ours has run on this Kafka, or FLEETWAKE_TOPIC_PREFIX is another")
        return tuple(sorted(numbers))

    def starts(self, numbers: Iterable[int]) -> dict[int, int]:
        """The first offset that the broker has of each partition."""
        with self._asking():
            return {tp.partition: offset for tp, offset in self._consumer.beginning_offsets(self._places(numbers)).items()}

    def ends(self, numbers: Iterable[int]) -> dict[int, int]:
        """The offset behind the last record of each partition."""
        with self._asking():
            return {tp.partition: offset for tp, offset in self._consumer.end_offsets(self._places(numbers)).items()}

    def since(self, numbers: Iterable[int], at: datetime) -> dict[int, int]:
        """The first offset of each partition that was produced at that time or later; its end when nothing was."""
        numbers = tuple(numbers)
        wanted = dict.fromkeys(self._places(numbers), int(at.timestamp() * 1000))
        with self._asking():
            found = self._consumer.offsets_for_times(wanted)
        ends = self.ends(numbers)
        return {tp.partition: found[tp].offset if found.get(tp) is not None else ends[tp.partition] for tp in wanted}

    def seek(self, positions: Mapping[int, int]) -> None:
        """Read these partitions from these offsets, and no others."""
        self._consumer.assign(self._places(sorted(positions)))
        for number, offset in positions.items():
            self._consumer.seek(TopicPartition(self.topic, number), offset)

    def poll(self, records_max: int = RECORDS_PER_POLL, wait_ms: int = POLL_MS) -> list[Any]:
        """Records that came, each partition's in order of offsets; waits for the first at most ``wait_ms``.

        Raises:
            TooOldError: an offset is not there, and the reader was made to say so.
            UnavailableError: the broker refuses.
        """
        with self._asking():
            batches = self._consumer.poll(timeout_ms=wait_ms, max_records=records_max)
        return [message for messages in batches.values() for message in messages]

    def position(self, number: int) -> int:
        """The offset of the next record of a partition."""
        with self._asking():
            found = self._consumer.position(TopicPartition(self.topic, number))
        return int(found or 0)

    def read(self, starts: Mapping[int, int], ends: Mapping[int, int]) -> Iterator[Any]:
        """Every record from ``starts`` up to ``ends``, as it comes: partitions side by side, each in order.

        Raises:
            UnavailableError: the broker stopped answering before all was read.
        """
        left = {number for number in starts if starts[number] < ends[number]}
        if not left:
            return
        self.seek({number: starts[number] for number in left})
        silent = 0
        while left and silent < SILENCE_POLLS_MAX:
            messages = self.poll()
            silent = 0 if messages else silent + 1
            yield from (message for message in messages if message.offset < ends[message.partition])
            left = {number for number in left if self.position(number) < ends[number]}
        if left:
            numbers = ", ".join(map(str, sorted(left)))
            raise UnavailableError(f"topic {self.topic}: the broker stopped answering for partitions {numbers}", operation=f"read {self.topic}")

    def _places(self, numbers: Iterable[int]) -> list[Any]:
        return [TopicPartition(self.topic, number) for number in numbers]
