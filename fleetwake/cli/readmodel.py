"""``fleetwake readmodel``: the fleet at a glance in Redis, made anew from Kafka."""

from __future__ import annotations

import asyncio

import typer

from fleetwake.cli.looking import StateDir, looking

app = typer.Typer(no_args_is_help=True, help="The read model of the fleet in Redis.")


@app.callback()
def _group() -> None:
    """Keep ``rebuild`` a command of its own name, although it is the only one."""


@app.command()
def rebuild(state: StateDir = None) -> None:
    """Write the read model anew from Kafka, beside workers that run: after Redis was emptied or restored."""
    from kafka.errors import KafkaError
    from rich.console import Console

    from fleetwake.shell.rebuild import Source
    from fleetwake.shell.rebuild import rebuild as anew
    from fleetwake.stream.topics import TopicAdmin
    from fleetwake.views.connection import ViewError, connect

    with looking("readmodel rebuild"):
        settings = connect("kafka_bootstrap", "redis_url", state_dir=state, identity="readmodel").settings
        topic = settings.topics.objects
        with TopicAdmin(settings.kafka) as admin:
            found = {one.name: one for one in admin.describe(settings.topics.specs(settings.partitions))}
        if topic not in found:
            raise ViewError(f"topic {topic} does not exist: no service of ours has run on this Kafka, or FLEETWAKE_TOPIC_PREFIX is another")
        try:
            done = asyncio.run(anew(Source(settings.kafka, topic, found[topic].partitions), settings.redis))
        except KafkaError as error:
            raise ViewError(f"topic {topic} could not be read from {settings.kafka}: {settings.kafka.told(error)}") from error
        told = f"{done.found} Cluster{'' if done.found == 1 else 's'} on {topic}: {done.written} written"
        Console().print(told + (f", {done.gone} that are gone removed" if done.gone else ""), highlight=False)
