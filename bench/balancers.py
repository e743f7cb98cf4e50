"""Load balancers before an emulated control plane: how soon a new API server has traffic, and what new connections lose when one dies.

No rig: the emulated cluster, its API servers, the load balancer and the clients are real, all but HAProxy in this process. Clients make TLS connections one
after the other, several at a time, so every time below holds the client's own handshakes too.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from bench.statistics import Spread
from fleetwake.errors import TerminalError
from fleetwake.event_loop import EventLoop
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, self_signed_ca, sign_certificate
from schemas.keys import ClusterKey
from services.dev_infrastructure.emulation.cluster import EmulatedCluster, Host
from services.dev_infrastructure.emulation.doors import Doors
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.kinds.state import API_SERVER

LOOPBACK = "127.0.0.1"
PORTS = (27000, 28000)
HOSTS = 3
CLIENTS = 4
AFTER_S = 1.5
"""How long clients go on after a kill: what is lost later than that is no consequence of it."""
TRAFFIC_LIMIT_S = 10.0
RATE_S = 3.0


@dataclass(frozen=True)
class Order:
    """Which types, and how often an API server comes and dies behind each."""

    types: tuple[str, ...]
    repeat: int


@dataclass
class Result:
    """One type. Seconds; ``lost`` of ``attempts`` new connections begun within ``AFTER_S`` of the kills.

    ``cut``: connections that were being made in the moment of a kill and were not answered. CPU is that of this process, clients and API servers included.
    """

    start_to_traffic_s: list[float] = field(default_factory=list)
    kill_to_last_lost_s: list[float] = field(default_factory=list)
    lost: int = 0
    attempts: int = 0
    cut: int = 0
    connections_per_s: float = 0.0
    cpu_ms_per_connection: float = 0.0


@dataclass
class Report:
    """By type; "" is a cluster without a load balancer, for comparison of what a connection costs."""

    order: Order
    results: dict[str, Result] = field(default_factory=dict)


@dataclass
class Clients:
    """Connections one after the other, several at a time, each noted with when it was begun and who answered ("": nobody)."""

    port: int
    context: ssl.SSLContext
    attempts: list[tuple[float, float, str]] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Connect until cancelled."""
        while True:
            begun, server = time.monotonic(), ""
            with suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, self.port, ssl=self.context)
                names = {value for _, value in writer.get_extra_info("peercert")["subjectAltName"]}
                server = next(name for name in names if name.startswith("cp-"))
                writer.close()
            self.attempts.append((begun, time.monotonic(), server))
            self._more.set()

    async def served_by(self, name: str) -> float:
        """When an API server has answered for the first time."""
        async with asyncio.timeout(TRAFFIC_LIMIT_S):
            at = 0
            while True:
                for _, ended, server in self.attempts[at:]:
                    if server == name:
                        return ended
                at = len(self.attempts)
                self._more.clear()
                await self._more.wait()


class Plane:
    """An emulated control plane, without the bootstrap of its hosts."""

    def __init__(self) -> None:
        self._ca = self_signed_ca("ca", generate_key("ECDSA-P256"), now=datetime.now(UTC))
        self.context = ssl.create_default_context(cadata=self._ca.cert_pem.decode())
        self.cluster = EmulatedCluster(ClusterKey("bench", "balanced"), ("balanced", "uid"), lambda: datetime.now(UTC), lambda _: None)
        self._number = 0

    async def open(self, kind: str) -> None:
        """Begin with all hosts but one."""
        pool = PortPool(LOOPBACK, *PORTS)
        self.cluster.listen(pool.reserve())
        await self.cluster.balance(kind, Doors(pool, None))
        if self.cluster.balancer_failure:
            raise TerminalError(self.cluster.balancer_failure, operation=f"measure {kind}")
        for _ in range(HOSTS - 1):
            await self.start(*self.prepared())

    def prepared(self) -> tuple[str, KeyPair]:
        """The name of the next host, and the certificate of its API server."""
        self._number += 1
        name = f"cp-{self._number}"
        spec = CertificateSpec("kube-apiserver", sans=(LOOPBACK, name), usages=("server",))
        return name, sign_certificate(self._ca, spec, generate_key("ECDSA-P256"), now=datetime.now(UTC))

    async def start(self, name: str, serving: KeyPair) -> None:
        """Let the API server of a new host start."""
        now = datetime.now(UTC)
        self.cluster.hosts[name] = Host(name, name, name, True, "v1.34.0", now, {API_SERVER: now}, ca_pem=self._ca.cert_pem, serving=serving)
        await self.cluster.serve()

    async def kill(self, name: str) -> None:
        """Let an API server die; its Machine stays."""
        self.cluster.afflictions.down.add(name)
        await self.cluster.serve()

    async def remove(self, name: str) -> None:
        """Let the host go."""
        await self.cluster.remove_host(name)
        self.cluster.afflictions.down.discard(name)


@asynccontextmanager
async def connecting(plane: Plane) -> AsyncIterator[Clients]:
    """Clients that connect all the time."""
    clients = Clients(plane.cluster.port, plane.context)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(clients.run()) for _ in range(CLIENTS)]
        yield clients
        for task in tasks:
            task.cancel()


async def _one(kind: str, repeat: int) -> Result:
    result, plane = Result(), Plane()
    await plane.open(kind)
    try:
        async with connecting(plane) as clients:
            cpu, begun, before = _cpu_s(), time.monotonic(), len(clients.attempts)
            await asyncio.sleep(RATE_S)
            made = len(clients.attempts) - before
            result.connections_per_s = round(made / (time.monotonic() - begun), 1)
            result.cpu_ms_per_connection = round(1000 * (_cpu_s() - cpu) / max(made, 1), 2)
            for _ in range(repeat if kind else 0):
                await _round(plane, clients, result)
    finally:
        await plane.cluster.close()
    return result


async def _round(plane: Plane, clients: Clients, result: Result) -> None:
    """A host comes, its API server dies, the host goes."""
    name, serving = plane.prepared()
    started = time.monotonic()
    await plane.start(name, serving)
    result.start_to_traffic_s.append(await clients.served_by(name) - started)
    killed = time.monotonic()
    await plane.kill(name)
    await asyncio.sleep(AFTER_S)
    after = [(begun, server) for begun, _, server in clients.attempts if begun >= killed]
    lost = [begun for begun, server in after if not server]
    result.attempts += len(after)
    result.lost += len(lost)
    result.cut += sum(begun < killed <= ended and not server for begun, ended, server in clients.attempts)
    result.kill_to_last_lost_s.append(max(lost, default=killed) - killed)
    await plane.remove(name)


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def measure(order: Order) -> Report:
    """Measure each type, on the event loop of the services."""
    report = Report(order)
    for kind in ("", *order.types):
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            report.results[kind] = runner.run(_one(kind, order.repeat))
    return report


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return asdict(report)


def render(report: Report) -> str:
    """The report for people."""
    lines = [f"{HOSTS} API servers, {CLIENTS} clients that connect anew all the time; {report.order.repeat} API servers come and die"]
    for kind, result in report.results.items():
        lines.append(f"{kind or 'no load balancer'}: {result.connections_per_s:g} connections/s, {result.cpu_ms_per_connection:g} ms of CPU each")
        if kind:
            lines += [
                f"  start of an API server to its first connection, s: {Spread.of(result.start_to_traffic_s)}",
                f"  kill to the beginning of the last connection that was lost, s: {Spread.of(result.kill_to_last_lost_s)}",
                f"  lost: {result.lost} of {result.attempts} connections begun within {AFTER_S:g} s of a kill; {result.cut} that were just being made",
            ]
    return "\n".join(lines)
