"""The streams: one per kind, begun and ended as CustomResourceDefinitions come, change and go.

Lists run in ranks (Clusters; their core kinds; what those own; Secrets), so that the owner of an object is known before the object is placed.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fleetwake.errors import FleetwakeError, NotFoundError
from fleetwake.kube.client import ApiClient
from fleetwake.kube.discovery import CONFIG_MAPS, DEFINITIONS, SECRETS, Discovery, Resource, watched
from fleetwake.kube.reflector import Changed, Interrupted, Listed, Page, Reflector, Selection
from fleetwake.stream.producer import RecordProducer
from schemas.keys import ObjectKey
from schemas.placement import RESOURCE_SET_TYPE
from schemas.records import DELETED
from services.watcher.ledger import SHARED_PLACE
from services.watcher.metrics import WatcherMetrics
from services.watcher.placement import CLUSTER, CLUSTER_NAME_LABEL, CORE, key_of
from services.watcher.publisher import Publisher
from services.watcher.record import definition_value
from services.watcher.repair import Repair

LAST_RANK = 3
log = logging.getLogger("services.watcher.streams")


@dataclass(slots=True)
class Stream:
    """One selection being listed and watched. ``begun`` is set after its first complete list, or its first failure."""

    reflector: Reflector
    rank: int
    force: bool = False
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    listed: set[ObjectKey] = field(default_factory=set)
    task: asyncio.Task[None] | None = None

    @property
    def selection(self) -> Selection:
        """What it lists and watches."""
        return self.reflector.selection

    @property
    def synced(self) -> bool:
        """Whether the topics hold all it has listed and its watch runs."""
        return self.reflector.synced.is_set()


class Streams:
    """All streams of one term of leadership."""

    def __init__(
        self, client: ApiClient, discovery: Discovery, publisher: Publisher, producer: RecordProducer, repair: Repair, metrics: WatcherMetrics
    ) -> None:
        self._client, self._discovery, self._publisher = client, discovery, publisher
        self._producer, self._repair, self._metrics = producer, repair, metrics
        self.namespace = ""
        self._streams: dict[str, Stream] = {}
        self._definitions = Stream(self._reflector(Selection(DEFINITIONS)), -1)
        publisher.on_rewind = publisher.on_filter_change = self.relist
        self.changed = asyncio.Event()

    @property
    def all(self) -> tuple[Stream, ...]:
        """Every stream running now, that of the definitions first."""
        return (self._definitions, *self._streams.values())

    @property
    def synced(self) -> bool:
        """Whether every stream has listed and watches."""
        return all(stream.synced for stream in self.all)

    async def run(self) -> None:
        """Run all streams until cancelled. A stream that fails for a reason of ours ends them all."""
        async with asyncio.TaskGroup() as self._group:
            self._begin(str(Selection(SECRETS)), Selection(SECRETS, self.namespace, CLUSTER_NAME_LABEL, f"type!={RESOURCE_SET_TYPE}"), LAST_RANK)
            self._begin("resource-sets", Selection(SECRETS, self.namespace, "", f"type={RESOURCE_SET_TYPE}"), LAST_RANK)
            self._begin(str(Selection(CONFIG_MAPS)), Selection(CONFIG_MAPS, self.namespace, CLUSTER_NAME_LABEL), LAST_RANK)
            await self._run_definitions()

    def relist(self) -> None:
        """Have every kind listed again."""
        for stream in self.all:
            stream.reflector.relist()

    def _reflector(self, selection: Selection) -> Reflector:
        return Reflector(self._client, selection, floor=lambda: self._publisher.resource_version_max)

    # ------------------------------------------------------------------ definitions
    async def _run_definitions(self) -> None:
        stream = self._definitions
        async with aclosing(stream.reflector.events()) as events:
            async for event in events:
                match event:
                    case Page():
                        self._take_page(stream, event, definitions=True)
                    case Listed():
                        for name in {definition.name for definition in self._discovery.definitions} - {key.name for key in stream.listed}:
                            self._forget_definition(name)
                        await self._end_missing(stream, event)
                        stream.begun.set()
                    case Changed():
                        self._take_definition(stream, event.object, event.type, event.received)
                    case Interrupted():
                        self._note(stream, event)
                await self._producer.room()

    def _take_definition(self, stream: Stream, crd: dict[str, Any], kind: str, received: float) -> None:
        value = definition_value(crd)
        key = key_of(value)
        if kind == DELETED:
            self._forget_definition(key.name)
            self._publisher.delete(key, self._publisher.version(value["metadata"]["resourceVersion"]), value, received)
            return
        definition = self._discovery.apply(crd)
        if not watched(definition):
            self._forget_definition(key.name)
            self._publisher.delete(key, self._publisher.version(value["metadata"]["resourceVersion"]), value, received)
            return
        stream.listed.add(key)
        before = self._publisher.held.get(key)
        changed = self._publisher.publish(value, received)
        resource = definition.resource()
        if resource is None:
            self._end(key.name)
            return
        self._begin(key.name, Selection(resource, self.namespace if resource.namespaced else ""), rank_of(resource), force=changed and before is not None)

    def _forget_definition(self, name: str) -> None:
        definition = self._discovery.forget(name)
        self._end(name)
        if definition is not None:
            for key in list(self._publisher.kinds.get(definition.group_kind, ())):
                self._publisher.suspect(key, "kind")

    # ------------------------------------------------------------------ kinds
    def _begin(self, name: str, selection: Selection, rank: int, *, force: bool = False) -> None:
        running = self._streams.get(name)
        if running is not None and running.selection == selection:
            return
        # another version of the kind: its objects have other fields at the same resourceVersion
        replaced = running is not None
        self._end(name)
        stream = Stream(self._reflector(selection), rank, force=force or replaced)
        self._streams[name] = stream
        stream.task = self._group.create_task(self._run(stream), name=f"watch {name}")
        self.changed.set()

    def _end(self, name: str) -> None:
        stream = self._streams.pop(name, None)
        if stream is not None:
            stream.begun.set()
            if stream.task is not None:
                stream.task.cancel()

    async def _run(self, stream: Stream) -> None:
        await self._definitions.begun.wait()
        for rank in range(stream.rank):
            for other in [other for other in self._streams.values() if other.rank == rank]:
                await other.begun.wait()
        async with aclosing(stream.reflector.events()) as events:
            async for event in events:
                match event:
                    case Page():
                        self._take_page(stream, event)
                    case Listed():
                        await self._end_missing(stream, event)
                        stream.force = False
                        stream.begun.set()
                    case Changed():
                        self._metrics.events.labels(kind=stream.selection.resource.kind, type=event.type).inc()
                        self._take(event.object, event.type, event.received)
                    case Interrupted():
                        self._note(stream, event)
                await self._producer.room()

    def _take_page(self, stream: Stream, page: Page, *, definitions: bool = False) -> None:
        self._publisher.observe_list(page.resource_version, rewound=page.rewound)
        if page.first:
            stream.listed.clear()
        self._metrics.events.labels(kind=stream.selection.resource.kind, type="LISTED").inc(len(page.items))
        for value in page.items:
            if definitions:
                self._take_definition(stream, value, "LISTED", page.received)
            else:
                stream.listed.add(key_of(value))
                self._take(value, "LISTED", page.received, force=stream.force)

    def _take(self, value: dict[str, Any], kind: str, received: float, *, force: bool = False) -> None:
        try:
            if kind == DELETED:
                self._publisher.delete(key_of(value), self._publisher.version(value["metadata"]["resourceVersion"]), value, received)
            else:
                self._publisher.publish(value, received, force=force)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # one malformed object of somebody's kind must not end the stream of all others
            self._metrics.malformed.labels(kind=str(value.get("kind"))).inc()
            log.error("malformed object: %r", error, extra={"about": _named(value)})

    async def _end_missing(self, stream: Stream, listed: Listed) -> None:
        selection = stream.selection
        missing = self._publisher.missing(self.covered(stream), stream.listed, listed.resource_version)
        stream.listed = set()
        if not missing:
            return
        try:
            await self._repair.delete(missing, listed.resource_version, force=True)
            log.info("deleted while nobody watched: kind=%s count=%s", selection.resource.kind, len(missing))
        except FleetwakeError as error:
            log.warning("ends of missing objects postponed: kind=%s error=%s", selection.resource.kind, error)
            stream.reflector.relist()

    def covered(self, stream: Stream) -> set[ObjectKey]:
        """The keys held that a list of the stream would hold, if they exist."""
        return {key for key in self._publisher.kinds.get(stream.selection.resource.group_kind, ()) if self._covers(stream.selection, key)}

    def _covers(self, selection: Selection, key: ObjectKey) -> bool:
        """Whether a list of the selection would hold the key: Secrets are in two streams, told apart by where they are placed."""
        if selection.namespace and key.namespace != selection.namespace:
            return False
        if selection.resource.group_kind != SECRETS.group_kind:
            return True
        held = self._publisher.held.get(key)
        return held is None or (held.place == SHARED_PLACE) == (not selection.label_selector)

    def _note(self, stream: Stream, event: Interrupted) -> None:
        kind = stream.selection.resource.kind
        self._metrics.interruptions.labels(kind=kind, error=type(event.error).__name__).inc()
        if isinstance(event.error, NotFoundError) and not self._discovery.resource(stream.selection.resource.group_kind):
            return  # its definition has just gone; the stream is about to end
        log.warning("watch interrupted: kind=%s error=%s", kind, event.error)
        stream.begun.set()


def _named(value: dict[str, Any]) -> ObjectKey:
    """What a malformed object says of itself, for the log."""
    metadata = value.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    return ObjectKey("", str(value.get("kind", "")), str(metadata.get("namespace", "")), str(metadata.get("name", "")))


def rank_of(resource: Resource) -> int:
    """When to list a kind, so that owners come before what they own."""
    if resource.group_kind == CLUSTER:
        return 0
    return 1 if resource.group == CORE else 2
