"""Which objects this watcher carries: ``--namespace`` and ``--watch-filter``.

The filter selects by the label cluster.x-k8s.io/watch-filter as upstream's managers do. An object without the label counts as its Cluster does,
because a MachineSet must see all of its Machines; shared kinds without it are carried, because upstream reads them unfiltered.

Source: Cluster API v1.14 flags --namespace and --watch-filter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.keys import ObjectKey
from services.watcher.placement import CLUSTER, SHARED

WATCH_FILTER_LABEL = "cluster.x-k8s.io/watch-filter"


class Scope:
    """The selection of one watcher."""

    def __init__(self, namespace: str = "", watch_filter: str = "") -> None:
        self.namespace = namespace
        self.watch_filter = watch_filter
        self._clusters: dict[str, bool] = {}

    def contains(self, key: ObjectKey) -> bool:
        """Whether the key is this watcher's to answer for."""
        return not self.namespace or not key.namespace or key.namespace == self.namespace

    def observe_cluster(self, key: ObjectKey, value: Mapping[str, Any]) -> bool:
        """Take what a Cluster's label says; returns whether that changed what its objects count as."""
        if not self.watch_filter or key.group_kind != CLUSTER:
            return False
        cluster, selected = f"{key.namespace}/{key.name}", self._label(value) == self.watch_filter
        before = self._clusters.get(cluster, False)
        self._clusters[cluster] = selected
        return before != selected

    def selects(self, key: ObjectKey, value: Mapping[str, Any], cluster: str) -> bool:
        """Whether the object is carried."""
        if not self.contains(key):
            return False
        if not self.watch_filter:
            return True
        label = self._label(value)
        if label is not None:
            return label == self.watch_filter
        return True if cluster == SHARED else self._clusters.get(cluster, False)

    def _label(self, value: Mapping[str, Any]) -> str | None:
        return (value["metadata"].get("labels") or {}).get(WATCH_FILTER_LABEL)
