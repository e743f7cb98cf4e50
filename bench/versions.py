"""What serving older API versions costs: the same clusters are created with none, one and two of them, each time on a rig of its own.

Nobody reads or writes in an older version here: what is measured is paid for serving them alone, because the API server keeps a watch cache for each and has
every event converted for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench import create
from bench.processes import memory
from bench.rigs import admin, bench_rig, metric_of
from fleetwake.kube.client import ApiClient, raise_for
from fleetwake.rig import Rig

SERVED: Final = ("", "v1beta1", "v1beta1,v1alpha4")
CONVERSIONS: Final = "apiserver_crd_conversion_webhook_duration_seconds"
PARTS: Final = ("apiserver", "admission", "watcher", "reconcilers")


@dataclass(frozen=True)
class Order:
    """``clusters`` at once of one control plane Machine and ``workers`` workers, for each of ``served``."""

    clusters: int
    workers: int
    reconcilers: int
    served: tuple[str, ...] = SERVED


@dataclass
class Served:
    """What one choice of versions cost. ``conversions`` are ConversionReviews, ``mean_ms`` of each as the API server saw it."""

    versions: str
    created: create.Round
    conversions: int
    mean_ms: float
    rss_before: float
    rss_after: float


@dataclass
class Report:
    """All choices of an order."""

    order: Order
    found: list[Served] = field(default_factory=list)


async def measure(order: Order) -> Report:
    """Start a rig for each choice, create the clusters, stop it."""
    report = Report(order)
    for versions in order.served:
        with bench_rig(order.reconcilers, served_versions=versions) as rig:
            report.found.append(await _served(rig, order, versions))
    return report


async def _served(rig: Rig, order: Order, versions: str) -> Served:
    async with admin(rig) as client:
        before, seconds_before = await _converted(client)
        rss = memory(rig)["apiserver"]
        made = await create.measure(create.Order(order.clusters, order.workers, order.reconcilers, state=rig.state_dir))
        after, seconds_after = await _converted(client)
    count = after - before
    return Served(
        versions, made.created[0], int(count), round((seconds_after - seconds_before) / count * 1000, 2) if count else 0.0, rss, memory(rig)["apiserver"]
    )


async def _converted(client: ApiClient) -> tuple[float, float]:
    """ConversionReviews so far and the seconds that they took, by the API server's own metrics."""
    answer = await client.request("GET", "/metrics", timeout_seconds=30.0)
    raise_for(answer, "get metrics")
    return metric_of(answer.body, f"{CONVERSIONS}_count"), metric_of(answer.body, f"{CONVERSIONS}_sum")


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    return {"order": asdict(report.order), "found": [{**asdict(one), "created": create.plain_round(one.created)} for one in report.found]}


def render(report: Report) -> str:
    """The report for people."""
    order = report.order
    lines = [f"{order.clusters} clusters of 1+{order.workers} at once, {order.reconcilers} reconcilers; nobody uses an older version"]
    for one in report.found:
        cpu = one.created.settled
        shares = ", ".join(f"{part} {cpu.cpu.get(part, 0.0) / order.clusters:.2f}" for part in PARTS)
        late = f", NOT ARRIVED: {len(one.created.late)}" if one.created.late else ""
        lines += [
            f"v1beta2 and {one.versions or 'no other'}: wall {one.created.wall_s:.1f} s{late}",
            f"  CPU s per cluster {cpu.total / order.clusters:.2f}: {shares}; others on the machine took {cpu.load_of_others:.0%} of it",
            f"  conversions per cluster {one.conversions / order.clusters:.0f}, {one.mean_ms:.1f} ms each for the API server",
            f"  API server {one.rss_before:.0f} MB with no cluster, {one.rss_after:.0f} MB with them",
        ]
    return "\n".join(lines)
