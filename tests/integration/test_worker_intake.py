"""Intake and replay against a real broker: what Faust does at its worst (early, late, repeated, missing, poisoned deliveries) given to the real intake.

Faust's stream is played by hand, because its worst cannot be ordered; topics, offsets, replay and direct reads are real.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from fleetwake.errors import UnavailableError
from fleetwake.kind import Kind
from fleetwake.plan import Plan
from fleetwake.rig.records import Endpoints
from fleetwake.shell.cache import SHARED_PARTITION
from fleetwake.shell.intake import Intake
from fleetwake.shell.ports import Ports, Request, Response
from fleetwake.shell.service import SystemClock
from fleetwake.shell.worker import Options, Worker
from fleetwake.shell.workload import NoWorkloads
from fleetwake.stream.bus import Bus as WorkerBus
from fleetwake.tracing.spans import Tracer
from schemas.keys import ObjectKey
from schemas.records import DELETED, MODIFIED, MOVED, Headers, ObjectRecord, Version
from schemas.results import Planned
from schemas.topics import MESSAGE_BYTES_MAX
from tests.integration.bus_world import NAMESPACE, PARTITIONS, Bus, cluster_in, record_of, until
from tests.integration.worker_under_test import MANAGER, ConfigMap

pytestmark = pytest.mark.kafka


def key(name: str) -> ObjectKey:
    return ObjectKey("", "ConfigMap", NAMESPACE, name)


class Nobody:
    """Ports that these tests do not reach, but for a look at a run's object."""

    async def send(self, request: Request) -> Response:
        return Response(404, b"{}")

    def cluster_changed(self, cluster: str, fields: Any) -> None:
        """Dropped."""

    def cluster_gone(self, cluster: str) -> None:
        """Dropped."""

    async def take(self, algorithm: str) -> bytes:
        return b""


@dataclass
class Life:
    """One worker with its intake, and what became of it."""

    worker: Worker
    intake: Intake
    bus: Bus
    observed: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    crashed: list[BaseException] = field(default_factory=list)
    generation: int = 0

    def assign(self, *partitions: int) -> None:
        """The group assigns these."""
        self.generation += 1
        self.intake.revoked()
        self.intake.assigned(set(partitions), self.generation)

    async def swept(self) -> None:
        """Wait until everything is replayed."""
        await until(lambda: self.crashed or self.intake.ready, "replayed")
        assert not self.crashed, self.crashed

    def deliver(self, message: Any, generation: int | None = None) -> asyncio.Task[None]:
        """Faust delivers a message."""
        number = self.generation if generation is None else generation
        copy = SimpleNamespace(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            key=message.key,
            value=message.value,
            headers=message.headers,
            generation_id=number,
        )
        event = SimpleNamespace(message=copy, ack=lambda: self.acknowledged.append(message.offset))
        return asyncio.ensure_future(self.intake.take(event, lambda: self.generation))

    async def messages(self, partition: int = 0) -> list[Any]:
        """The partition's messages as any consumer sees them."""
        return [message for message in await self.bus.read(self.bus.topics.objects) if message.partition == partition]

    async def deliver_all(self, offsets: Iterable[int] | None = None) -> None:
        """Deliver these offsets of partition 0 (default: all), in order, and wait until they are taken."""
        wanted = None if offsets is None else set(offsets)
        for message in await self.messages():
            if wanted is None or message.offset in wanted:
                await self.deliver(message)
        await until(lambda: self.worker.idle, "idle")

    def held(self) -> dict[str, str]:
        """ConfigMaps of the cache: name -> n."""
        return {entry.key.name: entry.state.get("data", {}).get("n", "") for entry in self.worker.cache if entry.key.kind == "ConfigMap"}

    def holes(self) -> float:
        return float(self.worker.metrics.holes._value.get())


@pytest.fixture
async def bus(rig_endpoints: Endpoints, topic_prefix: str) -> AsyncIterator[Bus]:
    async with Bus(rig_endpoints.bootstrap_servers, topic_prefix) as found:
        yield found


class RefusingBus(WorkerBus):
    """A bus whose broker takes nothing."""

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> None:
        raise UnavailableError("not enough in-sync replicas", operation=f"produce to {topic}")


@asynccontextmanager
async def living(bus: Bus, producer_class: type[WorkerBus] = WorkerBus, tracer: Tracer | None = None) -> AsyncIterator[Life]:
    """A worker with its intake, until the end of the block; it restores what the tracer remembers, if one is given."""
    loop = asyncio.get_running_loop()
    producer, clock, nobody = producer_class(bus.bootstrap, "test"), SystemClock(), Nobody()
    await producer.start()
    observed: list[tuple[str, str]] = []

    def observe(view: Any, found: ObjectKey) -> ConfigMap | None:
        return view.get(ConfigMap, found.namespace, found.name)

    def reconcile(config: ConfigMap) -> Plan:
        observed.append((config.name, config.data.get("n", "")))
        return Plan()

    crashed: list[BaseException] = []
    options = Options(
        service="under_test",
        instance="w",
        incarnation="life",
        signal=lambda name: loop.call_soon(lambda: worker.pump(name)),
        fatal=crashed.append,
        fenced=lambda: False,
        redact=lambda state: state,
        topics=bus.topics,
        partitions=PARTITIONS,
        before_replay=tracer.restore if tracer is not None else None,
    )
    ports = Ports(nobody, producer, clock, nobody, tracer or Tracer("reconcilers", "w", "", clock))
    worker = Worker((Kind(ConfigMap, observe, reconcile, MANAGER),), ports, NoWorkloads(), options)
    intake = Intake(worker, bus.bootstrap, bus.topics, crashed.append)
    intake.start()
    try:
        yield Life(worker, intake, bus, observed=observed, crashed=crashed)
    finally:
        await intake.stop()
        await producer.stop()


async def test_the_replay_rebuilds_the_cache_and_every_key_runs_once(bus: Bus) -> None:
    for number in range(20):
        await bus.put_config_map(f"m{number % 5}", n=number)
    async with living(bus) as life:
        life.assign(0)
        await life.swept()
        await until(lambda: life.worker.idle and life.observed, "runs")
        assert sorted(life.observed) == [(f"m{number}", str(15 + number)) for number in range(5)]


async def test_records_before_the_assignment_handler_are_not_dropped(bus: Bus) -> None:
    """Faust delivers them while its handler is still on its way."""
    async with living(bus) as life:
        await bus.put_config_map("m1", n=1)
        (message,) = await life.messages()
        life.generation = 1
        early = life.deliver(message)
        await asyncio.sleep(0.05)
        assert not early.done()
        life.generation = 0
        life.assign(0)
        await early
        await life.swept()
        await until(lambda: life.acknowledged == [0], "acknowledged, once it has been run")
        assert ("m1", "1") in life.observed


async def test_a_record_of_an_older_generation_is_neither_taken_nor_acknowledged(bus: Bus) -> None:
    async with living(bus) as life:
        life.assign(0)
        await life.swept()
        await bus.put_config_map("m1", n=1)
        (message,) = await life.messages()
        life.generation += 1
        await life.deliver(message, generation=1)
        assert not life.acknowledged and not life.held()


async def test_acknowledgements_wait_for_the_slowest_and_come_in_order(bus: Bus) -> None:
    async with living(bus) as life:
        life.assign(0)
        await life.swept()
        tracker = life.intake._trackers[0]
        tokens = [tracker.token(SimpleNamespace(ack=lambda offset=offset: life.acknowledged.append(offset))) for offset in range(4)]
        for offset in (2, 1, 3):
            tokens[offset].release()
        assert not life.acknowledged, "offset 0 is in flight"
        tokens[0].release()
        assert life.acknowledged == [0, 1, 2, 3]


async def test_nothing_is_acknowledged_for_a_partition_that_left(bus: Bus) -> None:
    async with living(bus) as life:
        life.assign(0)
        await life.swept()
        token = life.intake._trackers[0].token(SimpleNamespace(ack=lambda: life.acknowledged.append(0)))
        life.assign(1)
        token.release()
        assert not life.acknowledged


async def test_an_interrupted_replay_does_not_count_as_swept(bus: Bus) -> None:
    expected = {f"m{number}" for number in range(300)}
    for start in range(0, 3000, 300):
        await asyncio.gather(*(bus.put_config_map(f"m{number % 300}", n=number) for number in range(start, start + 300)))
    async with living(bus) as life:
        life.assign(0)
        for _ in range(4):
            # each comes while the replay of the one before is reading: it takes fewer records in a turn than there are
            while not len(life.worker.cache):
                await asyncio.sleep(0)
            life.assign(0, 1)
        interrupted = not life.worker.partitions[0].swept
        await life.swept()
        await until(lambda: life.worker.idle, "idle")
        assert interrupted
        assert set(life.held()) == expected
        assert {name for name, _ in life.observed} == expected


class TestNoResurrection:
    async def test_old_records_after_the_replay_wake_but_do_not_touch_the_cache(self, bus: Bus) -> None:
        """A group without commits gets everything again; the bare tombstone has no version that could be compared."""
        await bus.put_config_map("gone", n=1)
        await bus.put(bus.topics.objects, 0, str(key("gone")).encode(), None)
        await bus.put_config_map("m1", n=1)
        await bus.put(bus.topics.objects, 0, str(key("m1")).encode(), None)
        await bus.put_config_map("m1", n=2)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            assert life.held() == {"m1": "2"}
            await life.deliver_all()
            assert life.held() == {"m1": "2"}
            await until(lambda: life.acknowledged == [0, 1, 2, 3, 4], "acknowledged")

    async def test_what_is_delivered_again_after_a_rebalance_does_not_touch_the_cache(self, bus: Bus) -> None:
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            await bus.put_config_map("m1", n=1)
            await bus.put(bus.topics.objects, 0, str(key("m1")).encode(), None)
            await bus.put_config_map("m1", n=2)
            await life.deliver_all()
            assert life.held() == {"m1": "2"}
            life.assign(0, 1)
            await life.swept()
            await life.deliver_all([1])
            assert life.held() == {"m1": "2"}, "the tombstone was of the one before"
            await life.deliver_all([2])
            assert life.held() == {"m1": "2"} and life.holes() == 0

    async def test_a_bare_tombstone_is_a_delete(self, bus: Bus) -> None:
        await bus.put_config_map("m1", n=1)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            offset = await bus.put(bus.topics.objects, 0, str(key("m1")).encode(), None)
            await life.deliver_all([offset])
            assert not life.held()

    async def test_an_interrupted_replay_over_a_tombstone_keeps_the_successor(self, bus: Bus) -> None:
        await bus.put(bus.topics.objects, 0, str(key("m1")).encode(), None)
        await bus.put_config_map("m1", n=2)
        async with living(bus) as life:
            messages = await life.messages()
            life.assign(0)
            for message in messages:
                # the first replay came this far, and is not finished: nothing is awaited before the next assignment
                record = life.intake._decode(message)
                assert record is not None
                life.worker.replay(0, record)
            life.assign(0, 1)
            await life.swept()
            assert life.held() == {"m1": "2"}

    async def test_the_tombstone_of_a_predecessor_spares_what_we_made_anew(self, bus: Bus) -> None:
        """Our own create is in the cache before the watcher's DELETED and tombstone of the old object come."""
        old, new = bus.config_map("m1", n=1), bus.config_map("m1", n=2)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            life.worker.cache.upsert(key("m1"), Version(1, int(new["metadata"]["resourceVersion"])), new, f"{NAMESPACE}/{cluster_in(0)}", 0)
            deleted = record_of(old, 0, DELETED)
            await bus.put_record(deleted, 0)
            await bus.put(bus.topics.objects, 0, str(key("m1")).encode(), None, deleted.headers())
            await bus.put_state(new)
            await life.deliver_all()
            assert life.held() == {"m1": "2"}


class TestDeliveryHoles:
    async def test_a_hole_is_read_directly_and_counted(self, bus: Bus) -> None:
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            for number in range(6):
                await bus.put_config_map(f"m{number}", n=number)
            await life.deliver_all([0, 1, 5])
            assert life.held() == {f"m{number}": str(number) for number in range(6)}
            assert life.holes() == 3
            assert {name for name, _ in life.observed} == {f"m{number}" for number in range(6)}

    async def test_a_hole_in_what_came_during_the_replay_is_read_too(self, bus: Bus) -> None:
        await bus.put_config_map("m0", n=0)
        async with living(bus) as life:
            life.assign(0)
            life.worker.partitions[0].swept = False
            await life.swept()
            replayed = life.worker.partitions[0].cursor
            for number in range(1, 5):
                await bus.put_config_map(f"m{number}", n=number)
            messages = await life.messages()
            life.generation += 1
            life.intake.revoked()
            life.worker.partitions[0].swept = False
            life.intake.assigned({0}, life.generation)
            await life.deliver(messages[1])
            await life.deliver(messages[4])
            await life.swept()
            await until(lambda: life.worker.idle, "idle")
            assert life.held() == {f"m{number}": str(number) for number in range(5)} and replayed == 1
            await bus.put_config_map("m5", n=5)
            await life.deliver_all([5])
            assert life.holes() == 0 and life.held()["m5"] == "5"

    async def test_redelivery_is_no_hole(self, bus: Bus) -> None:
        for number in range(4):
            await bus.put_config_map(f"m{number}", n=number)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            await life.deliver_all()
            await life.deliver_all([2, 3])
            await bus.put_config_map("m4", n=4)
            await life.deliver_all([4])
            assert life.holes() == 0


GARBAGE = {
    "an empty key": (b"", b'{"metadata": {"name": "x"}}', record_of(Bus("", "x").config_map("x")).headers()),
    "a key that is none": (b"\xff\xfe", b"{}", []),
    "no headers": (str(key("x")).encode(), b'{"metadata": {"name": "x"}}', []),
    "bad headers": (str(key("x")).encode(), b'{"metadata": {"name": "x"}}', [("type", b"MODIFIED"), ("epoch", b"one"), ("rv", b"2")]),
    "invalid JSON": (str(key("x")).encode(), b'{"metadata": ', record_of(Bus("", "x").config_map("x")).headers()),
    "JSON that is no object": (str(key("x")).encode(), b"[1, 2]", record_of(Bus("", "x").config_map("x")).headers()),
    "metadata that is none": (
        str(key("x")).encode(),
        b'{"metadata": {"name": "x", "ownerReferences": "me"}}',
        record_of(Bus("", "x").config_map("x")).headers(),
    ),
    "labels that are none": (str(key("x")).encode(), b'{"metadata": {"name": "x", "labels": [1]}}', record_of(Bus("", "x").config_map("x")).headers()),
}


class TestGarbage:
    @pytest.mark.parametrize("what", GARBAGE)
    async def test_it_becomes_a_dead_letter_with_a_remedy_and_the_rest_goes_on(self, bus: Bus, what: str) -> None:
        bad, value, headers = GARBAGE[what]
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            await bus.put_config_map("before", n=1)
            await bus.put(bus.topics.objects, 0, bad, value, headers)
            await bus.put_config_map("after", n=1)
            await life.deliver_all()
            assert not life.crashed and life.held() == {"before": "1", "after": "1"}
            assert life.acknowledged == [0, 1, 2]
            (letter,) = await bus.read(bus.topics.deadletter)
            found = dict(letter.headers)
            assert (letter.key or b"", letter.value) == (bad or b"", value)
            assert found["error"]
            assert found["source"] == f"{bus.topics.objects}[0]@1".encode() and b"produce a record whose key is" in found["remedy"]

    async def test_it_does_not_stop_a_replay_or_the_shared_topic(self, bus: Bus) -> None:
        for bad, value, headers in GARBAGE.values():
            await bus.put(bus.topics.objects, 0, bad, value, headers)
            await bus.put(bus.topics.shared, 0, bad, value, headers)
        await bus.put_config_map("m1", n=1)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            assert life.held() == {"m1": "1"} and not life.crashed

    async def test_without_its_dead_letter_it_is_not_acknowledged(self, bus: Bus) -> None:
        async with living(bus, RefusingBus) as life:
            life.assign(0)
            await life.swept()
            await bus.put(bus.topics.objects, 0, b"", b"x")
            (message,) = await life.messages()
            with pytest.raises(UnavailableError, match="in-sync"):
                await life.deliver(message)
            assert not life.acknowledged, "the process ends, and its successor meets the record again"

    async def test_one_of_the_greatest_size_is_cut_to_leave_room_for_the_remedy(self, bus: Bus) -> None:
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            await bus.put(bus.topics.objects, 0, b"no key", b"x" * (MESSAGE_BYTES_MAX - 200))
            await life.deliver_all()
            (letter,) = await bus.read(bus.topics.deadletter)
            assert life.acknowledged == [0] and set(letter.value) == set(b"x") and b"from 4194104 bytes" in dict(letter.headers)["cut"]


class TestPlaces:
    async def test_a_record_in_a_partition_that_is_not_its_cluster_s_is_ignored(self, bus: Bus) -> None:
        stray = bus.config_map("stray", 1, n=1)
        await bus.put_record(record_of(stray, 1), 0)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            assert not life.held(), "not in a replay"
            offset = await bus.put_record(record_of(bus.config_map("stray", 1, n=2), 1), 0)
            await life.deliver_all([offset])
            assert not life.held(), "nor live"

    @pytest.mark.parametrize("both", [True, False], ids=["to a partition of ours", "to somebody else's"])
    async def test_a_moved_object_is_held_where_it_lives(self, bus: Bus, both: bool) -> None:
        """The watcher writes the new place, then MOVED (naming the new cluster) and a tombstone at the old one, all at one version."""
        state = bus.config_map("m1", 0, n=1)
        await bus.put_record(record_of(state, 0), 0)
        async with living(bus) as life:
            life.assign(*((0, 1) if both else (0,)))
            await life.swept()
            there = record_of(state, 1)
            await bus.put_record(there, 1)
            moved = ObjectRecord(there.key, MOVED, there.version, there.cluster, there.value)
            await bus.put_record(moved, 0)
            await bus.put_record(ObjectRecord(there.key, MOVED, there.version, there.cluster, None), 0)
            if both:
                await life.deliver((await life.messages(1))[0])
            await life.deliver_all([1, 2])
            assert life.held() == ({"m1": "1"} if both else {})
            if both:
                assert life.worker.cache.keys_of_partition(1) == (key("m1"),)
            else:
                life.assign(0, 1)
                await life.swept()
                assert life.held() == {"m1": "1"}, "when its new partition comes to us it is found there"


class TestShared:
    async def test_the_shared_topic_is_in_the_cache_before_any_run_and_followed(self, bus: Bus) -> None:
        meta = {"name": "t1", "namespace": NAMESPACE, "uid": "u", "resourceVersion": "5"}
        template = {"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2", "kind": "DevMachineTemplate", "metadata": meta}
        record = record_of(template)
        shared = ObjectRecord(record.key, MODIFIED, record.version, "", record.value)
        await bus.put(bus.topics.shared, 0, str(shared.key).encode(), shared.value, shared.headers())
        async with living(bus) as life:
            life.assign(2)
            await life.swept()
            held = life.worker.cache.get(shared.key)
            assert held is not None and held.partition == SHARED_PARTITION
            await bus.put(bus.topics.shared, 0, str(shared.key).encode(), None, ObjectRecord(shared.key, DELETED, Version(1, 6), "", None).headers())
            await until(lambda: life.worker.cache.get(shared.key) is None, "the delete is seen")


class TestDrift:
    async def test_no_drift_where_nothing_is_missing(self, bus: Bus) -> None:
        for number in range(5):
            await bus.put_config_map(f"m{number}", n=number)
        await bus.put(bus.topics.objects, 0, str(key("m0")).encode(), None)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            assert await life.intake.drift_check() == 0

    async def test_missed_changes_and_deletes_are_found_and_repaired(self, bus: Bus) -> None:
        await bus.put_config_map("changed", n=1)
        old = bus.config_map("deleted", n=1)
        await bus.put_state(old)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            await bus.put_config_map("changed", n=2)
            await bus.put_config_map("new", n=1)
            final = record_of({**old, "metadata": {**old["metadata"], "resourceVersion": str(bus.version + 1)}}, 0, DELETED)
            await bus.put_record(final, 0)
            await bus.put(bus.topics.objects, 0, str(final.key).encode(), None, final.headers())
            assert await life.intake.drift_check() == 3
            assert life.held() == {"changed": "2", "new": "1"}
            await until(lambda: {("changed", "2"), ("new", "1")} <= set(life.observed), "and reconciled")
            assert await life.intake.drift_check() == 0
            bus.version += 1
            await bus.put_config_map("next", n=1)
            await life.deliver_all([6])
            assert life.held()["next"] == "1" and life.holes() == 4, "the live stream goes on where it was"


async def test_runs_of_a_dead_owner_are_closed_after_the_replay(bus: Bus) -> None:
    await bus.put_config_map("m1", n=1)
    left = Planned(
        plan_id="p-1", service="under_test", instance="dead", kind="ConfigMap", key=str(key("m1")), at=datetime.now(UTC), cause={}, observed={}, steps=()
    )
    await bus.put(bus.topics.results, 0, b"c", left.model_dump_json(by_alias=True).encode(), [("ce_type", Planned.TYPE.encode())])
    async with living(bus) as life:
        life.assign(0)
        await life.swept()

        async def recovered() -> bool:
            return any(dict(message.headers)["ce_type"].endswith(b"recovered") for message in await bus.read(bus.topics.results))

        for _ in range(100):
            if await recovered():
                break
            await asyncio.sleep(0.1)
        assert await recovered()
