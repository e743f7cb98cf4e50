"""A new version for the control planes of many clusters at once: time until all their Machines are replaced, CPU by process, requests by kind.

Requests to the emulated workload clusters (kubeadm's configuration, kube-proxy, etcd) are not in the count: the management API server alone keeps the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from bench.audit import AuditLog
from bench.create import Round, Watch, plain_round, render_requests, render_round
from bench.fleet import CONTROL_PLANE, CONTROL_PLANES, NAMESPACE, REQUEST_LIMIT_S, REQUESTS_AT_ONCE, VERSION, Arrivals, Json, LateError, apply, manifests
from bench.rigs import admin, bench_rig, quiet
from bench.statistics import span
from fleetwake.kube.client import MERGE_PATCH, ApiClient, raise_for, resource_path
from fleetwake.rig import Rig


@dataclass(frozen=True)
class Order:
    """What to measure: ``repeat`` upgrades by a patch version, one after the other, of ``clusters`` with ``control_planes`` Machines and no workers each."""

    clusters: int
    control_planes: int
    reconcilers: int
    repeat: int = 1
    limit_s: float = 900.0
    state: Path | None = None


@dataclass
class Report:
    """All upgrades of an order."""

    order: Order
    rounds: list[Round] = field(default_factory=list)


async def measure(order: Order) -> Report:
    """Start a rig, create the clusters, upgrade their control planes, stop it.

    Raises:
        LateError: the clusters are not there in time.
    """
    with bench_rig(order.reconcilers, order.state) as rig:
        async with admin(rig) as client:
            return await _measure(rig, client, order)


async def _measure(rig: Rig, client: ApiClient, order: Order) -> Report:
    log, report = AuditLog(rig.endpoints().audit_log), Report(order)
    series = f"r{int(time.time()):x}"
    names = [f"{series}-{number}" for number in range(order.clusters)]
    async with Arrivals(client) as clusters:
        await apply(client, {name: manifests(name, 0, order.control_planes) for name in names})
        late = await clusters.wait(names, clusters.available, order.limit_s)
    if late:
        raise LateError(f"not there after {order.limit_s:g} s: {', '.join(late)}", operation="make a fleet")
    for number in range(order.repeat):
        version = next_version(number)
        await _grown(client, names, order)
        await quiet(rig, log)
        async with Arrivals(client, CONTROL_PLANES, partial(rolled_out, version=version)) as planes:
            watch = Watch(rig, log)
            began = await _upgrade(client, [f"{name}-cp" for name in names], version)
            late = await planes.wait(began, planes.available, order.limit_s)
            report.rounds.append(await watch.finish(began, planes.available, late))
    return report


async def _grown(client: ApiClient, names: Iterable[str], order: Order) -> None:
    """Wait until every control plane has all its Machines: a Cluster is Available with the first."""
    async with Arrivals(client, CONTROL_PLANES, whole) as planes:
        late = await planes.wait([f"{name}-cp" for name in names], planes.available, order.limit_s)
    if late:
        raise LateError(f"not whole after {order.limit_s:g} s: {', '.join(late)}", operation="make a fleet")


async def _upgrade(client: ApiClient, names: Iterable[str], version: str) -> dict[str, float]:
    """Ask for a version. Returns when each control plane was asked (``time.monotonic``)."""
    slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
    began: dict[str, float] = {}

    async def one(name: str) -> None:
        async with slots:
            began[name] = time.monotonic()
            path = resource_path(CONTROL_PLANE, "kubeadmcontrolplanes", NAMESPACE, name)
            body = orjson.dumps({"spec": {"version": version}})
            answer = await client.request("PATCH", path, body=body, content_type=MERGE_PATCH, timeout_seconds=REQUEST_LIMIT_S)
            raise_for(answer, f"upgrade {name}")

    await asyncio.gather(*(one(name) for name in names))
    return began


def next_version(number: int) -> str:
    """The version of an upgrade, counted from 0: a patch version above the one before."""
    release, _, patch = VERSION.rpartition(".")
    return f"{release}.{int(patch) + number + 1}"


def whole(state: Json) -> bool:
    """Whether a control plane has as many Machines as it is asked for, and all are available and up to date."""
    status, wanted = state.get("status") or {}, state["spec"]["replicas"]
    counts = [status.get(name) for name in ("replicas", "availableReplicas", "upToDateReplicas")]
    return counts == [wanted] * 3 and status.get("observedGeneration") == state["metadata"]["generation"]


def rolled_out(state: Json, version: str) -> bool:
    """Whether all Machines of a control plane are of a version, and none of another is left."""
    return whole(state) and state["spec"]["version"] == version and (state.get("status") or {}).get("version") == version


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    order = asdict(report.order)
    order.pop("state")
    return {"order": order, "rounds": [plain_round(made) for made in report.rounds]}


def render(report: Report) -> str:
    """The report for people."""
    order, walls = report.order, [made.wall_s for made in report.rounds]
    lines = [f"{order.clusters} control planes of {order.control_planes} at once, {order.reconcilers} reconcilers, {order.repeat} upgrades on one rig"]
    lines.append(f"upgrade: wall {span(walls)} s")
    lines += [line for number, made in enumerate(report.rounds) for line in render_round(number, made, order.clusters)]
    return "\n".join([*lines, *render_requests(report.rounds, order.clusters)])
