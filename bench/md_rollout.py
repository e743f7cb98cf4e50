"""A new version for the MachineDeployments of many clusters at once: time until all Machines are replaced, CPU, writes per Machine against the least.

The least is what a replacement cannot do without, however it is done: each fact in an object of its own, or known at another time, is a write of its own.
Writes into the emulated workload clusters (Nodes) are not in the count: the management API server alone keeps the log.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from bench.audit import AuditLog
from bench.create import Round, Watch, plain_round, render_requests, render_round
from bench.fleet import CORE, NAMESPACE, REQUEST_LIMIT_S, REQUESTS_AT_ONCE, Arrivals, Json, LateError, apply, manifests
from bench.rigs import admin, bench_rig, quiet
from bench.rollout import next_version, whole
from bench.statistics import span
from fleetwake.kube.client import MERGE_PATCH, ApiClient, raise_for, resource_path
from fleetwake.kube.discovery import Resource
from fleetwake.rig import Rig

DEPLOYMENTS = Resource("cluster.x-k8s.io", "MachineDeployment", "machinedeployments", "v1beta2")
LEAST_PER_MACHINE = {
    "create Machine, infrastructure object, bootstrap configuration and Secret": 4,
    "bootstrap configuration tells that its data is there": 1,
    "Machine takes over the name of the data, later the providerID": 2,
    "infrastructure object: providerID, and that it is provisioned": 2,
    "Machine tells that it is Available": 1,
    "delete Machine, infrastructure object, bootstrap configuration": 3,
    "finalizers of infrastructure object and Machine": 2,
}
LEAST_PER_ROLLOUT = {
    "create the MachineSet, note its revision": 2,
    "delete the old MachineSet, its finalizer": 2,
    "MachineSet and MachineDeployment tell that all is done": 2,
}
"""Beside these each step of the surge, up and down, is a write on a MachineSet."""


@dataclass(frozen=True)
class Order:
    """What to measure: ``repeat`` rollouts, one after the other, of ``clusters`` with one MachineDeployment of ``replicas`` and ``max_surge`` each."""

    clusters: int
    replicas: int
    max_surge: int
    reconcilers: int
    repeat: int = 1
    limit_s: float = 900.0
    state: Path | None = None

    @property
    def least(self) -> float:
        """The fewest writes per Machine replaced."""
        steps = 2 * math.ceil(self.replicas / max(self.max_surge, 1)) - 1
        return sum(LEAST_PER_MACHINE.values()) + (sum(LEAST_PER_ROLLOUT.values()) + steps) / self.replicas


@dataclass
class Report:
    """All rollouts of an order."""

    order: Order
    rounds: list[Round] = field(default_factory=list)

    def writes_per_machine(self, made: Round) -> float:
        """Writes that succeeded per Machine replaced."""
        return made.requests.writes.total() / (self.order.clusters * self.order.replicas)


async def measure(order: Order) -> Report:
    """Start a rig, create the clusters, roll their workers, stop it.

    Raises:
        LateError: the clusters are not there in time.
    """
    with bench_rig(order.reconcilers, order.state) as rig:
        async with admin(rig) as client:
            return await _measure(rig, client, order)


async def _measure(rig: Rig, client: ApiClient, order: Order) -> Report:
    log, report = AuditLog(rig.endpoints().audit_log), Report(order)
    series = f"m{int(time.time()):x}"
    names = [f"{series}-{number}" for number in range(order.clusters)]
    deployments = [f"{name}-md" for name in names]
    async with Arrivals(client, DEPLOYMENTS, whole) as arrivals:
        await apply(client, {name: clusters_of(name, order) for name in names})
        late = await arrivals.wait(deployments, arrivals.available, order.limit_s)
    if late:
        raise LateError(f"not whole after {order.limit_s:g} s: {', '.join(late)}", operation="make a fleet")
    for number in range(order.repeat):
        version = next_version(number)
        await quiet(rig, log)
        async with Arrivals(client, DEPLOYMENTS, partial(rolled_out, version=version)) as arrivals:
            watch = Watch(rig, log)
            began = await _roll(client, deployments, version)
            late = await arrivals.wait(began, arrivals.available, order.limit_s)
            report.rounds.append(await watch.finish(began, arrivals.available, late))
    return report


def clusters_of(name: str, order: Order) -> list[Json]:
    """The documents of one cluster, its MachineDeployment with the surge."""
    made = manifests(name, order.replicas)
    deployment = next(one for one in made if one["kind"] == "MachineDeployment")
    rolling = {"maxSurge": order.max_surge, "maxUnavailable": 0}
    deployment["spec"]["rollout"] = {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}
    return made


async def _roll(client: ApiClient, names: Iterable[str], version: str) -> dict[str, float]:
    """Ask for a version. Returns when each MachineDeployment was asked (``time.monotonic``)."""
    slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
    began: dict[str, float] = {}

    async def one(name: str) -> None:
        async with slots:
            began[name] = time.monotonic()
            path = resource_path(CORE, DEPLOYMENTS.plural, NAMESPACE, name)
            body = orjson.dumps({"spec": {"template": {"spec": {"version": version}}}})
            answer = await client.request("PATCH", path, body=body, content_type=MERGE_PATCH, timeout_seconds=REQUEST_LIMIT_S)
            raise_for(answer, f"roll {name}")

    await asyncio.gather(*(one(name) for name in names))
    return began


def rolled_out(state: Json, version: str) -> bool:
    """Whether all Machines of a MachineDeployment are of a version, and none of another is left."""
    versions = [one["version"] for one in (state.get("status") or {}).get("versions") or ()]
    return whole(state) and state["spec"]["template"]["spec"]["version"] == version and versions == [version]


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    order = asdict(report.order)
    order.pop("state")
    per_machine = [round(report.writes_per_machine(made), 2) for made in report.rounds]
    return {"order": order, "least": report.order.least, "writes_per_machine": per_machine, "rounds": [plain_round(made) for made in report.rounds]}


def render(report: Report) -> str:
    """The report for people."""
    order, walls = report.order, [made.wall_s for made in report.rounds]
    lines = [
        f"{order.clusters} MachineDeployments {order.replicas}->{order.replicas} at once, maxSurge {order.max_surge}, {order.reconcilers} reconcilers, "
        f"{order.repeat} rollouts on one rig",
        f"rollout: wall {span(walls)} s",
    ]
    for number, made in enumerate(report.rounds):
        machines, writes = order.clusters * order.replicas, report.writes_per_machine(made)
        lines += render_round(number, made, order.clusters)
        lines.append(
            f"  per Machine replaced {writes:.2f} writes, {writes / order.least:.2f} times the least of {order.least:.2f}; "
            f"{made.settled.total / machines * 1000:.0f} ms of CPU"
        )
    return "\n".join([*lines, *render_requests(report.rounds, order.clusters)])
