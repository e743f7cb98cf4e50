"""``fleetwake topics``: create, verify and describe the topics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fleetwake.cli.access import commands as as_commands
from fleetwake.cli.access import document, page_part, table
from fleetwake.cli.looking import looking
from fleetwake.errors import FleetwakeError
from fleetwake.settings import Settings
from fleetwake.stream.topics import TopicAdmin
from fleetwake.views.terminal import console

app = typer.Typer(no_args_is_help=True, help="Create, verify and describe the Kafka topics.")

AWAIT_SECONDS = 1.0
Bootstrap = Annotated[str | None, typer.Option(help="Bootstrap servers of Kafka.")]
Prefix = Annotated[str | None, typer.Option(help="First part of every topic's name.")]
Partitions = Annotated[int | None, typer.Option(help="Partitions of the clustered topics; cannot change later.")]
Replication = Annotated[int | None, typer.Option(help="Replication factor of topics created; -1: the broker's default.")]


@app.command()
def create(kafka_bootstrap: Bootstrap = None, topic_prefix: Prefix = None, partitions: Partitions = None, replication: Replication = None) -> None:
    """Create the topics that are missing, and verify those that exist."""
    with _admin(kafka_bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=partitions, replication=replication) as (admin, settings):
        created = admin.create(settings.topics.specs(settings.partitions))
        typer.echo("\n".join(f"created {name}" for name in created) or "all topics exist as they must")


@app.command()
def verify(kafka_bootstrap: Bootstrap = None, topic_prefix: Prefix = None, partitions: Partitions = None) -> None:
    """Compare the topics with what they must be; exits 1 with the remedy of each difference."""
    with _admin(kafka_bootstrap=kafka_bootstrap, topic_prefix=topic_prefix, partitions=partitions) as (admin, settings):
        admin.verify(settings.topics.specs(settings.partitions))
        typer.echo("all topics exist as they must")


@app.command("await")
def await_topics(
    roles: Annotated[list[str], typer.Argument(metavar="TOPIC...", help="Topics without the prefix, such as objects.")],
    limit: Annotated[float, typer.Option(min=0, help="How many seconds to wait.")] = 600.0,
) -> None:
    """Wait until topics exist with their partitions; asks for no more than every service may see of its topics."""
    end, told = time.monotonic() + limit, ""
    while lacking := _lacking(roles):
        if time.monotonic() >= end:
            typer.echo(f"fleetwake topics: not within {limit:g} s: {lacking}", err=True)
            raise typer.Exit(1)
        if lacking != told:
            typer.echo(f"waiting: {lacking}", err=True)
            told = lacking
        # a broker that comes up, or a topic that somebody makes, tells nobody here
        time.sleep(AWAIT_SECONDS)
    typer.echo(f"{', '.join(roles)}: there")


def _lacking(roles: list[str]) -> str:
    """What keeps the topics from being as they must be; empty when nothing does."""
    settings = Settings.from_env()
    known = {spec.name.removeprefix(f"{settings.topic_prefix}."): spec for spec in settings.topics.specs(settings.partitions)}
    if unknown := set(roles) - known.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(known)}")
    try:
        with TopicAdmin(settings.kafka) as admin:
            return "; ".join(admin.lacking([known[role] for role in roles]))
    except FleetwakeError as error:
        return str(error)


@app.command()
def describe(kafka_bootstrap: Bootstrap = None, topic_prefix: Prefix = None) -> None:
    """Show the topics that exist, with the settings that matter."""
    with _admin(kafka_bootstrap=kafka_bootstrap, topic_prefix=topic_prefix) as (admin, settings):
        specs = settings.topics.specs(settings.partitions)
        table = Table("Topic", "Partitions", "Cleanup", "Greatest record")
        for state in admin.describe(specs):
            table.add_row(state.name, str(state.partitions), state.config.get("cleanup.policy", ""), state.config.get("max.message.bytes", ""))
        Console().print(table)


@app.command()
def access(
    topic_prefix: Prefix = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/security/transport.md.")] = False,
    commands: Annotated[bool, typer.Option("--commands", help="Print the kafka-acls.sh commands for it; set BOOTSTRAP and ADMIN (a properties file).")] = False,
) -> None:
    """Show who may do what on Kafka and Redis: what to allow each service, and nothing more. Asks no broker."""
    with looking("topics access"):
        prefix = Settings.from_env(None, topic_prefix=topic_prefix).topic_prefix
    if as_json:
        typer.echo(document(prefix))
    elif markdown:
        typer.echo(page_part(prefix), nl=False)
    elif commands:
        typer.echo("\n".join(as_commands(prefix)))
    else:
        console().print(table(prefix))


@contextmanager
def _admin(**overrides: object) -> Iterator[tuple[TopicAdmin, Settings]]:
    try:
        settings = Settings.from_env(None, **overrides)
        with TopicAdmin(settings.kafka, replication=settings.replication) as admin:
            yield admin, settings
    except FleetwakeError as error:
        typer.echo(f"fleetwake topics: {error}", err=True)
        raise typer.Exit(1) from error
