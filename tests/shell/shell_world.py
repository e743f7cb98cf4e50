"""A worker on an API server in memory, in virtual time: what tests of the shell build on.

Ports are the seams the shell offers; behind them stand the in-memory API server, a list in the place of the bus, and the simulation's clock. The world's
records reach the worker as a watcher would produce them, unless ``deaf`` says that they are late.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from fleetwake.connections.otlp import Otlp
from fleetwake.errors import UnavailableError
from fleetwake.kind import Failure, Kind, View, Watch, any_owner
from fleetwake.plan import Plan
from fleetwake.shell.cache import SHARED_PARTITION
from fleetwake.shell.ports import Ports, Request, Response
from fleetwake.shell.worker import Options, Worker
from fleetwake.shell.workload import NoWorkloads
from fleetwake.sim.apiserver import WORKLOAD_KINDS, ApiServer, Change, ResourceDefinition, Settings, WriteOptions
from fleetwake.sim.kube import respond
from fleetwake.sim.loop import SimClock, simulation
from fleetwake.stream.partition import partition_of
from fleetwake.tracing.spans import Tracer
from schemas.api.meta import KubeObject
from schemas.keys import GroupKind, ObjectKey
from schemas.records import ADDED, DELETED, MODIFIED, ObjectRecord, Version
from schemas.sensitive import hashes_of, redact
from schemas.topics import Topics

GROUP = "test.fleetwake.io"
PARTITIONS = 4
NAMESPACE = "default"
CLUSTER = f"{NAMESPACE}/demo"
LABELS = {"cluster.x-k8s.io/cluster-name": "demo"}
REDACTION_KEY = b"k" * 32
MANAGER = "capi-test"

Json = dict[str, Any]


def simulated(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in virtual time; anything that fails in the background fails the test."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with simulation() as loop:
            loop.run_until_complete(test(*args, **kwargs))
            assert not loop.errors, loop.errors

    return run


class Parent(KubeObject):
    """A kind that has children."""

    GROUP, VERSION, KIND, PLURAL = GROUP, "v1", "Parent", "parents"
    spec: Mapping[str, Any] = {}
    status: Mapping[str, Any] = {}


class Child(KubeObject):
    """A kind that has an owner."""

    GROUP, VERSION, KIND, PLURAL = GROUP, "v1", "Child", "children"
    spec: Mapping[str, Any] = {}
    status: Mapping[str, Any] = {}


PARENT, CHILD = GroupKind(GROUP, "Parent"), GroupKind(GROUP, "Child")
DEFINITIONS = tuple(ResourceDefinition(group=GROUP, version="v1", kind=model.KIND, plural=model.PLURAL, status=True) for model in (Parent, Child))


def parent_key(name: str) -> ObjectKey:
    """The key of a Parent."""
    return ObjectKey(GROUP, "Parent", NAMESPACE, name)


def child_key(name: str) -> ObjectKey:
    """The key of a Child."""
    return ObjectKey(GROUP, "Child", NAMESPACE, name)


@dataclass(frozen=True)
class Seen:
    """What a test's decision is made from."""

    parent: Parent
    children: tuple[Child, ...]
    failure: Failure | None
    view: View

    @property
    def key(self) -> ObjectKey:
        """The Parent's key."""
        return parent_key(self.parent.name)

    @property
    def uid(self) -> str:
        """The Parent's uid."""
        return self.parent.metadata.uid


def observe(view: View, key: ObjectKey) -> Seen | None:
    """Read the Parent and its children."""
    parent = view.get(Parent, key.namespace, key.name)
    return Seen(parent, view.owned(Child, parent.metadata.uid), view.failure(), view) if parent is not None else None


def kind_of(reconcile: Callable[[Seen], Plan], **fields: Any) -> Kind[Seen]:
    """A kind over Parents, woken by their children."""
    return Kind(Parent, observe, reconcile, MANAGER, **{"watches": (Watch(CHILD, any_owner(PARENT)),), **fields})


def child_body(name: str, owner: Seen, **fields: Any) -> Json:
    """A Child controlled by a Parent."""
    ref = {"apiVersion": f"{GROUP}/v1", "kind": "Parent", "name": owner.parent.name, "uid": owner.uid, "controller": True}
    meta = {"name": name, "namespace": NAMESPACE, "labels": LABELS, "ownerReferences": [ref]}
    return {"apiVersion": f"{GROUP}/v1", "kind": "Child", "metadata": meta, **fields}


class Wire:
    """``KubePort``: the in-memory server, with what a network and an overloaded server do. A hook may answer, raise, or let pass (None)."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.requests: list[Request] = []
        self.before: list[Callable[[Request], Response | None]] = []
        self.after: list[Callable[[Request, Response], None]] = []
        self.gate: asyncio.Event | None = None

    @property
    def writes(self) -> list[Request]:
        """Requests that were no reads, in order."""
        return [request for request in self.requests if request.method != "GET"]

    async def send(self, request: Request) -> Response:
        """Carry a request."""
        await asyncio.sleep(0.001)
        if self.gate is not None:
            await self.gate.wait()
        if request.leaving is not None:
            request.leaving()
        self.requests.append(request)
        for hook in tuple(self.before):
            answer = hook(request)
            if answer is not None:
                return answer
        response = respond(self.server, request)
        for look in tuple(self.after):
            look(request, response)
        return response

    def lose_answer(self, method: str, path_part: str) -> None:
        """The next such request has its effect; its answer never comes."""

        def lose(request: Request, _: Response) -> None:
            if request.method == method and path_part in request.path:
                self.after.remove(lose)
                raise UnavailableError("connection reset", operation=f"{method} {request.path}")

        self.after.append(lose)

    def answer(self, method: str, path_part: str, response: Response, times: int = 1) -> None:
        """Answer the next such requests thus, without effect."""
        left = [times]

        def hook(request: Request) -> Response | None:
            if left[0] > 0 and request.method == method and path_part in request.path:
                left[0] -= 1
                return response
            return None

        self.before.append(hook)


def status_response(code: int, reason: str, message: str, **details: Any) -> Response:
    """A Status body."""
    return Response(code, orjson.dumps({"kind": "Status", "code": code, "reason": reason, "message": message, "details": details}))


@dataclass(frozen=True)
class Produced:
    """A record on the bus."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]
    partition: int

    @property
    def json(self) -> Any:
        """The value."""
        return orjson.loads(self.value or b"null")


class ListBus:
    """``BusPort`` that keeps what was produced."""

    def __init__(self) -> None:
        self.produced: list[Produced] = []

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes]], partition: int) -> None:
        """Keep a record."""
        await self.enqueue(topic, key, value, headers, partition)

    async def enqueue(self, topic: str, key: bytes, value: bytes | None, headers: Iterable[tuple[str, bytes]], partition: int) -> asyncio.Future[int]:
        """Keep a record; its number is its offset."""
        self.produced.append(Produced(topic, key, value, dict(headers), partition))
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        answer.set_result(len(self.produced) - 1)
        return answer

    def results(self, type_: str) -> list[Any]:
        """Values of the results of a type (``planned``, ``done``, ``recovered``)."""
        return [record.json for record in self.produced if record.headers.get("ce_type", b"").endswith(type_.encode())]


class CountedKeys:
    """``KeyPort`` with keys that can be told apart."""

    def __init__(self) -> None:
        self.taken = 0

    async def take(self, algorithm: str) -> bytes:
        """The next key."""
        self.taken += 1
        return f"{algorithm} {self.taken}".encode()


@dataclass
class Tuning:
    """How a world differs from the usual."""

    workloads: Any = field(default_factory=NoWorkloads)
    options: Mapping[str, Any] = field(default_factory=dict)


class ShellWorld:
    """An API server, a worker that owns every partition, and the records between them."""

    def __init__(self, *kinds: Kind[Any], tuning: Tuning | None = None) -> None:
        tuning = tuning or Tuning()
        loop: Any = asyncio.get_running_loop()
        self.loop = loop
        self.clock = SimClock(loop)
        settings = Settings(create_namespaces=True, first_version=100)
        self.api = ApiServer(self.clock.now, settings, [*WORKLOAD_KINDS, *DEFINITIONS])
        self.kube, self.bus, self.keys = Wire(self.api), ListBus(), CountedKeys()
        self.fenced, self.deaf = False, False
        self.fatal: list[BaseException] = []
        self.offsets: dict[int, int] = {}
        ports = Ports(self.kube, self.bus, self.clock, self.keys, Tracer("reconcilers", "w0", Otlp(), self.clock))
        options: Json = {
            "service": "reconcilers",
            "instance": "w0",
            "incarnation": "life-1",
            "signal": lambda name: loop.call_soon(self._pump, name),
            "fatal": self.fatal.append,
            "fenced": lambda: self.fenced,
            "redact": lambda state: redact(state, REDACTION_KEY),
            "known": lambda live: hashes_of(live, REDACTION_KEY),
            "topics": Topics("t"),
            "partitions": PARTITIONS,
            **tuning.options,
        }
        self.worker = Worker(kinds, ports, tuning.workloads, Options(**options))
        for definition in DEFINITIONS:
            crd = {"spec": {"group": GROUP, "names": {"kind": definition.kind, "plural": definition.plural}, "versions": [{"name": "v1", "served": True}]}}
            self.worker.resources.take_crd(crd, ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", f"{definition.plural}.{GROUP}"))
        self.api.on_change(self._changed)

    def _pump(self, name: str) -> None:
        self.worker.pump(name)

    def own_all(self, verified: bool = True) -> None:
        """Own every partition, replayed. ``verified`` False: the first writing plan of each key is confirmed by live reads, as after a takeover."""
        self.worker.assign(range(PARTITIONS))
        for number in range(PARTITIONS):
            self.worker.replay_finished(number, self.offsets.get(number, 0))
        if verified:
            self.worker.unverified.clear()

    def _changed(self, change: Change) -> None:
        if not self.deaf and self.worker.partitions and change.entry.key.resource != "namespaces":
            self.deliver(change.type, orjson.loads(change.entry.raw))

    def deliver(self, type_: str, state: Json, cluster: str = CLUSTER, *, partition: int | None = None) -> None:
        """What the watcher does with a watch line, and the bus with its record."""
        record = self.record(type_, state, cluster)
        number = partition_of(cluster, PARTITIONS) if partition is None else partition
        if number == SHARED_PARTITION:
            self.worker.live(number, 0, record, None)
            return
        offset = self.offsets.get(number, 0)
        self.offsets[number] = offset + 1
        self.worker.live(number, offset, record, None)

    def record(self, type_: str, state: Json, cluster: str = CLUSTER) -> ObjectRecord:
        """The record of a state."""
        state = redact(orjson.loads(orjson.dumps(state)), REDACTION_KEY)
        meta = state["metadata"]
        meta.pop("managedFields", None)
        key = ObjectKey(state["apiVersion"].rpartition("/")[0] if "/" in state["apiVersion"] else "", state["kind"], meta.get("namespace", ""), meta["name"])
        return ObjectRecord(key, type_, Version(1, int(meta["resourceVersion"])), cluster, orjson.dumps(state))

    def create(self, body: Json) -> Json:
        """Somebody creates an object."""
        definition = self.api.by_kind[(body["apiVersion"].rpartition("/")[0] if "/" in body["apiVersion"] else "", body["kind"])]
        return self.api.create(definition.resource, body, body["metadata"].get("namespace", ""), WriteOptions("somebody"))

    def parent(self, name: str = "p", **fields: Any) -> Json:
        """Somebody creates a Parent."""
        meta = {"name": name, "namespace": NAMESPACE, **fields.pop("metadata", {})}
        return self.create({"apiVersion": f"{GROUP}/v1", "kind": "Parent", "metadata": meta, **fields})

    def get(self, key: ObjectKey) -> Json | None:
        """What the API server has."""
        definition = self.api.by_kind[(key.group, key.kind)]
        found = [item for item in self.api.list(definition.resource, key.namespace)["items"] if item["metadata"]["name"] == key.name]
        return found[0] if found else None

    async def settle(self, seconds: float = 1.0) -> None:
        """Let (virtual) time pass."""
        await asyncio.sleep(seconds)
        assert not self.fatal, self.fatal


__all__ = ["ADDED", "DELETED", "MODIFIED"]
