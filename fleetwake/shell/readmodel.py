"""The fleet at a glance in Redis: one hash per cluster, written from the cache, trusted by nobody for ever.

Best effort: while Redis is gone changes are dropped and counted; ``rebuild`` writes everything again from the cache. Views show ``seen`` and say "stale since"
when it is old.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from redis.exceptions import RedisError

from fleetwake.connections.redis import Redis
from fleetwake.kind import Change
from schemas.keys import GroupKind

log = logging.getLogger(__name__)
CLUSTER = GroupKind("cluster.x-k8s.io", "Cluster")
CLUSTERS_SET = "fleetwake:clusters"
TIMEOUT_SECONDS = 2.0
FLUSH_SECONDS = 0.2
"""Changes of one cluster within this time become one write."""


def hash_key(cluster: str) -> str:
    """The Redis key of a cluster's hash."""
    return f"fleetwake:cluster:{cluster}"


def glance(state: Mapping[str, Any]) -> dict[str, str]:
    """The fields of one Cluster's hash: conditions by type (status/reason), phase, counts, versions, since when it is stuck."""
    status, spec = state.get("status") or {}, state.get("spec") or {}
    fields = {"phase": str(status.get("phase", "")), "uid": str(state["metadata"].get("uid", "")), "rv": str(state["metadata"].get("resourceVersion", ""))}
    for condition in status.get("conditions") or ():
        fields[f"condition:{condition['type']}"] = f"{condition['status']}/{condition.get('reason', '')}/{condition.get('lastTransitionTime', '')}"
    for role in ("controlPlane", "workers"):
        counters = status.get(role) or {}
        for name in ("desiredReplicas", "replicas", "readyReplicas", "availableReplicas", "upToDateReplicas"):
            if name in counters:
                fields[f"{role}:{name}"] = str(counters[name])
        fields[f"{role}:versions"] = ",".join(f"{item['version']}x{item.get('replicas', 1)}" for item in counters.get("versions") or ())
    fields["endpoint"] = ":".join(str(part) for part in (spec.get("controlPlaneEndpoint") or {}).values())
    fields["paused"] = str(bool(spec.get("paused"))).lower()
    fields["deleting"] = str("deletionTimestamp" in state["metadata"]).lower()
    return fields


class ReadModel:
    """A listener of the worker's changes that writes them to Redis."""

    def __init__(self, redis: Redis) -> None:
        self._connection = redis
        self._redis = redis.async_client(TIMEOUT_SECONDS) if redis else None
        self._pending: dict[str, dict[str, str] | None] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    async def start(self) -> None:
        """Begin to write."""
        if self._redis is not None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Stop writing."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._redis is not None:
            await self._redis.aclose()

    def changed(self, change: Change) -> None:
        """Take a change of the cache."""
        if change.key.group_kind != CLUSTER:
            return
        cluster = f"{change.key.namespace}/{change.key.name}"
        if change.after is None:
            self.cluster_gone(cluster)
        else:
            self.cluster_changed(cluster, glance(change.after))

    def cluster_changed(self, cluster: str, fields: Mapping[str, str]) -> None:
        """Upsert the cluster's hash, soon."""
        self._pending[cluster] = dict(fields)
        self._wake.set()

    def cluster_gone(self, cluster: str) -> None:
        """Remove the cluster's hash, soon."""
        self._pending[cluster] = None
        self._wake.set()

    async def _run(self) -> None:
        assert self._redis is not None
        while True:
            await self._wake.wait()
            await asyncio.sleep(FLUSH_SECONDS)
            self._wake.clear()
            pending, self._pending = self._pending, {}
            try:
                async with self._redis.pipeline(transaction=False) as pipe:
                    for cluster, fields in pending.items():
                        pipe.delete(hash_key(cluster))
                        if fields is None:
                            pipe.srem(CLUSTERS_SET, cluster)
                        else:
                            pipe.hset(hash_key(cluster), mapping={name: value for name, value in fields.items() if value})
                            pipe.sadd(CLUSTERS_SET, cluster)
                    await pipe.execute()
            except (RedisError, OSError) as error:
                self.dropped += len(pending)
                log.warning("%d changes of the read model wait: %s", len(pending), self._connection.told(error))
                for cluster, fields in pending.items():
                    self._pending.setdefault(cluster, fields)
                await asyncio.sleep(1)
                self._wake.set()
