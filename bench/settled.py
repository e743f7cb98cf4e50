"""A settled fleet: what it still asks of the API server, what it costs, and whether anything has drifted.

The watcher's drift check lists every kind once in ten minutes, counted from its start: a window that it falls into shows its lists.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.audit import AuditLog, Requests, count
from bench.fleet import Arrivals, LateError, apply, manifests
from bench.processes import Usage, between, memory, read
from bench.rigs import admin, bench_rig, metric, quiet

LIMIT_S = 300.0
DRIFT = "fleetwake_drift_total"


@dataclass(frozen=True)
class Order:
    """``clusters`` of ``control_planes`` Machines and ``workers`` workers, looked at for ``seconds`` once nothing moves any more."""

    clusters: int
    control_planes: int
    workers: int
    seconds: float
    reconcilers: int
    state: Path | None = None


@dataclass
class Report:
    """``requests`` leaves Leases and Events out; ``usage`` is that of the window; ``drift`` is the sum over all services since their start."""

    order: Order
    settling_s: float
    requests: Requests
    usage: Usage
    drift: float
    rss: Mapping[str, float]


async def measure(order: Order) -> Report:
    """Make the fleet, let it settle, look on.

    Raises:
        LateError: a cluster did not become Available in time.
    """
    with bench_rig(order.reconcilers, order.state) as rig:
        log = AuditLog(rig.endpoints().audit_log)
        async with admin(rig) as client, Arrivals(client) as arrivals:
            names = [f"settled-{int(time.time()):x}-{number}" for number in range(order.clusters)]
            await apply(client, {name: manifests(name, order.workers, order.control_planes) for name in names})
            if late := await arrivals.wait(names, arrivals.available, LIMIT_S):
                raise LateError(f"{len(late)} of {order.clusters} clusters were not Available after {LIMIT_S:.0f} s", operation="bench settled")
            began = time.monotonic()
            _, last = await quiet(rig, log)
        log.skip()
        before = read(rig)
        await asyncio.sleep(order.seconds)
        return Report(order, round(last - began, 2), count(log.lines()), between(before, read(rig)), metric(rig, DRIFT), memory(rig))


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = asdict(report)
    found["order"].pop("state")
    for counted in ("writes", "reads", "refused"):
        found["requests"][counted] = dict(getattr(report.requests, counted))
    return found


def render(report: Report) -> str:
    """The report for people."""
    order, requests = report.order, report.requests
    fleet = f"{order.clusters} clusters of {order.control_planes}+{order.workers}"
    lines = [f"{fleet}, silent {report.settling_s:.1f} s after the last was Available; then {order.seconds:.0f} s:"]
    lines.append(f"  requests of ours on objects, Leases and Events aside: {requests.total}")
    lines += [f"    {number:5}  {name}" for counter in (requests.writes, requests.reads, requests.refused) for name, number in counter.most_common()]
    lines.append("  CPU of one core: " + ", ".join(f"{name} {value / report.usage.seconds:.2%}" for name, value in report.usage.cpu.items()))
    lines.append(f"  differences found by drift checks since the start: {report.drift:.0f}")
    return "\n".join(lines)
