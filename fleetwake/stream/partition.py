"""Which partition a cluster lives in: the one rule that every producer and every worker must share (architecture.md §3)."""

from __future__ import annotations

from functools import lru_cache

from aiokafka.partitioner import murmur2

SHARED_PARTITION = 0
"""The only partition of the shared topic."""


@lru_cache(maxsize=65536)
def partition_of(cluster: str, partitions: int) -> int:
    """The partition of ``<namespace>/<clusterName>``: murmur2 as Kafka's own key partitioner, so that any client computes the same."""
    return int(murmur2(cluster.encode()) & 0x7FFFFFFF) % partitions
