"""The measure of the watcher's own work: now and then, metadata is listed and compared with what the topics hold.

A difference that lasts is counted and repaired. Tests and alerts require zero.
"""

from __future__ import annotations

import asyncio
import logging

from fleetwake.errors import FleetwakeError
from fleetwake.kube.client import METADATA_LIST, ApiClient, raise_for
from fleetwake.kube.reflector import LIST_TIMEOUT_SECONDS, PAGE_LIMIT
from schemas.keys import ObjectKey
from services.watcher.metrics import WatcherMetrics
from services.watcher.publisher import Publisher
from services.watcher.streams import Stream, Streams

SETTLE_SECONDS = 5.0
"""How long a difference must last: the watch may be just behind the list."""

NAMED_MAX = 10
"""Objects that one check names in the log."""

log = logging.getLogger("services.watcher.drift")


class Drift:
    """Compares the API server with what is held, kind by kind."""

    def __init__(self, client: ApiClient, publisher: Publisher, streams: Streams, metrics: WatcherMetrics, *, filtered: bool = False) -> None:
        self._client, self._publisher, self._streams, self._metrics = client, publisher, streams, metrics
        self._filtered = filtered

    async def run(self, period_seconds: float) -> None:
        """Check once a period, for ever."""
        while True:
            await asyncio.sleep(period_seconds)
            try:
                await self.check()
            except FleetwakeError as error:
                log.warning("drift check given up: error=%s", error)

    async def check(self, *, settle_seconds: float = SETTLE_SECONDS) -> int:
        """Compare all kinds once; returns the number of differences found, each of which is being repaired.

        Raises:
            FleetwakeError: a list failed.
        """
        differing = {key: version for stream in self._streams.all if stream.synced for key, version in (await self._differences(stream)).items()}
        if not differing:
            return 0
        await asyncio.sleep(settle_seconds)
        lasting = [key for key, version in differing.items() if self._differs(key, version)]
        for key in lasting:
            self._metrics.drift.labels(where="watcher").inc()
            self._publisher.suspect(key, "drift")
        for key in lasting[:NAMED_MAX]:
            log.error("drift: the topics differ from the API server, one of %d objects", len(lasting), extra={"about": key})
        return len(lasting)

    async def _differences(self, stream: Stream) -> dict[ObjectKey, int]:
        """The keys that differ, with the resourceVersion the server has (0: it has none)."""
        resource = stream.selection.resource
        query = {**stream.selection.query, "limit": str(PAGE_LIMIT)}
        listed: dict[ObjectKey, int] = {}
        while True:
            answer = await self._client.request("GET", stream.selection.path, query=query, accept=METADATA_LIST, timeout_seconds=LIST_TIMEOUT_SECONDS)
            raise_for(answer, f"list metadata of {stream.selection}")
            document = answer.json()
            for item in document.get("items") or ():
                metadata = item["metadata"]
                listed[ObjectKey(resource.group, resource.kind, metadata.get("namespace", ""), metadata["name"])] = int(metadata["resourceVersion"])
            following = document["metadata"].get("continue")
            if not following:
                break
            query["continue"] = following
        covered = self._streams.covered(stream)
        if stream.rank < 0 or self._filtered:  # not every definition is carried, nor every object under a filter
            listed = {key: version for key, version in listed.items() if key in covered}
        differing = {key: version for key, version in listed.items() if self._differs(key, version)}
        bound = self._publisher.version(document["metadata"]["resourceVersion"])
        gone = {key: 0 for key in covered - listed.keys() if self._publisher.held[key].live and self._publisher.held[key].version <= bound}
        return {**differing, **gone}

    def _differs(self, key: ObjectKey, version: int) -> bool:
        held = self._publisher.held.get(key)
        if not version:
            return held is not None and held.live
        # newer than the list is the watch being quicker; deleted at a newer version likewise
        return held is None or held.version < self._publisher.version(version)
