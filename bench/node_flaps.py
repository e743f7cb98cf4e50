"""Nodes that turn NotReady and come back, one after the other over a settled fleet: how long until the Machine's condition NodeReady shows it.

A kubelet's write is sent to the workload cluster's own API server, as its status; the time runs from that server's answer to the watch event of the Machine at
the management API server, read by this program. Both ends are here, so on one clock; the emulated kubelet has no part in it.
"""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from bench.audit import AuditLog, Requests
from bench.fleet import MACHINES, NAMESPACE, REQUEST_LIMIT_S, Arrivals, Json, LateError, apply, manifests
from bench.processes import Usage, between, memory, read
from bench.rigs import admin, bench_rig, quiet
from bench.statistics import Spread
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.config import from_kubeconfig
from fleetwake.kube.reflector import Changed, Page, Reflector, Selection
from fleetwake.rig import Rig

Status = Literal["True", "False"]
NODE_READY = "NodeReady"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
AVAILABLE_LIMIT_S = 900.0
SEEN_LIMIT_S = 30.0
HOLD_S = 2.0
"""How long a Node stays NotReady: longer than a write that only informs is held back, so that both turns have to be told."""

SEED = 7
MS = 1000.0
TOP = 12


@dataclass(frozen=True)
class Order:
    """``clusters`` of one control plane Machine and ``workers``; ``flaps`` Nodes a second turn NotReady, for ``seconds``, each for HOLD_S."""

    clusters: int
    workers: int
    flaps: float
    seconds: float
    reconcilers: int
    state: Path | None = None


@dataclass(frozen=True)
class Turn:
    """One write to a Node: what its condition Ready became, when that was sent and answered, and when the Machine was seen to tell it (None: never).

    Times are of ``time.monotonic``.
    """

    machine: str
    status: Status
    sent: float
    answered: float
    seen: float | None


@dataclass
class Report:
    """Milliseconds from the answer to the sight, by what the Node became; ``requests`` leaves Leases and Events out, ``rss`` is in MB."""

    order: Order
    turns: int
    unseen: list[str]
    not_ready: Spread
    ready: Spread
    answer: Spread
    requests: Requests
    usage: Usage
    settled: Usage
    rss: Mapping[str, float]
    rss_peak: Mapping[str, float]

    @property
    def writes_per_flap(self) -> float:
        """Writes of ours that succeeded, per Node that turned NotReady and came back."""
        return round(self.requests.writes.total() / max(self.turns / 2, 1), 2)


class Told:
    """What Machines tell of their Nodes, since when this program has seen it, and whose they are."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, float]] = {}
        self.cluster_of: dict[str, str] = {}

    def take(self, machine: Json, now: float) -> None:
        """A Machine as it was seen at a time: what it told before already is no news."""
        name, status = machine["metadata"]["name"], node_ready(machine)
        self.cluster_of[name] = machine["spec"]["clusterName"]
        if self._told.get(name, ("", 0.0))[0] != status:
            self._told[name] = (status, now)

    def since(self, machine: str, status: Status) -> float | None:
        """Since when a Machine has told so; None if it does not."""
        told, at = self._told.get(machine, ("", 0.0))
        return at if told == status else None


class Machines:
    """All Machines, by a watch."""

    def __init__(self, client: ApiClient) -> None:
        self._reflector = Reflector(client, Selection(MACHINES, NAMESPACE))
        self._news = asyncio.Condition()
        self.told = Told()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Machines]:
        """Follow them."""
        task = asyncio.get_running_loop().create_task(self._follow())
        try:
            await self._reflector.synced.wait()
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self) -> None:
        async for event in self._reflector.events():
            now = time.monotonic()
            for item in event.items if isinstance(event, Page) else [event.object] if isinstance(event, Changed) else ():
                self.told.take(item, now)
            async with self._news:
                self._news.notify_all()

    async def sight(self, machine: str, status: Status) -> float | None:
        """Wait until the Machine tells so; returns when it was seen, None after SEEN_LIMIT_S."""
        try:
            async with asyncio.timeout(SEEN_LIMIT_S), self._news:
                await self._news.wait_for(lambda: self.told.since(machine, status) is not None)
        except TimeoutError:
            return None
        return self.told.since(machine, status)


def node_ready(machine: Json) -> str:
    """The status of a Machine's condition NodeReady; empty where it has none."""
    conditions = (machine.get("status") or {}).get("conditions") or ()
    return next((str(one["status"]) for one in conditions if one["type"] == NODE_READY), "")


async def measure(order: Order) -> Report:
    """Make the fleet, let it settle, let Nodes flap.

    Raises:
        LateError: a cluster did not become Available in time.
    """
    with bench_rig(order.reconcilers, order.state) as rig:
        async with admin(rig) as client:
            names = [f"flaps-{int(time.time()):x}-{number}" for number in range(order.clusters)]
            async with Arrivals(client) as arrivals:
                await apply(client, {name: manifests(name, order.workers) for name in names})
                if late := await arrivals.wait(names, arrivals.available, AVAILABLE_LIMIT_S):
                    raise LateError(f"{len(late)} of {order.clusters} clusters were not Available after {AVAILABLE_LIMIT_S:.0f} s", operation="node-flaps")
            async with Machines(client).following() as machines, workload_clients(client, names) as workloads:
                return await _measure(rig, order, machines, workloads)


async def _measure(rig: Rig, order: Order, machines: Machines, workloads: Mapping[str, ApiClient]) -> Report:
    log = AuditLog(rig.endpoints().audit_log)
    await quiet(rig, log)
    log.skip()
    before = read(rig)
    turns = await drive(order, machines, workloads)
    usage = between(before, read(rig))
    requests, _ = await quiet(rig, log)
    settled = between(before, read(rig))

    def spread(status: Status) -> Spread:
        return Spread.of([(one.seen - one.answered) * MS for one in turns if one.status == status and one.seen is not None], 1)

    return Report(
        order=order,
        turns=len(turns),
        unseen=[f"{one.machine} {one.status}" for one in turns if one.seen is None],
        not_ready=spread("False"),
        ready=spread("True"),
        answer=Spread.of([(one.answered - one.sent) * MS for one in turns], 1),
        requests=requests,
        usage=usage,
        settled=settled,
        rss=memory(rig),
        rss_peak=memory(rig, peak=True),
    )


@asynccontextmanager
async def workload_clients(client: ApiClient, clusters: Sequence[str]) -> AsyncIterator[Mapping[str, ApiClient]]:
    """A client of each cluster's own API server, with the kubeconfig that its Secret holds."""
    found: dict[str, ApiClient] = {}
    try:
        for name in clusters:
            answer = await client.request("GET", resource_path("v1", "secrets", NAMESPACE, f"{name}-kubeconfig"), timeout_seconds=REQUEST_LIMIT_S)
            raise_for(answer, f"kubeconfig of {name}")
            found[name] = ApiClient(from_kubeconfig(base64.b64decode(answer.json()["data"]["value"])), service="bench")
        yield found
    finally:
        await asyncio.gather(*(one.close() for one in found.values()))


async def drive(order: Order, machines: Machines, workloads: Mapping[str, ApiClient]) -> list[Turn]:
    """Let one Node after the other flap, chosen at random (seeded) among those that stand still, ``flaps`` a second, never waiting for an answer."""
    loop, dice = asyncio.get_running_loop(), random.Random(SEED)
    still = sorted(machine for machine, cluster in machines.told.cluster_of.items() if cluster in workloads)
    tasks: list[asyncio.Task[list[Turn]]] = []

    async def one(machine: str) -> list[Turn]:
        turns = await flap(machines, workloads[machines.told.cluster_of[machine]], machine)
        still.append(machine)
        return turns

    began = loop.time()
    for number in range(int(order.flaps * order.seconds)):
        await asyncio.sleep(max(began + number / order.flaps - loop.time(), 0.0))
        if not still:
            raise LateError(f"all {len(machines.told.cluster_of)} Nodes flap already: fewer flaps a second, or more clusters", operation="node-flaps")
        tasks.append(loop.create_task(one(still.pop(dice.randrange(len(still))))))
    return [turn for turns in await asyncio.gather(*tasks) for turn in turns]


async def flap(machines: Machines, workload: ApiClient, node: str) -> list[Turn]:
    """Let a Node turn NotReady, and come back after HOLD_S. Its Machine has the same name."""
    down = await turn(machines, workload, node, "False")
    await asyncio.sleep(max(down.answered + HOLD_S - time.monotonic(), 0.0))
    return [down, await turn(machines, workload, node, "True")]


async def turn(machines: Machines, workload: ApiClient, node: str, status: Status) -> Turn:
    """Write a Node's condition Ready as a kubelet does, and wait until its Machine tells it."""
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    reason, message = ("KubeletReady", "kubelet is posting ready status") if status == "True" else ("KubeletNotReady", "PLEG is not healthy")
    ready = {"type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": at, "lastHeartbeatTime": at}
    sent = time.monotonic()
    answer = await workload.request(
        "PATCH",
        f"/api/v1/nodes/{node}/status",
        body=orjson.dumps({"status": {"conditions": [ready]}}),
        content_type=STRATEGIC_MERGE_PATCH,
        timeout_seconds=REQUEST_LIMIT_S,
    )
    answered = time.monotonic()
    raise_for(answer, f"patch Node {node}")
    return Turn(node, status, sent, answered, await machines.sight(node, status))


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = asdict(report)
    found["order"].pop("state")
    for counted in ("writes", "reads", "refused"):
        found["requests"][counted] = dict(getattr(report.requests, counted))
    return {**found, "writes_per_flap": report.writes_per_flap}


def render(report: Report) -> str:
    """The report for people."""
    order, requests, flaps = report.order, report.requests, max(report.turns / 2, 1)
    lines = [
        f"{order.clusters} clusters of 1+{order.workers}, {order.flaps:g} Nodes a second NotReady for {HOLD_S:g} s each, for {order.seconds:g} s, "
        f"{order.reconcilers} reconcilers",
        f"answer of the workload cluster's API server -> Machine's {NODE_READY} seen in a watch of the management API server, ms:",
        f"  turns NotReady  {report.not_ready}",
        f"  comes back      {report.ready}",
        f"  (the answer itself: {report.answer})",
        f"  never seen within {SEEN_LIMIT_S:g} s: {len(report.unseen)}{' ' + ', '.join(report.unseen[:5]) if report.unseen else ''}",
        f"per flap {report.writes_per_flap:g} writes, {requests.total / flaps:.2f} requests; 409: {requests.conflicts}",
    ]
    lines += [
        f"    {number / flaps:7.2f}  {name}" for counter in (requests.writes, requests.reads, requests.refused) for name, number in counter.most_common(TOP)
    ]
    used = report.usage
    shares = ", ".join(f"{name} {value / used.seconds:.1%}" for name, value in used.cpu.items())
    lines.append(f"CPU of one core while they flap: {used.total / used.seconds:.1%}: {shares}")
    lines.append(f"  this program {used.client / used.seconds:.1%}; others took {used.load_of_others:.0%} of the machine")
    lines.append("memory in MB (peak): " + ", ".join(f"{name} {value:.0f} ({report.rss_peak.get(name, 0):.0f})" for name, value in report.rss.items()))
    return "\n".join(lines)
