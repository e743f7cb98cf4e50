"""What counting costs: a run's measurements, a write's, and a scrape. ``python -m bench.instruments`` prints microseconds of CPU.

The runs are those of ``fleetwake.shell.runner``: the same series, the same number of them.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable

from fleetwake.exposition import exposed
from fleetwake.shell.metrics import SUCCESS, Metrics, observe
from fleetwake.tracing.current import CURRENT, CurrentRun
from schemas.keys import ClusterKey, ObjectKey

ROUNDS, PER_ROUND = 9, 20_000
KEY, CLUSTER = ObjectKey("cluster.x-k8s.io", "Machine", "default", "m1"), ClusterKey("default", "demo")
TRACE = "0af7651916cd43dd8448eb211c80319c"
ACCEPT = "application/openmetrics-text;version=1.0.0"
CONTROLLERS = ("Cluster", "Machine", "MachineSet", "MachineDeployment", "KubeadmConfig", "KubeadmControlPlane")
SCRAPES = 30


def microseconds(work: Callable[[], None]) -> float:
    """The median over rounds of one call."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(PER_ROUND):
            work()
        rounds.append((time.process_time() - started) / PER_ROUND * 1e6)
    return statistics.median(rounds)


def run_costs() -> dict[str, float]:
    """What one run adds, without and with a trace, and what one write does."""
    metrics = Metrics()
    kind, write = metrics.of("Machine"), metrics.write_seconds.labels("patch")

    def run(trace: str) -> None:
        current = CurrentRun(KEY, CLUSTER, lambda: trace)
        CURRENT.set(current)
        kind.reconciles[SUCCESS].inc()
        for series in (kind.seconds, kind.queue_seconds, kind.intake_to_reconcile, kind.event_to_reconcile):
            observe(series, 0.004, trace)

    return {
        "a run without a span": microseconds(lambda: run("")),
        "a run with a span (exemplars)": microseconds(lambda: run(TRACE)),
        "a write": microseconds(lambda: observe(write, 0.004, TRACE)),
        "a request counted": microseconds(metrics.requests.labels("200", "PATCH", "host").inc),
    }


async def scrape_costs() -> dict[str, float]:
    """A scrape: the part in which the event loop does nothing else, and all of it."""
    metrics = Metrics()
    for name in CONTROLLERS:
        observe(metrics.of(name).seconds, 0.004, TRACE)
    collected, whole = [], []
    for _ in range(SCRAPES):
        started = time.process_time()
        list(metrics.registry.collect())
        collected.append((time.process_time() - started) * 1e6)
        started = time.process_time()
        await exposed(metrics.registry, ACCEPT)
        whole.append((time.process_time() - started) * 1e6)
    return {"a scrape, in the event loop": statistics.median(collected), "a scrape, all of it": statistics.median(whole)}


def main() -> None:
    """Print the figures."""
    for what, cost in (run_costs() | asyncio.run(scrape_costs())).items():
        print(f"{what:32} {cost:10.1f} us")


if __name__ == "__main__":
    main()
