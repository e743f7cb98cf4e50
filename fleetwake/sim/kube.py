"""The API server in memory behind the shell's port: requests as the shell makes them, answers as HTTP would carry them, and what a network does to both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from fleetwake.errors import UnavailableError
from fleetwake.shell.ports import Request, Response
from fleetwake.sim.apiserver import ApiServer, ApiStatusError, DeleteOptions, ListOptions, PatchType, WriteOptions, evict
from fleetwake.sim.apiserver.status import bad_request, method_not_allowed, no_such_resource
from fleetwake.sim.faults import Fate, Faults
from fleetwake.sim.loop import Process, SimLoop

JsonDict = dict[str, Any]
USUAL_SECONDS = 0.002
STUCK_SECONDS_MAX = 3.0
"""How long a client waits before it notices that no answer comes, at most."""


def respond(server: ApiServer, request: Request) -> Response:
    """Answer one request as the real server's front end would; refusals are Status bodies."""
    try:
        return _route(server, request)
    except ApiStatusError as error:
        headers = {"retry-after": str(error.retry_after_seconds)} if error.retry_after_seconds else {}
        return Response(error.code, orjson.dumps(error.body()), headers)


def refusal(code: int, reason: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """A Status the server did not make: an overloaded or restarting one's."""
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code}
    return Response(code, orjson.dumps(body), headers or {})


@dataclass(frozen=True, slots=True)
class _Target:
    resource: str
    namespace: str
    name: str
    subresource: str


def _target(path: str) -> _Target:
    match [part for part in path.split("/") if part]:
        case ["api", _, *rest]:
            group = ""
        case ["apis", group, _, *rest]:
            pass
        case _:
            raise no_such_resource()
    namespace = ""
    if len(rest) >= 3 and rest[0] == "namespaces" and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    if not rest:
        raise no_such_resource()
    plural, name, subresource = (*rest, "", "")[:3]
    return _Target(f"{plural}.{group}" if group else plural, namespace, name, subresource)


def _route(server: ApiServer, request: Request) -> Response:
    if request.path in ("/", "/version"):
        return Response(200, b"{}")
    target = _target(request.path)
    match request.method:
        case "GET":
            return _read(server, request, target)
        case "POST":
            return _post(server, request, target)
        case "PATCH":
            options = WriteOptions(request.query.get("fieldManager", ""), request.query.get("force") == "true", subresource=target.subresource)
            obj = server.patch(target.resource, (target.namespace, target.name), _body(request), PatchType(request.content_type), options)
            return Response(200, orjson.dumps(obj))
        case "DELETE":
            body = _body(request)
            grace = body.get("gracePeriodSeconds")
            given = DeleteOptions(body.get("propagationPolicy", ""), body.get("preconditions") or {}, None if grace is None else int(grace))
            return Response(200, orjson.dumps(server.delete(target.resource, target.namespace, target.name, given)))
    raise method_not_allowed()


def _body(request: Request) -> Any:
    try:
        return orjson.loads(request.body or b"{}")
    except orjson.JSONDecodeError as error:
        raise bad_request(str(error)) from error


def _post(server: ApiServer, request: Request, target: _Target) -> Response:
    body = _body(request)
    if target.subresource == "eviction":
        return Response(201, orjson.dumps(evict(server, target.namespace, target.name, body)))
    if target.name:
        raise method_not_allowed()
    return Response(201, orjson.dumps(server.create(target.resource, body, target.namespace, WriteOptions(request.query.get("fieldManager", "")))))


def _read(server: ApiServer, request: Request, target: _Target) -> Response:
    partial = request.accept.partition(",")[0]
    if target.name:
        obj = server.get(target.resource, target.namespace, target.name, target.subresource)
        return Response(200, orjson.dumps(_partial(obj) if "as=PartialObjectMetadata;" in partial else obj))
    query = request.query
    listing = ListOptions(query.get("labelSelector", ""), query.get("fieldSelector", ""), int(query.get("limit", "0")), query.get("continue", ""))
    found = server.list(target.resource, target.namespace, listing)
    if "as=PartialObjectMetadataList;" in partial:
        found = {**found, "items": [_partial(item) for item in found["items"]]}
    return Response(200, orjson.dumps(found))


def _partial(obj: JsonDict) -> JsonDict:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]}


@dataclass(frozen=True, slots=True)
class Sent:
    """A write at the moment it reached a server. ``number`` counts the writes of the simulation from 1."""

    number: int
    at: float
    process: str
    request: Request
    status: int
    changed: bool


class SimNetwork:
    """Between processes and API servers. ``watching`` are called with every write after it had its effect, ``sending`` and ``reading`` as a request arrives."""

    def __init__(self, loop: SimLoop, faults: Faults) -> None:
        self.loop, self.faults = loop, faults
        self.sending: list[Callable[[Process, Request], None]] = []
        self.reading: list[Callable[[Process, Request], None]] = []
        self.watching: list[Callable[[Process, Sent], None]] = []
        self._number = self._cuts = 0

    def cut(self) -> None:
        """Break every connection: what is under way is neither served nor answered."""
        self._cuts += 1

    async def send(self, process: Process, server: Callable[[], ApiServer | None], request: Request) -> Response:
        """Carry one request.

        Raises:
            UnavailableError: it, or its answer, was lost.
        """
        process.check()
        write = request.method != "GET"
        fate = self.faults.request(write)
        await asyncio.sleep(self.faults.latency(USUAL_SECONDS / 10))
        process.check()
        if request.leaving is not None:
            # a process frozen between its fence check and here goes on later
            request.leaving()
        if fate is Fate.LOST:
            await asyncio.sleep(self.faults.random.uniform(0.001, STUCK_SECONDS_MAX))
            raise UnavailableError("connection reset before the request was sent", operation=f"{request.method} {request.path}")
        answer: asyncio.Future[Response | None] = self.loop.create_future()
        there, back = self.faults.latency(USUAL_SECONDS), self.faults.latency(USUAL_SECONDS / 2)
        cuts = self._cuts
        self.loop.in_world(self._arrived, process, lambda: server() if cuts == self._cuts else None, request, fate, answer, back, after=there)
        response = await answer
        process.check()
        if cuts != self._cuts:
            response = None
        if response is None:
            raise UnavailableError("no answer", operation=f"{request.method} {request.path}")
        return response

    def _arrived(
        self, process: Process, server: Callable[[], ApiServer | None], request: Request, fate: Fate, answer: asyncio.Future[Response | None], back: float
    ) -> None:
        response: Response | None
        match fate:
            case Fate.CONFLICT:
                response = refusal(409, "Conflict", "injected: the object has been modified")
            case Fate.THROTTLED:
                response = refusal(429, "TooManyRequests", "injected: too many requests", {"retry-after": "1"})
            case Fate.UNAVAILABLE:
                response = refusal(503, "ServiceUnavailable", "injected: the server is starting")
            case _:
                response = self._served(process, server(), request)
        if fate is Fate.UNANSWERED:
            response, back = None, self.faults.random.uniform(0.001, STUCK_SECONDS_MAX)
        self.loop.in_world(_answer, answer, response, after=back)

    def _served(self, process: Process, server: ApiServer | None, request: Request) -> Response | None:
        if server is None:
            return None
        if request.method == "GET":
            for callback in self.reading:
                callback(process, request)
            return respond(server, request)
        for callback in self.sending:
            callback(process, request)
        before = server.version
        response = respond(server, request)
        self._number += 1
        sent = Sent(self._number, self.loop.time(), process.name, request, response.status, server.version != before)
        for watcher in self.watching:
            watcher(process, sent)
        return response


def _answer(future: asyncio.Future[Response | None], response: Response | None) -> None:
    if not future.done():
        future.set_result(response)


class SimKube:
    """``fleetwake.shell.ports.KubePort`` of one process."""

    def __init__(self, network: SimNetwork, process: Process, server: ApiServer) -> None:
        self._network, self._process, self._server = network, process, server

    async def send(self, request: Request) -> Response:
        """Send one request."""
        return await self._network.send(self._process, lambda: self._server, request)
