"""The whole control plane in one process: workers, watcher, provider, API server and bus on a seeded loop in virtual time."""

from __future__ import annotations

import asyncio
import functools
import gc
import random
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from fleetwake.connections.kafka import Kafka
from fleetwake.errors import FleetwakeError, NotConnectedError
from fleetwake.kind import CONNECTION, Change, Kind
from fleetwake.kube.discovery import Discovery
from fleetwake.shell.intake import DRIFT_CHECK_SECONDS, Intake
from fleetwake.shell.ports import Ports, Request
from fleetwake.shell.recorded import RecordedWorkloads
from fleetwake.shell.worker import Options, Worker
from fleetwake.shell.workload import ConnectionDirector, NoWorkloads, Outside, WorkloadConnections
from fleetwake.sim.apiserver import WORKLOAD_KINDS, ApiServer, Key, ResourceDefinition, Settings, WriteOptions, admit_structure, definition_of_crd
from fleetwake.sim.apiserver import Change as ApiChange
from fleetwake.sim.bus import Group, Member, Message, SimBus, SimBusPort, serve
from fleetwake.sim.faults import Faults, Rates
from fleetwake.sim.kube import SimKube, SimNetwork
from fleetwake.sim.loop import SimClock, SimLoop, simulation
from fleetwake.sim.workloads import SimWorkloadApi
from schemas.api.infrastructure.v1beta2 import DevCluster
from schemas.api.registry import KINDS as MODELS
from schemas.crd import definition
from schemas.keys import ClusterKey, ObjectKey
from schemas.sensitive import redact
from schemas.topics import Topics
from services.dev_infrastructure.kinds.state import LOCAL
from services.dev_infrastructure.registry import KINDS as DEV_KINDS
from services.reconcilers.registry import KINDS as RECONCILER_KINDS
from services.remediation.registry import KINDS as REMEDIATION_KINDS
from tests.simulation.claims import Claims
from tests.simulation.ports import SimKeys, SimTracing
from tests.simulation.provider import SimProvider
from tests.simulation.watching import LATE_RECORDS_MAX, SimWatcher

PARTITIONS = 4
RESTART_SECONDS = 1.0
WATCHER_TAKEOVER_SECONDS = 3.0
FREEZE_SECONDS = (1.0, 14.0)
REDACTION_KEY = b"simulation-redaction-key-32-byte"
SEALING_KEY = b"simulation-sealing-key-of-32-byt"


@functools.cache
def definitions() -> tuple[ResourceDefinition, ...]:
    """Every kind the management API serves."""
    return (*WORKLOAD_KINDS, *(definition_of_crd(definition(model)) for model in MODELS))


@functools.cache
def discovery() -> Discovery:
    """The kinds as the watcher finds them."""
    found = Discovery()
    for model in MODELS:
        found.apply({**definition(model), "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition"})
    return found


class Node:
    """One life of one worker of a service."""

    def __init__(self, fleet: Fleet, service: str, name: str, incarnation: int) -> None:
        self.fleet, self.service, self.name = fleet, service, name
        self.process = fleet.loop.process(f"{name}/{incarnation}")
        self._signalled: set[str] = set()
        self.connections: WorkloadConnections | None = None
        self.kube = SimKube(fleet.network, self.process, fleet.api)
        self.process.context.run(self._build, incarnation)

    def _build(self, incarnation: int) -> None:
        fleet = self.fleet
        owns = self.service == "reconcilers"
        if owns:
            self.connections = WorkloadConnections(Outside(self._dial, fleet.clock, lambda change: self.worker.workload_changed(change)))
        options = Options(
            service=self.service,
            instance=self.name,
            incarnation=f"{self.name}/{incarnation}",
            signal=self._signal,
            fatal=self._fatal,
            fenced=lambda: fleet.groups[self.service].fenced(self.member),
            redact=lambda state: redact(state, REDACTION_KEY),
            topics=fleet.topics,
            partitions=PARTITIONS,
            owns_workloads=owns,
            reads_workloads=self.service == "remediation",
            actions=fleet.provider.actions,
            locals={LOCAL: fleet.provider.states},
            seal_key=lambda: SEALING_KEY,
        )
        ports = Ports(self.kube, SimBusPort(fleet.bus, self.process), fleet.clock, SimKeys(), SimTracing())
        recorded = RecordedWorkloads(lambda: self.worker.cache, fleet.clock.now, PARTITIONS) if options.reads_workloads else NoWorkloads()
        self.worker = Worker(fleet.kinds[self.service], ports, self.connections or recorded, options)
        if self.connections is not None:
            director = ConnectionDirector(self.connections, lambda key: entry.state if (entry := self.worker.cache.get(key)) is not None else None)
            self.worker.listeners.append(director.changed)
            self.worker.leaving.append(director.changed)
        self._removed: dict[str, int] = {}
        self.worker.listeners.append(self._seen)
        self.intake = Intake(self.worker, Kafka("sim"), fleet.topics, self._fatal)
        self.member = Member(self.name, self.process, self.intake.revoked, self.intake.assigned, self.intake.take, self.intake.answered)

    def _seen(self, change: Change) -> None:
        """What a cache has buried never comes back, unless in another history: a restored backup may have it alive."""
        if change.key.group_kind == CONNECTION or change.key.cluster:
            return
        uid = str(change.state["metadata"]["uid"])
        if change.after is None:
            grave = self.worker.cache.grave(change.key)
            self._removed[uid] = grave.version.epoch if grave is not None else self.worker.epoch
            if self.service == "dev_infrastructure" and change.key.group == DevCluster.GROUP:
                # it may have gone before it had its finalizer
                self.process.spawn(self.fleet.provider.keep_only(self.fleet.infrastructure_uids()))
        elif (entry := self.worker.cache.get(change.key)) is not None and entry.version.epoch <= self._removed.get(uid, -1):
            self.fleet.violation(f"{self.name} took {change.key} for alive after it had seen its end")

    def start(self) -> None:
        """Join the group."""
        self.process.context.run(self.intake.start)
        if self.service == "dev_infrastructure":
            self.process.spawn(self.fleet.provider.keep_only(self.fleet.infrastructure_uids()))
        self.fleet.groups[self.service].join(self.member)
        self.process.spawn(self._check_drift())
        if self.worker.sights is not None:
            self.process.context.run(self.worker.sights.start)

    def untold(self) -> list[ObjectKey]:
        """What this worker holds although it is gone and no record has ever told of it: it came and went while no watcher looked."""
        held = [entry.key for entry in self.worker.cache if entry.partition >= 0 and str(entry.key).encode() not in self.fleet.told]
        return [key for key in held if not self.fleet.exists(key)]

    async def _check_drift(self) -> None:
        while True:
            await asyncio.sleep(self.fleet.setup.drift_seconds)
            unseen = len(self.untold())
            found = await self.intake.drift_check()
            self.fleet.drift += max(found - unseen, 0)
            self.worker.cache.forget_graves()

    def kill(self) -> None:
        """End it, whatever it does."""
        self.worker.runner.draining = True
        self.process.kill()

    async def _dial(self, cluster: ClusterKey) -> SimWorkloadApi:
        response = await self.kube.send(Request("GET", f"/api/v1/namespaces/{cluster.namespace}/secrets/{cluster.name}-kubeconfig"))
        workload = self.fleet.provider.workloads.get(cluster)
        if response.status != 200 or workload is None or not workload.reachable:
            raise NotConnectedError("nothing listens", operation=f"connect to {cluster}")
        return SimWorkloadApi(self.fleet.network, self.process, workload, self.fleet.clock)

    def _signal(self, kind: str) -> None:
        if kind not in self._signalled and self.process.alive:
            self._signalled.add(kind)
            self.fleet.loop.call_later(self.fleet.faults.latency(0.0002), self._pump, kind, context=self.process.context)

    def _pump(self, kind: str) -> None:
        self._signalled.discard(kind)
        if self.process.alive:
            self.worker.pump(kind)

    def _fatal(self, error: BaseException) -> None:
        """The process ends and is started again; that is a bug only if no fault of ours is the reason."""
        if self.process.alive:
            if not isinstance(error, FleetwakeError):
                self.fleet.violation(f"{self.name} ended by {error!r}")
            self.fleet.faults.count("ended by an error")
            self.fleet.loop.in_world(self.fleet.kill_node, self.name)


@dataclass(frozen=True, slots=True)
class Setup:
    """A simulation to make. ``kinds`` replaces the kinds of services: planted bugs come in there."""

    seed: int = 0
    rates: Rates = field(default_factory=Rates)
    reconcilers: int = 2
    kinds: Mapping[str, tuple[Kind[Any], ...]] | None = None
    drift_seconds: float = DRIFT_CHECK_SECONDS


class Fleet:
    """See the module. Everything random comes from the seed."""

    def __init__(self, loop: SimLoop, setup: Setup) -> None:
        self.loop, self.setup = loop, setup
        self.random = random.Random(setup.seed)
        self.faults = Faults(random.Random(self.random.random()), setup.rates)
        self.clock = SimClock(loop)
        self.topics = Topics("sim")
        self.api = ApiServer(
            self.clock.now,
            Settings(create_namespaces=True, collect_automatically=False, seed=setup.seed, first_version=100, history_max=100_000),
            definitions(),
            admit_structure,
        )
        self.bus = SimBus(loop, self.faults)
        self.told: set[bytes] = set()
        """Keys of objects that some record has told of."""
        self.bus.listeners.append(self._hear)
        self.network = SimNetwork(loop, self.faults)
        self.provider = SimProvider(self.clock, self._wake_provider)
        self.kinds: Mapping[str, tuple[Kind[Any], ...]] = {
            "reconcilers": RECONCILER_KINDS,
            "remediation": REMEDIATION_KINDS,
            "dev_infrastructure": DEV_KINDS,
            **(setup.kinds or {}),
        }
        self.groups = {service: Group(self.bus, self.topics.objects, PARTITIONS) for service in self.kinds}
        self.nodes: dict[str, Node] = {}
        self.lives: list[Node] = []
        self.watcher: SimWatcher | None = None
        self.violations: list[str] = []
        self._incarnations = 0
        self._collecting = False
        self.api.on_change(lambda change: self._collect_soon())
        self._chaos: list[asyncio.Task[None]] = []
        self.named_nodes: set[str] = set()
        self.api.on_change(self._note_node)
        self.claims = Claims(self.api)
        self.drift = 0

    def _hear(self, message: Message) -> None:
        if message.topic == self.topics.objects:
            self.told.add(message.key or b"")

    def exists(self, key: ObjectKey) -> bool:
        """Whether the API server has an object."""
        resource = self.api.by_kind[(key.group, key.kind)].resource
        return self.api.store.get(Key(resource, key.namespace, key.name)) is not None

    def infrastructure_uids(self) -> frozenset[str]:
        """The uids of all DevClusters and DevMachines there are."""
        return frozenset(str(item["metadata"]["uid"]) for item in (*self.objects("DevCluster"), *self.objects("DevMachine")))

    def violation(self, text: str) -> None:
        """Note what must not be."""
        self.violations.append(f"{self.loop.time():.3f}s: {text}")

    def _note_node(self, change: ApiChange) -> None:
        if change.entry.key.resource == "machines.cluster.x-k8s.io" and change.entry.obj.get("status", {}).get("nodeRef"):
            self.named_nodes.add(change.entry.key.name)

    def _collect_soon(self) -> None:
        """Garbage collection runs beside the API server, a little later."""
        if not self._collecting:
            self._collecting = True
            self.loop.in_world(self._collect, after=self.faults.latency(0.01))

    def _collect(self) -> None:
        self._collecting = False
        self.api.collect_garbage()

    def _wake_provider(self, key: ObjectKey) -> None:
        for node in self.nodes.values():
            if node.service == "dev_infrastructure":
                node.process.post(node.worker.wake, key)

    # ---- life -------------------------------------------------------------------------------------------------------------------------
    def start(self) -> None:
        """Start everything."""
        for service, group in self.groups.items():
            for number in range(self.setup.reconcilers if service == "reconcilers" else 1):
                self.start_node(service, f"{service}-{number}")
            self._world(group.run())
        self.start_watcher()
        self._begin_chaos()

    def _world(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self.loop.create_task(work)

    def start_node(self, service: str, name: str) -> None:
        """Start (another life of) a worker."""
        self._incarnations += 1
        node = self.nodes[name] = Node(self, service, name, self._incarnations)
        self.lives.append(node)
        node.start()

    def kill_node(self, name: str, restart_after: float = RESTART_SECONDS) -> None:
        """Kill a worker; its supervisor starts it again."""
        node = self.nodes[name]
        if node.process.alive:
            node.kill()
            self.loop.in_world(self.start_node, node.service, name, after=restart_after)

    def start_watcher(self) -> None:
        """Start (another life of) the watcher."""
        self._incarnations += 1
        setup = (self.topics, PARTITIONS, REDACTION_KEY, discovery())
        self.watcher = SimWatcher(self.loop.process(f"watcher/{self._incarnations}"), self.api, self.bus, self.network, setup)
        self.watcher.process.spawn(self.watcher.run())

    def kill_watcher(self) -> None:
        """Kill the watcher; the standby takes over."""
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.process.kill()
            watcher.stop()
            self.loop.in_world(self.start_watcher, after=self.random.uniform(0.1, WATCHER_TAKEOVER_SECONDS))

    def freeze_watcher(self, seconds: float) -> None:
        """Freeze the watcher past its lease: the standby leads; on thaw a few records of its buffer land late, then it ends."""
        watcher, self.watcher = self.watcher, None
        if watcher is None:
            return
        watcher.process.freeze()
        self.loop.in_world(self.start_watcher, after=WATCHER_TAKEOVER_SECONDS)

        def thaw() -> None:
            watcher.producer.late = LATE_RECORDS_MAX
            watcher.process.thaw()
            self.loop.in_world(end, after=0.5)

        def end() -> None:
            watcher.process.kill()
            watcher.stop()

        self.loop.in_world(thaw, after=WATCHER_TAKEOVER_SECONDS + seconds)

    # ---- chaos ------------------------------------------------------------------------------------------------------------------------
    def _begin_chaos(self) -> None:
        rates = self.setup.rates
        strikes: tuple[tuple[float, Callable[[], None]], ...] = (
            (rates.crash_seconds, self._strike_crash),
            (rates.freeze_seconds, self._strike_freeze),
            (rates.move_seconds, self._strike_move),
            (rates.watcher_seconds, self.kill_watcher),
            (rates.watcher_freeze_seconds, self._strike_freeze_watcher),
            (rates.disconnect_seconds, self._strike_disconnect),
            (rates.jump_seconds, self._strike_jump),
            (rates.compact_seconds, self._strike_compact),
            (rates.mirror_seconds, self._strike_mirror),
        )
        for mean, strike in strikes:
            if mean:
                self._chaos.append(self._world(self._strike(mean, strike)))

    async def _strike(self, mean: float, strike: Callable[[], None]) -> None:
        while not self.faults.quiet:
            await asyncio.sleep(self.faults.pause(mean))
            if not self.faults.quiet:
                self.faults.count(strike.__name__.strip("_"))
                strike()

    def _strike_freeze_watcher(self) -> None:
        self.freeze_watcher(self.random.uniform(0, 10))

    def _strike_compact(self) -> None:
        self.bus.compact(self.topics.objects)

    def _any_node(self) -> Node:
        return self.nodes[self.random.choice(sorted(self.nodes))]

    def _strike_crash(self) -> None:
        self.kill_node(self._any_node().name, self.random.choice((0.5, RESTART_SECONDS, 10.0)))

    def _strike_freeze(self) -> None:
        node = self._any_node()
        if node.process.alive and not node.process.stopped:
            node.process.freeze()
            self.loop.in_world(node.process.thaw, after=self.random.uniform(*FREEZE_SECONDS))

    def _strike_move(self) -> None:
        self.groups["reconcilers"].rebalance()

    def _strike_disconnect(self) -> None:
        for key in sorted(self.provider.workloads):
            workload = self.provider.workloads[key]
            workload.sever()
            self.loop.in_world(workload.mend, after=self.random.uniform(0.5, 70))

    def _strike_jump(self) -> None:
        self.clock.skew += timedelta(seconds=self.random.choice((-2.0, 3.0, 45.0)))

    def _strike_mirror(self) -> None:
        """The API server is started again on a copy of its etcd: its watches end, and resourceVersions go back, as the watcher can see."""
        if self.watcher is None or len(self.api.store) >= self.watcher.publisher.resource_version_max:
            return
        self.faults.count("another history")
        self.network.cut()
        self.api.store.mirror()
        self.watcher.reconnect()

    def calm(self) -> None:
        """The last fault has been: everything lives and is connected from now on."""
        self.faults.stop()
        for node in self.nodes.values():
            if node.process.stopped:
                node.process.thaw()
        for workload in self.provider.workloads.values():
            workload.mend()

    # ---- what a user does -------------------------------------------------------------------------------------------------------------
    def apply(self, manifests: Iterable[Mapping[str, Any]], namespace: str = "default") -> None:
        """Create objects as kubectl does."""
        for manifest in manifests:
            kind = self.api.by_kind[(str(manifest["apiVersion"]).rpartition("/")[0], str(manifest["kind"]))]
            made = self.api.create(kind.resource, dict(manifest), namespace, WriteOptions(field_manager="kubectl-client-side-apply"))
            self.claims.made(str(made["metadata"]["uid"]))

    def objects(self, kind: str, namespace: str = "") -> list[dict[str, Any]]:
        """All objects of a kind."""
        found = next(known for known in self.api.definitions.values() if known.kind == kind)
        items: list[dict[str, Any]] = self.api.list(found.resource, namespace)["items"]
        return items

    async def until(self, what: str, true: Callable[[], bool], seconds: float) -> bool:
        """Wait in virtual time; a violation when it does not come true in time."""
        end = self.loop.time() + seconds
        while not true():
            if self.loop.time() >= end:
                self.violation(f"not within {seconds:g} s: {what}")
                return False
            await asyncio.sleep(0.25)
        return True


@functools.cache
def _settle_imports() -> None:
    """What was imported lives as long as the process: no collection needs to walk it again."""
    gc.collect()
    gc.freeze()


@contextmanager
def _uncollected() -> Generator[None, None, None]:
    """Collect cycles once, at the end: nearly all that a simulation makes lives as long as it does, and walking it on the way took a third of its time."""
    _settle_imports()
    gc.disable()
    try:
        yield
    finally:
        gc.collect()
        gc.enable()


@contextmanager
def fleet(setup: Setup) -> Generator[Fleet, None, None]:
    """A fleet on a loop of its own."""
    with _uncollected(), simulation() as loop:
        asyncio.events._set_running_loop(loop)
        made = Fleet(loop, setup)
        asyncio.events._set_running_loop(None)
        with serve(made.bus):
            try:
                yield made
            finally:
                for node in made.lives:
                    node.worker.runner.draining = True
                    node.process.kill()
                for process in [made.watcher.process] if made.watcher is not None else []:
                    process.kill()


def run(setup: Setup, scenario: Callable[[Fleet], Coroutine[Any, Any, None]]) -> Fleet:
    """Run a scenario to its end; returns the fleet with its violations."""
    with fleet(setup) as made:

        async def whole() -> None:
            made.start()
            await scenario(made)

        made.loop.run_until_complete(whole())
    return made
