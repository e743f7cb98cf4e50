"""Read topics whole, and hold what they say against the API server and its audit log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from schemas.records import DELETED, MOVED, ObjectRecord
from schemas.topics import MESSAGE_BYTES_MAX, Topics
from tests.e2e.api import PATHS, Api

TOPICS = Topics()
POLL_MS = 500
CLUSTER_LABEL = "cluster.x-k8s.io/cluster-name"
LABELLED_ONLY = frozenset({"Secret", "ConfigMap"})


def read(bootstrap: str, topic: str) -> Iterator[Any]:
    """Every record that a topic holds now, partition by partition in order."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False, max_partition_fetch_bytes=MESSAGE_BYTES_MAX)
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        assert partitions, f"there is no topic {topic}"
        consumer.assign(partitions)
        consumer.seek_to_beginning(*partitions)
        ends = consumer.end_offsets(partitions)
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for records in consumer.poll(timeout_ms=POLL_MS, max_records=5000).values():
                yield from records
    finally:
        consumer.close()


def objects_on_topics(bootstrap: str) -> dict[tuple[str, str, str], str]:
    """What a reader of the two topics of objects holds in the end: (kind, namespace, name) to resourceVersion, of the kinds in PATHS."""
    held: dict[tuple[str, bytes, int], tuple[tuple[str, str, str], str] | None] = {}
    for topic in (TOPICS.objects, TOPICS.shared):
        for record in read(bootstrap, topic):
            try:
                decoded = ObjectRecord.decode(record.key, record.value, record.headers)
            except ValueError:
                continue  # garbage that a test put there
            key = decoded.key
            if key.cluster or key.kind not in PATHS:
                continue
            gone = decoded.value is None or decoded.type in (DELETED, MOVED)
            place = (topic, record.key, record.partition)
            held[place] = None if gone else ((key.kind, key.namespace, key.name), str(decoded.version.resource_version))
    there: dict[tuple[str, str, str], str] = {}
    for entry in held.values():
        if entry is not None:
            name, version = entry
            assert name not in there, f"{name} is in two partitions"
            there[name] = version
    return there


def objects_on_server(api: Api) -> dict[tuple[str, str, str], str]:
    """The same of the API server, of what a watcher carries: Secrets and ConfigMaps only with the label of a cluster."""
    there = {}
    for kind, path in PATHS.items():
        for item in api.get(path)["items"]:
            metadata = item["metadata"]
            if kind not in LABELLED_ONLY or CLUSTER_LABEL in (metadata.get("labels") or {}):
                there[(kind, metadata["namespace"], metadata["name"])] = metadata["resourceVersion"]
    return there


def objects_epoch(bootstrap: str) -> int:
    """The epoch of the API server's history that the newest records of objects belong to; 1 while there are none."""
    return max((ObjectRecord.decode(record.key, record.value, record.headers).version.epoch for record in read(bootstrap, TOPICS.shared)), default=1)
