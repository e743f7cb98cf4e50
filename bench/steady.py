"""From a change of a Machine to the start of its reconcile, at a fixed rate over a settled fleet: each hop by the times records carry.

The hops: the watch line read by the watcher (the record's ``received``), the record appended by the broker (the topic's timestamps are switched to the
broker's clock for the run), the reconcile started (noted by ``bench.observed_worker``). All on one machine, so on one clock.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiokafka
import orjson
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient

from bench.audit import AuditLog
from bench.fleet import CORE, NAMESPACE, Arrivals, LateError, apply, manifests
from bench.observed_worker import Start, read_starts
from bench.poison import Poison
from bench.processes import Usage, between, read
from bench.rigs import admin, bench_rig, observe_starts, quiet
from bench.statistics import Spread
from fleetwake.kube.client import MERGE_PATCH, ApiClient, raise_for, resource_path
from fleetwake.rig import Rig
from fleetwake.stream.replay import plain_consumer
from schemas.records import ObjectRecord
from schemas.topics import PARTITIONS_DEFAULT, Topics

ANNOTATION = "bench.fleetwake.dev/change"
MACHINE = "Machine"
APPEND_TIME = "LogAppendTime"
LIMIT_S = 600.0
POLL_MS = 500
MS = 1000.0


@dataclass(frozen=True)
class Order:
    """A fleet of ``machines`` in ``clusters`` clusters, and how it is changed; ``beside``: ``bad`` or ``sound`` input, or nothing."""

    machines: int
    clusters: int
    rate: float
    seconds: float
    reconcilers: int
    state: Path | None = None
    beside: str = ""


@dataclass(frozen=True)
class Hops:
    """Milliseconds of each hop, over all changes that can be joined. ``answer`` is what the API server took to answer the change itself."""

    changes: int
    joined: int
    merged: int
    answer: Spread
    watch_to_kafka: Spread
    kafka_to_start: Spread
    watch_to_start: Spread
    answer_to_start: Spread


@dataclass(frozen=True)
class Report:
    """What came of an order."""

    order: Order
    hops: Hops
    usage: Usage
    rate: float
    load: tuple[float, float, float]


@dataclass(frozen=True)
class Change:
    """One change as it was sent: when it was sent and answered (Unix times), and the version it made."""

    machine: str
    version: int
    sent: float
    answered: float


@dataclass(frozen=True)
class Appended:
    """One record of a Machine: its name, version, when the watch line was read and when the broker appended it (Unix times)."""

    machine: str
    version: int
    received: float
    appended: float


async def measure(order: Order) -> Report:
    """Make the fleet, let it settle, change it, join what came of it."""
    with bench_rig(order.reconcilers, order.state) as rig, tempfile.TemporaryDirectory() as folder:
        notes = observe_starts(rig, Path(folder))
        _broker_clock(rig)
        async with admin(rig) as client:
            machines = await fleet(rig, client, order.clusters, order.machines)
            load, before, began = os.getloadavg(), read(rig), time.time()
            async with Poison(rig, client, sound=order.beside == "sound") if order.beside else nullcontext():
                changes = await drive(client, machines, order.rate, order.seconds)
            usage = between(before, read(rig))
            if not order.beside:
                await quiet(rig, AuditLog(rig.endpoints().audit_log))
            records = await appended(rig, began)
        starts = [start for path in notes.values() for start in read_starts(path)]
    return Report(order, join(changes, records, starts), usage, round(len(changes) / order.seconds, 1), load)


async def fleet(rig: Rig, client: ApiClient, clusters: int, machines: int) -> list[str]:
    """Make clusters of one control plane Machine and as many workers as give ``machines`` in all, and wait until they are Available and at rest.

    Returns:
        The names of all Machines.

    Raises:
        LateError: some did not become Available in time.
    """
    each = max(machines // clusters - 1, 0)
    log = AuditLog(rig.endpoints().audit_log)
    log.skip()
    async with Arrivals(client) as arrivals:
        series = f"{int(time.time()):x}"
        names = [f"fleet-{series}-{number}" for number in range(clusters)]
        await apply(client, {name: manifests(name, each) for name in names})
        late = await arrivals.wait(names, arrivals.available, LIMIT_S)
    if late:
        raise LateError(f"{len(late)} of {clusters} clusters are not Available after {LIMIT_S:.0f} s: {', '.join(late[:5])}", operation="make a fleet")
    await quiet(rig, log)
    answer = await client.request("GET", resource_path(CORE, "machines", NAMESPACE), timeout_seconds=LIMIT_S)
    raise_for(answer, "list machines")
    return [item["metadata"]["name"] for item in answer.json()["items"]]


async def drive(client: ApiClient, machines: Sequence[str], rate: float, seconds: float) -> list[Change]:
    """Patch an annotation of one Machine after the other, ``rate`` times a second, never waiting for an answer."""
    loop = asyncio.get_running_loop()
    tasks: list[asyncio.Task[Change]] = []
    began = loop.time()
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(began + number / rate - loop.time(), 0.0))
        tasks.append(loop.create_task(_change(client, machines[number % len(machines)], number)))
    return await asyncio.gather(*tasks)


async def _change(client: ApiClient, machine: str, number: int) -> Change:
    body = orjson.dumps({"metadata": {"annotations": {ANNOTATION: str(number)}}})
    sent = time.time()
    path = resource_path(CORE, "machines", NAMESPACE, machine)
    answer = await client.request("PATCH", path, body=body, content_type=MERGE_PATCH, timeout_seconds=LIMIT_S)
    raise_for(answer, f"patch Machine {machine}")
    return Change(machine, int(answer.json()["metadata"]["resourceVersion"]), sent, time.time())


def _broker_clock(rig: Rig) -> None:
    topic = ConfigResource(ConfigResourceType.TOPIC, Topics().objects, {"message.timestamp.type": APPEND_TIME})
    client = KafkaAdminClient(**rig.kafka().client(), client_id="fleetwake-bench")
    try:
        client.alter_configs([topic])
    finally:
        client.close()


async def appended(rig: Rig, since: float) -> list[Appended]:
    """Every record of a Machine that the broker appended since a Unix time."""
    consumer = plain_consumer(rig.kafka())
    await consumer.start()
    try:
        partitions = [aiokafka.TopicPartition(Topics().objects, number) for number in range(PARTITIONS_DEFAULT)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        first = await consumer.offsets_for_times(dict.fromkeys(partitions, int(since * MS)))
        for tp in partitions:
            consumer.seek(tp, first[tp].offset if first.get(tp) else ends[tp])
        found: list[Appended] = []
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for messages in (await consumer.getmany(timeout_ms=POLL_MS)).values():
                found += [one for message in messages if (one := _appended(message)) is not None]
        return found
    finally:
        await consumer.stop()


def _appended(message: Any) -> Appended | None:
    if message.value is None or not message.headers:
        return None
    record = ObjectRecord.decode(message.key, message.value, message.headers)
    return Appended(record.key.name, record.version.resource_version, record.received, message.timestamp / MS) if record.key.kind == MACHINE else None


def join(changes: Sequence[Change], records: Sequence[Appended], starts: Sequence[Start]) -> Hops:
    """Join changes, records and starts: a record by its version, a start by the very time at which the watch line was read.

    A change whose key was already waiting merges into that wake-up and has no start of its own: it is counted, not timed.
    """
    by_version = {record.version: record for record in records}
    by_received = {start.received: start.at for start in starts if start.received and f"/{MACHINE}/" in start.key}
    joined = [(change, record) for change in changes if (record := by_version.get(change.version)) is not None]
    timed = [(change, record, by_received[record.received]) for change, record in joined if record.received in by_received]
    return Hops(
        changes=len(changes),
        joined=len(joined),
        merged=len(joined) - len(timed),
        answer=Spread.of([(change.answered - change.sent) * MS for change in changes], 1),
        watch_to_kafka=Spread.of([max(record.appended - record.received, 0.0) * MS for _, record in joined], 1),
        kafka_to_start=Spread.of([(at - record.appended) * MS for _, record, at in timed], 1),
        watch_to_start=Spread.of([(at - record.received) * MS for _, record, at in timed], 1),
        answer_to_start=Spread.of([(at - change.answered) * MS for change, _, at in timed], 1),
    )


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = asdict(report)
    found["order"].pop("state")
    return found


def render(report: Report) -> str:
    """The report for people."""
    hops, order = report.hops, report.order
    return "\n".join(
        [
            f"{order.machines} Machines in {order.clusters} clusters, {report.rate} changes/s for {order.seconds:g} s, {order.reconcilers} reconcilers"
            + (f", {order.beside} input beside it" if order.beside else ""),
            f"{hops.changes} changes, {hops.joined} seen as records of their own, {hops.merged} merged into a run that was waiting",
            f"  API server's answer            {hops.answer} ms",
            f"  watch line -> record in Kafka  {hops.watch_to_kafka} ms",
            f"  record in Kafka -> start       {hops.kafka_to_start} ms",
            f"  watch line -> reconcile start  {hops.watch_to_start} ms",
            f"  answer -> reconcile start      {hops.answer_to_start} ms",
            f"  CPU {report.usage.total / report.usage.seconds:.2f} cores: "
            + ", ".join(f"{name} {value / report.usage.seconds:.2f}" for name, value in report.usage.cpu.items()),
            f"  others took {report.usage.load_of_others:.0%} of the machine, load average at the start {report.load[0]:.1f}",
        ]
    )
