"""What a drift check compares: the newest record of every key of some partitions, and the cache. Pure, so that it can be read and tested alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fleetwake.shell.cache import Cache, Entry
from schemas.keys import ObjectKey
from schemas.records import DELETED, MOVED, ObjectRecord


@dataclass(frozen=True, slots=True)
class Drift:
    """``missed``: (partition, record) pairs the cache has not had. ``unknown``: what it holds and no record tells of.

    An answer of a write may come before its record, so whether the unknown exist is for the API server to say.
    """

    missed: tuple[tuple[int, ObjectRecord], ...]
    unknown: tuple[Entry, ...]


class Newest:
    """The newest record of every key, taken in the order of each partition."""

    def __init__(self) -> None:
        self.records: dict[ObjectKey, tuple[int, ObjectRecord]] = {}

    def take(self, partition: int, record: ObjectRecord) -> None:
        """Take the next record."""
        before = self.records.get(record.key)
        if record.value is None and not record.version.resource_version and before is not None and before[1].type in (DELETED, MOVED):
            # the record before a bare tombstone knows the version
            return
        self.records[record.key] = (partition, record)

    def against(self, cache: Cache, held: Iterable[ObjectKey]) -> Drift:
        """Compare with a cache that held ``held`` before it was known how far the records are read: what came later need have none among them."""
        missed = tuple((partition, record) for partition, record in self.records.values() if _missed(cache, partition, record))
        unknown = (cache.get(key) for key in held if not key.cluster and key not in self.records)
        return Drift(missed, tuple(entry for entry in unknown if entry is not None))


def _missed(cache: Cache, partition: int, record: ObjectRecord) -> bool:
    held = cache.get(record.key)
    if record.value is None or record.type in (DELETED, MOVED):
        return held is not None and held.version <= record.version and held.partition == partition
    return (held is None or held.version < record.version) and cache.grave(record.key) is None
