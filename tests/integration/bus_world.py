"""What the tests of worker and transport share: topics, records, committed offsets and processes on the rig's Kafka."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from fleetwake.connections.kafka import Kafka
from fleetwake.stream.partition import partition_of
from fleetwake.stream.replay import plain_consumer
from fleetwake.stream.topics import TopicAdmin
from schemas.keys import ObjectKey
from schemas.records import MODIFIED, ObjectRecord, Version
from schemas.topics import MESSAGE_BYTES_MAX, Topics

HERE = Path(__file__).parent
PARTITIONS = 3
LIMIT_SECONDS = 40.0
START_SECONDS = 120.0
"""A process must come up within this time even on a machine that is busy with other things."""
NAMESPACE = "default"


def cluster_in(partition: int) -> str:
    """The name of a cluster that lives in the partition."""
    return next(name for name in (f"c{n}" for n in range(1000)) if partition_of(f"{NAMESPACE}/{name}", PARTITIONS) == partition)


async def until(done: Callable[[], Any], what: str, seconds: float = LIMIT_SECONDS) -> Any:
    """Ask again until the answer is truthy, and return it."""
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.05)
    return found


class Bus:
    """Topics under a prefix of their own."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap, self.topics = bootstrap, Topics(prefix)
        self.version = 1000
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Bus:
        await asyncio.to_thread(self._create)
        self._producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, max_request_size=MESSAGE_BYTES_MAX, enable_idempotence=True)
        await self._producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._producer is not None
        await self._producer.stop()

    def _create(self) -> None:
        with TopicAdmin(Kafka(self.bootstrap), replication=1) as admin:
            admin.create(self.topics.specs(PARTITIONS))

    async def put(self, topic: str, partition: int, key: bytes | None, value: bytes | None, headers: Any = ()) -> int:
        """Produce anything; returns its offset."""
        assert self._producer is not None
        sent = await self._producer.send_and_wait(topic, key=key, value=value, partition=partition, headers=list(headers))
        return int(sent.offset)

    async def put_record(self, record: ObjectRecord, partition: int) -> int:
        """Produce a record of ``objects``."""
        return await self.put(self.topics.objects, partition, str(record.key).encode(), record.value, record.headers())

    async def put_state(self, state: Mapping[str, Any], partition: int = 0, type_: str = MODIFIED) -> int:
        """Produce a state as the API server holds it."""
        return await self.put_record(record_of(state, partition, type_), partition)

    def config_map(self, name: str, partition: int = 0, **data: Any) -> dict[str, Any]:
        """A ConfigMap that no API server knows, each time at a later version."""
        self.version += 1
        meta = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "resourceVersion": str(self.version)}
        texts = {key: str(value) for key, value in {"cluster": cluster_in(partition), **data}.items()}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": texts}

    async def put_config_map(self, name: str, partition: int = 0, **data: Any) -> int:
        """Produce such a ConfigMap."""
        return await self.put_state(self.config_map(name, partition, **data), partition)

    async def committed(self, group: str, topic: str = "") -> dict[int, int]:
        """Committed offsets of a group by partition."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap, group_id=group, enable_auto_commit=False)
        await consumer.start()
        try:
            name = topic or self.topics.objects
            numbers = await consumer._client.fetch_all_metadata()
            found = {number: await consumer.committed(TopicPartition(name, number)) for number in numbers.partitions_for_topic(name)}
            return {number: offset for number, offset in found.items() if offset is not None}
        finally:
            await consumer.stop()

    async def read(self, topic: str) -> list[Any]:
        """Everything a topic holds now, in order of offsets."""
        consumer = plain_consumer(Kafka(self.bootstrap))
        await consumer.start()
        try:
            numbers = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic)
            partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            found: list[Any] = []
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for messages in (await consumer.getmany(timeout_ms=200)).values():
                    found += messages
            return sorted(found, key=lambda message: (message.partition, message.offset))
        finally:
            await consumer.stop()


def record_of(state: Mapping[str, Any], partition: int = 0, type_: str = MODIFIED) -> ObjectRecord:
    """The record of a state."""
    meta = state["metadata"]
    key = ObjectKey(str(state["apiVersion"]).rpartition("/")[0], state["kind"], meta["namespace"], meta["name"])
    value = orjson.dumps({**state, "metadata": {name: value for name, value in meta.items() if name != "managedFields"}})
    return ObjectRecord(key, type_, Version(1, int(meta["resourceVersion"])), f"{NAMESPACE}/{cluster_in(partition)}", value, time.time(), time.time())


def create_topic(bootstrap: str, name: str, partitions: int, config: Mapping[str, str]) -> None:
    """Create one topic with settings of its own."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        admin.create_topics([NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=dict(config))])
    finally:
        admin.close()


class Process:
    """A child process with its output in files."""

    def __init__(self, command: list[str], folder: Path, name: str) -> None:
        self.out, self.err = folder / f"{name}.out", folder / f"{name}.err"
        with self.out.open("a") as out, self.err.open("a") as err:
            self._child = subprocess.Popen([sys.executable, *command], stdout=out, stderr=err, env={**os.environ, "PYTHONPATH": str(HERE.parents[1])})

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def code(self) -> int | None:
        """The exit code, None while it runs."""
        return self._child.poll()

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        """kill -9, also of a stopped one."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()

    def lines(self) -> list[str]:
        """Whole lines printed so far."""
        return [line for line in self.out.read_text().splitlines(keepends=True) if line.endswith("\n")]


class Worker(Process):
    """The service of ``worker_under_test`` as a process, with its journal."""

    def __init__(self, settings: Mapping[str, Any], folder: Path, journal: Path) -> None:
        self._journal = journal
        self.port = int(settings["web_port"])
        journal.touch()
        super().__init__([str(HERE / "worker_under_test.py"), json.dumps(settings), str(journal)], folder, f"worker-{settings['instance']}")

    @property
    def journal(self) -> list[dict[str, Any]]:
        """What this process has written down so far."""
        return [entry for entry in read_journal(self._journal) if entry["pid"] == self.pid]

    def runs(self, name: str) -> list[str]:
        """``n`` of each run of a ConfigMap."""
        return [entry["n"] for entry in self.journal if entry.get("run") == name]

    def census(self) -> dict[str, str]:
        """The last census."""
        return next((entry["census"] for entry in reversed(self.journal) if "census" in entry), {})

    async def get(self, path: str) -> tuple[int, str]:
        """GET from its web server; (0, "") while it does not listen."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}", timeout=aiohttp.ClientTimeout(total=2)) as answer:
                return answer.status, await answer.text()
        except (OSError, aiohttp.ClientError, TimeoutError):
            return 0, ""

    async def ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it is ready."""
        end = time.monotonic() + seconds
        while (await self.get("/readyz"))[0] != 200:
            assert self.code is None, self.err.read_text()[-3000:]
            assert time.monotonic() < end, f"not ready within {seconds} s: {await self.get('/readyz')} {self.err.read_text()[-3000:]}"
            await asyncio.sleep(0.1)

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = (await self.get("/metrics"))[1].splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a journal."""
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
