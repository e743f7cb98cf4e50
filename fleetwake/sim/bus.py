"""Kafka in memory: partitions as logs, consumers, a group with sessions and generations, and the deliveries of a stream library.

The real replay and intake (``fleetwake.stream.replay``, ``fleetwake.shell.intake``) run on it: ``serve`` puts ``Consumer`` in the place of aiokafka's.
Within a partition order is kept; across partitions it is not. A delivery may come again, or leave a hole that a direct read must close.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import aiokafka

from fleetwake.connections.kafka import Kafka
from fleetwake.errors import UnavailableError
from fleetwake.shell import intake as intake_module
from fleetwake.sim.faults import Fate, Faults
from fleetwake.sim.loop import Process, SimLoop
from fleetwake.stream import replay as replay_module
from schemas.records import Headers

SESSION_SECONDS = 6.0
HEARTBEAT_SECONDS = 1.0
USUAL_SECONDS = 0.001
COMPACTION_LAG_SECONDS = 30.0
"""Five sessions: who has missed the end of an object for so long has lost its partitions and replays them. A topic's own lag is 10 minutes, and its tombstones
stay for a day (``schemas/topics.py``)."""


@dataclass(frozen=True, slots=True)
class Message:
    """A record as consumers see it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    at: float
    generation_id: int = -1


class Log:
    """One partition. Offsets have holes where compaction took records."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.end = 0

    def after(self, offset: int) -> list[Message]:
        """The messages from ``offset`` on."""
        found: list[Message] = []
        for message in reversed(self.messages):
            if message.offset < offset:
                break
            found.append(message)
        found.reverse()
        return found


class SimBus:
    """All topics. ``listeners`` hear every record once it is stored."""

    def __init__(self, loop: SimLoop, faults: Faults) -> None:
        self.loop, self.faults = loop, faults
        self.logs: dict[tuple[str, int], Log] = {}
        self.listeners: list[Callable[[Message], None]] = []
        self._waiting: dict[tuple[str, int], list[asyncio.Future[None]]] = {}
        self._flying: dict[tuple[str, int], deque[Callable[[], None]]] = {}

    def log(self, topic: str, partition: int) -> Log:
        """A partition, made when first named."""
        return self.logs.setdefault((topic, partition), Log())

    def append(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Headers) -> int:
        """Store a record now; returns its offset."""
        log = self.log(topic, partition)
        message = Message(topic, partition, log.end, key, value, list(headers), self.loop.time())
        log.messages.append(message)
        log.end += 1
        for listener in self.listeners:
            listener(message)
        for future in self._waiting.pop((topic, partition), ()):
            if not future.done():
                future.set_result(None)
        return message.offset

    def changed(self, places: Iterable[tuple[str, int]]) -> asyncio.Future[None]:
        """Done at the next record of any of the partitions."""
        future: asyncio.Future[None] = self.loop.create_future()
        for place in places:
            waiting = self._waiting.setdefault(place, [])
            waiting[:] = [one for one in waiting if not one.done()]
            waiting.append(future)
        return future

    def put(self, topic: str, partition: int, record: tuple[bytes | None, bytes | None, Headers], done: Callable[[int | None], None]) -> None:
        """Produce in order per partition, idempotently; ``done`` hears the offset, or None when the broker did not take it or the answer was lost."""
        fate, place = self.faults.record(), (topic, partition)

        def stored() -> None:
            offset = None if fate is Fate.LOST else self.append(topic, partition, *record)
            answered = None if fate is Fate.UNANSWERED else offset
            self.loop.in_world(done, answered, after=self.faults.latency(USUAL_SECONDS / 2))

        self._flying.setdefault(place, deque()).append(stored)
        # whatever lands first is what was put first: a partition keeps the order of its producers
        self.loop.in_world(lambda: self._flying[place].popleft()(), after=self.faults.latency(USUAL_SECONDS))

    def compact(self, topic: str) -> None:
        """Keep the last record of every key and drop keys whose last record is a tombstone, but touch nothing that is younger than the compaction lag."""
        settled = self.loop.time() - COMPACTION_LAG_SECONDS
        for (name, _), log in self.logs.items():
            if name != topic:
                continue
            last = {message.key: message.offset for message in log.messages if message.at <= settled}
            log.messages = deque(one for one in log.messages if one.at > settled or (one.offset == last[one.key] and one.value is not None))

    def text(self) -> bytes:
        """Every value on the bus, for searches."""
        return b"\n".join(message.value for log in self.logs.values() for message in log.messages if message.value is not None)


class SimBusPort:
    """``fleetwake.shell.ports.BusPort`` of one process."""

    def __init__(self, bus: SimBus, process: Process) -> None:
        self._bus, self._process = bus, process

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> None:
        """Produce one record and wait for its acknowledgement."""
        await (await self.enqueue(topic, key, value, headers, partition))
        self._process.check()

    async def enqueue(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> asyncio.Future[int]:
        """Put one record on its way; the answer is its offset."""
        self._process.check()
        answer: asyncio.Future[int] = self._bus.loop.create_future()

        def done(offset: int | None) -> None:
            if answer.done() or not self._process.alive:
                return
            if offset is None:
                answer.set_exception(UnavailableError("the broker did not answer", operation=f"produce to {topic}"))
            else:
                answer.set_result(offset)

        self._bus.put(topic, partition, (key, value, headers), done)
        return answer


class Found(NamedTuple):
    """An offset found by its time."""

    offset: int


class Consumer:
    """What of ``aiokafka.AIOKafkaConsumer`` is used by replay and intake."""

    def __init__(self, bus: SimBus) -> None:
        self._bus = bus
        self._positions: dict[aiokafka.TopicPartition, int] = {}
        self._paused: set[aiokafka.TopicPartition] = set()

    async def _wire(self) -> None:
        await asyncio.sleep(self._bus.faults.latency(USUAL_SECONDS))

    async def start(self) -> None:
        """Connect."""
        await self._wire()

    async def stop(self) -> None:
        """Disconnect."""

    def assign(self, partitions: Iterable[aiokafka.TopicPartition]) -> None:
        """Read these partitions."""
        self._positions = dict.fromkeys(partitions, 0)

    def seek(self, tp: aiokafka.TopicPartition, offset: int) -> None:
        """Go on at an offset."""
        self._positions[tp] = offset

    def pause(self, tp: aiokafka.TopicPartition) -> None:
        """Read no more of a partition."""
        self._paused.add(tp)

    async def position(self, tp: aiokafka.TopicPartition) -> int:
        """The offset of the next record."""
        return self._positions[tp]

    async def end_offsets(self, partitions: Iterable[aiokafka.TopicPartition]) -> dict[aiokafka.TopicPartition, int]:
        """The ends now."""
        await self._wire()
        return {tp: self._bus.log(tp.topic, tp.partition).end for tp in partitions}

    async def offsets_for_times(self, wanted: Mapping[aiokafka.TopicPartition, int]) -> dict[aiokafka.TopicPartition, Found | None]:
        """The first offset of each partition: times of a simulation are all recent."""
        await self._wire()
        return {tp: (Found(0) if self._bus.log(tp.topic, tp.partition).end else None) for tp in wanted}

    async def getmany(self, timeout_ms: int = 0, max_records: int = 500) -> dict[aiokafka.TopicPartition, list[Message]]:
        """What is there; waits for something at most ``timeout_ms``."""
        await self._wire()
        found = self._take(max_records)
        if not found and timeout_ms:
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._bus.changed((tp.topic, tp.partition) for tp in self._positions)
            except TimeoutError:
                return {}
            await self._wire()
            found = self._take(max_records)
        return found

    def _take(self, limit: int) -> dict[aiokafka.TopicPartition, list[Message]]:
        found: dict[aiokafka.TopicPartition, list[Message]] = {}
        for tp, position in self._positions.items():
            if tp in self._paused:
                continue
            log = self._bus.log(tp.topic, tp.partition)
            messages = log.after(position)[:limit]
            if messages:
                found[tp] = messages
                self._positions[tp] = messages[-1].offset + 1
            else:
                # compaction may have taken everything up to the end
                self._positions[tp] = max(position, log.end)
        return found


@contextmanager
def serve(bus: SimBus) -> Generator[None, None, None]:
    """Let everything that opens a plain consumer meanwhile read from this bus."""

    def consumer(kafka: Kafka, **extra: Any) -> Any:
        return Consumer(bus)

    with ExitStack() as stack:
        for module in (replay_module, intake_module):
            stack.callback(setattr, module, "plain_consumer", vars(module)["plain_consumer"])
            setattr(module, "plain_consumer", consumer)  # noqa: B010 -- intake only imports the name
        yield


@dataclass
class Event:
    """A delivery of the stream: ``ack`` commits behind it."""

    message: Message
    ack: Callable[[], None]


@dataclass
class Member:
    """A member of the group. ``last`` is the time of its last heartbeat as the coordinator saw it."""

    name: str
    process: Process
    revoked: Callable[[], None]
    assigned: Callable[[set[int], int], None]
    take: Callable[[Event, Callable[[], int]], Any]
    answered: Callable[[], Coroutine[Any, Any, None]]
    last: float = 0.0
    generation: int = -1
    confirmed: float = float("-inf")
    partitions: set[int] = field(default_factory=set)


class Group:
    """A consumer group: sessions, eager rebalances, committed offsets, deliveries."""

    def __init__(self, bus: SimBus, topic: str, partitions: int) -> None:
        self.bus, self.topic, self.count = bus, topic, partitions
        self.members: dict[str, Member] = {}
        self.committed: dict[int, int] = {}
        self.generation = 0
        self._wanted = asyncio.Event()
        self._joined: dict[str, asyncio.Future[None]] = {}

    def join(self, member: Member) -> None:
        """Become a member; a member of the same name (a restarted static member) is replaced."""
        member.last = self.bus.loop.time()
        self.members[member.name] = member
        left = self._joined.get(member.name)
        if left is not None and not left.done():
            left.set_result(None)
        member.process.spawn(self._beat(member))
        self._wanted.set()

    def rebalance(self) -> None:
        """Have the partitions given out anew."""
        self._wanted.set()

    async def _beat(self, member: Member) -> None:
        loop, faults = self.bus.loop, self.bus.faults
        while True:
            at = loop.time()
            await asyncio.sleep(faults.latency(USUAL_SECONDS))
            known = self.members.get(member.name)
            if known is member:
                member.last = loop.time()
                if member.generation == self.generation:
                    member.confirmed = at
            elif known is None:
                # the session ran out: what was owned is somebody else's by now
                member.revoked()
                member.generation = -1
                member.last = loop.time()
                self.members[member.name] = member
                self._wanted.set()
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def fenced(self, member: Member) -> bool:
        """Whether the member may no longer write: no confirmed heartbeat for half a session."""
        return self.bus.loop.time() - member.confirmed > SESSION_SECONDS / 2

    async def run(self) -> None:
        """Coordinate for ever."""
        while True:
            try:
                async with asyncio.timeout(0.5):
                    await self._wanted.wait()
            except TimeoutError:
                if not self._expire():
                    continue
            self._wanted.clear()
            await self._rebalance()

    def _expire(self) -> bool:
        now = self.bus.loop.time()
        gone = [name for name, member in self.members.items() if now - member.last > SESSION_SECONDS]
        for name in gone:
            del self.members[name]
        return bool(gone)

    async def _rebalance(self) -> None:
        loop, faults = self.bus.loop, self.bus.faults
        self.generation += 1
        members = list(self.members.values())
        for member in members:
            joined: asyncio.Future[None] = loop.create_future()
            self._joined[member.name] = joined
            loop.in_world(member.process.post, _revoke, member, joined, after=faults.latency(USUAL_SECONDS * 5))
        while waiting := [future for name, future in self._joined.items() if name in self.members and not future.done()]:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await asyncio.shield(waiting[0])
            self._expire()
        members = [member for member in members if self.members.get(member.name) is member]
        self._joined.clear()
        if not members:
            return
        shares = self._shares(members)
        for member in members:
            member.partitions = shares[member.name]
            member.last = loop.time()
            loop.in_world(member.process.post, self._assign, member, set(shares[member.name]), self.generation, after=faults.latency(USUAL_SECONDS * 5))

    def _shares(self, members: list[Member]) -> dict[str, set[int]]:
        shares: dict[str, set[int]] = {member.name: set() for member in members}
        shift = self.bus.faults.random.randrange(len(members))
        for number in range(self.count):
            shares[members[(number + shift) % len(members)].name].add(number)
        return shares

    def _assign(self, member: Member, numbers: set[int], generation: int) -> None:
        if generation != self.generation:
            return
        member.generation, member.confirmed = generation, self.bus.loop.time()
        early = self.bus.faults.chance(0.3 if not self.bus.faults.quiet else 0.0, "delivered before assigned")
        for number in sorted(numbers):
            member.process.spawn(self._deliver(member, number, generation))
        if early:
            member.process.loop.call_later(0.01, self._told, member, numbers, generation)
        else:
            self._told(member, numbers, generation)

    def _told(self, member: Member, numbers: set[int], generation: int) -> None:
        if generation == self.generation:
            member.assigned(numbers, generation)

    async def _deliver(self, member: Member, number: int, generation: int) -> None:
        """Deliver one partition to a member while its generation lasts."""
        faults, log = self.bus.faults, self.bus.log(self.topic, number)
        cursor = self.committed.get(number, 0)
        while member.generation == generation == self.generation and member.process.alive:
            messages = log.after(cursor)
            if not messages:
                cursor = max(cursor, log.end)
                await self.bus.changed([(self.topic, number)])
                await asyncio.sleep(faults.latency(USUAL_SECONDS))
                continue
            if faults.chance(faults.rates.redelivered / 10, "redelivered"):
                cursor = max(0, cursor - faults.random.randrange(1, 30))
                continue
            if len(messages) > 1 and faults.chance(faults.rates.skipped / 10, "skipped"):
                messages = messages[1:]
            message = messages[0]
            cursor = message.offset + 1
            await asyncio.sleep(faults.latency(USUAL_SECONDS / 10))
            delivered = Message(message.topic, number, message.offset, message.key, message.value, message.headers, message.at, generation)
            ack = functools.partial(self._commit, member, generation, number, message.offset + 1)
            await member.take(Event(delivered, ack), lambda: member.generation)

    def _commit(self, member: Member, generation: int, number: int, offset: int) -> None:
        if generation == self.generation and member.process.alive:
            self.committed[number] = max(self.committed.get(number, 0), offset)


def _revoke(member: Member, joined: asyncio.Future[None]) -> None:
    member.generation = -1
    member.revoked()
    member.process.spawn(_join(member, joined))


async def _join(member: Member, joined: asyncio.Future[None]) -> None:
    await member.answered()
    if not joined.done():
        joined.set_result(None)
