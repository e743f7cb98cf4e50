"""``fleetwake audit``: what changed on an object, when, why, and what caused it, from the results topic alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from fleetwake.cli import remediations
from fleetwake.cli.looking import Namespace, StateDir, looking, runs_of

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def audit(
    names: Annotated[list[str] | None, typer.Argument(metavar="KIND/NAME", help="The object, named as for kubectl.", show_default=False)] = None,
    namespace: Namespace = "default",
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="How far back: 90s, 30m, 12h, 7d; all that is kept by default.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    remediated: Annotated[bool, typer.Option("--remediations", help="Show the Machines that were found unhealthy, and what came of it.")] = False,
    state: StateDir = None,
) -> None:
    """Show what changed on an object, when, why, and what caused it."""
    with looking("audit"):
        if remediated:
            remediations.show(names or [], namespace, duration(since), as_json, state)
        elif names:
            _show(names, namespace, duration(since), as_json, state)
        else:
            raise typer.BadParameter("name an object, for example machine/m1", param_hint="KIND/NAME")


def duration(text: str) -> timedelta | None:
    """Read a duration such as ``90s`` or ``1h30m``; None for an empty text.

    Raises:
        ViewError: it is none.
    """
    from fleetwake.views.connection import ViewError

    if not text:
        return None
    if not re.fullmatch(r"(\d+[smhd])+", text):
        raise ViewError(f"--since {text!r} is no duration: write 90s, 30m, 12h or 7d")
    return sum((timedelta(**{UNITS[unit]: int(count)}) for count, unit in re.findall(r"(\d+)([smhd])", text)), timedelta())


def _show(names: list[str], namespace: str, since: timedelta | None, as_json: bool, state: Path | None) -> None:
    import orjson

    from fleetwake.views.connection import ViewError
    from fleetwake.views.history import as_json as plain
    from fleetwake.views.history import history, render
    from fleetwake.views.naming import object_named, short
    from fleetwake.views.terminal import console

    key = object_named(names, namespace)
    begin = datetime.now(UTC) - since if since is not None else None
    entries = history(runs_of(state), key, begin)
    if not entries:
        raise ViewError(
            f"nothing was written to {short(str(key))} in namespace {namespace}{' in that time' if since else ''}: "
            f"is the name right (`kubectl get {key.kind.lower()} -A`)? Changes by others are in the API server's own audit log"
        )
    if as_json:
        for entry in entries:
            typer.echo(orjson.dumps(plain(entry)).decode())
        return
    out = console()
    out.print(f"[bold]{short(str(key))}[/] in {namespace}: {len(entries)} requests of ours\n")
    out.print(render(entries), soft_wrap=True)
