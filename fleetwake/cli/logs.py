"""Logging of services: one JSON object a line on standard error and, where asked for, in a file; the same keys everywhere, noisy libraries held back.

A broker's absence makes aiokafka write a thousand lines in 20 s (kafka-faust.md rule 18): its loggers pass a rate limit.
"""

from __future__ import annotations

import logging
import sys
import time
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

import orjson

from fleetwake.settings import Settings
from fleetwake.tracing.instrument import instrument

RATE_LIMITED = ("aiokafka", "faust", "mode", "kafka")
LINES_PER_WINDOW, WINDOW_SECONDS = 10, 10.0
FILE_BYTES_MAX, FILES_BEFORE = 16 << 20, 2
"""A log file's greatest size, and how many full ones are kept beside it."""
PASSES = "passes_rate_limit"
"""Name of the attribute that keeps the verdict on a record, which every handler asks for."""
EXTRA = ("kind", "key", "namespace", "cluster", "reason")


class JsonLines(logging.Formatter):
    """One record as one JSON object: time, level, logger, message, service, and the keys in EXTRA where given."""

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
        trace_id = getattr(record, "otelTraceID", "0")
        if trace_id != "0":
            line["trace_id"] = trace_id
        line.update({key: value for key in EXTRA if (value := getattr(record, key, None)) is not None})
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


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
    instrument(service, settings.instance, settings.otlp_endpoint)
    for name in RATE_LIMITED:
        logging.getLogger(name).setLevel(logging.WARNING)
