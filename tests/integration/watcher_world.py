"""Watchers that run in the test's own loop, and a consumer that sees what they tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from fleetwake.kube import config
from fleetwake.kube.client import MERGE_PATCH, ApiClient, raise_for, resource_path
from fleetwake.rig.records import Endpoints
from fleetwake.settings import Settings
from fleetwake.stream.partition import partition_of
from schemas.api import registry
from schemas.records import ObjectRecord
from schemas.topics import MESSAGE_BYTES_MAX
from services.watcher.app import Watcher

PARTITIONS = 6
LIMIT_SECONDS = 40.0


class Tail:
    """What a consumer of the topics sees: every record with its place, in the order of arrival."""

    def __init__(self, consumer: AIOKafkaConsumer, settings: Settings) -> None:
        self._consumer, self._settings = consumer, settings
        self.records: list[tuple[str, int, ObjectRecord]] = []
        self.raw: list[bytes] = []

    async def until(self, done: Callable[[], bool]) -> None:
        """Read on until ``done`` says so."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not done():
                record = await self._consumer.getone()
                topic = record.topic.removeprefix(f"{self._settings.topic_prefix}.")
                self.raw.append(b"".join([record.key or b"", record.value or b"", *(value for _, value in record.headers)]))
                self.records.append((topic, record.partition, ObjectRecord.decode(record.key, record.value, record.headers)))

    async def next(self) -> None:
        """Read one record more."""
        count = len(self.records)
        await self.until(lambda: len(self.records) > count)

    def of(self, name: str) -> list[tuple[str, int, ObjectRecord]]:
        """The records of objects with that name."""
        return [found for found in self.records if found[2].key.name == name]

    def types(self, name: str) -> list[str]:
        """Their types in order; a tombstone is ``-``."""
        return [record.type if record.value is not None else "-" for _, _, record in self.of(name)]


class World:
    """The API server, the topics of this test, and the watchers that run."""

    def __init__(self, api: ApiClient, endpoints: Endpoints, settings: Settings, namespace: str, stack: AsyncExitStack) -> None:
        self.api, self.endpoints, self.settings, self.namespace, self._stack = api, endpoints, settings, namespace, stack
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def start(self, **settings: Any) -> Watcher:
        """Run a watcher in this loop."""
        chosen = self.settings.model_copy(update=settings)
        watcher = Watcher(chosen, config.load(f"{self.endpoints.kubeconfig}-watcher"))
        self._tasks[id(watcher)] = asyncio.create_task(watcher.run())
        return watcher

    async def stop(self, watcher: Watcher) -> None:
        """End a watcher as SIGTERM does."""
        task = self._tasks.pop(id(watcher))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop_all(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def tail(self) -> Tail:
        """A consumer of both topics from their beginning."""
        topics = self.settings.topics
        consumer = AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap, auto_offset_reset="earliest", max_partition_fetch_bytes=MESSAGE_BYTES_MAX)
        await consumer.start()
        self._stack.push_async_callback(consumer.stop)
        consumer.assign([TopicPartition(topics.shared, 0), *(TopicPartition(topics.objects, number) for number in range(PARTITIONS))])
        await consumer.seek_to_beginning()
        return Tail(consumer, self.settings)

    async def produce(self, record: ObjectRecord, partition: int) -> None:
        """Write a record as a predecessor would, late."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap)
        await producer.start()
        try:
            await producer.send_and_wait(
                self.settings.topics.objects, key=str(record.key).encode(), value=record.value, partition=partition, headers=record.headers()
            )
        finally:
            await producer.stop()

    async def write(self, method: str, document: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        """Create, patch or delete an object; returns the answer."""
        group, kind = document["apiVersion"].rpartition("/")[0], document["kind"]
        plural = {"Secret": "secrets", "ConfigMap": "configmaps", "Widget": "widgets"}.get(kind) or registry.get(group, kind).PLURAL
        name = "" if method == "POST" else document["metadata"]["name"]
        path = resource_path(document["apiVersion"], plural, namespace or self.namespace, name)
        answer = await self.api.request(method, path, body=orjson.dumps(document), content_type=MERGE_PATCH if method == "PATCH" else "application/json")
        raise_for(answer, f"{method} {kind} {document['metadata']['name']}")
        return answer.json()

    async def create(self, document: Mapping[str, Any], namespace: str = "") -> dict[str, Any]:
        return await self.write("POST", document, namespace)

    async def label(self, document: Mapping[str, Any], **labels: str | None) -> None:
        body = {**{name: document[name] for name in ("apiVersion", "kind")}, "metadata": {"name": document["metadata"]["name"], "labels": labels}}
        await self.write("PATCH", body)

    async def delete(self, document: Mapping[str, Any]) -> None:
        group = document["apiVersion"].rpartition("/")[0]
        path = resource_path(document["apiVersion"], registry.get(group, document["kind"]).PLURAL, self.namespace, document["metadata"]["name"])
        raise_for(await self.api.request("DELETE", path), "delete")

    def home(self, cluster: str) -> tuple[str, int]:
        """Where the objects of a cluster of this namespace are."""
        return ("objects", partition_of(f"{self.namespace}/{cluster}", PARTITIONS))
