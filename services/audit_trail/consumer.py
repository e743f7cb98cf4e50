"""The loop of the trail: read a batch, write it in one transaction, go on. One thread, so a slow database holds the reader and not the memory.

What may pass (no broker, a locked or full database, one that is away) is waited for with the same records; what cannot pass ends the process with its reason.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from fleetwake.connections.kafka import Kafka
from fleetwake.errors import NotFoundError, TerminalError, UnavailableError
from fleetwake.stream.reading import RAISED, TooOldError, TopicReader
from services.audit_trail.database import fault_of
from services.audit_trail.metrics import TrailMetrics
from services.audit_trail.migrations import prepare
from services.audit_trail.rows import Message
from services.audit_trail.writer import TrailWriter, Written

T = TypeVar("T")
log = logging.getLogger(__name__)
BATCH_RECORDS_MAX = 500
POLL_MS = 500
PAUSE_SECONDS = (0.2, 10.0)
"""Between attempts: the first pause, doubled up to the second."""
LAG_EVERY_SECONDS = 5.0
STALL_SECONDS = 120.0
"""Lag without a transaction for longer than this, with nothing known to be wrong, makes /healthz fail."""


class TrailError(TerminalError):
    """The trail cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is read: how Kafka is reached, the topic, and which of its partitions (None: all)."""

    kafka: Kafka
    topic: str
    partitions: frozenset[int] | None = None


class TrailConsumer:
    """See the module. ``run`` is the loop; everything else may be asked from other threads."""

    def __init__(self, source: Source, engine: Engine, metrics: TrailMetrics) -> None:
        self._source, self._engine, self.metrics = source, engine, metrics
        self._writer = TrailWriter(engine, source.topic)
        self._stop = threading.Event()
        self._next: dict[int, int] = {}
        self._progress = time.monotonic()
        self._lag = 0
        self.waiting_for = "the database and the topic"
        self.end: BaseException | None = None
        self.total = Written()

    def stop(self) -> None:
        """End the loop after the transaction under way."""
        self._stop.set()

    # ---- health -----------------------------------------------------------------------------------------------------------------------
    def missing(self) -> str:
        """What keeps the trail from growing; empty when nothing does."""
        return str(self.end) if self.end is not None else self.waiting_for

    def stalled(self) -> str:
        """Why the process should be restarted; empty when it should not. What is waited for outside would not come sooner by it."""
        if self.end is not None:
            return str(self.end)
        idle = time.monotonic() - self._progress
        return f"{self._lag} records wait and none was written for {idle:.0f} s" if self._lag and not self.waiting_for and idle > STALL_SECONDS else ""

    def status(self) -> dict[str, object]:
        """For /statusz."""
        return {"topic": self._source.topic, "next_offsets": dict(sorted(self._next.items())), "lag": self._lag, "waiting_for": self.missing()}

    # ---- the loop ---------------------------------------------------------------------------------------------------------------------
    def run(self, until_end: bool = False) -> None:
        """Consume until ``stop``; with ``until_end`` up to the topic's present end.

        Raises:
            TrailError: the trail and the topic do not fit.
            FencedError: another consumer writes the same partitions.
            SQLAlchemyError: the database refused what no waiting will change.
        """
        try:
            self._patiently("prepare the database", lambda: prepare(self._engine))
            while not self._stop.is_set():
                reader = self._patiently("reach Kafka", self._open)
                if reader is None:
                    return
                with reader:
                    if self._consume(reader, until_end):
                        return
        except BaseException as error:
            self.end = error
            raise

    def _open(self) -> TopicReader:
        reader = TopicReader(self._source.kafka, self._source.topic, "fleetwake-audit-trail", missing_offset=RAISED)
        try:
            numbers = self._numbers(reader.partitions())
            starts, ends = reader.starts(numbers), reader.ends(numbers)
            positions = self._writer.positions(starts)
            for number, position in positions.items():
                if position > ends[number]:
                    raise TrailError(
                        f"the trail has read {self._source.topic}[{number}] up to offset {position}, and it ends at {ends[number]}: the topic was made anew. "
                        "Begin another trail (another database), or restore the topic",
                        operation="audit trail",
                    )
                if position < starts[number]:
                    positions[number] = self._skip(number, position, starts[number])
            self._next = positions
            reader.seek(positions)
        except BaseException:
            reader.close()
            raise
        return reader

    def _numbers(self, there: Iterable[int]) -> list[int]:
        numbers = set(there)
        wanted = self._source.partitions if self._source.partitions is not None else numbers
        if unknown := sorted(wanted - numbers):
            raise TrailError(f"topic {self._source.topic} has partitions 0 to {max(numbers)}, not {unknown}", operation="audit trail")
        return sorted(wanted)

    def _skip(self, number: int, position: int, start: int) -> int:
        """Kafka deleted records before they were read."""
        log.error("offsets %d to %d of %s[%d] were deleted before the trail read them", position, start - 1, self._source.topic, number)
        self._writer.skipped(number, position, start)
        self.metrics.skipped.inc(start - position)
        return start

    def _consume(self, reader: TopicReader, until_end: bool) -> bool:
        """Read and write until stopped (True) or until Kafka must be asked anew (False)."""
        ends = reader.ends(self._next) if until_end else {}
        looked = 0.0
        while not self._stop.is_set():
            try:
                batch = [Message(m.topic, m.partition, m.offset, m.key, m.value, list(m.headers)) for m in reader.poll(BATCH_RECORDS_MAX, POLL_MS)]
                if time.monotonic() - looked > LAG_EVERY_SECONDS:
                    looked = self._measure_lag(reader)
            except TooOldError:
                # retention overtook the reader: opening anew finds out what is gone
                return False
            except UnavailableError as error:
                self._failed("kafka", "unavailable", str(error))
                self._stop.wait(PAUSE_SECONDS[0])
                return False
            if batch and not self._write(batch):
                return True
            if until_end and all(self._next[number] >= end for number, end in ends.items()):
                return True
        return True

    def _write(self, batch: list[Message]) -> bool:
        """Write a batch, however long that takes; False when stopped meanwhile."""
        began = time.monotonic()
        written = self._patiently("write", lambda: self._writer.write(batch))
        if written is None:
            return False
        metrics, self._progress = self.metrics, time.monotonic()
        for message in batch:
            self._next[message.partition] = message.offset + 1
        self.total += written
        metrics.records.inc(written.records)
        metrics.repeats.inc(written.repeats)
        metrics.unread.inc(written.unread)
        metrics.write_seconds.observe(self._progress - began)
        metrics.batch.observe(len(batch))
        metrics.last_write.set(time.time())
        return True

    def _measure_lag(self, reader: TopicReader) -> float:
        lag = {number: max(end - self._next[number], 0) for number, end in reader.ends(self._next).items()}
        for number, records in lag.items():
            self.metrics.lag.labels(str(number)).set(records)
        self._lag = sum(lag.values())
        if not self._lag:
            self._progress = time.monotonic()
        return time.monotonic()

    def _patiently(self, what: str, attempt: Callable[[], T]) -> T | None:
        """Try until it succeeds; None when stopped before that. What cannot pass is raised."""
        pause, longest = PAUSE_SECONDS
        while not self._stop.is_set():
            try:
                done = attempt()
            except (UnavailableError, NotFoundError) as error:
                self._failed("kafka", "unavailable", str(error))
            except (SQLAlchemyError, OSError) as error:
                fault = fault_of(error, self._engine)
                if not fault.retried:
                    raise TrailError(f"{what}: {fault.text}", operation="audit trail") from error
                self._failed("database", fault.kind, fault.text)
            else:
                self.waiting_for = ""
                return done
            self._stop.wait(pause)
            pause = min(pause * 2, longest)
        return None

    def _failed(self, where: str, kind: str, text: str) -> None:
        self.metrics.errors.labels(where, kind).inc()
        if self.waiting_for != text:
            log.warning("waiting: %s", text)
        self.waiting_for = text
