"""Between Faust and the worker: acknowledgements in offset order, generations, replay, delivery holes, dead letters.

Faust delivers records before its assignment handler has finished, delivers them again after every fault, and on a compacted topic with holes. Rules 1–4 of
kafka-faust.md are kept here: state of a partition exists before the first await, the replay has its own cursor, a partition counts as swept only
when its replay ended in the same generation, and a jump of the live offset is read directly before the record behind it is taken.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import aiokafka
import orjson
from aiokafka.errors import KafkaError
from pydantic import ValidationError

from fleetwake.background import Background
from fleetwake.connections.kafka import Kafka
from fleetwake.errors import RetryableError, UnavailableError
from fleetwake.shell.cache import SHARED_PARTITION, Entry
from fleetwake.shell.chains import Heads
from fleetwake.shell.drift import Newest
from fleetwake.shell.ports import METADATA_ONLY, Request
from fleetwake.shell.queue import Token
from fleetwake.shell.results import LastWords, open_runs
from fleetwake.shell.worker import Worker
from fleetwake.stream.replay import end_offsets, plain_consumer, read_ranges
from schemas.keys import ObjectKey
from schemas.records import DELETED, ObjectRecord
from schemas.results import RESULT_TYPES, Run
from schemas.topics import MESSAGE_BYTES_MAX, Topics

log = logging.getLogger(__name__)
DEAD_LETTER_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024
"""Bytes of a value that a dead letter keeps: room for headers is left."""
RESULTS_BEFORE_RUNS_MAX = 2_000
"""Newest results of a partition that are looked through before its first run may start: it waits for them."""
CHAIN_HEADS_WITHIN = 200
"""Newest results of a partition that are searched for chains to name, however old they are."""
RECOVERY_WINDOW_MS = 15 * 60 * 1000
"""How far back the results of a partition are searched for runs a dead owner left open."""
LAG_WAIT_SECONDS = 0.25
"""How long a scrape waits for the broker's word on where the partitions end; when it comes later, the next scrape has it."""
BROKER_WAIT_SECONDS = 3.0
"""How long a broker may take to say that it is there."""
DRIFT_LIVE_SECONDS = 2.0
"""How long a drift check waits for the live stream to come as far as it has read itself; what has not come by then counts as missed."""
DRIFT_CHECK_SECONDS = 600.0
"""Pause between two drift checks of a worker."""


class Tracker:
    """Acknowledges the events of one partition in one generation in offset order, each when its token is released."""

    __slots__ = ("_pending", "alive")

    def __init__(self) -> None:
        self.alive = True
        self._pending: deque[list[Any]] = deque()

    @property
    def waiting(self) -> int:
        """Events that are not acknowledged yet."""
        return len(self._pending)

    def token(self, event: Any) -> Token:
        """A token for the next event; the caller releases it once the record has been taken."""
        held = [event, False]
        self._pending.append(held)

        def done() -> None:
            held[1] = True
            while self.alive and self._pending and self._pending[0][1]:
                self._pending.popleft()[0].ack()

        return Token(done)


class Intake:
    """See the module. One per worker; its methods are called from Faust's event loop."""

    def __init__(self, worker: Worker, kafka: Kafka, topics: Topics, crash: Callable[[BaseException], None]) -> None:
        self._worker, self._kafka, self._topics = worker, kafka, topics
        self._trackers: dict[int, Tracker] = {}
        self._expected: dict[int, int] = {}
        self._delivered: dict[int, tuple[int, int]] = {}
        self._generation = -1
        self._assignments = 0
        self._background = Background(crash)
        self._tail: aiokafka.AIOKafkaConsumer | None = None
        self._looking: asyncio.Task[None] | None = None
        self._ends: dict[tuple[str, int], tuple[int, int]] = {}
        self._shared_ready = asyncio.Event()
        self._assigned = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether every partition of the last assignment has been replayed."""
        partitions = self._worker.partitions.values()
        return self._assigned.is_set() and self._shared_ready.is_set() and all(partition.ready for partition in partitions)

    def start(self) -> None:
        """Begin to tail the shared topic."""
        self._background.spawn(self._tail_shared())

    async def stop(self) -> None:
        """Cancel what runs in the background."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._background.stop()

    # ---- assignment -------------------------------------------------------------------------------------------------------------------
    def revoked(self) -> None:
        """Partitions are being taken away: nothing more is acknowledged or sent for them."""
        for tracker in self._trackers.values():
            tracker.alive = False
        self._worker.revoke()

    async def answered(self) -> None:
        """Wait for the answers to what had been sent when the partitions were taken away: the next owner must see what came of it."""
        await self._worker.hands.in_flight.answered()

    def assigned(self, partitions: set[int], generation: int) -> None:
        """Own exactly these partitions. Everything that records need exists when this returns; the replay goes on in the background."""
        retained = self._generation in (-1, generation - 1, generation)
        self._generation, self._assignments = generation, self._assignments + 1
        fresh = self._worker.assign(partitions, retained=retained)
        for tracker in self._trackers.values():
            tracker.alive = False
        self._trackers = {number: Tracker() for number in partitions}
        for number in fresh:
            self._expected.pop(number, None)
            self._delivered.pop(number, None)
        for number in partitions - fresh:
            self._worker.resume(number)
        self._assigned.set()
        self._worker.pump_all()
        log.info("assigned %d partitions, %d to replay, generation %d", len(partitions), len(fresh), generation)
        if fresh:
            self._background.spawn(self._replay(fresh, self._assignments))

    async def _replay(self, numbers: set[int], assignment: int) -> None:
        await self._shared_ready.wait()
        started = asyncio.get_running_loop().time()

        def current() -> bool:
            return self._assignments == assignment

        await self._restore(numbers, current)
        if not current():
            # a later assignment came first: it replays whatever of these is still ours and not swept
            return
        count = 0

        def take(message: Any) -> None:
            nonlocal count
            count += 1
            record = self._decode(message)
            if record is not None:
                self._worker.replay(message.partition, record)

        ends = await read_ranges(self._kafka, self._topics.objects, dict.fromkeys(numbers, 0), None, take, current)
        while ends and current() and (further := self._gaps(ends)):
            # what came meanwhile came with holes: it counts as read only as far as it is read here
            starts = {number: ends[number] for number in further}
            ends = {**ends, **further} if await read_ranges(self._kafka, self._topics.objects, starts, further, take, current) else {}
        if not current() or not ends:
            return
        for number, end in ends.items():
            self._expected[number] = max(end, self._delivered.get(number, (0, 0))[1])
            self._worker.replay_finished(number, end)
        self._worker.pump_all()
        seconds = asyncio.get_running_loop().time() - started
        self._worker.metrics.replay_seconds.observe(seconds)
        log.info("replayed %d partitions, %d records in %.3f s, %d objects in the cache", len(numbers), count, seconds, len(self._worker.cache))
        await self._recover(numbers, current)

    def _gaps(self, ends: Mapping[int, int]) -> dict[int, int]:
        """How far partitions must be replayed further: the live stream delivered beyond the end, but not all of it."""
        return {number: self._delivered[number][1] for number, end in ends.items() if number in self._delivered and self._delivered[number][0] > end}

    async def _restore(self, numbers: set[int], current: Callable[[], bool]) -> None:
        """Begin the chains of the partitions behind those that are there, and tell who asked what the last owners were about."""
        (starts, ends), words = await self._recent_results(numbers), LastWords()
        near = {number: max(start, ends[number] - RESULTS_BEFORE_RUNS_MAX) for number, start in starts.items()}
        looked = {number: max(min(start, ends[number] - CHAIN_HEADS_WITHIN), 0) for number, start in near.items()}
        heads = {number: Heads() for number in numbers}

        def take(found: Any) -> None:
            headers = dict(found.headers)
            heads[found.partition].take(found.offset, headers)
            if found.offset >= near[found.partition]:
                words.take(found.key, found.value, headers)

        if not await read_ranges(self._kafka, self._topics.results, looked, ends, take, current):
            return
        for number in numbers:
            self._worker.results.chains.begin(number, (looked[number], ends[number]), heads[number].newest())
        if self._worker.options.before_replay is not None:
            await self._worker.options.before_replay(words.runs())

    async def _recover(self, numbers: set[int], current: Callable[[], bool]) -> None:
        """Close the runs that dead owners left open."""
        started = self._worker.ports.clock.now()
        starts, _ = await self._recent_results(numbers)
        found: dict[int, list[Run]] = {}

        def take(message: Any) -> None:
            try:
                run = parse_result(message.value, dict(message.headers).get("ce_type", b""))
            except (ValidationError, orjson.JSONDecodeError):
                log.warning("a result at %s[%d]@%d cannot be read", message.topic, message.partition, message.offset)
                return
            if run is not None and run.service == self._worker.options.service:
                found.setdefault(message.partition, []).append(run)

        await read_ranges(self._kafka, self._topics.results, starts, None, take, current)
        for number, runs in found.items():
            for left in open_runs(runs):
                if current() and left.at < started:
                    try:
                        await self._worker.runner.recover(left, number)
                    except UnavailableError as error:
                        # it stays open: the next owner of the partition finds it again
                        log.warning("a run left open was not closed: %s", error, extra={"about": ObjectKey.parse(left.key)})

    async def _recent_results(self, numbers: set[int]) -> tuple[dict[int, int], dict[int, int]]:
        """Where the results of the recovery window begin, and where the results end."""
        since_ms = int(self._worker.ports.clock.now().timestamp() * 1000) - RECOVERY_WINDOW_MS
        consumer = plain_consumer(self._kafka)
        await consumer.start()
        try:
            wanted = {aiokafka.TopicPartition(self._topics.results, number): since_ms for number in numbers}
            found = await consumer.offsets_for_times(wanted)
            ends = await consumer.end_offsets(list(wanted))
            starts = {tp.partition: (found[tp].offset if found.get(tp) else ends[tp]) for tp in wanted}
            return starts, {tp.partition: end for tp, end in ends.items()}
        finally:
            await consumer.stop()

    # ---- records ----------------------------------------------------------------------------------------------------------------------
    async def take(self, event: Any, generation: Callable[[], int]) -> None:
        """Take one event of Faust's stream; never raises for the content of a record."""
        message = event.message
        number = message.partition
        while number not in self._trackers or not self._trackers[number].alive:
            # Faust may deliver before its assignment handler has run: wait for the state, never drop
            if message.generation_id != generation():
                return
            await asyncio.sleep(0.005)
        if message.generation_id != generation():
            return
        tracker, expected = self._trackers[number], self._expected.get(number)
        if expected is not None and message.offset > expected:
            await self._close_hole(number, expected, message.offset)
            if not tracker.alive:
                return
        self._delivered_one(number, message.offset)
        token = tracker.token(event)
        record = self._decode(message)
        if record is None:
            await self._dead_letter(message)
        else:
            self._worker.live(number, message.offset, record, token)
        # not when something was raised: a record that nobody has taken must not be acknowledged
        token.release()

    def _delivered_one(self, number: int, offset: int) -> None:
        """Move on what is expected next; while the replay runs, remember where the newest unbroken run of deliveries began."""
        expected = self._expected.get(number)
        if expected is not None:
            self._expected[number] = max(expected, offset + 1)
            return
        start, following = self._delivered.get(number, (offset, offset))
        if offset > following:
            start = offset
        self._delivered[number] = (start, max(following, offset + 1))

    async def _close_hole(self, number: int, start: int, end: int) -> None:
        """Read what was skipped: nothing there is compaction, anything else is a delivery hole and is taken from here."""

        def take(message: Any) -> None:
            self._worker.metrics.holes.inc()
            record = self._decode(message)
            extra = {"about": record.key} if record is not None else {}
            log.warning("delivery hole in partition %d at offset %d: taken from a direct read", number, message.offset, extra=extra)
            if record is not None:
                self._worker.live(number, message.offset, record, None)

        await read_ranges(self._kafka, self._topics.objects, {number: start}, {number: end}, take, lambda: True)

    def _decode(self, message: Any) -> ObjectRecord | None:
        read = _read(message)
        if isinstance(read, str):
            log.error("cannot decode %s[%d]@%d: %s", message.topic, message.partition, message.offset, read)
            return None
        return read

    async def _dead_letter(self, message: Any) -> None:
        self._worker.metrics.dead_letters.inc()
        headers = [*message.headers, ("source", f"{message.topic}[{message.partition}]@{message.offset}".encode())]
        fault = _read(message)
        headers.append(("error", fault.encode() if isinstance(fault, str) else b""))
        headers.append(("remedy", b"produce a record whose key is group/kind/namespace/name with the headers type, epoch and rv"))
        value = message.value
        if value is not None and len(value) > DEAD_LETTER_BYTES_MAX:
            # with its headers it would be refused, and the process would meet it again for ever
            value = value[:DEAD_LETTER_BYTES_MAX]
            headers.append(("cut", f"from {len(message.value)} bytes; the source has all of it".encode()))
        await self._worker.ports.bus.produce(self._topics.deadletter, message.key or b"", value, headers, message.partition)

    async def _tail_shared(self) -> None:
        """Read the shared topic whole, then follow it for ever."""
        tp = aiokafka.TopicPartition(self._topics.shared, 0)
        consumer = plain_consumer(self._kafka)
        await consumer.start()
        try:
            consumer.assign([tp])
            self._tail = consumer
            end = (await consumer.end_offsets([tp]))[tp]
            consumer.seek(tp, 0)
            while True:
                if not self._shared_ready.is_set() and await consumer.position(tp) >= end:
                    self._shared_ready.set()
                for messages in (await consumer.getmany(timeout_ms=500, max_records=500)).values():
                    for message in messages:
                        record = self._decode(message)
                        if record is None:
                            await self._dead_letter(message)
                        elif self._shared_ready.is_set():
                            self._worker.live(SHARED_PARTITION, message.offset, record, None)
                        else:
                            self._worker.replay(SHARED_PARTITION, record)
        finally:
            self._tail = None
            await consumer.stop()

    # ---- lag --------------------------------------------------------------------------------------------------------------------------
    async def look_at_ends(self) -> None:
        """Ask the broker where the partitions end that this worker reads, unless it has been asked and is silent: a consumer that fetches nothing
        would not know."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_at_ends())
        await asyncio.wait({self._looking}, timeout=LAG_WAIT_SECONDS)

    async def broker_answers(self) -> bool:
        """Whether the broker tells where the shared topic ends."""
        tail = self._tail
        if tail is None:
            return False
        try:
            async with asyncio.timeout(BROKER_WAIT_SECONDS):
                await tail.end_offsets([aiokafka.TopicPartition(self._topics.shared, 0)])
        except (KafkaError, TimeoutError, ValueError):
            return False
        return True

    async def _look_at_ends(self) -> None:
        tail, shared = self._tail, aiokafka.TopicPartition(self._topics.shared, 0)
        if tail is None:
            return
        wanted = [shared, *(aiokafka.TopicPartition(self._topics.objects, number) for number in self._expected if number in self._trackers)]
        try:
            ends = await tail.end_offsets(wanted)
            taken = {shared: await tail.position(shared)}
        except (KafkaError, ValueError):
            # what is known stays: a broker that is away gives no records either, and a topic's first partition may not be known yet
            return
        taken |= {tp: self._expected.get(tp.partition, ends[tp]) for tp in wanted if tp != shared}
        self._ends = {(tp.topic, tp.partition): (end, taken[tp]) for tp, end in ends.items()}

    def lag(self) -> list[tuple[tuple[str, str], float]]:
        """Offsets between the last record taken and the end, by topic and partition, as of the last look."""
        return [((topic, str(number)), max(end - taken, 0)) for (topic, number), (end, taken) in self._ends.items()]

    def unfinished(self) -> list[tuple[tuple[str], float]]:
        """Records taken whose offsets are not acknowledged yet, by partition."""
        return [((str(number),), tracker.waiting) for number, tracker in self._trackers.items()]

    # ---- drift ------------------------------------------------------------------------------------------------------------------------
    async def drift_check(self) -> int:
        """Read the owned partitions again and compare (key, version) with the cache; differences are counted, repaired and returned."""
        numbers = {number for number, partition in self._worker.partitions.items() if partition.ready}
        assignment = self._assignments
        if not numbers:
            return 0
        held = [key for number in sorted(numbers) for key in self._worker.cache.keys_of_partition(number)]
        ends = await end_offsets(self._kafka, self._topics.objects, numbers)
        newest = Newest()

        def take(message: Any) -> None:
            record = self._decode(message)
            if record is not None and not (record.key.cluster and not self._worker.options.reads_workloads):
                newest.take(message.partition, record)

        await read_ranges(self._kafka, self._topics.objects, dict.fromkeys(numbers, 0), ends, take, lambda: self._assignments == assignment)
        await self._come_as_far_as(ends)
        if self._assignments != assignment:
            return 0
        drift = newest.against(self._worker.cache, held)
        for partition, record in drift.missed:
            self._worker.take(partition, record)
        differences = len(drift.missed) + sum([await self._drop_if_gone(entry) for entry in drift.unknown])
        if differences:
            self._worker.metrics.drift.labels("worker").inc(differences)
            log.warning("drift: %d objects differed from the topic and were repaired", differences)
        return differences

    async def _come_as_far_as(self, ends: Mapping[int, int]) -> None:
        """Wait until the live stream has brought what lies before ``ends``, for ``DRIFT_LIVE_SECONDS`` at most: compaction may have left nothing to bring."""
        clock = asyncio.get_running_loop()
        deadline = clock.time() + DRIFT_LIVE_SECONDS
        while any(self._expected.get(number, end) < end for number, end in ends.items()) and clock.time() < deadline:
            await asyncio.sleep(0.01)

    async def _drop_if_gone(self, entry: Entry) -> bool:
        """Drop an object that no record tells of if the API server does not know it either: compaction took its end before it was seen."""
        worker, key = self._worker, entry.key
        if worker.resources.find(key.group_kind) is None:
            return False
        try:
            response = await worker.ports.kube.send(Request("GET", worker.resources.path(key), accept=METADATA_ONLY))
        except RetryableError:
            # the next check asks again
            return False
        if response.status != 404 or worker.cache.get(key) is not entry:
            return False
        worker.take(entry.partition, ObjectRecord(key, DELETED, entry.version, entry.cluster, None))
        return True


def _read(message: Any) -> ObjectRecord | str:
    """The record of a message, or what is wrong with it."""
    try:
        record = ObjectRecord.decode(message.key, message.value, message.headers)
        if record.value is not None:
            _check(orjson.loads(record.value)["metadata"])
    except KeyError as error:
        return f"value: field {error} is missing"
    except (ValueError, TypeError) as error:
        return str(error)
    return record


def _check(metadata: Mapping[str, Any]) -> None:
    """Refuse metadata that the cache's indexes and the kinds' watches could not read: they would fail again in every replay.

    Raises:
        KeyError, TypeError: something is missing or has another form than the API server gives it.
    """
    if not isinstance(metadata["name"], str) or not all(isinstance(ref["uid"], str) for ref in metadata.get("ownerReferences", ())):
        raise TypeError("metadata has no name, or owner references without uid")
    for name in ("labels", "annotations"):
        if not isinstance(metadata.get(name, {}), Mapping):
            raise TypeError(f"metadata.{name} is no object")


def parse_result(value: bytes, ce_type: bytes) -> Run | None:
    """A result record by its CloudEvents type; None for a type of a later version."""
    for model in RESULT_TYPES:
        if model.TYPE.encode() == ce_type:
            return model.model_validate(orjson.loads(value))
    return None
