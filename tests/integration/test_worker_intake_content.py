"""The intake against a real broker: garbage, places, the shared topic, drift."""

from __future__ import annotations

import asyncio

import pytest

from fleetwake.errors import UnavailableError
from fleetwake.shell.cache import SHARED_PARTITION
from schemas.records import DELETED, MODIFIED, MOVED, ObjectRecord, Version
from schemas.topics import MESSAGE_BYTES_MAX
from tests.integration.bus_world import NAMESPACE, Bus, record_of, until
from tests.integration.intake_life import RefusingBus, key, living

pytestmark = pytest.mark.kafka


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

    async def test_what_the_live_stream_is_about_to_bring_is_not_missed(self, bus: Bus) -> None:
        await bus.put_config_map("m", n=1)
        async with living(bus) as life:
            life.assign(0)
            await life.swept()
            await bus.put_config_map("m", n=2)
            check = asyncio.create_task(life.intake.drift_check())
            await asyncio.wait([check], timeout=0.5)
            await life.deliver_all([1])
            assert await check == 0 and life.held() == {"m": "2"}

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
