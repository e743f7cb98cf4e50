"""``fleetwake audit why``: which change, by whom, led to an object's being there or gone, and through which decisions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.cli.looking import Namespace, StateDir, looking

if TYPE_CHECKING:
    from fleetwake.views.api_audit import ApiAudit
    from fleetwake.views.connection import Connection
    from fleetwake.views.runs import RunView

FAILED = 1


def why(
    names: Annotated[list[str], typer.Argument(metavar="KIND/NAME", help="The object, named as for kubectl; it may be gone.", show_default=False)],
    namespace: Namespace = "default",
    audit_log: Annotated[
        Path | None, typer.Option("--audit-log", metavar="FILE", help="The API server's audit log, for names of users; the rig's by default.")
    ] = None,
    database: Annotated[str, typer.Option(help="Read a trail instead of Kafka: for what the topic no longer has.")] = "",
    password_file: Annotated[str, typer.Option(metavar="FILE", help="File with the PostgreSQL user's password.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    state: StateDir = None,
) -> None:
    """Say why an object is there, was deleted or was replaced: who asked for it, and through which decisions it came."""
    with looking("audit why"):
        _why(names, namespace, (audit_log, database, password_file), as_json, state)


def _why(names: list[str], namespace: str, sources: tuple[Path | None, str, str], as_json: bool, state: Path | None) -> None:
    import orjson

    from fleetwake.views.connection import connect
    from fleetwake.views.naming import object_named
    from fleetwake.views.why import Past, story
    from fleetwake.views.why_text import as_json as plain
    from fleetwake.views.why_text import told

    audit_log, database, password_file = sources
    key = object_named(names, namespace)
    connection = connect(*([] if database else ["kafka_bootstrap"]), state_dir=state, identity="audit")
    runs = _runs(connection, database, password_file)
    found = story(Past(runs, _audit(audit_log, connection, runs)), key)
    if as_json:
        typer.echo(orjson.dumps(plain(found), option=orjson.OPT_INDENT_2).decode())
    else:
        typer.echo("\n".join(told(found)))
    if not found.chain:
        raise typer.Exit(FAILED)


def _runs(connection: Connection, database: str, password_file: str) -> list[RunView]:
    from fleetwake.views.results import read_results
    from fleetwake.views.runs import join

    settings = connection.settings
    if not database:
        return join(read_results(settings.kafka, settings.topics.results))
    from services.audit_trail.compare import opened

    with opened(database, password_file) as trail:
        return join(trail.runs())


def _audit(path: Path | None, connection: Connection, runs: list[RunView]) -> ApiAudit | None:
    from fleetwake.views.api_audit import read
    from fleetwake.views.connection import ViewError

    if path is None:
        path = Path(connection.rig.audit_log) if connection.rig is not None else None
    if path is None:
        return None
    try:
        return read(path, {step.audit_id for run in runs for step in run.steps if step.audit_id})
    except OSError as error:
        raise ViewError(f"audit log {path}: {error.strerror}") from error
