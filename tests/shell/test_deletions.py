"""Whether a change begins a deletion, and whether an owner's deletion led to it, told from the cache alone."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.kind import Change
from fleetwake.shell.cache import Cache
from fleetwake.shell.deletions import deletion_of
from fleetwake.shell.ports import Deletion
from schemas.keys import ObjectKey
from schemas.records import Version

SET = ObjectKey("cluster.x-k8s.io", "MachineSet", "default", "set")
MACHINE = ObjectKey("cluster.x-k8s.io", "Machine", "default", "one")
GOING = {"deletionTimestamp": "2026-01-01T00:00:00Z"}
OWNED = {"ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineSet", "name": "set", "uid": "set-1", "controller": True}]}


def state(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": "one", **metadata}}


def with_owner(**metadata: Any) -> Cache:
    """A cache that holds the MachineSet."""
    cache = Cache(lambda: 0.0)
    cache.upsert(SET, Version(1, 1), {"metadata": {"name": "set", "uid": "set-1", **metadata}}, "default/demo", 0)
    return cache


def without_owner() -> Cache:
    """A cache that knows that the MachineSet is gone."""
    cache = with_owner()
    cache.remove(SET, Version(1, 2), "set-1")
    return cache


@pytest.mark.parametrize(
    ("before", "after", "cache", "expected"),
    [
        pytest.param(state(), state(labels={}), with_owner(), Deletion.NONE, id="not deleted"),
        pytest.param(state(**OWNED), state(**OWNED, **GOING), with_owner(), Deletion.BEGINS, id="deleted while its owner stays"),
        pytest.param(state(), state(**GOING), with_owner(), Deletion.BEGINS, id="deleted, of no owner"),
        pytest.param(state(), None, with_owner(), Deletion.BEGINS, id="gone at once, without a finalizer"),
        pytest.param(state(**GOING), state(**GOING, finalizers=[]), with_owner(), Deletion.NONE, id="on its way out before"),
        pytest.param(state(**GOING), None, with_owner(), Deletion.NONE, id="gone, as it was to be expected"),
        pytest.param(None, state(**GOING), with_owner(), Deletion.NONE, id="first seen on its way out"),
        pytest.param(state(**OWNED), state(**OWNED, **GOING), with_owner(**GOING), Deletion.FOLLOWS, id="its owner is on its way out"),
        pytest.param(state(**OWNED), None, without_owner(), Deletion.FOLLOWS, id="collected after its owner"),
        pytest.param(state(**OWNED), state(**OWNED, **GOING), with_owner(uid="set-2"), Deletion.FOLLOWS, id="its owner was replaced"),
        pytest.param(state(**OWNED), state(**OWNED, **GOING), Cache(lambda: 0.0), Deletion.BEGINS, id="its owner is of a kind that nobody watches"),
    ],
)
def test_what_a_change_says_of_a_deletion(before: Any, after: Any, cache: Cache, expected: Deletion) -> None:
    assert deletion_of(Change(MACHINE, None, before, after), cache) is expected
