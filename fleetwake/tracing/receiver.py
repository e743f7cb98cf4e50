"""An OTLP/HTTP receiver in this process: takes the spans of all services and says whether they make whole traces.

For the demo, tests and benchmarks; an installation sends its spans to a real backend. Source: OTLP 1.9, OTLP/HTTP with binary protobuf.
"""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

TRACES_PATH = "/v1/traces"
BODY_BYTES_MAX = 64 << 20
SPANS_MAX = 2_000_000
"""Spans kept; later ones are counted in ``dropped``."""


@dataclass(frozen=True, slots=True)
class Span:
    """One span as received. Times are Unix seconds; ids are lower-case hex, ``parent`` is ``""`` for a root; ``links`` are (trace, span)."""

    trace: str
    span: str
    parent: str
    name: str
    service: str
    started: float
    ended: float
    links: tuple[tuple[str, str], ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    error: bool = False


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """One trace: how many spans, how many of them are roots, and how many name a parent that never came."""

    trace: str
    spans: int
    roots: int
    orphans: int


def decode(body: bytes) -> list[Span]:
    """The spans of one export request.

    Raises:
        ValueError: the body is no ExportTraceServiceRequest.
    """
    request = ExportTraceServiceRequest()
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise ValueError(f"the body is no ExportTraceServiceRequest: {error}") from error
    found = []
    for resource in request.resource_spans:
        service = next((item.value.string_value for item in resource.resource.attributes if item.key == "service.name"), "")
        for scope in resource.scope_spans:
            found += [_span(raw, service) for raw in scope.spans]
    return found


def _span(raw: Any, service: str) -> Span:
    return Span(
        trace=raw.trace_id.hex(),
        span=raw.span_id.hex(),
        parent=raw.parent_span_id.hex(),
        name=raw.name,
        service=service,
        started=raw.start_time_unix_nano / 1e9,
        ended=raw.end_time_unix_nano / 1e9,
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in raw.links),
        attributes={item.key: _value(item.value) for item in raw.attributes},
        error=raw.status.code == raw.status.STATUS_CODE_ERROR,
    )


def _value(value: Any) -> Any:
    which = value.WhichOneof("value")
    if which == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, which) if which else None


def summarize(spans: Iterable[Span]) -> list[TraceSummary]:
    """One summary per trace, the largest first. A span is an orphan when its parent is not among the spans of its trace."""
    by_trace: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_trace[span.trace].append(span)
    summaries = []
    for trace, members in by_trace.items():
        ids = {span.span for span in members}
        roots = sum(not span.parent for span in members)
        orphans = sum(bool(span.parent) and span.parent not in ids for span in members)
        summaries.append(TraceSummary(trace, len(members), roots, orphans))
    return sorted(summaries, key=lambda summary: (-summary.spans, summary.trace))


class Receiver:
    """Listens on a free loopback port from ``start`` (or ``with``) to ``stop``; give ``endpoint`` to the services."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self._changed = threading.Condition()
        self._spans: list[Span] = []
        self._last = 0.0
        self.dropped = 0
        self.refused = 0
        self._server = ThreadingHTTPServer((host, port), _handler(self._take, self._refuse))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="otlp-receiver", daemon=True)

    @property
    def endpoint(self) -> str:
        """The value for FLEETWAKE_OTLP_ENDPOINT."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Begin to take spans."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; what was received stays."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    def __enter__(self) -> Receiver:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self.stop()

    @property
    def spans(self) -> tuple[Span, ...]:
        """Every span received so far, in order of arrival."""
        with self._changed:
            return tuple(self._spans)

    def summaries(self) -> list[TraceSummary]:
        """``summarize`` of what was received so far."""
        return summarize(self.spans)

    @property
    def orphans(self) -> int:
        """Spans of all traces whose parent has not come."""
        return sum(summary.orphans for summary in self.summaries())

    def wait_for(self, enough: Callable[[tuple[Span, ...]], bool], limit_seconds: float) -> bool:
        """Wait until what was received is enough; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(tuple(self._spans)), limit_seconds)

    def wait_quiet(self, seconds: float, limit_seconds: float) -> bool:
        """Wait until nothing has come for ``seconds``; False when the time is over."""
        deadline = time.monotonic() + limit_seconds
        with self._changed:
            while True:
                now = time.monotonic()
                due = max(self._last, deadline - limit_seconds) + seconds
                if now >= due or now >= deadline:
                    return now >= due
                self._changed.wait(min(due, deadline) - now)

    def _take(self, spans: list[Span]) -> None:
        with self._changed:
            room = max(SPANS_MAX - len(self._spans), 0)
            self._spans += spans[:room]
            self.dropped += len(spans) - len(spans[:room])
            self._last = time.monotonic()
            self._changed.notify_all()

    def _refuse(self) -> None:
        with self._changed:
            self.refused += 1


def _handler(take: Callable[[list[Span]], None], refuse: Callable[[], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Take one export request."""
            length = int(self.headers.get("Content-Length", "0"))
            if self.path != TRACES_PATH or not 0 <= length <= BODY_BYTES_MAX:
                self.close_connection = True
                self._answer(404 if self.path != TRACES_PATH else 413, b"")
                return
            body = self.rfile.read(length)
            try:
                take(decode(_unpacked(body, self.headers.get("Content-Encoding", ""))))
            except ValueError:
                refuse()
                self._answer(400, b"")
                return
            self._answer(200, ExportTraceServiceResponse().SerializeToString())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: requests are counted, not logged."""

    return Handler


def _unpacked(body: bytes, encoding: str) -> bytes:
    try:
        return gzip.decompress(body) if encoding == "gzip" else zlib.decompress(body) if encoding == "deflate" else body
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"the body is no {encoding}: {error}") from error
