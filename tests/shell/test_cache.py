"""The cache: newest wins, deleted stays deleted, indexes follow."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.shell.cache import GRAVE_SECONDS, Cache, CacheLookup
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.records import Version

MACHINE = GroupKind("cluster.x-k8s.io", "Machine")
DEMO = "default/demo"


class Boot:
    """A clock of seconds since boot."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def key(name: str = "m1", namespace: str = "default") -> ObjectKey:
    return ObjectKey(MACHINE.group, MACHINE.kind, namespace, name)


def state(uid: str = "u1", *owners: str, **meta: Any) -> dict[str, Any]:
    return {"metadata": {"uid": uid, "ownerReferences": [{"uid": owner} for owner in owners], **meta}}


def v(number: int, epoch: int = 1) -> Version:
    return Version(epoch, number)


@pytest.fixture
def boot() -> Boot:
    return Boot()


@pytest.fixture
def cache(boot: Boot) -> Cache:
    return Cache(boot)


@pytest.mark.parametrize(
    ("second", "taken"),
    [
        pytest.param(v(11), True, id="newer"),
        pytest.param(v(10), False, id="echo of the same version"),
        pytest.param(v(9), False, id="older"),
        pytest.param(v(1, epoch=2), True, id="a later history of the API server"),
        pytest.param(v(99, epoch=0), False, id="an earlier history"),
    ],
)
def test_newest_version_wins(cache: Cache, second: Version, taken: bool) -> None:
    cache.upsert(key(), v(10), state(label="first"), DEMO, 0)
    change = cache.upsert(key(), second, state(label="second"), DEMO, 0)
    held = cache.get(key())
    assert held is not None
    assert (change is not None, held.state["metadata"]["label"]) == (taken, "second" if taken else "first")


def test_a_change_tells_before_after_and_cluster(cache: Cache) -> None:
    first = cache.upsert(key(), v(10), state(), DEMO, 0)
    assert first is not None and (first.before, first.cluster) == (None, ClusterKey("default", "demo"))
    second = cache.upsert(key(), v(11), state("u1", "o"), DEMO, 0)
    assert second is not None and second.before == state() and second.after == state("u1", "o")


class TestGraves:
    def test_an_older_record_does_not_resurrect(self, cache: Cache) -> None:
        cache.upsert(key(), v(10), state(), DEMO, 0)
        assert cache.remove(key(), v(12), "u1") is not None
        assert cache.upsert(key(), v(11), state(), DEMO, 0) is None
        assert cache.get(key()) is None

    @pytest.mark.parametrize(
        ("bury", "later", "lives"),
        [
            pytest.param((v(10), "u1"), v(11), False, id="a 404 came before an answer of its last days"),
            pytest.param((v(10), ""), v(11), False, id="its end came without its uid"),
            pytest.param((v(10), "u1"), v(3, epoch=2), True, id="a restored API server has it again"),
            pytest.param((Version(0, 0), ""), v(11), True, id="a bare tombstone, which may be late"),
        ],
    )
    def test_the_same_object_does_not_come_back_with_a_later_version(self, cache: Cache, bury: tuple[Version, str], later: Version, lives: bool) -> None:
        cache.upsert(key(), v(10), state(), DEMO, 0)
        cache.remove(key(), *bury)
        assert (cache.upsert(key(), later, state(), DEMO, 0) is not None) is lives

    def test_a_new_object_of_the_name_lives(self, cache: Cache) -> None:
        cache.upsert(key(), v(10), state(), DEMO, 0)
        cache.remove(key(), v(12), "u1")
        assert cache.upsert(key(), v(13), state("u2"), DEMO, 0) is not None
        assert cache.grave(key()) is None

    def test_a_delete_that_came_first_is_remembered(self, cache: Cache) -> None:
        assert cache.remove(key(), v(12), "u1") is None
        assert cache.upsert(key(), v(11), state(), DEMO, 0) is None

    def test_a_late_delete_spares_the_successor(self, cache: Cache) -> None:
        cache.upsert(key(), v(20), state("u2"), DEMO, 0)
        assert cache.remove(key(), v(12), "u1") is None
        assert cache.remove(key(), v(30), "u1") is None, "another uid"
        assert cache.get(key()) is not None

    def test_a_bare_tombstone_removes_what_is_held(self, cache: Cache) -> None:
        cache.upsert(key(), v(10), state(), DEMO, 0)
        assert cache.remove(key(), Version(0, 0)) is not None
        assert cache.upsert(key(), v(10), state(), DEMO, 0) is None

    def test_a_grave_is_kept_until_nothing_can_be_late(self, cache: Cache, boot: Boot) -> None:
        cache.remove(key(), v(12), "u1")
        boot.now = GRAVE_SECONDS - 1
        cache.forget_graves()
        assert cache.grave(key()) is not None
        boot.now = GRAVE_SECONDS + 1
        cache.forget_graves()
        assert cache.grave(key()) is None


class TestPlacement:
    def test_the_same_version_at_another_place_moves(self, cache: Cache) -> None:
        """Its cluster became known by another object: the record at the new place has the version that is held already."""
        cache.upsert(key(), v(10), state(), "default/old", 0)
        change = cache.upsert(key(), v(10), state(), DEMO, 3)
        assert change is not None and change.cluster == ClusterKey("default", "demo")
        assert cache.keys_of_partition(0) == () and cache.keys_of_partition(3) == (key(),)
        assert not cache.of_cluster(MACHINE, "default/old")

    def test_what_moved_away_may_come_back_at_the_same_version(self, cache: Cache) -> None:
        cache.upsert(key(), v(10), state(), DEMO, 0)
        assert cache.leave(key(), v(10)) is not None
        assert cache.get(key()) is None
        assert cache.upsert(key(), v(10), state(), DEMO, 0) is not None

    def test_a_move_that_is_older_than_what_is_held_says_nothing(self, cache: Cache) -> None:
        cache.upsert(key(), v(11), state(), DEMO, 0)
        assert cache.leave(key(), v(10)) is None
        assert cache.get(key()) is not None

    def test_an_answer_without_a_place_keeps_the_place(self, cache: Cache) -> None:
        cache.upsert(key(), v(10), state(), DEMO, 2)
        cache.upsert(key(), v(11), state(), "", 0)
        assert cache.keys_of_partition(2) == (key(),)

    def test_a_partition_leaves_without_graves(self, cache: Cache) -> None:
        cache.upsert(key("m1"), v(10), state("u1", "o"), DEMO, 0)
        cache.upsert(key("m2"), v(10), state("u2", "o"), DEMO, 1)
        cache.drop_partition(0)
        assert [entry.key.name for entry in cache] == ["m2"] and len(cache) == 1
        assert [entry.key.name for entry in cache.owned("o")] == ["m2"]
        assert cache.upsert(key("m1"), v(10), state(), DEMO, 0) is not None


class TestIndexes:
    def test_they_follow_changes_and_are_ordered(self, cache: Cache) -> None:
        for name in ("m3", "m1", "m2"):
            cache.upsert(key(name), v(10), state(f"u-{name}", "owner"), DEMO, 0)
        cache.upsert(key("m1", "other"), v(10), state("u-x"), "other/demo", 0)
        assert [entry.key.name for entry in cache.owned("owner")] == ["m1", "m2", "m3"]
        assert [entry.key.name for entry in cache.of_cluster(MACHINE, DEMO)] == ["m1", "m2", "m3"]
        assert [str(entry.key) for entry in cache.of_namespace(MACHINE, "other")] == ["cluster.x-k8s.io/Machine/other/m1"]
        assert len(cache.of_namespace(MACHINE, "")) == 4
        cache.upsert(key("m2"), v(11), state("u-m2", "somebody"), DEMO, 0)
        cache.remove(key("m3"), v(12), "u-m3")
        assert [entry.key.name for entry in cache.owned("owner")] == ["m1"]
        assert [entry.key.name for entry in cache.owned("somebody")] == ["m2"]

    def test_lookup_names_keys_of_the_kind_only(self, cache: Cache) -> None:
        lookup = CacheLookup(cache)
        cache.upsert(key("m1"), v(10), state("u1", "o"), DEMO, 0)
        cache.upsert(ObjectKey("", "Secret", "default", "s"), v(10), state("u2", "o"), DEMO, 0)
        assert list(lookup.owned_keys(MACHINE, "o")) == [key("m1")]
        assert list(lookup.cluster_keys(MACHINE, ClusterKey("default", "demo"))) == [key("m1")]
        assert list(lookup.namespace_keys(MACHINE, "")) == [key("m1")]

    def test_a_model_is_parsed_once_per_version(self, cache: Cache) -> None:
        cluster_key = ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo")
        body = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"name": "demo"}, "spec": {}}
        cache.upsert(cluster_key, v(10), body, DEMO, 0)
        entry = cache.get(cluster_key)
        assert entry is not None and entry.parse(Cluster) is entry.parse(Cluster) is CacheLookup(cache).read(Cluster, cluster_key)
        assert entry.meta() is entry.meta()
