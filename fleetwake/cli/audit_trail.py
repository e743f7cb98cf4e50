"""``fleetwake audit trail``: the reference consumer, as a service or up to the topic's end."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetwake.cli.looking import StateDir, looking

FAILED = 1


def trail(
    database: Annotated[
        str | None, typer.Option(help="sqlite:///<file> or postgresql://<user>@<host>/<database>; FLEETWAKE_TRAIL_DATABASE by default.")
    ] = None,
    password_file: Annotated[str | None, typer.Option(metavar="FILE", help="File with the PostgreSQL user's password.")] = None,
    partitions: Annotated[str | None, typer.Option(metavar="0-11,20", help="Partitions to read; all by default.")] = None,
    until_end: Annotated[bool, typer.Option("--until-end", help="Stop where the topic ends now, instead of serving on.")] = False,
    state: StateDir = None,
) -> None:
    """Build a per-cluster trail in a SQL database: runs, steps and changes, each record with its effect exactly once."""
    with looking("audit trail"):
        _trail({"trail_database": database, "trail_database_password_file": password_file, "trail_partitions": partitions}, until_end, state)


def _trail(overrides: dict[str, str | None], until_end: bool, state: object) -> None:
    from fleetwake.cli.logs import configure
    from fleetwake.views.connection import ViewError, connect

    try:
        from services.audit_trail.app import consumer_of, main
    except ImportError as error:
        raise ViewError(f"the trail needs SQLAlchemy ({error}): install fleetwake[audit]") from error
    found = connect("kafka_bootstrap", state_dir=state, identity="audit_trail").settings  # type: ignore[arg-type]
    settings = type(found).model_validate(found.model_dump() | {name: value for name, value in overrides.items() if value is not None})
    configure(settings, "audit_trail")
    if not until_end:
        raise typer.Exit(main(settings))
    consumer, engine = consumer_of(settings)
    try:
        consumer.run(until_end=True)
    finally:
        engine.dispose()
    total = consumer.total
    typer.echo(
        f"{total.records} records written to {engine.url.render_as_string(hide_password=True)}"
        + (f", {total.repeats} of them repeats" if total.repeats else "")
        + (f", {total.unread} of them kept as bytes alone" if total.unread else "")
    )
