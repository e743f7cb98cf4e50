"""``fleetwake topics``: create, verify and describe the topics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fleetwake.errors import FleetwakeError
from fleetwake.settings import Settings
from fleetwake.stream.topics import TopicAdmin

app = typer.Typer(no_args_is_help=True, help="Create, verify and describe the Kafka topics.")

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


@app.command()
def describe(kafka_bootstrap: Bootstrap = None, topic_prefix: Prefix = None) -> None:
    """Show the topics that exist, with the settings that matter."""
    with _admin(kafka_bootstrap=kafka_bootstrap, topic_prefix=topic_prefix) as (admin, settings):
        specs = settings.topics.specs(settings.partitions)
        table = Table("Topic", "Partitions", "Cleanup", "Greatest record")
        for state in admin.describe(specs):
            table.add_row(state.name, str(state.partitions), state.config.get("cleanup.policy", ""), state.config.get("max.message.bytes", ""))
        Console().print(table)


@contextmanager
def _admin(**overrides: object) -> Iterator[tuple[TopicAdmin, Settings]]:
    try:
        settings = Settings.from_env(None, **overrides)
        with TopicAdmin(settings.kafka_bootstrap, replication=settings.replication) as admin:
            yield admin, settings
    except FleetwakeError as error:
        typer.echo(f"fleetwake topics: {error}", err=True)
        raise typer.Exit(1) from error
