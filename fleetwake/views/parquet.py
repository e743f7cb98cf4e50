"""Records of results as Parquet: one row a record, columns of one stable schema, row groups small enough that memory stays bounded.

The columns are a contract (docs/audit.md): new ones are added at the end, none changes its type or goes. A type of a later version has its attributes and
its value; the columns of runs are null then.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pyarrow as pa
from pyarrow import parquet

from fleetwake.views.events import attributes
from fleetwake.views.results import decode
from schemas.chain import MAC, Link
from schemas.results import Done, Planned, Recovered, Run

SCHEMA_VERSION = 1
ROWS_PER_GROUP = 2_000
BYTES_PER_GROUP = 32 * 1024 * 1024
ROWS_BUFFERED_MAX = 20_000
BYTES_BUFFERED_MAX = 128 * 1024 * 1024
"""Over all files that a partitioned export has open: the fullest is written when more are held."""
BY_CLUSTER, BY_DATE = "cluster", "date"

_INSTANT = pa.timestamp("us", tz="UTC")
CHANGE = pa.struct([pa.field("path", pa.string()), pa.field("before", pa.string()), pa.field("after", pa.string())])
STEP = pa.struct(
    [
        pa.field("index", pa.int64()),
        pa.field("verb", pa.string()),
        pa.field("target", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("audit_id", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("status", pa.int64()),
        pa.field("error", pa.string()),
        pa.field("resource_version", pa.string()),
        pa.field("changes", pa.list_(CHANGE)),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("type", pa.string(), nullable=False),
        pa.field("at", _INSTANT),
        pa.field("source", pa.string()),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("cluster", pa.string()),
        pa.field("namespace", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("name", pa.string()),
        pa.field("key", pa.string()),
        pa.field("plan_id", pa.string()),
        pa.field("service", pa.string()),
        pa.field("instance", pa.string()),
        pa.field("trace", pa.string()),
        pa.field("intent", pa.string()),
        pa.field("change", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("duration_ms", pa.float64()),
        pa.field("requeue_after_seconds", pa.float64()),
        pa.field("error", pa.string()),
        pa.field("found", pa.string()),
        pa.field("resource_version", pa.string()),
        pa.field("steps", pa.list_(STEP)),
        pa.field("chain", pa.string()),
        pa.field("sequence", pa.int64()),
        pa.field("mac", pa.string()),
        pa.field("value", pa.binary()),
    ],
    metadata={"fleetwake.schema": str(SCHEMA_VERSION)},
)


def row_of(message: Any) -> dict[str, Any]:
    """A message as one row."""
    headers = attributes(message)
    try:
        link = Link.of(dict(message.headers))
    except ValueError:
        link = None
    row: dict[str, Any] = {
        "id": headers.get("id"),
        "type": headers.get("type", ""),
        "at": _time(headers.get("time", "")),
        "source": headers.get("source"),
        "partition": message.partition,
        "offset": message.offset,
        "chain": link.chain if link is not None else None,
        "sequence": link.sequence if link is not None else None,
        "mac": headers.get(MAC.removeprefix("ce_")),
        "value": message.value,
    }
    run = decode(message.headers, message.value)
    return row if run is None else row | _run(run)


def _run(run: Run) -> dict[str, Any]:
    parts = run.key.partition("@")[0].split("/", 3)
    row: dict[str, Any] = {name: getattr(run, name) for name in ("cluster", "kind", "key", "plan_id", "service", "instance", "trace", "intent")}
    row |= {"namespace": parts[2], "name": parts[3]} if len(parts) == 4 else {}
    match run:
        case Planned():
            row |= {"change": run.cause.change, "steps": [{**step.model_dump(), "outcome": "planned"} for step in run.steps]}
        case Done():
            row |= {name: getattr(run, name) for name in ("outcome", "duration_ms", "requeue_after_seconds", "error")}
            row["steps"] = [{**step.model_dump(exclude={"changes"}), "changes": _changes(step.changes)} for step in run.steps]
        case Recovered():
            row |= {"found": run.found, "resource_version": run.resource_version}
    return row


def _changes(changes: Mapping[str, tuple[Any, Any]]) -> list[dict[str, str]]:
    return [{"path": path, "before": orjson.dumps(before).decode(), "after": orjson.dumps(after).decode()} for path, (before, after) in changes.items()]


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None


def _table(rows: list[dict[str, Any]]) -> Any:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


class OneFile:
    """All rows in one file, which is there under its name only when it is whole."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = parquet.ParquetWriter(self._part, SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, message: Any) -> None:
        """The next row."""
        self._rows.append(row_of(message))
        self._bytes += len(message.value or b"")
        if len(self._rows) >= ROWS_PER_GROUP or self._bytes >= BYTES_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(_table(self._rows))
        self._rows, self._bytes = [], 0

    def close(self) -> list[Path]:
        """Write the rest; returns the files."""
        self._flush()
        self._writer.close()
        os.replace(self._part, self._path)
        return [self._path]

    def abandon(self) -> None:
        """Something failed: leave nothing behind."""
        self._writer.close()
        self._part.unlink(missing_ok=True)


class Partitioned:
    """Rows in a folder per value of each column (``cluster=default%2Fdemo/date=2026-01-31``), as Hive, Spark and DuckDB read them.

    A file is named for the partition and offset of its first row, so that the same export again replaces it instead of doubling its rows.
    """

    def __init__(self, folder: Path, columns: tuple[str, ...]) -> None:
        self._folder, self._columns = folder, columns
        self._held: dict[tuple[str, int], list[dict[str, Any]]] = {}
        self._rows = self._bytes = 0
        self._files: list[Path] = []

    def add(self, message: Any) -> None:
        """The next row."""
        row = row_of(message)
        self._held.setdefault((self._place(row), message.partition), []).append(row)
        self._rows += 1
        self._bytes += len(message.value or b"")
        if self._rows >= ROWS_BUFFERED_MAX or self._bytes >= BYTES_BUFFERED_MAX:
            self._flush(max(self._held, key=lambda place: len(self._held[place])))

    def _place(self, row: Mapping[str, Any]) -> str:
        at = row["at"]
        values = {BY_CLUSTER: row.get("cluster") or "none", BY_DATE: at.strftime("%Y-%m-%d") if at is not None else "none"}
        return "/".join(f"{column}={quote(values[column], safe='')}" for column in self._columns)

    def _flush(self, place: tuple[str, int]) -> None:
        rows = self._held.pop(place)
        self._rows -= len(rows)
        self._bytes -= sum(len(row["value"] or b"") for row in rows)
        folder = self._folder / place[0]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"results-{place[1]:05d}-{rows[0]['offset']:020d}.parquet"
        part = path.with_name(f".{path.name}.part")
        parquet.write_table(_table(rows), part, compression="zstd", row_group_size=ROWS_PER_GROUP)
        os.replace(part, path)
        self._files.append(path)

    def close(self) -> list[Path]:
        """Write the rest; returns the files."""
        for place in list(self._held):
            self._flush(place)
        return self._files

    def abandon(self) -> None:
        """Something failed: whole files stay, they hold what they say."""
        self._held.clear()
