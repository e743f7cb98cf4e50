"""Workload connections: one per cluster, held by the worker that owns the cluster's partition, shared by all kinds.

Disconnected → (infrastructure provisioned, endpoint known, kubeconfig Secret there) → connecting → connected → disconnected on Unauthorized, a changed
kubeconfig, or PROBE_FAILURES_MAX failed probes in a row. Nodes, the control plane's pods and kubeadm's configuration come by watch; other reads are looks.
The last known state stays visible while disconnected. Source: workload.md §1; Cluster API v1.14 ``controllers/clustercache``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from fleetwake.background import Background
from fleetwake.errors import FleetwakeError, ForbiddenError, NotConnectedError, RetryableError
from fleetwake.kind import CONNECTION, Change, Looked, Workload
from fleetwake.kube.answers import error_of
from fleetwake.plan import EtcdMoveLeader, EtcdRemoveMember
from fleetwake.shell.ports import Clock, Request, Response
from fleetwake.shell.probes import Probes
from fleetwake.tracing.current import CURRENT, Lasting
from schemas.keys import ClusterKey, GroupKind, ObjectKey

log = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
PROBE_TIMEOUT_SECONDS = 5.0
PROBE_FAILURES_MAX = 5
CONNECT_BACKOFF_SECONDS_MIN, CONNECT_BACKOFF_SECONDS_MAX = 0.1, 30.0
GRACES = (timedelta(seconds=50), timedelta(minutes=5))
"""Ages of the last successful probe at which conditions change: Cluster's RemoteConnectionProbe; Machines and control plane."""

CLUSTER = GroupKind("cluster.x-k8s.io", "Cluster")
SECRET = GroupKind("", "Secret")
WATCHED = {"nodes": "Node", "pods": "Pod", "kubeadm-config": "ConfigMap"}
"""Selections a connection follows: all Nodes, kube-system pods labelled tier=control-plane, kubeadm's ConfigMap."""


@dataclass(frozen=True, slots=True)
class WorkloadEvent:
    """``type``: ``changed``, ``deleted``, ``listed`` (all that the selection holds was told; ``keep`` names it), ``lost``, ``resumed`` (none missed)."""

    type: str
    state: Mapping[str, Any] = field(default_factory=dict)
    keep: frozenset[str] = frozenset()


class WorkloadApi(Protocol):
    """One connected workload cluster."""

    async def request(self, request: Request) -> Response:
        """Send a request. Raises: UnavailableError."""
        ...

    def watch(self, selection: str) -> AsyncIterator[WorkloadEvent]:
        """Follow a selection of ``WATCHED`` for ever."""
        ...

    async def look(self, query: str, via: tuple[str, ...]) -> Any:
        """Read what a ``Look`` asks for, as a JSON value. Raises: FleetwakeError."""
        ...

    async def remove_member(self, step: EtcdRemoveMember) -> None:
        """Remove an etcd member."""
        ...

    async def move_leader(self, step: EtcdMoveLeader) -> None:
        """Move etcd's leadership."""
        ...

    async def close(self) -> None:
        """Let go of every connection."""
        ...


@dataclass(frozen=True, slots=True)
class Outside:
    """What the connections need. ``dial`` makes a connected WorkloadApi from the cluster's kubeconfig Secret, read live; ``changed`` wakes kinds."""

    dial: Callable[[ClusterKey], Any]
    clock: Clock
    changed: Callable[[Change], None]


class Connection:
    """One cluster's connection and what is known through it."""

    def __init__(self, cluster: ClusterKey, outside: Outside) -> None:
        self.cluster, self._outside = cluster, outside
        self.api: WorkloadApi | None = None
        self.wanted = asyncio.Event()
        self._nudge = asyncio.Event()
        self.probes = Probes()
        self._states: dict[str, dict[str, Mapping[str, Any]]] = {name: {} for name in WATCHED}
        self._synced: set[str] = set()
        self._looks: dict[str, Looked] = {}
        self._looking: dict[str, list[Callable[[], None]]] = {}
        self._frozen: Workload | None = None
        self._background = Background(self._broken)
        self._graces: list[asyncio.TimerHandle] = []
        self._lost = asyncio.Event()
        self._main = asyncio.get_running_loop().create_task(self._run())
        self._ending: asyncio.Task[None] | None = None

    def want(self, wanted: bool) -> None:
        """Whether the conditions for a connection hold."""
        (self.wanted.set if wanted else self.wanted.clear)()

    def nudge(self) -> None:
        """Something changed that may make a refused connection work now: try at once."""
        self._nudge.set()

    def drop(self) -> None:
        """The credentials changed or were refused: connect anew."""
        self._lost.set()

    async def close(self) -> None:
        """End everything."""
        self._main.cancel()
        with suppress(asyncio.CancelledError):
            await self._main
        if self._ending is not None:
            await self._ending
        await self._disconnect("closed")
        for handle in self._graces:
            handle.cancel()

    async def _run(self) -> None:
        # this task was begun by some run, and outlives it
        CURRENT.set(Lasting(self.cluster))
        backoff = CONNECT_BACKOFF_SECONDS_MIN
        while True:
            await self.wanted.wait()
            self._nudge.clear()
            # before the credentials are read: if they change meanwhile, what is dialled now is dropped again
            self._lost.clear()
            try:
                self.api = await self._outside.dial(self.cluster)
                await self._connected()
                backoff = CONNECT_BACKOFF_SECONDS_MIN
                await self._lost.wait()
            except (FleetwakeError, OSError) as error:
                log.debug("cannot connect to %s: %s", self.cluster, error)
                self.probes.failure()
            except Exception as error:
                # whatever a library raises for a malformed kubeconfig or certificate: this cluster waits, others do not notice
                log.error("cannot connect to %s: %r", self.cluster, error, exc_info=error)
                self.probes.failure()
            self._frozen = None
            await self._disconnect("lost")
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff):
                    await self._nudge.wait()
            backoff = min(backoff * 2, CONNECT_BACKOFF_SECONDS_MAX)

    async def _connected(self) -> None:
        self._synced.clear()
        self.probes.success(self._outside.clock.now())
        self._looks.clear()
        for selection in WATCHED:
            self._background.spawn(self._follow(selection))
        self._background.spawn(self._probe())
        self._told("connected")

    async def _disconnect(self, why: str) -> None:
        # in a task of its own: whoever waits here may be cancelled, and then nobody would close what was connected
        was, self.api = self.api, None
        self._ending = asyncio.get_running_loop().create_task(self._end(was, why))
        await asyncio.shield(self._ending)

    async def _end(self, was: WorkloadApi | None, why: str) -> None:
        await self._background.stop()
        if was is not None:
            await was.close()
            log.info("workload cluster %s disconnected: %s", self.cluster, why)
            self._told("disconnected")
            self._arm_graces()

    def _arm_graces(self) -> None:
        for handle in self._graces:
            handle.cancel()
        since = self.probes.last_success
        if since is None:
            return
        now, loop = self._outside.clock.now(), asyncio.get_running_loop()
        waits = [(since + grace - now).total_seconds() for grace in GRACES]
        self._graces = [loop.call_later(wait + 0.05, self._told, "grace passed") for wait in waits if wait > 0]

    def _broken(self, error: BaseException) -> None:
        log.warning("connection to %s: %s", self.cluster, error)
        self._lost.set()

    def _told(self, what: str) -> None:
        """Wake whoever depends on the connection."""
        self._frozen = None
        key = ObjectKey(CONNECTION.group, CONNECTION.kind, self.cluster.namespace, self.cluster.name)
        self._outside.changed(Change(key, self.cluster, None, {"event": what, "connected": self.api is not None}))

    async def _probe(self) -> None:
        while self.api is not None:
            await asyncio.sleep(PROBE_SECONDS)
            try:
                response = await self.api.request(Request("GET", "/", timeout_seconds=PROBE_TIMEOUT_SECONDS))
                refused = isinstance(error_of(response, "probe"), ForbiddenError) and response.status == 401
            except FleetwakeError:
                response, refused = None, False
            if refused:
                self.probes.failure()
                self._lost.set()
                return
            self._frozen = None
            if response is not None:
                for handle in self._graces:
                    handle.cancel()
                if self.probes.success(self._outside.clock.now()):
                    self._told("probe succeeded")
                continue
            self.probes.failure()
            if self.probes.failures == 1:
                self._arm_graces()
                self._told("probe failed")
            if self.probes.failures >= PROBE_FAILURES_MAX:
                self._lost.set()
                return

    async def _follow(self, selection: str) -> None:
        api, states = self.api, self._states[selection]
        if api is None:
            return
        async for event in api.watch(selection):
            match event.type:
                case "listed":
                    for name in [name for name in states if name not in event.keep]:
                        self._take(selection, name, None)
                    self._follows(selection)
                case "resumed":
                    self._follows(selection)
                case "changed" | "deleted":
                    name = event.state["metadata"]["name"]
                    self._take(selection, name, event.state if event.type == "changed" else None)
                case _:
                    self._synced.discard(selection)
                    self._frozen = None

    def _follows(self, selection: str) -> None:
        self._synced.add(selection)
        self._frozen = None
        if len(self._synced) == len(WATCHED):
            self._told("synced")

    def _take(self, selection: str, name: str, state: Mapping[str, Any] | None) -> None:
        states = self._states[selection]
        before = states.get(name)
        if state is not None and before is not None and not _newer(before["metadata"], state["metadata"]):
            return
        if state is None:
            states.pop(name, None)
        else:
            states[name] = state
        self._frozen = None
        if before is None and state is None:
            return
        namespace = (state or before or {}).get("metadata", {}).get("namespace", "")
        key = ObjectKey("", WATCHED[selection], namespace, name, str(self.cluster))
        self._outside.changed(Change(key, self.cluster, before, state))

    def state(self) -> Workload:
        """Everything known, frozen until the next change."""
        if self._frozen is None:
            maps = self._states["kubeadm-config"]
            self._frozen = Workload(
                connected=self.api is not None,
                last_probe_success=self.probes.last_success,
                first_connected=self.probes.first,
                consecutive_failures=self.probes.failures,
                watch_synced=len(self._synced) == len(WATCHED),
                nodes=tuple(state for _, state in sorted(self._states["nodes"].items())),
                pods=tuple(state for _, state in sorted(self._states["pods"].items())),
                objects={f"ConfigMap/kube-system/{name}": state for name, state in maps.items()},
                looks=dict(self._looks),
            )
        return self._frozen

    def answered(self, key: ObjectKey, state: Mapping[str, Any] | None) -> None:
        """Take the answer of a write of ours."""
        for selection, kind in WATCHED.items():
            followed = selection == "nodes" or (selection == "kubeadm-config" and key.name == selection)
            if key.kind == kind and (followed or key.name in self._states[selection]):
                self._take(selection, key.name, state)

    def look(self, query: str, via: tuple[str, ...], wake: Callable[[], None]) -> None:
        """Start a read, or join the one under way."""
        waiting = self._looking.get(query)
        if waiting is not None:
            waiting.append(wake)
            return
        self._looking[query] = [wake]
        self._background.spawn(self._look(query, via))

    async def _look(self, query: str, via: tuple[str, ...]) -> None:
        value, error = None, "the connection was lost"
        try:
            if self.api is None:
                error = "not connected"
            else:
                value, error = await self.api.look(query, via), ""
        except FleetwakeError as failure:
            error = str(failure)
        finally:
            # also when cancelled: whoever waits must know, and look again
            self.remember(query, Looked(self._outside.clock.now(), value, error))
            for wake in self._looking.pop(query, []):
                wake()

    def remember(self, query: str, looked: Looked) -> None:
        """Store an answer."""
        self._looks[query] = looked
        self._frozen = None


def _newer(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether metadata describe another object of the name, or a later version of the same."""
    return bool(before["uid"] != after["uid"] or int(after["resourceVersion"]) > int(before["resourceVersion"]))


DISCONNECTED = Workload()


class WorkloadConnections:
    """All connections of a worker; ``fleetwake.shell.carry_out.Workloads``."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._connections: dict[ClusterKey, Connection] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def cluster_seen(self, state: Mapping[str, Any], kubeconfig: bool) -> None:
        """A Cluster of this worker was seen in this state; ``kubeconfig`` says whether its Secret exists."""
        meta, spec, status = state["metadata"], state.get("spec") or {}, state.get("status") or {}
        cluster = ClusterKey(meta["namespace"], meta["name"])
        endpoint = spec.get("controlPlaneEndpoint") or {}
        provisioned = (status.get("initialization") or {}).get("infrastructureProvisioned", False)
        wanted = bool(kubeconfig and provisioned and endpoint.get("host") and endpoint.get("port"))
        connection = self._connections.get(cluster)
        if connection is None and wanted:
            connection = self._connections[cluster] = Connection(cluster, self._outside)
        if connection is not None:
            connection.want(wanted)

    def nudge(self, cluster: ClusterKey) -> None:
        """Something of the cluster's control plane changed: a refused connection may work now."""
        connection = self._connections.get(cluster)
        if connection is not None and connection.api is None:
            connection.nudge()

    def kubeconfig_changed(self, cluster: ClusterKey) -> None:
        """The kubeconfig Secret holds other bytes."""
        connection = self._connections.get(cluster)
        if connection is not None:
            connection.drop()
            connection.nudge()

    def forget(self, cluster: ClusterKey) -> None:
        """The Cluster is gone or moved to another worker."""
        connection = self._connections.pop(cluster, None)
        if connection is not None:
            task = asyncio.get_running_loop().create_task(connection.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def all(self) -> tuple[Connection, ...]:
        """Every connection, those included that are only being tried."""
        return tuple(self._connections.values())

    async def close(self) -> None:
        """Close every connection."""
        for connection in self.all():
            self.forget(connection.cluster)
        await asyncio.gather(*self._closing, return_exceptions=True)

    def state(self, cluster: ClusterKey) -> Workload:
        """The cluster's state, frozen."""
        connection = self._connections.get(cluster)
        return connection.state() if connection is not None else DISCONNECTED

    async def send(self, request: Request) -> Response:
        """Send a request to the cluster named in it."""
        connection = self._connections.get(ClusterKey.parse(request.cluster))
        if connection is None or connection.api is None:
            raise NotConnectedError("no connection to the workload cluster; its connect event wakes the key", operation=f"{request.method} {request.path}")
        response = await connection.api.request(request)
        if response.status == 401:
            connection.drop()
        return response

    def look(self, cluster: ClusterKey, query: str, via: tuple[str, ...], wake: Callable[[], None]) -> None:
        """Start (or join) a read."""
        connection = self._connections.get(cluster)
        if connection is not None:
            connection.look(query, via, wake)

    def answered(self, cluster: ClusterKey, key: ObjectKey, state: Mapping[str, Any] | None) -> None:
        """Take the answer of a write of ours."""
        connection = self._connections.get(cluster)
        if connection is not None:
            connection.answered(key, state)

    def evicted(self, cluster: ClusterKey, key: ObjectKey, status: int, message: str) -> None:
        """Remember the answer of an eviction under ``eviction/<namespace>/<pod>``."""
        connection = self._connections.get(cluster)
        if connection is not None:
            answer = {"status": status, "message": message}
            connection.remember(f"eviction/{key.namespace}/{key.name}", Looked(self._outside.clock.now(), answer))

    async def etcd_remove_member(self, step: EtcdRemoveMember) -> None:
        """Remove an etcd member."""
        await self._api(step.cluster).remove_member(step)

    async def etcd_move_leader(self, step: EtcdMoveLeader) -> None:
        """Move etcd's leadership."""
        await self._api(step.cluster).move_leader(step)

    def _api(self, cluster: ClusterKey) -> WorkloadApi:
        connection = self._connections.get(cluster)
        if connection is None or connection.api is None:
            raise NotConnectedError("no connection to the workload cluster", operation=f"etcd of {cluster}")
        return connection.api


class NoWorkloads:
    """For services that hold no workload connections."""

    def state(self, cluster: ClusterKey) -> Workload:
        """Nothing is known."""
        return DISCONNECTED

    async def send(self, request: Request) -> Response:
        """Refuse."""
        raise NotConnectedError("this service holds no workload connections", operation=request.path)

    def look(self, cluster: ClusterKey, query: str, via: tuple[str, ...], wake: Callable[[], None]) -> None:
        """Nothing to look at."""

    def answered(self, cluster: ClusterKey, key: ObjectKey, state: Mapping[str, Any] | None) -> None:
        """Nothing to take."""

    def evicted(self, cluster: ClusterKey, key: ObjectKey, status: int, message: str) -> None:
        """Nothing to remember."""

    async def etcd_remove_member(self, step: EtcdRemoveMember) -> None:
        """Refuse."""
        raise RetryableError("this service holds no workload connections", operation=step.reason)

    async def etcd_move_leader(self, step: EtcdMoveLeader) -> None:
        """Refuse."""
        raise RetryableError("this service holds no workload connections", operation=step.reason)


class ConnectionDirector:
    """Turns changes of Clusters, kubeconfig Secrets and Machines into what the connections must do; a listener of the worker's changes."""

    def __init__(self, connections: WorkloadConnections, read: Callable[[ObjectKey], Mapping[str, Any] | None]) -> None:
        self._connections, self._read = connections, read

    def changed(self, change: Change) -> None:
        """Take one change of the cache."""
        kind = change.key.group_kind
        if kind == CLUSTER:
            if change.after is None:
                self._connections.forget(ClusterKey(change.key.namespace, change.key.name))
            else:
                self._see(change.after)
        elif kind == SECRET and change.key.name.endswith("-kubeconfig") and change.cluster is not None:
            if change.before is not None and change.differs("data"):
                self._connections.kubeconfig_changed(change.cluster)
            state = self._read(ObjectKey(CLUSTER.group, CLUSTER.kind, change.cluster.namespace, change.cluster.name))
            if state is not None:
                self._see(state)
        elif change.cluster is not None and change.differs("status", "initialization"):
            self._connections.nudge(change.cluster)

    def _see(self, state: Mapping[str, Any]) -> None:
        meta = state["metadata"]
        secret = ObjectKey("", "Secret", meta["namespace"], f"{meta['name']}-kubeconfig")
        self._connections.cluster_seen(state, self._read(secret) is not None)
