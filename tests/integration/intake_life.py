"""A worker with its intake over a real broker, and Faust's stream played by hand, because its worst cannot be ordered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.otlp import Otlp
from fleetwake.errors import UnavailableError
from fleetwake.kind import Kind
from fleetwake.plan import Plan
from fleetwake.shell.intake import Intake
from fleetwake.shell.ports import Ports, Request, Response
from fleetwake.shell.service import SystemClock
from fleetwake.shell.worker import Options, Worker
from fleetwake.shell.workload import NoWorkloads
from fleetwake.stream.bus import Bus as WorkerBus
from fleetwake.tracing.spans import Tracer
from schemas.keys import ObjectKey
from schemas.records import Headers
from tests.integration.bus_world import NAMESPACE, PARTITIONS, Bus, until
from tests.integration.worker_under_test import MANAGER, ConfigMap


def key(name: str) -> ObjectKey:
    return ObjectKey("", "ConfigMap", NAMESPACE, name)


class Nobody:
    """Ports that these tests do not reach, but for a look at a run's object."""

    async def send(self, request: Request) -> Response:
        return Response(404, b"{}")

    def cluster_changed(self, cluster: str, fields: Any) -> None:
        """Dropped."""

    def cluster_gone(self, cluster: str) -> None:
        """Dropped."""

    async def take(self, algorithm: str) -> bytes:
        return b""


@dataclass
class Life:
    """One worker with its intake, and what became of it."""

    worker: Worker
    intake: Intake
    bus: Bus
    observed: list[tuple[str, str]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    crashed: list[BaseException] = field(default_factory=list)
    generation: int = 0

    def assign(self, *partitions: int) -> None:
        """The group assigns these."""
        self.generation += 1
        self.intake.revoked()
        self.intake.assigned(set(partitions), self.generation)

    async def swept(self) -> None:
        """Wait until everything is replayed."""
        await until(lambda: self.crashed or self.intake.ready, "replayed")
        assert not self.crashed, self.crashed

    def deliver(self, message: Any, generation: int | None = None) -> asyncio.Task[None]:
        """Faust delivers a message."""
        number = self.generation if generation is None else generation
        copy = SimpleNamespace(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            key=message.key,
            value=message.value,
            headers=message.headers,
            generation_id=number,
        )
        event = SimpleNamespace(message=copy, ack=lambda: self.acknowledged.append(message.offset))
        return asyncio.ensure_future(self.intake.take(event, lambda: self.generation))

    async def messages(self, partition: int = 0) -> list[Any]:
        """The partition's messages as any consumer sees them."""
        return [message for message in await self.bus.read(self.bus.topics.objects) if message.partition == partition]

    async def deliver_all(self, offsets: Iterable[int] | None = None) -> None:
        """Deliver these offsets of partition 0 (default: all), in order, and wait until they are taken."""
        wanted = None if offsets is None else set(offsets)
        for message in await self.messages():
            if wanted is None or message.offset in wanted:
                await self.deliver(message)
        await until(lambda: self.worker.idle, "idle")

    def held(self) -> dict[str, str]:
        """ConfigMaps of the cache: name -> n."""
        return {entry.key.name: entry.state.get("data", {}).get("n", "") for entry in self.worker.cache if entry.key.kind == "ConfigMap"}

    def holes(self) -> float:
        return float(self.worker.metrics.holes._value.get())


class RefusingBus(WorkerBus):
    """A bus whose broker takes nothing."""

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> None:
        raise UnavailableError("not enough in-sync replicas", operation=f"produce to {topic}")


@asynccontextmanager
async def living(bus: Bus, producer_class: type[WorkerBus] = WorkerBus, tracer: Tracer | None = None) -> AsyncIterator[Life]:
    """A worker with its intake, until the end of the block; it restores what the tracer remembers, if one is given."""
    loop = asyncio.get_running_loop()
    producer, clock, nobody = producer_class(Kafka(bus.bootstrap), "test"), SystemClock(), Nobody()
    await producer.start()
    observed: list[tuple[str, str]] = []

    def observe(view: Any, found: ObjectKey) -> ConfigMap | None:
        return view.get(ConfigMap, found.namespace, found.name)

    def reconcile(config: ConfigMap) -> Plan:
        observed.append((config.name, config.data.get("n", "")))
        return Plan()

    crashed: list[BaseException] = []
    options = Options(
        service="under_test",
        instance="w",
        incarnation="life",
        signal=lambda name: loop.call_soon(lambda: worker.pump(name)),
        fatal=crashed.append,
        fenced=lambda: False,
        redact=lambda state: state,
        topics=bus.topics,
        partitions=PARTITIONS,
        before_replay=tracer.restore if tracer is not None else None,
    )
    ports = Ports(nobody, producer, clock, nobody, tracer or Tracer("reconcilers", "w", Otlp(), clock))
    worker = Worker((Kind(ConfigMap, observe, reconcile, MANAGER),), ports, NoWorkloads(), options)
    intake = Intake(worker, Kafka(bus.bootstrap), bus.topics, crashed.append)
    intake.start()
    try:
        yield Life(worker, intake, bus, observed=observed, crashed=crashed)
    finally:
        await intake.stop()
        await producer.stop()
