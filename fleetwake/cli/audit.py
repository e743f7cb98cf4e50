"""``fleetwake audit``: what changed on an object, when, why, and what caused it, from the results topic; and what else can be made of that topic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fleetwake.cli import audit_export, audit_follow, audit_trail, audit_verify, audit_why, remediations
from fleetwake.cli.looking import Namespace, StateDir, looking, runs_of

SHOW = "show"


class ShowsByDefault(TyperGroup):
    """What is no command names an object: ``fleetwake audit machine/m1`` is ``fleetwake audit show machine/m1``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command's name where it was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ShowsByDefault,
    no_args_is_help=True,
    help="The audit trail. `fleetwake audit KIND/NAME` shows what changed on an object, when, why, and what caused it.",
)
app.command("why")(audit_why.why)
app.command("follow")(audit_follow.follow)
app.command("export")(audit_export.export)
app.command("verify")(audit_verify.verify)
app.command("trail")(audit_trail.trail)


@app.command(SHOW)
def audit(
    names: Annotated[list[str] | None, typer.Argument(metavar="KIND/NAME", help="The object, named as for kubectl.", show_default=False)] = None,
    namespace: Namespace = "default",
    since: Annotated[str, typer.Option("--since", metavar="DURATION", help="How far back: 90s, 30m, 12h, 7d; all that is kept by default.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    remediated: Annotated[bool, typer.Option("--remediations", help="Show the Machines that were found unhealthy, and what came of it.")] = False,
    state: StateDir = None,
) -> None:
    """Show what changed on an object, when, why, and what caused it (the command when none is named)."""
    from fleetwake.views.following import duration

    with looking("audit"):
        if remediated:
            remediations.show(names or [], namespace, duration(since), as_json, state)
        elif names:
            _show(names, namespace, duration(since), as_json, state)
        else:
            raise typer.BadParameter("name an object, for example machine/m1", param_hint="KIND/NAME")


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
