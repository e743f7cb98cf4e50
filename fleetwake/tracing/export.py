"""From finished spans to OTLP: the SDK's exporter on a thread of its own, a bounded queue, drops counted.

Spans are plain data until they leave: making one costs a tuple, not an SDK object with its locks, and ids are ours (intents derive theirs).
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags

from fleetwake.connections.otlp import Otlp
from fleetwake.tracing.context import SpanId

log = logging.getLogger(__name__)
QUEUE_MAX = 65_536
BATCH_MAX = 2_048
FLUSH_SECONDS = 0.5
KINDS = {"client": SpanKind.CLIENT, "producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER, "internal": SpanKind.INTERNAL}
SCOPE = InstrumentationScope("fleetwake")


def resource_of(service: str, instance: str = "") -> Resource:
    """What all spans of a service carry: its name, its version and, where known, which instance it is. Source: OpenTelemetry semantic conventions 1.44."""
    name = f"fleetwake-{service.replace('_', '-')}"
    return Resource.create({"service.name": name, "service.version": version("fleetwake")} | ({"service.instance.id": instance} if instance else {}))


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished span; times are Unix seconds; ``parent`` is a span id or ``""`` for a root; ``service`` is whose work it tells, if not the exporter's."""

    name: str
    identity: SpanId
    parent: str
    kind: str
    started: float
    ended: float
    attributes: Mapping[str, Any]
    links: tuple[str, ...] = ()
    events: tuple[tuple[str, float, Mapping[str, Any]], ...] = field(default=())
    error: str = ""
    service: str = ""


class Exporter:
    """Takes finished spans from any thread and posts them in batches; full or refused batches are dropped and counted."""

    def __init__(self, otlp: Otlp, service: str, instance: str) -> None:
        self._otlp = otlp.exporter()
        self._resource = resource_of(service, instance)
        self._others: dict[str, Resource] = {}
        self._queue: queue.Queue[Finished | None] = queue.Queue(QUEUE_MAX)
        self._thread = threading.Thread(target=self._run, name="otlp", daemon=True)
        self.dropped = self.exported = 0

    def start(self) -> None:
        """Begin to export."""
        self._thread.start()

    def stop(self) -> None:
        """Export what is queued and end."""
        self._queue.put(None)
        self._thread.join(timeout=10)
        self._otlp.shutdown()  # type: ignore[no-untyped-call]

    def add(self, span: Finished) -> None:
        """Queue a span; a full queue drops it."""
        try:
            self._queue.put_nowait(span)
        except queue.Full:
            self.dropped += 1

    def _run(self) -> None:
        going = True
        while going:
            batch: list[ReadableSpan] = []
            try:
                first = self._queue.get(timeout=FLUSH_SECONDS)
                while True:
                    if first is None:
                        going = False
                        break
                    batch.append(self._readable(first))
                    if len(batch) >= BATCH_MAX:
                        break
                    first = self._queue.get(timeout=FLUSH_SECONDS / 5)
            except queue.Empty:
                pass
            if batch:
                self._post(batch)

    def _post(self, batch: Sequence[ReadableSpan]) -> None:
        try:
            # what the collector refuses, or nobody takes within the exporter's own retries, is told by the result, not raised
            failure = "" if self._otlp.export(batch) is SpanExportResult.SUCCESS else "the collector did not take them"
        except Exception as error:  # the exporter raises whatever its HTTP library does; tracing must never end a service
            failure = str(error) or type(error).__name__
        if failure:
            self.dropped += len(batch)
            log.warning("%d spans were not exported: %s", len(batch), failure)
        else:
            self.exported += len(batch)

    def _resource_of(self, span: Finished) -> Resource:
        if not span.service:
            return self._resource
        # which of its instances it was, nobody told
        return self._others.setdefault(span.service, resource_of(span.service))

    def _readable(self, span: Finished) -> ReadableSpan:
        return ReadableSpan(
            name=span.name,
            context=_context(span.identity),
            parent=_context(SpanId(span.identity.trace, span.parent)) if span.parent else None,
            resource=self._resource_of(span),
            attributes={name: value for name, value in span.attributes.items() if value not in ("", None)},
            events=[Event(name, dict(attributes), int(at * 1e9)) for name, at, attributes in span.events],
            links=[Link(_context(found)) for text in span.links if (found := SpanId.parse(text)) is not None],
            kind=KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error[:512]) if span.error else Status(StatusCode.UNSET),
            start_time=int(span.started * 1e9),
            end_time=int(span.ended * 1e9),
            instrumentation_scope=SCOPE,
        )


def _context(identity: SpanId) -> SpanContext:
    return SpanContext(int(identity.trace, 16), int(identity.span, 16), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
