"""An OTLP/HTTP receiver of log records: stands where Loki listens, and keeps what comes. Source: OTLP 1.9; Loki takes it below ``/otlp``."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

LOGS_PATH = "/otlp/v1/logs"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One log record. ``trace`` is hex, empty where it belongs to none; ``at`` in Unix seconds."""

    at: float
    severity: str
    body: str
    trace: str
    resource: dict[str, Any]
    attributes: dict[str, Any]


class LogReceiver:
    """Listens while it is used as a context."""

    def __init__(self, host: str, port: int) -> None:
        self._changed = threading.Condition()
        self._lines: list[LogLine] = []
        self._server = ThreadingHTTPServer((host, port), _handler(self._take))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="otlp-logs", daemon=True)

    def __enter__(self) -> LogReceiver:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def lines(self) -> list[LogLine]:
        """All lines so far."""
        with self._changed:
            return list(self._lines)

    def wait_for(self, enough: Callable[[list[LogLine]], bool], limit_seconds: float) -> bool:
        """Wait until what came is enough; False when the time is over."""
        with self._changed:
            return self._changed.wait_for(lambda: enough(self._lines), limit_seconds)

    def _take(self, lines: list[LogLine]) -> None:
        with self._changed:
            self._lines += lines
            self._changed.notify_all()


def decode(body: bytes) -> list[LogLine]:
    """The lines of one export request."""
    request = ExportLogsServiceRequest()
    request.ParseFromString(body)
    found = []
    for group in request.resource_logs:
        resource = _plain(group.resource.attributes)
        for scope in group.scope_logs:
            for raw in scope.log_records:
                at = (raw.time_unix_nano or raw.observed_time_unix_nano) / 1e9
                found.append(LogLine(at, raw.severity_text, raw.body.string_value, raw.trace_id.hex(), resource, _plain(raw.attributes)))
    return found


def _plain(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes if item.value.WhichOneof("value")}


def _handler(take: Callable[[list[LogLine]], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Take one export request."""
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            known = self.path == LOGS_PATH
            if known:
                take(decode(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body))
            answer = ExportLogsServiceResponse().SerializeToString()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler
