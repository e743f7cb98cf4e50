"""List, then watch, for ever: one collection of an API server as a stream of events that never ends by itself.

Lists are paged and consistent; a watch resumes from the last resourceVersion, bookmarks included; 410 lists again, and the consumer diffs
(a page run is the whole collection). Lines of any length are cut here, because aiohttp's own line reader stops at 128 KiB. After a broken
connection the server's present resourceVersion is asked first: a server restored from a backup would otherwise keep silent until it
passes the version we ask from.

Source: Kubernetes API concepts (efficient detection of changes, 1.36).
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import aiohttp
import orjson

from fleetwake.errors import DecodeError, FleetwakeError, ForbiddenError, NotFoundError, UnavailableError, WatchExpiredError
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.discovery import Resource

PAGE_LIMIT = 500
LINE_BYTES_MAX = 32 * 1024 * 1024
WATCH_SECONDS_MIN = 1500
WATCH_SECONDS_SPREAD = 1500
WATCH_SILENCE_SECONDS = 130.0
"""A watch is dead when nothing came for two bookmark intervals of the API server (one a minute)."""

WATCH_SECONDS_TOO_SHORT = 1.0
BACKOFF_SECONDS_MIN = 0.05
BACKOFF_SECONDS_MAX = 5.0
LIST_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Page:
    """Some objects of a list run, as JSON objects with apiVersion and kind filled in. ``first`` begins a run: forget what an interrupted one had.

    ``rewound`` says that the server's history goes back behind what had been seen when the list was asked for: it was restored.
    """

    items: list[dict[str, Any]]
    resource_version: int
    received: float
    first: bool
    rewound: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """The list run is complete: what its pages did not hold does not exist at ``resource_version``."""

    resource_version: int
    received: float


@dataclass(frozen=True, slots=True)
class Changed:
    """One watch event, ADDED, MODIFIED or DELETED. ``line`` is the raw JSON line, ``received`` Unix seconds when it was read."""

    type: str
    object: dict[str, Any]
    line: bytes
    received: float


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The stream has lost its server and is trying again."""

    error: FleetwakeError


@dataclass(frozen=True, slots=True)
class Resumed:
    """After an ``Interrupted`` the watch goes on where it was: nothing was missed, nothing is listed again."""


WatchEvent: TypeAlias = Page | Listed | Changed | Interrupted | Resumed


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a kind to list and watch."""

    resource: Resource
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""

    @property
    def path(self) -> str:
        """The REST path of the collection."""
        return resource_path(self.resource.api_version, self.resource.plural, self.namespace if self.resource.namespaced else "")

    @property
    def query(self) -> dict[str, str]:
        """The selectors as query parameters."""
        parameters = {"labelSelector": self.label_selector, "fieldSelector": self.field_selector}
        return {name: value for name, value in parameters.items() if value}

    def __str__(self) -> str:
        return "?".join(filter(None, (f"{self.resource.plural}.{self.resource.group}".rstrip("."), "&".join(self.query.values()))))


class LineSplitter:
    """Cuts a byte stream into lines, whatever the chunks; each byte is copied at most twice."""

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._max = line_bytes_max

    def feed(self, chunk: bytes) -> list[bytes]:
        """The lines completed by ``chunk``, without their ends, empty ones left out.

        Raises:
            DecodeError: a line passes the limit.
        """
        lines = chunk.split(b"\n")
        rest = lines.pop()
        if lines:
            if self._parts:
                self._parts.append(lines[0])
                lines[0] = b"".join(self._parts)
            self._parts, self._held = [], 0
        if rest:
            self._parts.append(rest)
            self._held += len(rest)
        if self._held > self._max:
            raise DecodeError(f"a line of the stream passes {self._max} bytes")
        return [line for line in lines if line]


class Reflector:
    """One selection of objects as an endless stream of events. ``synced`` is set while a watch runs on a complete list."""

    def __init__(self, client: ApiClient, selection: Selection, *, floor: Callable[[], int] = lambda: 0, now: Callable[[], float] = time.time) -> None:
        self._client = client
        self._floor = floor
        self.selection = selection
        self._now = now
        self.synced = asyncio.Event()
        self.resource_version = 0
        self._listed = False
        self._complete = False
        self._interrupted = False
        self._response: aiohttp.ClientResponse | None = None
        self._opened = 0.0

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        """List and watch until the consumer stops iterating. No failure ends it; each one shows as ``Interrupted``."""
        backoff = BACKOFF_SECONDS_MIN
        while True:
            try:
                if self._listed:
                    await self._check_history()
                else:
                    self._listed = True  # before the list: a relist asked for meanwhile must not be forgotten
                    self._complete = False
                    async for event in self._list():
                        yield event
                    self._complete, self._interrupted = True, False
                async for changed in self._watch():
                    if isinstance(changed, Changed):
                        backoff = BACKOFF_SECONDS_MIN
                    yield changed
                if not self._listed or self._now() - self._opened > WATCH_SECONDS_TOO_SHORT:
                    continue
                failure: FleetwakeError = UnavailableError("the server ends watches at once", operation=f"watch {self.selection}")
            except WatchExpiredError as error:
                self._listed = False
                failure = error
            except FleetwakeError as error:
                # not found: the kind's endpoint is not there (any more); when it is back its objects may be others
                # (and a list that failed half way has to begin again)
                self._listed = self._listed and self._complete and not isinstance(error, NotFoundError | ForbiddenError | DecodeError)
                failure = error
            self.synced.clear()
            self._interrupted = True
            yield Interrupted(failure)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, BACKOFF_SECONDS_MAX)

    def relist(self) -> None:
        """List again, at once if a watch is open."""
        self._listed = False
        if self._response is not None:
            self._response.close()

    async def _list(self) -> AsyncGenerator[Page | Listed, None]:
        query = {**self.selection.query, "limit": str(PAGE_LIMIT)}
        first, floor = True, self._floor()  # before the request: lists are consistent reads, so an older answer is another history
        while True:
            answer = await self._client.request("GET", self.selection.path, query=query, timeout_seconds=LIST_TIMEOUT_SECONDS)
            raise_for(answer, f"list {self.selection}")
            document = answer.json()
            items: list[dict[str, Any]] = document.get("items") or []
            resource = self.selection.resource
            for item in items:  # items of a list leave them out for built-in kinds
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
            received = self._now()
            metadata = document["metadata"]
            version = int(metadata["resourceVersion"])
            yield Page(items, version, received, first, version < floor)
            first = False
            if not metadata.get("continue"):
                self.resource_version = int(metadata["resourceVersion"])
                yield Listed(self.resource_version, received)
                return
            query["continue"] = metadata["continue"]

    async def _check_history(self) -> None:
        answer = await self._client.request("GET", self.selection.path, query={**self.selection.query, "limit": "1"})
        raise_for(answer, f"list {self.selection}")
        present = int(answer.json()["metadata"]["resourceVersion"])
        if present < self.resource_version:
            raise WatchExpiredError(f"the server is at resourceVersion {present}, we had {self.resource_version}", operation=f"watch {self.selection}")

    async def _watch(self) -> AsyncGenerator[Changed | Resumed, None]:
        # kinds end their watches at different times, so that they do not all reconnect in one second
        seconds = WATCH_SECONDS_MIN + zlib.crc32(str(self.selection).encode()) % WATCH_SECONDS_SPREAD
        query = {
            **self.selection.query,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": str(self.resource_version),
            "timeoutSeconds": str(seconds),
        }
        splitter = LineSplitter()
        async with self._client.open(self.selection.path, query=query) as response:
            self._response, self._opened = response, self._now()
            self.synced.set()
            try:
                if self._interrupted:
                    self._interrupted = False
                    yield Resumed()
                while self._listed and (chunk := await self._read(response)):
                    received = self._now()
                    for line in splitter.feed(chunk):
                        # after a relist was asked for, what is still in this chunk may be of a history that is no more
                        if self._listed and (changed := self._take(line, received)) is not None:
                            yield changed
            finally:
                self._response = None

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        try:
            async with asyncio.timeout(WATCH_SILENCE_SECONDS):
                return await response.content.readany()
        except TimeoutError as error:
            raise UnavailableError(f"no byte for {WATCH_SILENCE_SECONDS:g} s", operation=f"watch {self.selection}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnavailableError(f"{type(error).__name__}: {error}", operation=f"watch {self.selection}") from error

    def _take(self, line: bytes, received: float) -> Changed | None:
        try:
            event = orjson.loads(line)
            kind, value = event["type"], event["object"]
            if kind == "ERROR":
                code, message = value.get("code"), value.get("message", "")
                expired = code == 410 or value.get("reason") in ("Expired", "Gone")
                raise (WatchExpiredError if expired else UnavailableError)(message, operation=f"watch {self.selection}")
            self.resource_version = int(value["metadata"]["resourceVersion"])
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DecodeError(f"line {line[:120]!r}: {error}", operation=f"watch {self.selection}") from error
        return None if kind == "BOOKMARK" else Changed(kind, value, line, received)
