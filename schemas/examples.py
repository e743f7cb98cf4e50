"""One example of every record, made by the models: what documents show, and what a test can parse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.chain import Acknowledged, Link, SealedContent, sealed
from schemas.keys import ObjectKey
from schemas.records import MODIFIED, Actor, Headers, ObjectRecord, Version
from schemas.results import CauseRecord, Done, Planned, Recovered, StepRecord, StepResult, cloud_event

OBJECT, DEADLETTER = "object", "deadletter"
CLUSTER, PARTITION = "default/demo", 7
AT = datetime(2026, 1, 31, 10, 0, 0, tzinfo=UTC)
EXAMPLE_KEY = b"an example, not a key of anybody"
"""Seals the examples: they are for the eye."""

SET = ObjectKey("cluster.x-k8s.io", "MachineSet", "default", "demo-workers-x7k2p")
MACHINE = ObjectKey("cluster.x-k8s.io", "Machine", "default", "demo-workers-x7k2p-4vbnm")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDENTITY = {
    "plan_id": "4dd1d9a1-53a9-5c5e-a0b4-7c5bc0f3d9d1",
    "service": "reconcilers",
    "instance": "reconcilers-0",
    "kind": SET.kind,
    "key": str(SET),
    "cluster": CLUSTER,
    "trace": f"00-{TRACE}-{SPAN}-01",
    "intent": TRACE,
}
STEP = StepRecord(index=1, verb="create", target=str(MACHINE), reason="2 of 3 Machines exist", audit_id="a7d2b1d0-6d09-5f4f-9a6e-0f8d7a1d7c55")


@dataclass(frozen=True, slots=True)
class Example:
    """A record as it lies in Kafka, and its value read."""

    key: str
    headers: Headers
    json: Mapping[str, Any] | None
    text: str = ""

    @property
    def text_headers(self) -> dict[str, str]:
        """The headers as text."""
        return {name: value.decode() for name, value in self.headers}


def _results() -> tuple[Planned, Done, Recovered]:
    changed = {"": (None, "created")}
    done = StepResult(**STEP.model_dump(), outcome="done", status=201, resource_version="4712", changes=changed)
    cause = CauseRecord(change="MODIFIED MachineDeployment default/demo-workers @4711 by kubectl-edit", traceparent=IDENTITY["trace"], causes=1)
    return (
        Planned(**IDENTITY, at=AT, cause=cause, observed={str(SET): "4711", str(MACHINE): ""}, steps=(STEP,)),
        Done(**IDENTITY, at=AT + timedelta(milliseconds=10), outcome="done", steps=(done,), duration_ms=10.25, requeue_after_seconds=15.0),
        Recovered(**IDENTITY, at=AT + timedelta(seconds=5), found="present", resource_version="4712"),
    )


def _result(number: int, record: Planned | Done | Recovered, previous: str) -> tuple[Example, str]:
    value = record.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    text = json.dumps(value, separators=(",", ":"))
    acknowledged = Acknowledged(number - 1, 1000 + number) if number > 1 else None
    link = Link("3f0c4c1e-58a5-4f4e-9d53-0b0a4b1f6a11.1", number, previous, acknowledged, (800, 1000) if number == 1 else None)
    content = SealedContent(PARTITION, CLUSTER.encode(), text.encode(), cloud_event(record))
    headers, mac = sealed(EXAMPLE_KEY, content, link)
    return Example(CLUSTER, headers, value, text), mac


def _examples() -> dict[str, Example]:
    found: dict[str, Example] = {}
    mac = ""
    results: tuple[Planned | Done | Recovered, ...] = _results()
    for number, record in enumerate(results, 1):
        found[record.TYPE], mac = _result(number, record, mac)
    state = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": SET.kind,
        "metadata": {"name": SET.name, "namespace": SET.namespace, "uid": "7d0d5c0e-0c8e-4e55-8f5f-6d3f2b1f0a01", "resourceVersion": "4711", "generation": 2},
        "spec": {"clusterName": "demo", "replicas": 3},
        "status": {"replicas": 2},
    }
    actor = Actor("capi-machinedeployment", "Apply", "", "2026-01-31T10:00:00Z")
    held = ObjectRecord(SET, MODIFIED, Version(1, 4711), CLUSTER, json.dumps(state).encode(), AT.timestamp(), AT.timestamp() + 0.0004, actor)
    found[OBJECT] = Example(str(SET), held.headers(), state, json.dumps(state))
    letter: Headers = [
        ("source", b"capi.objects[7]@1234"),
        ("error", b"record g/K/n/a: header 'rv' is missing or malformed"),
        ("remedy", b"produce a record whose key is group/kind/namespace/name with the headers type, epoch and rv"),
    ]
    found[DEADLETTER] = Example("g/K/n/a", letter, None, "as it came")
    return found


EXAMPLES: Mapping[str, Example] = _examples()
"""By ce_type for results, else by ``OBJECT`` and ``DEADLETTER``."""
