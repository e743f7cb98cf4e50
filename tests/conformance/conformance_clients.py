"""The small client the suite is written against, and its two implementations: in process, and over HTTP."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode, urlsplit

import yaml
from aiohttp import web

from fleetwake.sim.apiserver import (
    ApiServer,
    ApiStatusError,
    DeleteOptions,
    ListOptions,
    PatchType,
    Settings,
    WatchOptions,
    WriteOptions,
    admit_structure,
    bind,
    evict,
)
from fleetwake.sim.http import application

JsonDict = dict[str, Any]
EVENTUALLY_SECONDS = 30.0
PAUSE_SECONDS = 0.05
REQUEST_SECONDS = 30.0
EVENT_SECONDS = 5.0


class Resource(NamedTuple):
    """A resource as both sides address it."""

    group: str
    version: str
    plural: str

    @property
    def name(self) -> str:
        """The in-memory server's name of it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Event(NamedTuple):
    """One watch event."""

    type: str
    obj: JsonDict


class Stream(Protocol):
    """An open watch."""

    def next(self) -> Event:
        """Return the next event; fails when none comes."""


@dataclass(frozen=True)
class Write:
    """Options of a write."""

    manager: str = ""
    force: bool = False
    dry_run: bool = False
    subresource: str = ""


class Client(Protocol):
    """What the suite needs of an API server. Refusals raise ApiStatusError."""

    def create(self, resource: Resource, obj: JsonDict, namespace: str = "", write: Write = ...) -> JsonDict: ...
    def get(self, resource: Resource, namespace: str, name: str, subresource: str = "") -> JsonDict: ...
    def list(self, resource: Resource, namespace: str = "", **options: str) -> JsonDict: ...
    def update(self, resource: Resource, obj: JsonDict, namespace: str = "", write: Write = ...) -> JsonDict: ...
    def patch(self, resource: Resource, key: tuple[str, str], patch: Any, type_: PatchType, write: Write = ...) -> JsonDict: ...
    def delete(self, resource: Resource, namespace: str, name: str, options: JsonDict | None = None) -> JsonDict: ...
    def evict(self, namespace: str, name: str) -> JsonDict: ...
    def bind(self, namespace: str, name: str, node: str) -> JsonDict: ...
    def watch(self, resource: Resource, namespace: str, **options: str) -> Any: ...
    def eventually(self, holds: Callable[[], bool]) -> None: ...


class _MemoryStream:
    def __init__(self, watch: Any) -> None:
        self._watch = watch

    def next(self) -> Event:
        assert self._watch.pending, "no event is waiting"
        event = self._watch.pending.popleft()
        return Event(event.type, event.obj)


class MemoryClient:
    """The in-memory server, called directly."""

    def __init__(self) -> None:
        self.server = memory_server()

    def create(self, resource: Resource, obj: JsonDict, namespace: str = "", write: Write = Write()) -> JsonDict:
        return self.server.create(resource.name, obj, namespace, _options(write))

    def get(self, resource: Resource, namespace: str, name: str, subresource: str = "") -> JsonDict:
        return self.server.get(resource.name, namespace, name, subresource)

    def list(self, resource: Resource, namespace: str = "", **options: str) -> JsonDict:
        listing = ListOptions(
            options.get("labelSelector", ""),
            options.get("fieldSelector", ""),
            int(options.get("limit", 0)),
            options.get("continue", ""),
            options.get("resourceVersion", ""),
        )
        return self.server.list(resource.name, namespace, listing)

    def update(self, resource: Resource, obj: JsonDict, namespace: str = "", write: Write = Write()) -> JsonDict:
        return self.server.update(resource.name, obj, namespace, _options(write))

    def patch(self, resource: Resource, key: tuple[str, str], patch: Any, type_: PatchType, write: Write = Write()) -> JsonDict:
        return self.server.patch(resource.name, key, patch, type_, _options(write))

    def delete(self, resource: Resource, namespace: str, name: str, options: JsonDict | None = None) -> JsonDict:
        given = options or {}
        wanted = DeleteOptions(
            given.get("propagationPolicy", ""), given.get("preconditions", {}), given.get("gracePeriodSeconds"), "All" in given.get("dryRun", ())
        )
        return self.server.delete(resource.name, namespace, name, wanted)

    def evict(self, namespace: str, name: str) -> JsonDict:
        return evict(self.server, namespace, name, {})

    def bind(self, namespace: str, name: str, node: str) -> JsonDict:
        return bind(self.server, namespace, name, _binding(name, node))

    @contextmanager
    def watch(self, resource: Resource, namespace: str, **options: str) -> Iterator[Stream]:
        wanted = WatchOptions(
            options.get("labelSelector", ""),
            options.get("fieldSelector", ""),
            options.get("resourceVersion", ""),
            options.get("allowWatchBookmarks") == "true",
            options.get("sendInitialEvents") == "true",
        )
        watch = self.server.watch(resource.name, namespace, wanted)
        try:
            yield _MemoryStream(watch)
        finally:
            watch.stop()

    def eventually(self, holds: Callable[[], bool]) -> None:
        assert holds()


def _binding(name: str, node: str) -> JsonDict:
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"apiVersion": "v1", "kind": "Node", "name": node}}


def _options(write: Write) -> WriteOptions:
    return WriteOptions(write.manager, write.force, write.dry_run, write.subresource)


def memory_server() -> ApiServer:
    """Return the server the suite runs against; collection runs within each write."""
    server = ApiServer(lambda: datetime.now(UTC), Settings(collect_automatically=True, first_version=1000), admission=admit_structure)
    server.create("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}})
    server.store.compact()
    return server


class _HttpStream:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response

    def next(self) -> Event:
        line = self._response.readline()
        assert line, "the watch ended"
        event = json.loads(line)
        return Event(event["type"], event["object"])


class HttpClient:
    """Any API server over HTTP: ours, or the real one."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        self._address = urlsplit(url)
        self._context = context

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._address.hostname or "", self._address.port
        if self._context is None:
            return http.client.HTTPConnection(host, port, timeout=REQUEST_SECONDS)
        return http.client.HTTPSConnection(host, port, timeout=REQUEST_SECONDS, context=self._context)

    def request(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> JsonDict:
        """Send one request and return the decoded answer; a Status of failure is raised."""
        connection = self._connection()
        try:
            raw = None if body is None else json.dumps(body).encode()
            connection.request(method, path, raw, {"Content-Type": content_type, "Accept": "application/json", "User-Agent": "conformance"})
            response = connection.getresponse()
            return _decoded(response.status, response.read())
        finally:
            connection.close()

    def create(self, resource: Resource, obj: JsonDict, namespace: str = "", write: Write = Write()) -> JsonDict:
        return self.request("POST", _path(resource, namespace, "", write), obj)

    def get(self, resource: Resource, namespace: str, name: str, subresource: str = "") -> JsonDict:
        return self.request("GET", _path(resource, namespace, name, Write(subresource=subresource)))

    def list(self, resource: Resource, namespace: str = "", **options: str) -> JsonDict:
        return self.request("GET", _path(resource, namespace, "", Write()) + "?" + urlencode(options))

    def update(self, resource: Resource, obj: JsonDict, namespace: str = "", write: Write = Write()) -> JsonDict:
        return self.request("PUT", _path(resource, namespace, obj["metadata"]["name"], write), obj)

    def patch(self, resource: Resource, key: tuple[str, str], patch: Any, type_: PatchType, write: Write = Write()) -> JsonDict:
        return self.request("PATCH", _path(resource, key[0], key[1], write), patch, type_.value)

    def delete(self, resource: Resource, namespace: str, name: str, options: JsonDict | None = None) -> JsonDict:
        return self.request("DELETE", _path(resource, namespace, name, Write()), options)

    def evict(self, namespace: str, name: str) -> JsonDict:
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
        return self.request("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/eviction", body)

    def bind(self, namespace: str, name: str, node: str) -> JsonDict:
        return self.request("POST", f"/api/v1/namespaces/{namespace}/pods/{name}/binding", _binding(name, node))

    @contextmanager
    def watch(self, resource: Resource, namespace: str, **options: str) -> Iterator[Stream]:
        connection = self._connection()
        path = _path(resource, namespace, "", Write()) + "?" + urlencode({"watch": "true", **options})
        connection.request("GET", path, headers={"Accept": "application/json"})
        response = connection.getresponse()
        if response.status != 200:
            _decoded(response.status, response.read())
        if isinstance(connection.sock, socket.socket):
            connection.sock.settimeout(EVENT_SECONDS)
        try:
            yield _HttpStream(response)
        finally:
            connection.close()

    def eventually(self, holds: Callable[[], bool]) -> None:
        limit = time.monotonic() + EVENTUALLY_SECONDS
        while not holds():
            assert time.monotonic() < limit, "did not come true in time"
            # another process decides when: there is nothing here that could be awaited
            threading.Event().wait(PAUSE_SECONDS)


def _path(resource: Resource, namespace: str, name: str, write: Write) -> str:
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    path = root + (f"/namespaces/{namespace}" if namespace else "") + "/" + resource.plural
    path += (f"/{name}" if name else "") + (f"/{write.subresource}" if write.subresource else "")
    query = {
        key: value
        for key, value in (("fieldManager", write.manager), ("force", "true" if write.force else ""), ("dryRun", "All" if write.dry_run else ""))
        if value
    }
    return path + ("?" + urlencode(query) if query else "")


def _decoded(code: int, raw: bytes) -> JsonDict:
    try:
        body: JsonDict = json.loads(raw)
    except ValueError:
        # what no handler took is answered in plain text
        body = {"message": raw.decode()}
    if code >= 400:
        raise ApiStatusError(code, body.get("reason", ""), body.get("message", ""), body.get("details"))
    return body


@contextmanager
def served(server: ApiServer) -> Iterator[str]:
    """Serve over loopback in a thread with its own loop; yields the address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> tuple[web.AppRunner, int]:
        runner = web.AppRunner(application(server), shutdown_timeout=1.0)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return runner, int(runner.addresses[0][1])

    runner, port = asyncio.run_coroutine_threadsafe(start(), loop).result()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def client_of_kubeconfig(path: Path) -> HttpClient:
    """Return a client with the address and credentials of a kubeconfig."""
    config = yaml.safe_load(path.read_text())
    context = next(entry["context"] for entry in config["contexts"] if entry["name"] == config["current-context"])
    cluster = next(entry["cluster"] for entry in config["clusters"] if entry["name"] == context["cluster"])
    user = next(entry["user"] for entry in config["users"] if entry["name"] == context["user"])
    tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "crt"), Path(folder, "key")
        certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
        key.write_bytes(base64.b64decode(user["client-key-data"]))
        tls.load_cert_chain(certificate, key)
    return HttpClient(cluster["server"], tls)
