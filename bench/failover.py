"""One of two workers is killed (SIGKILL): how long its keys wait, with and without a restart, and how long those of the other.

Machines of both workers are changed all the time. A key is the killed worker's when its partition was; the first run noted on such a partition after
the kill, by whichever worker, ends the gap.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.observed_worker import Start, read_starts
from bench.rigs import admin, bench_rig, observe_starts, status_of, web_ports
from bench.statistics import span
from bench.steady import drive, fleet
from fleetwake.kube.client import ApiClient
from fleetwake.rig import Rig

VICTIM, OTHER = "reconcilers-1", "reconcilers-0"
MOVED_S = 15.0
SETTLED_S = 4.0
BEFORE_S = 2.0


@dataclass(frozen=True)
class Order:
    """How often, over which fleet, under which load."""

    repeat: int
    clusters: int
    rate: float
    state: Path | None = None


@dataclass
class Report:
    """Seconds. ``first``: kill to the first run of a key of the killed worker. ``all_partitions``: until each of its partitions in use had one.

    ``others``: the longest time one of the other worker's changes waited for its run around the kill, ``joining`` around the (re)start.
    """

    order: Order
    restarted: dict[str, list[float]] = field(default_factory=dict)
    moved: dict[str, list[float]] = field(default_factory=dict)


async def measure(order: Order) -> Report:
    """Run both series."""
    report = Report(order)
    with bench_rig(2, order.state) as rig, tempfile.TemporaryDirectory() as folder:
        notes = observe_starts(rig, Path(folder))
        async with admin(rig) as client:
            machines = await fleet(rig, client, order.clusters, order.clusters * 4)
            for _ in range(order.repeat):
                for result, restart in ((report.restarted, True), (report.moved, False)):
                    _add(result, await _once(rig, client, machines, notes, order.rate, restart))
    return report


async def _once(rig: Rig, client: ApiClient, machines: list[str], notes: Mapping[str, Path], rate: float, restart: bool) -> dict[str, float]:
    seconds = BEFORE_S + (MOVED_S if not restart else MOVED_S / 2)
    driving = asyncio.create_task(drive(client, machines, rate, seconds))
    await asyncio.sleep(BEFORE_S)
    owned = set(status_of(web_ports(rig)[VICTIM]).get("partitions", ()))
    await asyncio.to_thread(rig.kill, VICTIM)
    killed = time.time()
    if restart:
        await asyncio.to_thread(rig.start, VICTIM)
    await driving
    joined = time.time()
    if not restart:
        rejoin = asyncio.create_task(drive(client, machines, rate, MOVED_S / 2))
        await asyncio.to_thread(rig.start, VICTIM)
        await rejoin
    await asyncio.to_thread(rig.wait_ready, VICTIM)
    await asyncio.sleep(SETTLED_S)
    starts = [start for path in notes.values() for start in read_starts(path)]
    found = gaps(starts, owned, killed, joined)
    if not restart:
        found["joining"] = _longest([start for start in starts if start.partition not in owned], joined, time.time())
    return found


def gaps(starts: Sequence[Start], owned: set[int], killed: float, until: float) -> dict[str, float]:
    """The gaps of the killed worker's partitions, and the longest wait of a change of the others', between two Unix times."""
    firsts: dict[int, float] = {}
    busy = {start.partition for start in starts if start.partition in owned and killed - BEFORE_S <= start.at < killed}
    for start in starts:
        if start.partition in owned and start.at >= killed:
            firsts[start.partition] = min(firsts.get(start.partition, start.at), start.at)
    ended = [firsts[number] - killed for number in busy if number in firsts]
    return {
        "first": round(min(ended, default=float("inf")), 3),
        "all_partitions": round(max(ended, default=float("inf")), 3) if len(ended) == len(busy) else float("inf"),
        "others": _longest([start for start in starts if start.partition not in owned], killed, until),
    }


def _longest(starts: Sequence[Start], since: float, until: float) -> float:
    return round(max((start.at - start.received for start in starts if start.received and since <= start.received <= until), default=0.0), 3)


def _add(result: dict[str, list[float]], found: Mapping[str, float]) -> None:
    for name, value in found.items():
        result.setdefault(name, []).append(value)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = asdict(report)
    found["order"].pop("state")
    return found


def render(report: Report) -> str:
    """The report for people."""
    words = {
        "first": "kill -9 to the first run of one of its keys",
        "all_partitions": "kill -9 until each of its partitions ran",
        "others": "longest wait of a change of the other worker's keys",
        "joining": "the same while the worker joins again",
    }
    lines = [f"{report.order.repeat} times, {report.order.clusters} clusters, {report.order.rate:g} changes/s; median (least-worst), seconds"]
    for title, result in (("restarted at once", report.restarted), ("not restarted", report.moved)):
        lines.append(f"{title}:")
        lines += [f"  {words[name]}: {span(values)}" for name, values in result.items()]
    return "\n".join(lines)
