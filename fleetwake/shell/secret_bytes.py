"""The bytes of Secrets that passed by a moment ago, so that making one cluster does not read its CA a dozen times.

The cache holds hashes only; this holds values, so it is small in every way: KEEP_SECONDS from when the API server said them, KEPT_MAX Secrets, BYTES_MAX in
all, in memory, in no repr, record or log. What is kept is used only while the cache knows nothing newer of the Secret: the same uid, no later version.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleetwake.shell.bodies import decode_secret
from fleetwake.shell.cache import Cache
from schemas.keys import ObjectKey
from schemas.sensitive import SECRET, redacted

KEEP_SECONDS = 10.0
KEPT_MAX = 1024
BYTES_MAX = 8 << 20


@dataclass(frozen=True, slots=True)
class _Kept:
    uid: str
    resource_version: int
    until: float
    size: int
    data: Mapping[str, bytes] = field(repr=False)


class SecretBytes:
    """See the module. Oldest first out; not thread-safe: one event loop owns it. ``boot``: seconds that never go back."""

    def __init__(self, cache: Cache, boot: Callable[[], float]) -> None:
        self._cache, self._boot = cache, boot
        self._kept: dict[ObjectKey, _Kept] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, key: ObjectKey, state: Mapping[str, Any]) -> None:
        """Take the values of an object as the API server just told it; anything but a management cluster's Secret with its values is passed over."""
        if key.group_kind != SECRET or key.cluster or state.get("kind") != "Secret" or redacted(state.get("data") or {}):
            return
        meta, data = state["metadata"], decode_secret(state)
        version, held = int(meta["resourceVersion"]), self._kept.get(key)
        if held is not None and held.uid == meta["uid"] and held.resource_version > version:
            return
        self.drop(key)
        size = sum(len(value) for value in data.values())
        if size > BYTES_MAX:
            return
        self._kept[key] = _Kept(str(meta["uid"]), version, self._boot() + KEEP_SECONDS, size, data)
        self._size += size
        self._shrink()

    def find(self, key: ObjectKey) -> Mapping[str, bytes] | None:
        """The values of a Secret while they are fresh and the cache knows the same object at no later version; None: read it live."""
        self._shrink()
        kept, known = self._kept.get(key), self._cache.get(key)
        if kept is None or known is None:
            return None
        if known.uid != kept.uid or known.version.resource_version > kept.resource_version or known.state["metadata"].get("deletionTimestamp"):
            self.drop(key)
            return None
        return kept.data

    def drop(self, key: ObjectKey) -> None:
        """Forget a Secret's values: they were refused, or it is gone."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._size -= kept.size

    def _shrink(self) -> None:
        # insertion is in order of time, so the first is always the oldest
        now = self._boot()
        while self._kept:
            key, oldest = next(iter(self._kept.items()))
            if oldest.until > now and len(self._kept) <= KEPT_MAX and self._size <= BYTES_MAX:
                return
            self.drop(key)
