"""Clusters from the first request to Available: time, CPU by process, requests by kind, memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.audit import AuditLog, Requests
from bench.fleet import Arrivals, apply, delete, manifests
from bench.processes import Reading, Usage, between, memory, read
from bench.rigs import admin, bench_rig, metric, quiet
from bench.statistics import Spread, span
from fleetwake.kube.client import ApiClient
from fleetwake.rig import Rig

LIMIT_S = 300.0
IDLE_S = 3.0
TOP = 60


@dataclass(frozen=True)
class Order:
    """What to measure: rounds of ``clusters`` at once, each of one control plane Machine and ``workers`` workers, ``reconcilers`` working."""

    clusters: int
    workers: int
    reconcilers: int
    repeat: int = 1
    deletion: bool = False
    warm: int = 0
    limit_s: float = LIMIT_S
    state: Path | None = None


@dataclass
class Round:
    """One round of creations, or of deletions. ``usage`` is up to the last arrival; ``settled`` up to the last request of ours."""

    wall_s: float
    late: list[str]
    spread: Spread
    usage: Usage
    settled: Usage
    requests: Requests
    retries: int
    load: tuple[float, float, float]
    rss_after: Mapping[str, float] = field(default_factory=dict)


@dataclass
class Report:
    """All rounds of an order."""

    order: Order
    idle_cpu: Mapping[str, float]
    rss_before: Mapping[str, float]
    created: list[Round] = field(default_factory=list)
    deleted: list[Round] = field(default_factory=list)
    rss_peak: Mapping[str, float] = field(default_factory=dict)


async def measure(order: Order) -> Report:
    """Start a rig, run the rounds, stop it."""
    with bench_rig(order.reconcilers, order.state) as rig:
        async with admin(rig) as client:
            return await _measure(rig, client, order)


async def _measure(rig: Rig, client: ApiClient, order: Order) -> Report:
    log = AuditLog(rig.endpoints().audit_log)
    if order.warm:
        await _rounds(rig, client, order, log, [f"warm-{number}" for number in range(order.warm)], None)
    await quiet(rig, log)
    before = read(rig)
    await asyncio.sleep(IDLE_S)
    idle = between(before, read(rig))
    report = Report(order, {name: round(value / idle.seconds, 4) for name, value in idle.cpu.items()}, memory(rig))
    series = f"{int(time.time()):x}"
    for number in range(order.repeat):
        await _rounds(rig, client, order, log, [f"b{series}-{number}-{cluster}" for cluster in range(order.clusters)], report)
    report.rss_peak = memory(rig, peak=True)
    return report


async def _rounds(rig: Rig, client: ApiClient, order: Order, log: AuditLog, names: list[str], report: Report | None) -> None:
    async with Arrivals(client) as arrivals:
        watch = Watch(rig, log)
        began = await apply(client, {name: manifests(name, order.workers) for name in names})
        late = await arrivals.wait(names, arrivals.available, order.limit_s)
        made = await watch.finish(began, arrivals.available, late)
        if report is not None:
            report.created.append(made)
        if order.deletion or report is None:
            watch = Watch(rig, log)
            began = await delete(client, names)
            late = await arrivals.wait(names, arrivals.gone, order.limit_s)
            gone = await watch.finish(began, arrivals.gone, late)
            if report is not None:
                report.deleted.append(gone)


class Watch:
    """The readings around one round."""

    def __init__(self, rig: Rig, log: AuditLog) -> None:
        self._rig, self._log = rig, log
        log.skip()
        self._retries = metric(rig, "workqueue_retries_total")
        self._load = os.getloadavg()
        self._before: Reading = read(rig)

    async def finish(self, began: Mapping[str, float], arrived: Mapping[str, float], late: list[str]) -> Round:
        """Read again, now and when all is quiet."""
        at_end = read(self._rig)
        requests, _ = await quiet(self._rig, self._log)
        settled = read(self._rig)
        seconds = [arrived[name] - began[name] for name in began if name in arrived]
        wall = max((arrived[name] for name in began if name in arrived), default=time.monotonic()) - min(began.values())
        return Round(
            wall_s=round(wall, 3),
            late=late,
            spread=Spread.of(seconds),
            usage=between(self._before, at_end),
            settled=between(self._before, settled),
            requests=requests,
            retries=int(metric(self._rig, "workqueue_retries_total") - self._retries),
            load=self._load,
            rss_after=memory(self._rig),
        )


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = asdict(report)
    found["order"].pop("state")
    return {**found, "created": [plain_round(made) for made in report.created], "deleted": [plain_round(made) for made in report.deleted]}


def plain_round(made: Round) -> dict[str, Any]:
    """A round as plain data."""
    found = asdict(made)
    for counted in ("writes", "reads", "refused"):
        # asdict makes of a Counter one that counts its pairs
        found["requests"][counted] = dict(getattr(made.requests, counted))
    return found


def render(report: Report) -> str:
    """The report for people."""
    order = report.order
    lines = [f"{order.clusters} clusters of 1+{order.workers} at once, {order.reconcilers} reconcilers, {order.repeat} rounds on one rig"]
    lines.append("idle rig, CPU of one core: " + ", ".join(f"{name} {value:.1%}" for name, value in report.idle_cpu.items()))
    for title, rounds in (("create", report.created), ("delete", report.deleted)):
        if not rounds:
            continue
        lines.append(f"\n{title}: wall {span([made.wall_s for made in rounds])} s")
        lines += [line for number, made in enumerate(rounds) for line in render_round(number, made, order.clusters)]
        lines += render_requests(rounds, order.clusters)
    lines.append("\nmemory in MB (before -> after the last round, peak):")
    after = (report.deleted or report.created)[-1].rss_after
    lines += [f"  {name}: {before:.0f} -> {after.get(name, 0):.0f}, peak {report.rss_peak.get(name, 0):.0f}" for name, before in report.rss_before.items()]
    if not report.deleted:
        lines.append("growth per 100 clusters, MB: " + ", ".join(f"{name} {value:.0f}" for name, value in memory_per_100(report).items()))
    return "\n".join(lines)


def memory_per_100(report: Report) -> dict[str, float]:
    """MB that each process grew by per 100 clusters, over all rounds."""
    rounds = report.created
    clusters = report.order.clusters * len(rounds)
    after = rounds[-1].rss_after
    return {name: round((after.get(name, before) - before) / clusters * 100, 1) for name, before in report.rss_before.items()}


def render_round(number: int, made: Round, clusters: int) -> list[str]:
    """One round for people."""
    cpu = made.settled
    shares = ", ".join(f"{name} {value / clusters:.2f} ({value / cpu.total:.0%})" for name, value in sorted(cpu.cpu.items(), key=lambda item: -item[1]))
    return [
        f"round {number}: wall {made.wall_s:.2f} s, per cluster {made.spread} s" + (f", NOT ARRIVED: {len(made.late)}" if made.late else ""),
        f"  CPU {cpu.total:.2f} s until settled ({made.usage.total:.2f} until the last arrived), per cluster {cpu.total / clusters:.2f}: {shares}",
        f"  client {cpu.client:.2f} s; others on the machine took {made.usage.load_of_others:.0%} of it, load average at the start {made.load[0]:.1f}",
        f"  per cluster {made.requests.writes.total() / clusters:.1f} writes, {made.requests.total / clusters:.1f} requests; "
        f"409: {made.requests.conflicts}, retries {made.retries}",
    ]


def render_requests(rounds: list[Round], clusters: int) -> list[str]:
    """The requests of all rounds by kind, for people."""
    lines = []
    for title, counters in (
        ("writes", [made.requests.writes for made in rounds]),
        ("reads", [made.requests.reads for made in rounds]),
        ("refused", [made.requests.refused for made in rounds]),
    ):
        total: Counter[str] = sum(counters, Counter())
        lines.append(f"  {title} per cluster, {total.total() / clusters / len(rounds):.1f}:")
        lines += [f"    {number / clusters / len(rounds):7.2f}  {name}" for name, number in total.most_common(TOP)]
    return lines
