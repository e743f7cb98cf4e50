"""The replay of a partition: Machines of one cluster on topics of their own prefix, and a worker that starts on them.

The time is the worker's own: from the assignment to the cache being whole (``fleetwake_replay_seconds``).
"""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiokafka
import orjson

from bench.rigs import bench_rig, get, metric_of
from bench.statistics import span
from fleetwake.errors import UnavailableError
from fleetwake.rig import Rig
from fleetwake.rig.processes import send, spawn, wait_gone
from fleetwake.rig.records import Options
from fleetwake.rig.services import RECONCILERS, service_processes
from fleetwake.stream.partition import partition_of
from fleetwake.stream.topics import TopicAdmin
from schemas.keys import ObjectKey
from schemas.records import ADDED, Actor, ObjectRecord, Version
from schemas.topics import MESSAGE_BYTES_MAX, PARTITIONS_DEFAULT, Topics

CLUSTER = "default/replayed"
LIMIT_S = 120.0
POLL_S = 0.05
GONE_S = 10.0
CONDITIONS = ("Available", "Ready", "UpToDate", "BootstrapConfigReady", "InfrastructureReady", "NodeHealthy", "NodeReady", "Deleting", "Paused")


@dataclass(frozen=True)
class Order:
    """How many objects, how often."""

    objects: int
    repeat: int
    state: Path | None = None


@dataclass(frozen=True)
class Report:
    """Seconds of each replay, and from the start of the process to the end of the replay; the mean size of a record's value."""

    order: Order
    replay_s: list[float]
    start_s: list[float]
    bytes_each: int


async def measure(order: Order) -> Report:
    """Produce the objects, then start a worker on them ``repeat`` times."""
    with bench_rig(1, order.state) as rig:
        topics = Topics(f"replay{int(time.time()):x}")
        with TopicAdmin(rig.kafka()) as topic_admin:
            topic_admin.create(topics.specs())
        size = await _produce(rig, topics, order.objects)
        taken = [await asyncio.to_thread(_replay, rig, topics, number) for number in range(order.repeat)]
    return Report(order, [replay for replay, _ in taken], [start for _, start in taken], size)


def machine(number: int) -> dict[str, Any]:
    """A Machine as it is when its node runs, about as large as a real one."""
    name, at = f"replayed-md-{number:05}", "2026-01-01T00:00:00Z"
    conditions = [{"type": kind, "status": "True", "reason": kind, "message": "", "lastTransitionTime": at, "observedGeneration": 2} for kind in CONDITIONS]
    owner = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "MachineSet",
        "name": "replayed-md",
        "uid": "u-ms",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    reference = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": name}
    return {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Machine",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"00000000-0000-4000-8000-{number:012}",
            "resourceVersion": str(1000 + number),
            "generation": 2,
            "creationTimestamp": at,
            "finalizers": ["machine.cluster.x-k8s.io"],
            "labels": {"cluster.x-k8s.io/cluster-name": "replayed", "cluster.x-k8s.io/set-name": "replayed-md", "machine-template-hash": "2578897511-9h9v8"},
            "ownerReferences": [owner],
        },
        "spec": {
            "clusterName": "replayed",
            "version": "v1.34.0",
            "bootstrap": {"configRef": {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "KubeadmConfig", "name": name}, "dataSecretName": name},
            "infrastructureRef": reference,
            "providerID": f"in-memory://{name}",
        },
        "status": {
            "conditions": conditions,
            "phase": "Running",
            "nodeRef": {"name": name},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}],
            "initialization": {"bootstrapDataSecretCreated": True, "infrastructureProvisioned": True},
            "nodeInfo": {"kubeletVersion": "v1.34.0", "containerRuntimeVersion": "containerd://2.0.0", "osImage": "in-memory", "architecture": "amd64"},
        },
    }


async def _produce(rig: Rig, topics: Topics, objects: int) -> int:
    producer = aiokafka.AIOKafkaProducer(**rig.kafka().client(), max_request_size=MESSAGE_BYTES_MAX, linger_ms=5)
    await producer.start()
    size = 0
    try:
        partition = partition_of(CLUSTER, PARTITIONS_DEFAULT)
        for number in range(objects):
            state = machine(number)
            key = ObjectKey("cluster.x-k8s.io", "Machine", "default", state["metadata"]["name"])
            value = orjson.dumps(state)
            size += len(value)
            record = ObjectRecord(key, ADDED, Version(1, 1000 + number), CLUSTER, value, 1.0, 1.0, Actor("bench"))
            await producer.send(topics.objects, value, str(key).encode(), partition=partition, headers=record.headers())
        await producer.flush()
    finally:
        await producer.stop()
    return size // max(objects, 1)


def _replay(rig: Rig, topics: Topics, number: int) -> tuple[float, float]:
    folder = rig.state_dir / f"{topics.prefix}-{number}"
    process = next(one for one in service_processes(rig.endpoints(), folder, Options(workers=1)) if one.name.startswith(f"{RECONCILERS.name}-"))
    env = {**process.env, "FLEETWAKE_TOPIC_PREFIX": topics.prefix}
    began = time.monotonic()
    identity = spawn(process.cmd, env, Path(process.log), str(rig.state_dir))
    if identity is None:
        raise UnavailableError(f"the worker ended at once; see {process.log}", operation="replay")
    try:
        while time.monotonic() - began < LIMIT_S:
            time.sleep(POLL_S)
            try:
                page = get(process.ports["web"], "/metrics")
            except OSError:
                continue
            if metric_of(page, "fleetwake_replay_seconds_count") >= 1:
                return round(metric_of(page, "fleetwake_replay_seconds_sum"), 3), round(time.monotonic() - began, 3)
        raise UnavailableError(f"no replay ended within {LIMIT_S:.0f} s; see {process.log}", operation="replay")
    finally:
        # at once, before its runs find that none of these objects exists
        send(identity, signal.SIGKILL)
        wait_gone([identity], GONE_S)


def as_json(report: Report) -> dict[str, Any]:
    """The report as plain data."""
    found = asdict(report)
    found["order"].pop("state")
    return found


def render(report: Report) -> str:
    """The report for people."""
    objects = report.order.objects
    rate = objects / max(sorted(report.replay_s)[len(report.replay_s) // 2], 0.001)
    return (
        f"replay of one partition with {objects} objects of {report.bytes_each} bytes: {span(report.replay_s)} s, {rate:,.0f} objects/s\n"
        f"start of the process to the end of its replay: {span(report.start_s)} s"
    )
