"""``fleetwake audit --remediations``: the Machines that were found unhealthy, why, and what came of it, from the results topic alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from fleetwake.cli.looking import runs_of


def show(names: list[str], namespace: str, since: timedelta | None, as_json: bool, state: Path | None) -> None:
    """Print the remediations of a namespace, or of the Machine or Cluster that is named.

    Raises:
        ViewError: what is named is neither, or Kafka is not to be found.
    """
    import orjson

    from fleetwake.views.connection import ViewError
    from fleetwake.views.naming import object_named
    from fleetwake.views.remediations import as_json as plain
    from fleetwake.views.remediations import remediations, render
    from fleetwake.views.terminal import console

    named = object_named(names, namespace) if names else None
    if named is not None and named.kind not in ("Machine", "Cluster"):
        raise ViewError(f"--remediations of a {named.kind}: name a machine or a cluster, or nothing for all of namespace {namespace}")
    begin = datetime.now(UTC) - since if since is not None else None
    found = remediations(runs_of(state), namespace, begin)
    if named is not None:
        found = [one for one in found if str(named) == one.machine or (named.kind == "Cluster" and one.cluster == f"{named.namespace}/{named.name}")]
    if as_json:
        for one in found:
            typer.echo(orjson.dumps(plain(one)).decode())
        return
    out = console()
    out.print(f"[bold]{len(found)} remediations[/] in {namespace}{f', {names[0]}' if names else ''}\n")
    out.print(render(found), soft_wrap=True)
