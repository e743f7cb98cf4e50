"""``fleetwake doctor``: whether an installation works, and what does not."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.cli.looking import FAILED, StateDir, looking

if TYPE_CHECKING:
    from fleetwake.views.doctor import Report


def doctor(
    namespace: Annotated[str, typer.Option("-n", "--namespace", help="Look at the objects of this namespace only; empty: at all.")] = "",
    after: Annotated[float, typer.Option("--after", min=0, metavar="MINUTES", help="How long an object may take before it is called stuck.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    state: StateDir = None,
) -> None:
    """Look at everything an installation is made of: topics, workers and their lag, the watcher's Lease, the API's kinds, Redis, and objects that are stuck.

    Exits 0 when all of it works, 1 when something does not; each finding names its remedy.
    """
    import orjson

    from fleetwake.views.terminal import console

    with looking("doctor"):
        report = asyncio.run(_examined(namespace, timedelta(minutes=after), state))
    if as_json:
        typer.echo(orjson.dumps(report.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        console().print(report.render())
    if report.findings or report.stuck:
        raise typer.Exit(FAILED)


async def _examined(namespace: str, after: timedelta, state: Path | None) -> Report:
    from fleetwake.views.connection import connect
    from fleetwake.views.doctor import Report, examine

    report = Report(datetime.now(UTC), after)
    await examine(connect("kubeconfig", "kafka_bootstrap", "redis_url", state_dir=state), report, namespace, state)
    return report
