"""``fleetwake audit follow``: results as they come."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.cli.looking import StateDir, looking

if TYPE_CHECKING:
    from fleetwake.views.events import Wanted

Cluster = Annotated[str, typer.Option("--cluster", metavar="NAMESPACE/NAME", help="Only records of this cluster.")]
KindName = Annotated[str, typer.Option("--kind", help="Only runs for objects of this kind, named as for kubectl.")]
OfNamespace = Annotated[str, typer.Option("-n", "--namespace", help="Only runs for objects of this namespace.")]


def follow(
    begin: Annotated[str, typer.Option("--from", metavar="TIME", help="now, earliest, a time (2026-01-31T10:00:00Z) or a duration back (30m).")] = "now",
    cluster: Cluster = "",
    kind: KindName = "",
    namespace: OfNamespace = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print CloudEvents, one JSON object a line.")] = False,
    offsets: Annotated[
        Path | None, typer.Option("--offsets", metavar="FILE", help="Keep the offsets there, and go on from them when the file is there.")
    ] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop where the topic ends now.")] = False,
    state: StateDir = None,
) -> None:
    """Print what is planned and done as it happens. With --offsets each record comes at least once: a kill may repeat the last ones, by the same id."""
    with looking("audit follow"):
        _follow(begin, (cluster, kind, namespace), as_json, offsets, (until_end, state))


def _follow(begin: str, wishes: tuple[str, str, str], as_json: bool, offsets: Path | None, rest: tuple[bool, Path | None]) -> None:
    from fleetwake.stream.reading import TopicReader
    from fleetwake.views.connection import connect
    from fleetwake.views.events import as_event, line, plain
    from fleetwake.views.following import OffsetsFile, beginning
    from fleetwake.views.following import follow as following
    from fleetwake.views.terminal import console

    until_end, state = rest
    settings = connect("kafka_bootstrap", state_dir=state, identity="audit").settings
    topic = settings.topics.results
    kept = OffsetsFile(offsets, topic) if offsets is not None else None
    wanted, out = wanted_of(*wishes), console()
    with TopicReader(settings.kafka, topic, "fleetwake-audit-follow") as reader:
        positions = beginning(reader, begin, datetime.now(UTC), kept.load() if kept is not None else None)
        ends = reader.ends(positions)

        def batch_done() -> None:
            sys.stdout.flush()
            if kept is not None:
                kept.save(positions)
            if until_end and all(positions[number] >= end for number, end in ends.items()):
                raise typer.Exit()

        try:
            for message in following(reader, positions, wanted, batch_done):
                if as_json:
                    sys.stdout.buffer.write(plain(as_event(message)))
                else:
                    out.print(line(message), soft_wrap=True)
        finally:
            # what was printed of a batch that was broken off
            if kept is not None:
                kept.save(positions)


def wanted_of(cluster: str, kind: str, namespace: str) -> Wanted:
    """The filter that the options describe."""
    from fleetwake.views.events import Wanted
    from fleetwake.views.naming import kind_named

    return Wanted(cluster, kind_named(kind) if kind else None, namespace)
