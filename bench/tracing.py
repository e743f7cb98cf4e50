"""What tracing costs: clusters created with spans exported and without, in alternating pairs on one rig.

Off is ``FLEETWAKE_OTLP_ENDPOINT`` empty: no span leaves a service and no library is instrumented. What stays is what results need: ids of spans, causes by
version, intents with their copy in Redis. Each sample runs on services started for it, in the order on-off, off-on, on-off, ..., so that what drifts (a JVM
that warms up, topics that grow) falls on both.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.audit import AuditLog
from bench.drain import Drain, drain
from bench.fleet import Arrivals, LateError, apply, delete, manifests
from bench.processes import Usage, between, read
from bench.rigs import admin, bench_rig, quiet, restart_with
from bench.statistics import percentile, span
from fleetwake.kube.client import ApiClient
from fleetwake.rig import Rig

ENDPOINT = "FLEETWAKE_OTLP_ENDPOINT"
OURS = ("watcher", "reconcilers", "remediation", "dev_infrastructure")
GOAL = 0.05
LIMIT_S = 300.0


@dataclass(frozen=True)
class Order:
    """How many pairs, and how many clusters of 1+``workers`` at once in each sample."""

    pairs: int
    clusters: int
    workers: int
    reconcilers: int
    state: Path | None = None


@dataclass(frozen=True)
class Sample:
    """One creation of all clusters: CPU-s by part until all is settled, seconds per cluster to Available, spans that came."""

    on: bool
    cpu: Mapping[str, float]
    latency_s: float
    wall_s: float
    spans: int
    others: float

    @property
    def total(self) -> float:
        """CPU-s of all parts of the rig."""
        return sum(self.cpu.values())

    @property
    def ours(self) -> float:
        """CPU-s of fleetwake's services."""
        return sum(self.cpu.get(name, 0.0) for name in OURS)


@dataclass
class Report:
    """All pairs, each as (on, off), whichever came first."""

    order: Order
    pairs: list[tuple[Sample, Sample]] = field(default_factory=list)


async def measure(order: Order) -> Report:
    """Start a rig, run the pairs, stop it."""
    report = Report(order)
    with bench_rig(order.reconcilers, order.state) as rig, drain() as sink:
        async with admin(rig) as client:
            await _sample(rig, client, order, sink, True)
            for number in range(order.pairs):
                found = {on: await _sample(rig, client, order, sink, on) for on in ((True, False) if number % 2 == 0 else (False, True))}
                report.pairs.append((found[True], found[False]))
    return report


async def _sample(rig: Rig, client: ApiClient, order: Order, sink: Drain, on: bool) -> Sample:
    log = AuditLog(rig.endpoints().audit_log)
    log.skip()
    await restart_with(rig, {ENDPOINT: sink.endpoint if on else ""})
    await quiet(rig, log)
    sink.spans()
    names = [f"t{int(time.time()):x}-{number}" for number in range(order.clusters)]
    async with Arrivals(client) as arrivals:
        before = read(rig)
        began = await apply(client, {name: manifests(name, order.workers) for name in names})
        late = await arrivals.wait(names, arrivals.available, LIMIT_S)
        if late:
            raise LateError(f"{len(late)} of {order.clusters} clusters are not Available after {LIMIT_S:.0f} s", operation="create clusters")
        await quiet(rig, log)
        usage = between(before, read(rig))
        seconds = [arrivals.available[name] - began[name] for name in names]
        wall = max(arrivals.available[name] for name in names) - min(began.values())
        made = _sample_of(on, usage, seconds, wall, sink.spans())
        await delete(client, names)
        await arrivals.wait(names, arrivals.gone, LIMIT_S)
    await quiet(rig, log)
    return made


def _sample_of(on: bool, usage: Usage, seconds: Sequence[float], wall: float, spans: int) -> Sample:
    return Sample(on, usage.cpu, round(percentile(seconds, 0.5), 3), round(wall, 3), spans, round(usage.load_of_others, 3))


def differences(pairs: Sequence[tuple[Sample, Sample]], value: str) -> list[float]:
    """By how much of itself a figure without tracing grows with it, pair by pair, in percent; ``value`` names a field or property of a sample."""
    return [round((getattr(on, value) / getattr(off, value) - 1) * 100, 2) for on, off in pairs]


FIGURES = {"total": "CPU-s of all parts", "ours": "CPU-s of fleetwake's services", "latency_s": "seconds to Available, p50", "wall_s": "seconds until all are"}


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = asdict(report)
    found["order"].pop("state")
    found["difference_percent"] = {name: differences(report.pairs, name) for name in FIGURES}
    return found


def render(report: Report) -> str:
    """The report for people."""
    order, pairs = report.order, report.pairs
    lines = [f"{order.clusters} clusters of 1+{order.workers} at once, {order.reconcilers} reconcilers, {len(pairs)} pairs of tracing on and off"]
    for name, title in FIGURES.items():
        on, off = ([getattr(sample, name) for sample in samples] for samples in zip(*pairs, strict=True))
        changes = differences(pairs, name)
        spread = f"{percentile(changes, 0.5):+.1f} % ({min(changes):+.1f} to {max(changes):+.1f})"
        lines.append(f"  {title}: on {span(on)}, off {span(off)}; difference {spread}")
    spans = [on.spans for on, _ in pairs]
    lines.append(f"  spans per cluster: on {percentile(spans, 0.5) / order.clusters:.0f}, off {max(off.spans for _, off in pairs)}")
    others = [sample.others for pair in pairs for sample in pair]
    lines.append(f"  others on the machine took {min(others):.0%} to {max(others):.0%} of it")
    verdict = "met" if percentile(differences(pairs, "total"), 0.5) <= GOAL * 100 else "MISSED"
    lines.append(f"  goal: at most {GOAL:.0%} more CPU in the median of the pairs: {verdict}")
    return "\n".join(lines)
