"""Intake and replay against a real broker: what Faust does at its worst (early, late, repeated, missing, poisoned deliveries) given to the real intake.

Faust's stream is played by hand, because its worst cannot be ordered; topics, offsets, replay and direct reads are real.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from schemas.records import DELETED, Version
from schemas.results import Planned
from tests.integration.bus_world import NAMESPACE, Bus, cluster_in, record_of, until
from tests.integration.intake_life import key, living

pytestmark = pytest.mark.kafka


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
