"""Whether a change begins the deletion of its object, and whether that follows from the deletion of an owner. Pure: the cache is read, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake.kind import Change
from fleetwake.shell.cache import Cache
from fleetwake.shell.ports import Deletion
from schemas.keys import ObjectKey


def deletion_of(change: Change, cache: Cache) -> Deletion:
    """What a change that the cache has taken says of its object's deletion; an object first seen on its way out says nothing: it began before."""
    if change.before is None or _going(change.before) or not (change.after is None or _going(change.after)):
        return Deletion.NONE
    owners = change.state["metadata"].get("ownerReferences") or ()
    return Deletion.FOLLOWS if any(_owner_goes(owner, change.key.namespace, cache) for owner in owners) else Deletion.BEGINS


def _going(state: Mapping[str, Any]) -> bool:
    return "deletionTimestamp" in state["metadata"]


def _owner_goes(owner: Mapping[str, Any], namespace: str, cache: Cache) -> bool:
    key = ObjectKey(str(owner.get("apiVersion", "")).rpartition("/")[0], str(owner.get("kind", "")), namespace, str(owner.get("name", "")))
    entry = cache.get(key)
    if entry is None:
        return cache.grave(key) is not None
    return entry.uid != owner.get("uid") or _going(entry.state)
