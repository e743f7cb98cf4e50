"""``fleetwake bench``: figures of the real system on a rig of its own. The benchmarks are in ``bench/`` of a checkout, not in the wheel."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fleetwake.errors import FleetwakeError
from fleetwake.rig import RigError

T = TypeVar("T")
app = typer.Typer(no_args_is_help=True, help="Measure this software on a rig of its own (only from a checkout).")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Reconcilers = Annotated[int, typer.Option(min=1, help="Reconciler workers.")]
Workers = Annotated[int, typer.Option(min=0, help="Worker Machines per cluster.")]
ControlPlanes = Annotated[int, typer.Option(min=1, help="Control plane Machines per cluster.")]
State = Annotated[Path | None, typer.Option("--state", metavar="DIR", help="Use the rig that runs in this folder, and leave it [default: one of its own].")]


@app.callback()
def bench() -> None:
    """Measure this software on a rig of its own (only from a checkout)."""


@app.command()
def create(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters applied at once.")] = 1,
    workers: Workers = 3,
    reconcilers: Reconcilers = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Rounds, one after the other on one rig.")] = 1,
    warm: Annotated[int, typer.Option(min=0, help="Clusters created and deleted first, not measured.")] = 0,
    deletion: Annotated[bool, typer.Option("--delete", help="Delete the clusters of each round, and measure it.")] = False,
    limit: Annotated[float, typer.Option(help="Seconds a round may take.")] = 300.0,
    state: State = None,
    as_json: Json = False,
) -> None:
    """From the first request to Available: time, CPU by process, requests, memory."""
    from bench.create import Order, measure, render
    from bench.create import as_json as plain

    report = _run(measure(Order(clusters, workers, reconcilers, repeat, deletion, warm, limit, state)))
    _show(plain(report), render(report), as_json)
    if any(made.late for made in (*report.created, *report.deleted)):
        raise typer.Exit(1)


@app.command()
def rollout(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters upgraded at once.")] = 20,
    control_planes: ControlPlanes = 3,
    reconcilers: Reconcilers = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Upgrades, one after the other.")] = 1,
    limit: Annotated[float, typer.Option(help="Seconds an upgrade may take.")] = 900.0,
    state: State = None,
    as_json: Json = False,
) -> None:
    """A new version for control planes until all their Machines are replaced: time, CPU by process, requests."""
    from bench.rollout import Order, measure, render
    from bench.rollout import as_json as plain

    report = _run(measure(Order(clusters, control_planes, reconcilers, repeat, limit, state)))
    _show(plain(report), render(report), as_json)
    if any(made.late for made in report.rounds):
        raise typer.Exit(1)


@app.command("md-rollout")
def md_rollout(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters rolled at once.")] = 20,
    replicas: Annotated[int, typer.Option(min=1, help="Worker Machines per cluster.")] = 10,
    max_surge: Annotated[int, typer.Option(min=1, help="maxSurge of their MachineDeployment.")] = 3,
    reconcilers: Reconcilers = 1,
    repeat: Annotated[int, typer.Option(min=1, help="Rollouts, one after the other.")] = 1,
    limit: Annotated[float, typer.Option(help="Seconds a rollout may take.")] = 900.0,
    state: State = None,
    as_json: Json = False,
) -> None:
    """A new version for workers until all are replaced: time, CPU by process, writes per Machine against the least there can be."""
    from bench.md_rollout import Order, measure, render
    from bench.md_rollout import as_json as plain

    report = _run(measure(Order(clusters, replicas, max_surge, reconcilers, repeat, limit, state)))
    _show(plain(report), render(report), as_json)
    if any(made.late for made in report.rounds):
        raise typer.Exit(1)


@app.command()
def memory(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters applied at once.")] = 100,
    workers: Workers = 3,
    reconcilers: Reconcilers = 1,
    state: State = None,
    as_json: Json = False,
) -> None:
    """What every process grows by per 100 clusters."""
    from bench.create import Order, measure, memory_per_100

    found = memory_per_100(_run(measure(Order(clusters, workers, reconcilers, limit_s=900.0, state=state))))
    _show(found, "\n".join(f"{name}: {grown:.0f} MB per 100 clusters" for name, grown in found.items()), as_json)


@app.command()
def steady(
    machines: Annotated[int, typer.Option(min=1, help="Machines in all.")] = 1000,
    clusters: Annotated[int, typer.Option(min=1, help="Clusters they are spread over.")] = 20,
    rate: Annotated[float, typer.Option(help="Changes of a Machine per second.")] = 50.0,
    seconds: Annotated[float, typer.Option(help="How long.")] = 30.0,
    reconcilers: Reconcilers = 1,
    beside: Annotated[str, typer.Option(help="`bad` input beside it: impossible Clusters, garbage, an object of 1.4 MB; or as much `sound`.")] = "",
    state: State = None,
    as_json: Json = False,
) -> None:
    """From a change to the start of its reconcile, hop by hop, over a settled fleet."""
    if beside not in ("", "bad", "sound"):
        raise typer.BadParameter(f"{beside!r} is neither bad nor sound", param_hint="--beside")
    from bench.steady import Order, measure, render
    from bench.steady import as_json as plain

    report = _run(measure(Order(machines, clusters, rate, seconds, reconcilers, state, beside)))
    _show(plain(report), render(report), as_json)


@app.command()
def settled(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters.")] = 20,
    control_planes: ControlPlanes = 1,
    workers: Workers = 3,
    seconds: Annotated[float, typer.Option(help="How long to look on.")] = 300.0,
    reconcilers: Reconcilers = 1,
    state: State = None,
    as_json: Json = False,
) -> None:
    """What a fleet in which nothing changes asks of the API server, and what it costs."""
    from bench.settled import Order, measure, render
    from bench.settled import as_json as plain

    report = _run(measure(Order(clusters, control_planes, workers, seconds, reconcilers, state)))
    _show(plain(report), render(report), as_json)
    if report.requests.total or report.drift:
        raise typer.Exit(1)


@app.command("node-flaps")
def node_flaps(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters.")] = 100,
    workers: Workers = 1,
    flaps: Annotated[float, typer.Option(help="Nodes a second that turn NotReady, and come back two seconds later.")] = 1.0,
    seconds: Annotated[float, typer.Option(help="How long.")] = 120.0,
    reconcilers: Reconcilers = 1,
    state: State = None,
    as_json: Json = False,
) -> None:
    """From a Node's turning NotReady to its Machine's condition: time, CPU by process, memory, writes per flap."""
    from bench.node_flaps import Order, measure, render
    from bench.node_flaps import as_json as plain

    report = _run(measure(Order(clusters, workers, flaps, seconds, reconcilers, state)))
    _show(plain(report), render(report), as_json)
    if report.unseen:
        raise typer.Exit(1)


@app.command()
def failover(
    repeat: Annotated[int, typer.Option(min=1, help="Kills of each sort.")] = 10,
    clusters: Annotated[int, typer.Option(min=1, help="Clusters of 1+3.")] = 12,
    rate: Annotated[float, typer.Option(help="Changes of a Machine per second, over all clusters.")] = 40.0,
    state: State = None,
    as_json: Json = False,
) -> None:
    """Kill one of two workers: how long its keys wait, restarted at once and not restarted, and how long the other's."""
    from bench.failover import Order, measure, render
    from bench.failover import as_json as plain

    report = _run(measure(Order(repeat, clusters, rate, state)))
    _show(plain(report), render(report), as_json)


@app.command()
def replay(
    objects: Annotated[int, typer.Option(min=1, help="Objects in the partition.")] = 10_000,
    repeat: Annotated[int, typer.Option(min=1, help="Replays, each by a new process.")] = 5,
    state: State = None,
    as_json: Json = False,
) -> None:
    """The time to rebuild the cache of one partition."""
    from bench.replay import Order, measure, render
    from bench.replay import as_json as plain

    report = _run(measure(Order(objects, repeat, state)))
    _show(plain(report), render(report), as_json)


@app.command()
def tracing(
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of runs, one with spans exported and one without.")] = 5,
    clusters: Annotated[int, typer.Option(min=1, help="Clusters applied at once in each run.")] = 10,
    workers: Workers = 3,
    reconcilers: Reconcilers = 1,
    state: State = None,
    as_json: Json = False,
) -> None:
    """What tracing costs: CPU and time of creating clusters, with and without."""
    from bench.tracing import Order, measure, render
    from bench.tracing import as_json as plain

    report = _run(measure(Order(pairs, clusters, workers, reconcilers, state)))
    _show(plain(report), render(report), as_json)


@app.command()
def versions(
    clusters: Annotated[int, typer.Option(min=1, help="Clusters applied at once.")] = 20,
    workers: Workers = 3,
    reconcilers: Reconcilers = 1,
    as_json: Json = False,
) -> None:
    """What serving older API versions costs that nobody uses: CPU, memory and conversions of creating clusters, with none, one and two of them."""
    from bench.versions import Order, measure, render
    from bench.versions import as_json as plain

    report = _run(measure(Order(clusters, workers, reconcilers)))
    _show(plain(report), render(report), as_json)


@app.command()
def balancers(
    types: Annotated[list[str] | None, typer.Argument(metavar="[TYPE]...", help="InProcess, HAProxy [default: both].", show_default=False)] = None,
    repeat: Annotated[int, typer.Option(min=1, help="API servers that come and die behind each.")] = 20,
    as_json: Json = False,
) -> None:
    """Load balancers of the development provider: start of an API server to traffic, kill of one to no connection lost."""
    from bench.balancers import Order, measure, render
    from bench.balancers import as_json as plain

    try:
        report = measure(Order(tuple(types or ("InProcess", "HAProxy")), repeat))
    except FleetwakeError as error:
        typer.echo(f"fleetwake bench: {error}", err=True)
        raise typer.Exit(1) from error
    _show(plain(report), render(report), as_json)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(work)
    except (FleetwakeError, RigError) as error:
        typer.echo(f"fleetwake bench: {error}", err=True)
        raise typer.Exit(1) from error


def _show(data: dict[str, Any], text: str, as_json: bool) -> None:
    import orjson

    typer.echo(orjson.dumps(data).decode() if as_json else text)
