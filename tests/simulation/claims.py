"""What users made, and what a controller has laid its hand on since.

A Cluster that is deleted before any controller gave it a finalizer is gone at once: nobody is left to delete what its user made beside it, in upstream
Cluster API as here. Only that may stay: whatever had an owner, and whatever a controller made, must go.
"""

from __future__ import annotations

from fleetwake.sim.apiserver import ApiServer, Change, Entry
from fleetwake.sim.oracle import CLUSTERS


class Claims:
    """See the module. It looks at every change from the start."""

    def __init__(self, api: ApiServer) -> None:
        self._made: set[str] = set()
        self._claimed: set[str] = set()
        self._untouched: set[tuple[str, str]] = set()
        api.on_change(self._changed)

    def made(self, uid: str) -> None:
        """A user made the object."""
        self._made.add(uid)

    def _changed(self, change: Change) -> None:
        entry = change.entry
        meta = entry.obj["metadata"]
        is_cluster = entry.key.resource == CLUSTERS
        if meta.get("ownerReferences") or (is_cluster and meta.get("finalizers")):
            self._claimed.add(entry.uid)
        elif is_cluster and change.type == "DELETED" and entry.uid not in self._claimed:
            self._untouched.add((entry.key.namespace, entry.key.name))

    def may_stay(self, entry: Entry, cluster: str) -> bool:
        """Whether the object may outlive the Cluster of that name in its namespace."""
        return (entry.key.namespace, cluster) in self._untouched and entry.uid in self._made and entry.uid not in self._claimed
