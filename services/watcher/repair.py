"""Working off suspects: each key is read live and produced again, or its delete is."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from fleetwake.errors import FleetwakeError, NotFoundError
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.discovery import DEFINITIONS, Discovery
from schemas.keys import ObjectKey
from schemas.placement import RESOURCE_SET_TYPE
from services.watcher.ledger import Ledger, Place
from services.watcher.metrics import WatcherMetrics
from services.watcher.placement import CLUSTER_NAME_LABEL
from services.watcher.publisher import Publisher, minimal
from services.watcher.record import definition_value

RETRY_SECONDS = 1.0
SELECTED_KINDS = frozenset({"Secret", "ConfigMap"})
log = logging.getLogger("services.watcher.repair")


class Repair:
    """One task that makes the topics true again, key by key."""

    def __init__(self, client: ApiClient, discovery: Discovery, ledger: Ledger, publisher: Publisher, metrics: WatcherMetrics) -> None:
        self._client, self._discovery, self._ledger, self._publisher, self._metrics = client, discovery, ledger, publisher, metrics

    async def run(self) -> None:
        """Repair for ever. A key that cannot be read now stays a suspect."""
        suspects, suspected = self._publisher.suspects, self._publisher.suspected
        while True:
            await suspected.wait()
            suspected.clear()
            for key in list(suspects):
                reason = suspects.pop(key)
                try:
                    await self._repair(key, reason)
                except FleetwakeError as error:
                    log.warning("repair postponed: reason=%s error=%s", reason, error, extra={"about": key})
                    asyncio.get_running_loop().call_later(RETRY_SECONDS, self._publisher.suspect, key, reason)

    async def _repair(self, key: ObjectKey, reason: str) -> None:
        if key.kind == "Namespace":
            return  # written at the start of a term only
        value = await self._read(key)
        self._metrics.repairs.labels(reason=reason).inc()
        if value is not None:
            # an object that only had to be looked at again for its place is produced if that changed
            self._publisher.publish(value, time.time(), force=reason != "place")
            return
        held = self._publisher.held.get(key)
        if held is None:
            found = self._ledger.find(key)
            if found is None:
                return
            self._publisher.adopt(key, *found)
        await self.delete([key], self._publisher.resource_version_max, force=True)

    async def delete(self, keys: list[ObjectKey], resource_version: int, *, force: bool = False) -> None:
        """End the records of objects that are gone, each with its last known state."""
        offsets: dict[ObjectKey, tuple[Place, int]] = {}
        for key in keys:
            held = self._publisher.held.get(key)
            if held is not None and (entry := self._ledger.entries[held.place].get(key)) is not None:
                offsets[key] = (held.place, entry.offset)
        last = await self._ledger.read(offsets.values())
        for key in keys:
            record = last.get(offsets[key]) if key in offsets else None
            value = record.value if record is not None and record.value is not None else minimal(key)
            self._publisher.delete(key, self._publisher.version(resource_version), value, time.time(), force=force)

    async def _read(self, key: ObjectKey) -> dict[str, Any] | None:
        resource = self._discovery.resource(key.group_kind)
        if resource is None:
            return None
        answer = await self._client.request("GET", resource_path(resource.api_version, resource.plural, key.namespace, key.name))
        try:
            raise_for(answer, f"get {key}")
        except NotFoundError:
            return None
        value = answer.json()
        if resource == DEFINITIONS:
            return definition_value(value)
        if key.kind in SELECTED_KINDS and not key.group:
            labels = value["metadata"].get("labels") or {}
            carried = value.get("type") == RESOURCE_SET_TYPE or CLUSTER_NAME_LABEL in labels
            return value if carried else None
        return value
