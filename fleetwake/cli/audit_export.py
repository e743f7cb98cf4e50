"""``fleetwake audit export``: results as files of JSON lines or Parquet."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from fleetwake.cli.audit_follow import Cluster, KindName, OfNamespace, wanted_of
from fleetwake.cli.looking import StateDir, looking


class Format(StrEnum):
    """What to write."""

    JSON_LINES = "jsonl"
    PARQUET = "parquet"


class Column(StrEnum):
    """What to make folders of."""

    CLUSTER = "cluster"
    DATE = "date"


class Sink(Protocol):
    """Where records go."""

    def add(self, message: Any) -> None:
        """The next record."""

    def close(self) -> list[Path]:
        """All were given; returns the files."""

    def abandon(self) -> None:
        """Something failed."""


def export(
    output: Annotated[
        str, typer.Option("-o", "--output", metavar="PATH", help="File, or folder with --partition-by; - for standard output (JSON lines).")
    ] = "-",
    format_: Annotated[Format, typer.Option("--format", help="JSON lines (CloudEvents), or Parquet with one row a record.")] = Format.JSON_LINES,
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="earliest, a time (2026-01-31) or a duration back (7d).")] = "earliest",
    end: Annotated[str, typer.Option("--until", metavar="TIME", help="now, a time or a duration back: records from then on are left out.")] = "now",
    partition_by: Annotated[list[Column] | None, typer.Option("--partition-by", help="Folders for Parquet: cluster, date, or both by giving it twice.")] = None,
    cluster: Cluster = "",
    kind: KindName = "",
    namespace: OfNamespace = "",
    state: StateDir = None,
) -> None:
    """Write what the topic holds. Memory stays bounded, however much that is; a file is there under its name only when it is whole."""
    with looking("audit export"):
        columns = tuple(dict.fromkeys(column.value for column in partition_by or ()))
        _export(_sink(output, format_, columns), (begin, end), (cluster, kind, namespace), state)


def _sink(output: str, format_: Format, columns: tuple[str, ...]) -> Sink:
    from fleetwake.views.connection import ViewError
    from fleetwake.views.jsonl import JsonLines

    if format_ is Format.JSON_LINES:
        if columns:
            raise ViewError("--partition-by makes folders of Parquet files: give --format parquet")
        return JsonLines(None if output == "-" else Path(output))
    if output == "-":
        raise ViewError("Parquet needs a file or a folder: give --output")
    try:
        from fleetwake.views.parquet import OneFile, Partitioned
    except ImportError as error:
        raise ViewError(f"Parquet needs pyarrow ({error}): install fleetwake[audit]") from error
    return Partitioned(Path(output), columns) if columns else OneFile(Path(output))


def _export(sink: Sink, span: tuple[str, str], wishes: tuple[str, str, str], state: Path | None) -> None:
    from fleetwake.stream.reading import TopicReader
    from fleetwake.views.connection import connect
    from fleetwake.views.following import beginning

    settings = connect("kafka_bootstrap", state_dir=state, identity="audit").settings
    wanted = wanted_of(*wishes)
    count = 0
    try:
        with TopicReader(settings.kafka, settings.topics.results, "fleetwake-audit-export") as reader:
            now = datetime.now(UTC)
            starts, ends = beginning(reader, span[0], now), beginning(reader, span[1], now)
            # one partition after the other: the same export then makes the same files
            for number in sorted(starts):
                for message in reader.read({number: starts[number]}, {number: ends[number]}):
                    if wanted.has(message):
                        sink.add(message)
                        count += 1
    except BaseException:
        sink.abandon()
        raise
    files = sink.close()
    if files:
        size = sum(path.stat().st_size for path in files)
        typer.echo(f"{count} records in {len(files)} file{'' if len(files) == 1 else 's'}, {size} bytes", err=True)
