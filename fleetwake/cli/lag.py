"""``fleetwake lag``: how far the workers of each service are behind, by partition."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetwake.cli.looking import StateDir, looking


def lag(
    all_partitions: Annotated[bool, typer.Option("--all", help="Show every partition, not only those that lag.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    state: StateDir = None,
) -> None:
    """Show how far the workers of each service are behind the topic of objects, by partition, and whose each partition is."""
    import orjson

    from fleetwake.views import lag as views
    from fleetwake.views.connection import connect
    from fleetwake.views.terminal import console

    with looking("lag"):
        settings = connect("kafka_bootstrap", state_dir=state, identity="lag").settings
        groups = views.read_groups(settings.kafka, settings.topics.objects, settings.topic_prefix)
        if as_json:
            typer.echo(orjson.dumps(views.as_json(groups), option=orjson.OPT_INDENT_2).decode())
        else:
            console().print(views.render(groups, all_partitions=all_partitions))
