"""Lists in pages and watches from a version.

A continue token names a page frozen when the first one was served, so all pages show one moment; tokens are few and the oldest expires.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from .definitions import ResourceDefinition
from .requests import CONTINUATIONS_MAX, ListOptions, WatchOptions
from .selectors import field_selector, label_selector
from .status import ApiStatusError, bad_request, expired, version_too_large
from .store import Entry, Scope, Sink, Store, Watch, WatchEvent

JsonDict = dict[str, Any]
INITIAL_EVENTS_END = "k8s.io/initial-events-end"


class Lister:
    """The reading side of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pages: OrderedDict[str, tuple[Sequence[Entry], int]] = OrderedDict()
        self._issued = 0

    def list(self, definition: ResourceDefinition, namespace: str, options: ListOptions) -> JsonDict:
        """Return one page of a list."""
        entries, version = self._open(definition, namespace, options)
        metadata: JsonDict = {"resourceVersion": str(version)}
        if options.limit and len(entries) > options.limit:
            entries, rest = entries[: options.limit], entries[options.limit :]
            metadata["continue"] = self._keep(rest, version)
            if not options.label_selector and not options.field_selector:
                metadata["remainingItemCount"] = len(rest)
        return {"kind": definition.list_kind, "apiVersion": definition.api_version, "metadata": metadata, "items": [entry.obj for entry in entries]}

    def _open(self, definition: ResourceDefinition, namespace: str, options: ListOptions) -> tuple[Sequence[Entry], int]:
        if options.continue_:
            page = self._pages.get(options.continue_)
            if page is None:
                if not options.continue_.startswith("page-"):
                    raise bad_request("continue key is not valid")
                raise expired("The provided continue parameter is too old to display a consistent list result")
            return page
        asked = _version(options.resource_version)
        if asked > self._store.version:
            raise version_too_large(asked, self._store.version)
        return self._store.entries(scope(definition, namespace, options)), self._store.version

    def _keep(self, rest: Sequence[Entry], version: int) -> str:
        self._issued += 1
        token = f"page-{self._issued}"
        self._pages[token] = (rest, version)
        if len(self._pages) > CONTINUATIONS_MAX:
            self._pages.popitem(last=False)
        return token

    def watch(self, definition: ResourceDefinition, namespace: str, options: WatchOptions, sink: Sink | None) -> Watch:
        """Open a watch and deliver what it has to begin with."""
        where = scope(definition, namespace, options)
        watch = self._store.watch(where, sink, bookmarks=options.bookmarks)
        asked = _version(options.resource_version)
        if options.initial_events or not asked:
            for entry in self._store.entries(where):
                watch.deliver(WatchEvent("ADDED", entry.obj, b'{"type":"ADDED","object":' + entry.raw + b"}\n"))
            if options.initial_events and options.bookmarks:
                watch.deliver(self.bookmark(definition, {INITIAL_EVENTS_END: "true"}))
        elif asked < self._store.compacted:
            watch.stop()
            status = expired(f"too old resource version: {asked} ({self._store.compacted})").body()
            watch.deliver(WatchEvent("ERROR", status, orjson.dumps({"type": "ERROR", "object": status}) + b"\n"))
        else:
            self._store.replay(watch, asked)
        return watch

    def send_bookmarks(self, definitions: Mapping[str, ResourceDefinition]) -> None:
        """Deliver a bookmark to every watch that asked for them."""
        for resource, watches in self._store.watches.items():
            for watch in tuple(watches):
                if watch.bookmarks:
                    watch.deliver(self.bookmark(definitions[resource], None))

    def bookmark(self, definition: ResourceDefinition, annotations: JsonDict | None = None) -> WatchEvent:
        """Return a bookmark at the present version."""
        metadata: JsonDict = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        obj = {"kind": definition.kind, "apiVersion": definition.api_version, "metadata": metadata}
        return WatchEvent("BOOKMARK", obj, orjson.dumps({"type": "BOOKMARK", "object": obj}) + b"\n")


def scope(definition: ResourceDefinition, namespace: str, options: ListOptions | WatchOptions) -> Scope:
    """Return the scope that the selectors of a request mean."""
    labels = label_selector(options.label_selector) if options.label_selector else None
    fields = field_selector(options.field_selector, definition.selectable_fields) if options.field_selector else None
    return Scope(definition.resource, namespace if definition.namespaced else "", labels, fields)


def _version(text: str) -> int:
    if not text:
        return 0
    if not text.isdigit():
        raise ApiStatusError(400, "Invalid", f'invalid resource version "{text}"')
    return int(text)
