"""Log lines: one JSON object each, the same on standard error and in the file a collector reads, and neither without end."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.instrumentation.logging import LoggingInstrumentor

from fleetwake.cli import logs
from fleetwake.settings import Settings
from fleetwake.tracing.context import SpanId, attach, detach
from schemas.keys import ClusterKey

SPAN = SpanId.derive("a run")


@pytest.fixture
def untouched() -> Iterator[None]:
    """Logging as it was, afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in set(root.handlers) - set(handlers):
        handler.close()
    root.handlers[:], root.level = handlers, level
    LoggingInstrumentor().uninstrument()


def configured(folder: Path | None) -> None:
    logs.configure(Settings(instance="reconcilers-7", log_dir=str(folder) if folder else ""), "reconcilers")


def lines(text: str) -> list[dict[str, Any]]:
    """The lines of this module's loggers."""
    return [line for line in map(json.loads, text.splitlines()) if line["logger"].endswith(".test")]


@pytest.mark.usefixtures("untouched")
def test_the_file_has_the_lines_of_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path / "logs")
    token = attach(SPAN)
    logging.getLogger("fleetwake.test").warning("it %s", "happened", extra={"about": ClusterKey("default", "demo")})
    detach(token)

    (line,) = lines((tmp_path / "logs" / "reconcilers-7.log").read_text())

    assert (line["message"], line["level"], line["service"], line["instance"], line["cluster"]) == (
        "it happened",
        "WARNING",
        "reconcilers",
        "reconcilers-7",
        "default/demo",
    )
    assert line["trace_id"] == SPAN.trace
    assert lines(capsys.readouterr().err) == [line]


@pytest.mark.usefixtures("untouched")
def test_without_a_folder_there_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    configured(None)
    logging.getLogger("fleetwake.test").warning("said")

    assert list(tmp_path.iterdir()) == []
    assert len(lines(capsys.readouterr().err)) == 1


@pytest.mark.usefixtures("untouched")
def test_a_library_that_says_too_much_is_held_back_alike_in_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path)
    for number in range(3 * logs.LINES_PER_WINDOW):
        logging.getLogger("aiokafka.test").error("broker %d is gone", number)

    kept = lines((tmp_path / "reconcilers-7.log").read_text())

    assert len(kept) == logs.LINES_PER_WINDOW
    assert lines(capsys.readouterr().err) == kept


@pytest.mark.usefixtures("untouched")
def test_the_file_begins_anew_when_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES_MAX", 2_000)
    configured(tmp_path)
    for number in range(100):
        logging.getLogger("fleetwake.test").info("line %d", number)

    files = sorted(path.name for path in tmp_path.iterdir())

    assert files == ["reconcilers-7.log", "reconcilers-7.log.1", "reconcilers-7.log.2"]
    assert all(path.stat().st_size <= 2_000 for path in tmp_path.iterdir())
    assert lines((tmp_path / "reconcilers-7.log").read_text())[-1]["message"] == "line 99"
