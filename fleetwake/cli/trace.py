"""``fleetwake trace``: what a change set off, run by run, from the results topic alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetwake.cli.looking import Namespace, StateDir, looking, runs_of

FAILED = 1


def trace(
    names: Annotated[list[str], typer.Argument(metavar="KIND/NAME", help="The object, named as for kubectl.", show_default=False)],
    namespace: Namespace = "default",
    intent: Annotated[int, typer.Option("--intent", min=1, help="Which of the object's intents, counted from the last: 1 is the last, 2 the one before.")] = 1,
    steps: Annotated[bool, typer.Option("--steps/--no-steps", help="Show each step of each run.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    state: StateDir = None,
) -> None:
    """Show the waterfall of the last intent that touched an object: who did what, why, and how long it took."""
    with looking("trace"):
        _show(names, namespace, (intent, steps, as_json), state)


def _show(names: list[str], namespace: str, options: tuple[int, bool, bool], state: Path | None) -> None:
    import orjson

    from fleetwake.views.connection import ViewError
    from fleetwake.views.naming import object_named, short
    from fleetwake.views.runs import intents_of
    from fleetwake.views.terminal import console
    from fleetwake.views.waterfall import as_json as plain
    from fleetwake.views.waterfall import waterfall

    number, steps, as_json = options
    key = object_named(names, namespace)
    found = intents_of(runs_of(state), key)
    if not found:
        raise ViewError(
            f"no run has touched {short(str(key))} in namespace {namespace}: is the name right (`kubectl get {key.kind.lower()} -A`), "
            "and does a worker run (`fleetwake dev status`)?"
        )
    if number > len(found):
        raise ViewError(f"{short(str(key))} was touched by {len(found)} intents: --intent goes from 1 (the last) to {len(found)}")
    chosen = found[-number]
    if as_json:
        typer.echo(orjson.dumps({**plain(chosen), "intents": len(found)}, option=orjson.OPT_INDENT_2).decode())
        return
    out = console()
    out.print(waterfall(chosen, steps=steps))
    if number == 1 and len(found) > 1:
        out.print(f"\n[dim]{len(found) - 1} earlier intents touched it: --intent 2 shows the one before[/]")
