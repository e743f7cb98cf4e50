"""The API server of :mod:`fleetwake.sim.apiserver` over HTTP, for any Kubernetes client.

An aiohttp application; listener, TLS and lifetime are the caller's. JSON only: a protobuf ``Accept`` gets JSON, as clients tolerate; a
protobuf body gets 415. Paths it does not know can be added (:class:`Extensions`), so that port-forward lives elsewhere.

Source: Kubernetes API concepts, 1.36.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson
import yaml
from aiohttp import web

from . import discovery
from .apiserver import ApiServer, ApiStatusError, DeleteOptions, ListOptions, PatchType, ResourceDefinition, WatchEvent, WatchOptions, WriteOptions, bind, evict
from .apiserver.requests import REQUEST_BYTES_MAX
from .apiserver.status import bad_request, method_not_allowed, no_such_resource, too_large, unauthorized, unsupported_media_type
from .apiserver.table import table

JsonDict = dict[str, Any]
PodHandler = Callable[[web.Request, str, str], Awaitable[web.StreamResponse]]

BOOKMARK_SECONDS = 60.0
WATCH_SECONDS_DEFAULT = 1800.0
WATCH_QUEUE_MAX = 65536
SERVED_VERSION = "v1.36.0"
_JSON = "application/json"
_OPEN_API_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"


class Credentials(NamedTuple):
    """What a client shows: its certificate (DER, None without one) and its bearer token ("" without one)."""

    certificate: bytes | None
    token: str


@dataclass(frozen=True)
class Extensions:
    """What a caller adds.

    ``authenticate`` returns the user's name or None for 401; without it everybody may. ``subresources`` maps (resource, subresource) to a
    handler (request, namespace, name), as (``pods``, ``portforward``). ``routes`` are mounted before ours.
    """

    authenticate: Callable[[Credentials], str | None] | None = None
    subresources: Mapping[tuple[str, str], PodHandler] = field(default_factory=dict)
    routes: tuple[web.RouteDef, ...] = ()
    version: str = SERVED_VERSION


class Target(NamedTuple):
    """What a path addresses; ``version`` is the one asked for, ``name`` and ``subresource`` may be empty."""

    definition: ResourceDefinition
    version: str
    namespace: str
    name: str
    subresource: str


def application(server: ApiServer, extensions: Extensions | None = None) -> web.Application:
    """Return the aiohttp application that serves ``server``."""
    front = _Front(server, extensions or Extensions())
    app = web.Application(client_max_size=REQUEST_BYTES_MAX)
    app.add_routes(front.extensions.routes)
    app.router.add_route("*", "/{path:.*}", front.handle)
    app.on_shutdown.append(front.close)
    return app


class _Front:
    def __init__(self, server: ApiServer, extensions: Extensions) -> None:
        self.server = server
        self.extensions = extensions
        self._queues: set[asyncio.Queue[WatchEvent | None]] = set()

    async def close(self, _: web.Application) -> None:
        """End every open watch."""
        for queue in tuple(self._queues):
            queue.put_nowait(None)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; refusals become Status bodies."""
        try:
            self._authenticate(request)
            return await self._route(request)
        except ApiStatusError as error:
            headers = {"Retry-After": str(error.retry_after_seconds)} if error.retry_after_seconds else None
            return _json(error.body(), error.code, headers)
        except web.HTTPRequestEntityTooLarge:
            refusal = too_large(REQUEST_BYTES_MAX)
            return _json(refusal.body(), refusal.code)

    def _authenticate(self, request: web.Request) -> None:
        if self.extensions.authenticate is None:
            return
        transport = request.transport
        socket = transport.get_extra_info("ssl_object") if transport is not None else None
        certificate = socket.getpeercert(binary_form=True) if socket is not None else None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if self.extensions.authenticate(Credentials(certificate, token.strip() if scheme.lower() == "bearer" else "")) is None:
            raise unauthorized()

    async def _route(self, request: web.Request) -> web.StreamResponse:
        parts = [part for part in request.path.split("/") if part]
        if parts == ["openapi", "v2"] and "protobuf" in request.headers.get("Accept", ""):
            return web.Response(body=discovery.open_api_v2_protobuf(self.extensions.version), content_type=_OPEN_API_PROTOBUF)
        fixed = self._fixed(parts)
        if fixed is not None:
            return _json(fixed)
        if parts and parts[0] in ("healthz", "livez", "readyz"):
            return web.Response(text="ok")
        target = self._target(parts)
        handler = self.extensions.subresources.get((target.definition.resource, target.subresource))
        if handler is not None:
            return await handler(request, target.namespace, target.name)
        match request.method:
            case "GET":
                return await self._read(request, target)
            case "POST":
                return await self._post(request, target)
            case "PUT":
                return await self._put(request, target)
            case "PATCH":
                return await self._patch(request, target)
            case "DELETE":
                return await self._delete(request, target)
        raise method_not_allowed()

    def _fixed(self, parts: list[str]) -> JsonDict | None:
        """Answer the paths that are about the server, not about objects."""
        definitions = self.server.definitions.values()
        match parts:
            case []:
                return {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/readyz", "/version"]}
            case ["version"]:
                return discovery.version(self.extensions.version)
            case ["api"]:
                return discovery.core_versions()
            case ["apis"]:
                return discovery.group_list(definitions)
            case ["apis", name]:
                return next((g for g in discovery.group_list(definitions)["groups"] if g["name"] == name), None)
            case ["api", version]:
                return discovery.resource_list("", version, definitions)
            case ["apis", name, version]:
                return discovery.resource_list(name, version, definitions)
            case ["openapi", "v2"]:
                return {"swagger": "2.0", "info": {"title": "Kubernetes", "version": self.extensions.version}, "paths": {}, "definitions": {}}
            case ["openapi", "v3"]:
                return {"paths": {}}
        return None

    def _target(self, parts: list[str]) -> Target:
        match parts:
            case ["api", version, *rest]:
                group = ""
            case ["apis", group, version, *rest]:
                pass
            case _:
                raise no_such_resource()
        namespace = ""
        if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        if not rest or len(rest) > 3:
            raise no_such_resource()
        plural, name, subresource = (*rest, "", "")[:3]
        definition = self.server.definition(f"{plural}.{group}" if group else plural)
        if version not in definition.versions:
            raise no_such_resource()
        return Target(definition, version, namespace, name, subresource)

    async def _read(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        if target.name:
            obj = self.server.get(target.definition.resource, target.namespace, target.name, target.subresource)
            return self._object(request, target, obj)
        if query.get("watch") in ("true", "1", ""):
            return await self._watch(request, target)
        found = self.server.list(target.definition.resource, target.namespace, _listing(request))
        if _wants(request, "Table"):
            return _json(table(target.definition, found["items"], found["metadata"], self.server.now()))
        if _wants(request, "PartialObjectMetadataList"):
            items = [_partial(item) for item in found["items"]]
            return _json({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": found["metadata"], "items": items})
        if target.version != target.definition.version:
            items = [_in_version(item, target) for item in found["items"]]
            found = {**_in_version(found, target), "items": items}
        return _json(found)

    def _object(self, request: web.Request, target: Target, obj: JsonDict, code: int = 200) -> web.Response:
        if obj.get("kind") == target.definition.kind:
            if _wants(request, "Table"):
                return _json(table(target.definition, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")}, self.server.now()), code)
            if _wants(request, "PartialObjectMetadata"):
                return _json(_partial(obj), code)
            obj = _in_version(obj, target)
        return _json(obj, code)

    async def _post(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = await _body(request)
        subresource = {"eviction": evict, "binding": bind}.get(target.subresource) if target.definition.resource == "pods" else None
        if subresource is not None:
            return _json(subresource(self.server, target.namespace, target.name, body), 201)
        if target.name:
            raise method_not_allowed()
        obj = self.server.create(target.definition.resource, body, target.namespace, _options(request, target))
        return self._object(request, target, obj, 201)

    async def _put(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = await _body(request)
        if not target.name:
            raise method_not_allowed()
        name = (body.get("metadata") or {}).setdefault("name", target.name) if isinstance(body.get("metadata"), dict) else ""
        if name != target.name:
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({target.name})")
        options = _options(request, target)
        if target.subresource == "finalize":
            options = WriteOptions(options.field_manager, dry_run=options.dry_run)
        return self._object(request, target, self.server.update(target.definition.resource, body, target.namespace, options))

    async def _patch(self, request: web.Request, target: Target) -> web.StreamResponse:
        accepted = [kind.value for kind in PatchType]
        if request.content_type not in accepted:
            raise unsupported_media_type(request.content_type, accepted)
        body = _decode(await request.read())
        resource, key = target.definition.resource, (target.namespace, target.name)
        existed = self.server.version
        obj = self.server.patch(resource, key, body, PatchType(request.content_type), _options(request, target))
        created = request.content_type == PatchType.APPLY.value and obj["metadata"].get("generation", 1) == 1 and self._is_new(obj, existed)
        return self._object(request, target, obj, 201 if created else 200)

    def _is_new(self, obj: JsonDict, version: int) -> bool:
        change = self.server.store.history[-1] if self.server.store.history else None
        return change is not None and change.type == "ADDED" and change.entry.version > version and change.entry.obj is obj

    async def _delete(self, request: web.Request, target: Target) -> web.StreamResponse:
        body = await _body(request) if request.can_read_body else {}
        query = request.query
        grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        orphan = body.get("orphanDependents")
        options = DeleteOptions(
            propagation=body.get("propagationPolicy") or query.get("propagationPolicy") or ("" if orphan is None else "Orphan" if orphan else "Background"),
            preconditions=body.get("preconditions") or {},
            grace_seconds=None if grace is None else int(grace),
            dry_run="All" in [*(body.get("dryRun") or ()), *query.getall("dryRun", [])],
        )
        if not target.name:
            return _json(self.server.delete_collection(target.definition.resource, target.namespace, _listing(request), options))
        answer = self.server.delete(target.definition.resource, target.namespace, target.name, options)
        return self._object(request, target, answer)

    async def _watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        query = request.query
        options = WatchOptions(
            query.get("labelSelector", ""),
            query.get("fieldSelector", ""),
            query.get("resourceVersion", ""),
            query.get("allowWatchBookmarks") in ("true", "1"),
            query.get("sendInitialEvents") in ("true", "1"),
        )
        queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        watch = self.server.watch(target.definition.resource, target.namespace, options, queue.put_nowait)
        self._queues.add(queue)
        response = web.StreamResponse(headers={"Content-Type": _JSON})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await self._stream(request, target, response, queue)
            await response.write_eof()
        except (ConnectionResetError, asyncio.CancelledError):
            # the client went away: the normal end of a watch
            return response
        finally:
            watch.stop()
            self._queues.discard(queue)
        return response

    async def _stream(self, request: web.Request, target: Target, response: web.StreamResponse, queue: asyncio.Queue[WatchEvent | None]) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + float(request.query.get("timeoutSeconds") or WATCH_SECONDS_DEFAULT)
        render = self._renderer(request, target)
        bookmarks = request.query.get("allowWatchBookmarks") in ("true", "1")
        while (left := end - loop.time()) > 0:
            try:
                event = await asyncio.wait_for(queue.get(), min(left, BOOKMARK_SECONDS))
            except TimeoutError:
                if bookmarks:
                    await response.write(render(self.server.bookmark(target.definition.resource)))
                continue
            lines: list[bytes] = []
            while event is not None:
                lines.append(render(event))
                if event.type == "ERROR" or queue.empty():
                    break
                event = queue.get_nowait()
            if lines:
                await response.write(b"".join(lines))
            if event is None or event.type == "ERROR" or queue.qsize() > WATCH_QUEUE_MAX:
                return

    def _renderer(self, request: web.Request, target: Target) -> Callable[[WatchEvent], bytes]:
        """Return how events of this watch become lines; the plain form is the one every watcher shares."""
        if _wants(request, "Table"):
            return lambda event: _line(event, table(target.definition, [event.obj], {}, self.server.now()) if event.type in _OBJECT_EVENTS else event.obj)
        if _wants(request, "PartialObjectMetadata"):
            return lambda event: _line(event, _partial(event.obj) if event.type != "ERROR" else event.obj)
        if target.version != target.definition.version:
            return lambda event: _line(event, _in_version(event.obj, target) if event.type != "ERROR" else event.obj)
        return lambda event: event.line


_OBJECT_EVENTS = ("ADDED", "MODIFIED", "DELETED")


def _line(event: WatchEvent, obj: JsonDict) -> bytes:
    return orjson.dumps({"type": event.type, "object": obj}) + b"\n"


def _json(body: Any, code: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=code, content_type=_JSON, headers=headers)


def _wants(request: web.Request, kind: str) -> bool:
    """Whether the first media type the client accepts asks for this rendering."""
    first = request.headers.get("Accept", "").partition(",")[0]
    return f"as={kind};" in first.replace(" ", "") + ";"


def _partial(obj: JsonDict) -> JsonDict:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


def _in_version(obj: JsonDict, target: Target) -> JsonDict:
    if target.version == target.definition.version:
        return obj
    group = target.definition.group
    return {**obj, "apiVersion": f"{group}/{target.version}" if group else target.version}


def _listing(request: web.Request) -> ListOptions:
    query = request.query
    limit = query.get("limit", "0")
    return ListOptions(
        query.get("labelSelector", ""),
        query.get("fieldSelector", ""),
        int(limit) if limit.isdigit() else 0,
        query.get("continue", ""),
        query.get("resourceVersion", ""),
    )


def _options(request: web.Request, target: Target) -> WriteOptions:
    query = request.query
    agent = request.headers.get("User-Agent", "").partition("/")[0].partition(" ")[0]
    apply = request.content_type == PatchType.APPLY.value
    manager = query.get("fieldManager", "" if apply else agent)
    return WriteOptions(manager, query.get("force") in ("true", "1"), "All" in query.getall("dryRun", []), target.subresource)


async def _body(request: web.Request) -> JsonDict:
    if request.content_type not in (_JSON, "application/yaml", "application/octet-stream", "text/plain"):
        raise unsupported_media_type(request.content_type, [_JSON, "application/yaml"])
    raw = await request.read()
    body = _decode(raw) if raw else {}
    if not isinstance(body, dict):
        raise bad_request("the body of the request is not an object")
    return body


def _decode(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as error:
        raise bad_request(f"the body of the request could not be decoded: {error}") from error
