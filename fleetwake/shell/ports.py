"""The ports through which every effect leaves a worker: the API servers, the bus, Redis, the clock, private keys, traces.

The real ports are made in ``fleetwake.stream`` and ``fleetwake.kube``; the simulation brings its own. Nothing else in the shell does IO.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from fleetwake.tracing.types import NO_CAUSE, Cause, Deletion
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import Headers, ObjectRecord

__all__ = ["NO_CAUSE", "Cause", "Deletion"]

JSON, MERGE_PATCH, STRATEGIC_PATCH, APPLY_PATCH = (
    "application/json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
METADATA_LIST_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to an API server; ``cluster`` is ``""`` for the management API, else ``<namespace>/<name>``."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    content_type: str = JSON
    accept: str = JSON
    audit_id: str = ""
    traceparent: str = ""
    timeout_seconds: float = 10.0
    cluster: str = ""
    leaving: Callable[[], None] | None = None
    """Called when nothing is left to wait for and the bytes leave; what it raises keeps them here. The process may have been frozen meanwhile."""


@dataclass(frozen=True, slots=True)
class Response:
    """Status, body and headers (names lower case). HTTP statuses are never raised by a port."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class KubePort(Protocol):
    """The API servers.

    Raises:
        UnavailableError: no connection or no answer: the outcome is unknown.
        NotConnectedError: the workload cluster is not connected; nothing was sent.
    """

    async def send(self, request: Request) -> Response:
        """Send one request."""
        ...


class BusPort(Protocol):
    """The bus, as a worker writes to it."""

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> None:
        """Produce one record and return once it is acknowledged by all in-sync replicas."""
        ...

    async def enqueue(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> asyncio.Future[int]:
        """Give one record its place in the partition's order and return; the answer is its offset once it is acknowledged.

        The answer raises UnavailableError when the broker did not take the record in time; it may still arrive.

        Raises:
            UnavailableError: the record got no place and will not arrive.
        """
        ...


class Clock(Protocol):
    """Time. ``boot`` counts suspension (CLOCK_BOOTTIME), for fencing and leases; ``now`` is the wall clock, for conditions."""

    def now(self) -> datetime:
        """The wall clock, UTC."""
        ...

    def boot(self) -> float:
        """Seconds since boot, suspension included."""
        ...


class KeyPort(Protocol):
    """Private keys made ahead of need."""

    async def take(self, algorithm: str) -> bytes:
        """A fresh private key as PEM (``RSA-2048``, ``ECDSA-P256``, ...)."""
        ...


class RunTrace(Protocol):
    """The span of one run."""

    @property
    def traceparent(self) -> str:
        """The run's own context, for results."""
        ...

    @property
    def links(self) -> tuple[str, ...]:
        """traceparents of the linked causes, the parent first."""
        ...

    def step(self, verb: str, key: str, audit_id: str = "") -> AbstractContextManager[str]:
        """A client span for one request, by whose Audit-ID it is found again; yields the traceparent to send."""
        ...

    def note(self, name: str, attributes: Mapping[str, Any]) -> None:
        """An event or attribute set on the run's span."""
        ...


class Tracing(Protocol):
    """Causes and spans (``fleetwake.tracing``)."""

    def received(self, record: ObjectRecord, deletion: Deletion = Deletion.NONE) -> Cause:
        """Resolve the cause of a record when the worker takes it, and emit its ``watch`` span."""
        ...

    def replayed(self, record: ObjectRecord) -> None:
        """Take notice of a record of the replay, after the open intents were restored and before any run."""
        ...

    def wrote(self, uid: str, resource_version: str, trace: str, cluster: ClusterKey | None) -> Cause:
        """Remember that a write of ours made this version; returns the cause for its dependents."""
        ...

    def continues(self, cluster: ClusterKey | None, causes: Iterable[Cause]) -> str:
        """The trace that a run with these causes continues, 32 hex digits; ``""`` when it would begin its own."""
        ...

    def run(self, kind: str, key: ObjectKey, cluster: ClusterKey | None, causes: Iterable[Cause], started: datetime) -> AbstractContextManager[RunTrace]:
        """The span of one run that has steps: the oldest cause is the parent, the others are links; it began at ``started``."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """All ports of one worker."""

    kube: KubePort
    bus: BusPort
    clock: Clock
    keys: KeyPort
    tracing: Tracing
