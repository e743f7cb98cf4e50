"""``fleetwake describe``: one cluster as a tree from the API server, or the fleet from Redis' read model."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.cli.looking import Namespace, StateDir, looking

if TYPE_CHECKING:
    from fleetwake.views.connection import Connection

REFRESH_SECONDS = 1.0


def describe(
    names: Annotated[list[str] | None, typer.Argument(metavar="cluster NAME", help="The Cluster; none with --fleet.", show_default=False)] = None,
    namespace: Namespace = "default",
    show_conditions: Annotated[
        str,
        typer.Option(
            "--show-conditions",
            metavar="KINDS",
            help="Show all conditions of: all, a kind, kind/name; comma separated; kind+ shows only those that need attention.",
        ),
    ] = "",
    grouping: Annotated[bool, typer.Option("--grouping/--no-grouping", help="Show Machines in the same state as one row.")] = True,
    fleet: Annotated[bool, typer.Option("--fleet", help="All clusters, from the read model.")] = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="With --fleet: stay and follow.")] = False,
    state: StateDir = None,
) -> None:
    """Show a cluster as a tree with its conditions, or the fleet at a glance."""
    with looking("describe"):
        if fleet:
            asyncio.run(_fleet(watch, state))
        else:
            asyncio.run(_cluster(names or [], namespace, (show_conditions, grouping), state))


async def _cluster(names: list[str], namespace: str, options: tuple[str, bool], state: Path | None) -> None:
    from fleetwake.kube import config
    from fleetwake.kube.client import ApiClient
    from fleetwake.views import tree
    from fleetwake.views.connection import ViewError, connect
    from fleetwake.views.naming import object_named
    from fleetwake.views.objects import read_cluster
    from fleetwake.views.terminal import console

    key = object_named(names or ["cluster/"], namespace) if names else None
    if key is None or key.kind != "Cluster":
        raise ViewError("describe shows clusters: `fleetwake describe cluster <name> [-n <namespace>]`, or all of them with --fleet")
    settings = connect("kubeconfig", state_dir=state).settings
    async with ApiClient(config.load(settings.kubeconfig), service="describe") as client:
        objects = await read_cluster(client, namespace, key.name)
    show, grouping = options
    root = tree.build(objects, key.name, selected=tree.Selected.parse(show), grouping=grouping)
    assert root is not None
    out = console()
    out.print(tree.render(root, datetime.now(UTC), out.width))


async def _fleet(watch: bool, state: Path | None) -> None:
    from rich.live import Live

    from fleetwake.views.connection import ViewError, connect
    from fleetwake.views.fleet import read_fleet
    from fleetwake.views.fleet import render as draw
    from fleetwake.views.terminal import console

    connection = connect("redis_url", state_dir=state)
    redis = connection.settings.redis
    out = console()
    if not watch:
        held = await asyncio.to_thread(read_fleet, redis)
        out.print(draw(held, datetime.now(UTC), await _notes(connection, held)))
        return
    held, seen = await asyncio.to_thread(read_fleet, redis), datetime.now(UTC)
    with Live(draw(held, seen), console=out, screen=False, auto_refresh=False) as live:
        while True:
            try:
                held, seen = await asyncio.to_thread(read_fleet, redis), datetime.now(UTC)
                notes = await _notes(connection, held)
            except ViewError:
                notes = [f"stale since {seen:%H:%M:%S} UTC: Redis does not answer"]
            live.update(draw(held, datetime.now(UTC), notes), refresh=True)
            await asyncio.sleep(REFRESH_SECONDS)


async def _notes(connection: Connection, held: dict[str, dict[str, str]]) -> list[str]:
    """What must be said about the age of the read model: it is compared with the API server's metadata."""
    from fleetwake.errors import FleetwakeError
    from fleetwake.kube import config
    from fleetwake.kube.client import ApiClient
    from fleetwake.views.fleet import note_of, read_truth, stale_since

    try:
        async with ApiClient(config.load(connection.settings.kubeconfig), service="describe") as client:
            truth = await read_truth(client)
    except FleetwakeError as error:
        return [f"whether this is current is not known: {error}"]
    now = datetime.now(UTC)
    return note_of(stale_since(held, truth, now), now)
