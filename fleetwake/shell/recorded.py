"""Workload clusters as a service knows them that holds no connection to any: by the records of those who do (``fleetwake.shell.sights``)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from fleetwake.kind import NODE, Workload
from fleetwake.shell.cache import Cache
from fleetwake.shell.workload import NoWorkloads
from fleetwake.stream.partition import partition_of
from schemas.keys import ClusterKey
from schemas.sights import connection_key, presence_key

PRESENCE_LIMIT = timedelta(seconds=60)
"""Nobody who is at work on a partition is silent for so long: what was told before is then an old story, however it reads."""

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


class RecordedWorkloads(NoWorkloads):
    """For services that read what the reconcilers recorded. ``cache`` is the worker's."""

    def __init__(self, cache: Callable[[], Cache], now: Callable[[], datetime], partitions: int) -> None:
        self._cache, self._now, self._partitions = cache, now, partitions

    def state(self, cluster: ClusterKey) -> Workload:
        """What the records say. ``connected``: the cluster is seen whole, by somebody who is at work; only then is an absent Node one that is gone."""
        cache = self._cache()
        entry = cache.get(connection_key(cluster))
        told = entry.state.get("status") or {} if entry is not None else {}
        attended = self._attended(cache, cluster)
        seen = told.get("connected") is True and attended is not None and self._now() - attended <= PRESENCE_LIMIT
        last = attended if told.get("connected") is True else _time(told.get("lastProbeSuccess"))
        nodes = tuple(node.state for node in cache.of_cluster(NODE, str(cluster)) if node.key.cluster)
        return Workload(connected=seen, last_probe_success=last, consecutive_failures=0 if seen else 1, watch_synced=seen, nodes=nodes)

    def _attended(self, cache: Cache, cluster: ClusterKey) -> datetime | None:
        """When somebody last said that they are at work on the cluster's partition."""
        entry = cache.get(presence_key(partition_of(str(cluster), self._partitions)))
        return _time((entry.state.get("status") or {}).get("at")) if entry is not None else None


def _time(value: object) -> datetime | None:
    try:
        return _TIME.validate_python(value) if value is not None else None
    except ValidationError:
        return None
