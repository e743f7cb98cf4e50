"""The worker: partitions come and go, records wake what they concern, and nothing runs for a partition that is somebody else's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from fleetwake.kind import ANY_KIND, Change, Kind, Lookup, Watch, any_owner
from fleetwake.plan import Create, Plan
from fleetwake.shell.cache import SHARED_PARTITION
from fleetwake.shell.queue import Token
from fleetwake.sim.apiserver import PatchType
from fleetwake.stream.partition import partition_of
from schemas.keys import ObjectKey
from schemas.records import ADDED, DELETED, MODIFIED
from tests.shell.shell_world import (
    CHILD,
    CLUSTER,
    GROUP,
    NAMESPACE,
    PARENT,
    PARTITIONS,
    Json,
    Seen,
    ShellWorld,
    Tuning,
    child_body,
    child_key,
    kind_of,
    parent_key,
    simulated,
)

API = f"{GROUP}/v1"
HOME = partition_of(CLUSTER, PARTITIONS)


def noting(runs: list[str], **fields: Any) -> Kind[Seen]:
    """A kind that notes whom it ran."""

    def reconcile(seen: Seen) -> Plan:
        runs.append(seen.parent.name)
        return Plan()

    return kind_of(reconcile, **fields)


def state(name: str, version: int, kind: str = "Parent", **meta: Any) -> Json:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"u-{name}", "resourceVersion": str(version), **meta}}


class TestPartitions:
    @simulated
    async def test_runs_wait_for_the_replay(self) -> None:
        runs: list[str] = []
        world = ShellWorld(noting(runs))
        assert world.worker.assign(range(PARTITIONS)) == set(range(PARTITIONS))
        world.worker.replay(HOME, world.record(ADDED, state("p", 10)))
        await world.settle()
        assert not runs
        world.worker.replay_finished(HOME, 1)
        await world.settle()
        assert runs == ["p"]

    @simulated
    async def test_what_comes_during_the_replay_is_held_until_it_is_run(self) -> None:
        runs: list[str] = []
        done: list[str] = []
        world = ShellWorld(noting(runs))
        world.worker.assign([HOME])
        token = Token(lambda: done.append("acknowledged"))
        world.worker.live(HOME, 5, world.record(ADDED, state("p", 10)), token)
        token.release()
        await world.settle()
        assert not runs and not done
        world.worker.replay_finished(HOME, 3)
        await world.settle()
        assert runs == ["p"] and done == ["acknowledged"]

    @simulated
    async def test_a_retained_partition_goes_on_where_it_was(self) -> None:
        runs: list[str] = []
        world = ShellWorld(noting(runs))
        world.own_all()
        world.parent()
        await world.settle()
        world.worker.revoke()
        world.parent("q")
        await world.settle()
        assert runs == ["p"], "nothing runs between revoke and assign"
        assert world.worker.assign(range(PARTITIONS)) == set()
        for number in range(PARTITIONS):
            world.worker.resume(number)
        await world.settle()
        assert runs == ["p", "q"]

    @simulated
    async def test_a_lost_partition_is_forgotten_with_all_its_work(self) -> None:
        runs: list[str] = []
        left: list[Change] = []
        world = ShellWorld(noting(runs))
        world.own_all()
        world.worker.leaving.append(left.append)
        world.worker.revoke()
        world.parent()
        world.worker.assign(set(range(PARTITIONS)) - {HOME})
        for number in range(PARTITIONS):
            world.worker.resume(number)
        await world.settle()
        assert not runs and len(world.worker.cache) == 0 and world.worker.idle
        assert [change.key for change in left] == [parent_key("p")] and left[0].after is None

    @simulated
    async def test_after_a_lapse_of_membership_everything_is_rebuilt(self) -> None:
        world = ShellWorld(noting([]))
        world.own_all()
        world.parent()
        await world.settle()
        assert world.worker.assign(range(PARTITIONS), retained=False) == set(range(PARTITIONS))
        assert len(world.worker.cache) == 0

    @simulated
    async def test_keys_of_a_new_partition_are_confirmed_before_they_write(self) -> None:
        world = ShellWorld(noting([]))
        world.worker.assign([HOME])
        world.worker.replay(HOME, world.record(ADDED, state("p", 10)))
        world.worker.replay_finished(HOME, 1)
        assert world.worker.unverified == {("Parent", parent_key("p"))}

    @simulated
    async def test_another_shard_s_keys_are_left_alone(self) -> None:
        runs: list[str] = []
        world = ShellWorld(noting(runs), tuning=Tuning(options={"shard": lambda number: number != HOME}))
        world.own_all()
        world.parent()
        await world.settle()
        assert not runs and world.worker.idle and len(world.worker.cache) == 1


class TestRecords:
    @simulated
    async def test_an_echo_wakes_nobody(self) -> None:
        runs: list[str] = []
        world = ShellWorld(noting(runs))
        world.own_all()
        parent = world.parent()
        await world.settle()
        world.deliver(MODIFIED, parent)
        await world.settle()
        assert runs == ["p"]

    @simulated
    async def test_a_repeated_record_wakes_but_does_not_touch_the_cache(self) -> None:
        runs: list[str] = []
        world = ShellWorld(noting(runs))
        world.own_all()
        world.deliver(ADDED, state("p", 10))
        world.deliver(ADDED, state("p", 11))
        await world.settle()
        world.worker.live(HOME, 0, world.record(DELETED, state("p", 12)), None)
        await world.settle()
        assert runs == ["p", "p"] and world.worker.cache.get(parent_key("p")) is not None

    @pytest.mark.parametrize("replayed", [True, False], ids=["replay", "live"])
    @simulated
    async def test_a_misplaced_record_is_ignored(self, replayed: bool) -> None:
        world = ShellWorld(noting([]))
        world.own_all()
        record = world.record(ADDED, state("p", 10))
        wrong = (HOME + 1) % PARTITIONS
        if replayed:
            world.worker.replay(wrong, record)
        else:
            world.worker.live(wrong, 0, record, None)
        assert len(world.worker.cache) == 0

    @simulated
    async def test_workload_objects_are_seen_through_the_connection_not_the_topic(self) -> None:
        world = ShellWorld(noting([]))
        world.own_all()
        record = world.record(ADDED, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u", "resourceVersion": "3"}})
        there = type(record)(ObjectKey("", "Node", "", "n", CLUSTER), record.type, record.version, CLUSTER, record.value)
        world.worker.replay(HOME, there)
        world.worker.live(HOME, 0, there, None)
        assert len(world.worker.cache) == 0

    @simulated
    async def test_a_definition_that_cannot_be_read_stops_nothing(self) -> None:
        world = ShellWorld(noting([]))
        world.own_all()
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"}
        meta = {"name": "x.y", "uid": "u", "resourceVersion": "3"}
        world.deliver(ADDED, {**crd, "metadata": meta, "spec": {"group": "y"}}, "", partition=SHARED_PARTITION)
        good = {"group": "y", "names": {"kind": "X", "plural": "xs"}, "versions": [{"name": "v1alpha1"}, {"name": "v1"}], "scope": "Cluster"}
        world.deliver(MODIFIED, {**crd, "metadata": {**meta, "resourceVersion": "4"}, "spec": good}, "", partition=SHARED_PARTITION)
        assert world.worker.resources.path(ObjectKey("y", "X", "", "one")) == "/apis/y/v1/xs/one"


class TestWakeups:
    @simulated
    async def test_a_child_wakes_its_owner_and_nobody_else(self) -> None:
        runs: list[str] = []
        world = ShellWorld(noting(runs))
        world.own_all()
        parent = world.parent()
        world.parent("q")
        await world.settle()
        runs.clear()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"]}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        await world.settle()
        assert runs == ["p"]
        world.api.delete(f"children.{GROUP}", NAMESPACE, "c")
        await world.settle()
        assert runs == ["p", "p"]

    @simulated
    async def test_only_changes_that_matter_wake(self) -> None:
        runs: list[str] = []
        watch = Watch(CHILD, any_owner(PARENT), lambda change: change.differs("status", "ready"))
        world = ShellWorld(noting(runs, watches=(watch,), own=lambda change: change.differs("spec")))
        world.own_all()
        parent = world.parent(spec={"n": 1})
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"]}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        world.api.patch(f"children.{GROUP}", (NAMESPACE, "c"), {"spec": {"x": 1}}, PatchType.MERGE)
        world.api.patch(f"parents.{GROUP}", (NAMESPACE, "p"), {"metadata": {"labels": {"a": "b"}}}, PatchType.MERGE)
        await world.settle()
        assert runs == ["p"]

    @simulated
    async def test_any_kind_stands_for_those_not_named(self) -> None:
        runs: list[str] = []
        named = Watch(CHILD, any_owner(PARENT), lambda change: False)
        world = ShellWorld(noting(runs, watches=(named, Watch(ANY_KIND, any_owner(PARENT)))))
        world.own_all()
        parent = world.parent()
        await world.settle()
        runs.clear()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"]}
        for kind in ("Child", "ConfigMap"):
            world.create(
                {"apiVersion": API if kind == "Child" else "v1", "kind": kind, "metadata": {"name": "x", "namespace": NAMESPACE, "ownerReferences": [ref]}}
            )
        await world.settle()
        assert runs == ["p"]

    @simulated
    async def test_a_watch_that_stumbles_over_an_object_ends_nothing(self) -> None:
        """It would meet the same object again in every replay."""
        runs: list[str] = []

        def stumbles(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
            raise KeyError("kind")

        world = ShellWorld(noting(runs, watches=(Watch(CHILD, stumbles), Watch(CHILD, any_owner(PARENT)))))
        world.own_all()
        parent = world.parent()
        await world.settle()
        runs.clear()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"]}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        await world.settle()
        assert runs == ["p"]
        assert world.worker.metrics.panics.labels("Parent")._value.get() == 1


class TestShared:
    @simulated
    async def test_a_key_of_no_cluster_is_run_by_the_owner_of_its_hash(self) -> None:
        home = partition_of(str(parent_key("p")), PARTITIONS)
        for owned in (home, (home + 1) % PARTITIONS):
            runs: list[str] = []
            world = ShellWorld(noting(runs, shared=True))
            world.worker.assign([owned])
            world.worker.replay(SHARED_PARTITION, world.record(ADDED, state("p", 10), ""))
            world.worker.replay_finished(owned, 0)
            await world.settle()
            world.deliver(MODIFIED, state("p", 11), "", partition=SHARED_PARTITION)
            await world.settle()
            assert runs == (["p", "p"] if owned == home else [])


@simulated
async def test_the_epoch_of_a_restored_api_server_wins() -> None:
    """A backup was restored: resourceVersions went back, the watcher raised the epoch."""
    runs: list[str] = []
    world = ShellWorld(noting(runs))
    world.own_all()
    world.deliver(ADDED, state("p", 1000))
    old = world.record(MODIFIED, state("p", 20))
    world.offsets[HOME] += 1
    world.worker.live(HOME, 1, type(old)(old.key, old.type, old.version._replace(epoch=2), old.cluster, old.value), None)
    held = world.worker.cache.get(parent_key("p"))
    assert held is not None and held.version == (2, 20) and world.worker.epoch == 2


@simulated
async def test_children_of_many_parents_at_once() -> None:
    """Nothing is lost or doubled when everything happens at the same time."""

    def reconcile(seen: Seen) -> Plan:
        name = f"{seen.parent.name}-c"
        return Plan() if seen.children else Plan((Create(child_body(name, seen), "missing", seen.uid),))

    world = ShellWorld(kind_of(reconcile))
    world.own_all()
    for number in range(100):
        world.parent(f"p{number}")
    await world.settle(5)
    assert all(world.get(child_key(f"p{number}-c")) for number in range(100))
    assert len(world.kube.writes) == 100 and world.worker.idle
