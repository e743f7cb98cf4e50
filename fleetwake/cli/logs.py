"""Logging of services: one JSON object a line on standard error and, where asked for, in a file; the same keys everywhere, noisy libraries held back.

Whose a line is nobody says at each call: ``kind``, ``namespace``, ``name``, ``cluster`` and ``trace_id`` come from the run that the writing task belongs to
(``fleetwake.tracing.current``). Where no run is, a call may name what its line is about: ``extra={"about": key}``, an ObjectKey or a ClusterKey.

A broker's absence makes aiokafka write a thousand lines in 20 s (kafka-faust.md rule 18): its loggers pass a rate limit.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

import orjson

from fleetwake.settings import Settings
from fleetwake.tracing.current import CURRENT
from fleetwake.tracing.instrument import instrument
from schemas.keys import ClusterKey, GroupKind, ObjectKey

log = logging.getLogger(__name__)

RATE_LIMITED = ("aiokafka", "faust", "mode", "kafka")
LINES_PER_WINDOW, WINDOW_SECONDS = 10, 10.0
FILE_BYTES_MAX, FILES_BEFORE = 16 << 20, 2
"""A log file's greatest size, and how many full ones are kept beside it."""
PASSES = "passes_rate_limit"
"""Name of the attribute that keeps the verdict on a record, which every handler asks for."""
CLUSTER = GroupKind("cluster.x-k8s.io", "Cluster")


class JsonLines(logging.Formatter):
    """One record as one JSON object: time, level, logger, message, service, instance; whose it is; the error's text with its traceback."""

    def __init__(self, service: str, instance: str) -> None:
        super().__init__()
        self._service, self._instance = service, instance

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "service": self._service,
            "instance": self._instance,
        }
        line.update(_whose(record))
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def _whose(record: logging.LogRecord) -> dict[str, str]:
    """The object, cluster and trace that a line belongs to; all five keys for a line of a run."""
    current, about = CURRENT.get(), getattr(record, "about", None)
    found: dict[str, str] = {}
    if about is not None:
        found = _object(about)
    elif current is not None:
        found = _object(current.key) | ({"cluster": str(current.cluster)} if current.cluster is not None else {})
    if current is None:
        otel = str(getattr(record, "otelTraceID", "0"))
        trace_id = "" if otel == "0" else otel
    else:
        trace_id = "" if current.ended else current.trace_id
    return found | ({"trace_id": trace_id} if trace_id else {})


def _object(about: ObjectKey | ClusterKey) -> dict[str, str]:
    if isinstance(about, ClusterKey):
        return {"kind": CLUSTER.kind, "namespace": about.namespace, "name": about.name, "cluster": str(about)}
    cluster = str(ClusterKey(about.namespace, about.name)) if about.group_kind == CLUSTER else about.cluster
    return {"kind": about.kind, "namespace": about.namespace, "name": about.name, "cluster": cluster}


class RateLimit(logging.Filter):
    """Lets LINES_PER_WINDOW records of a logger pass in a window and says how many it held back."""

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record passes."""
        if not hasattr(record, PASSES):
            setattr(record, PASSES, self._judged(record))
        return bool(getattr(record, PASSES))

    def _judged(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(RATE_LIMITED) or record.levelno >= logging.CRITICAL:
            return True
        began, count = self._windows.get(record.name, (0.0, 0))
        now = time.monotonic()
        if now - began > WINDOW_SECONDS:
            if count > LINES_PER_WINDOW:
                record.msg = f"{record.getMessage()} ({count - LINES_PER_WINDOW} more lines of this logger were held back)"
                record.args = ()
            self._windows[record.name] = (now, 1)
            return True
        self._windows[record.name] = (began, count + 1)
        return count < LINES_PER_WINDOW


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is None or isinstance(error, KeyboardInterrupt | SystemExit):
        return
    log.critical("ended by %s: %s", kind.__name__, error, exc_info=(kind, error, traceback))


def configure(settings: Settings, service: str) -> None:
    """Set logging up for a service.

    Raises:
        OSError: the folder of log files cannot be written.
    """
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if settings.log_dir:
        folder = Path(settings.log_dir)
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(RotatingFileHandler(folder / f"{settings.instance}.log", maxBytes=FILE_BYTES_MAX, backupCount=FILES_BEFORE))
    limit = RateLimit()
    for handler in handlers:
        handler.setFormatter(JsonLines(service, settings.instance))
        handler.addFilter(limit)
    logging.basicConfig(level=settings.log_level, handlers=handlers, force=True)
    # what Python itself would print as text: warnings, and whatever ends the process or a thread
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda ended: _uncaught(ended.exc_type, ended.exc_value, ended.exc_traceback)
    instrument(service, settings.instance, settings.otlp)
    for name in RATE_LIMITED:
        logging.getLogger(name).setLevel(logging.WARNING)
