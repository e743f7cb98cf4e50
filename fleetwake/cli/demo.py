"""``fleetwake demo``: everything on this machine, one cluster from a plain manifest to Available, and what can be seen of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console

from fleetwake.errors import FleetwakeError

if TYPE_CHECKING:
    from fleetwake.cli.demonstration import Outcome
    from fleetwake.rig import Rig

FAILED, INTERRUPTED = 1, 130
WORKERS_MIN = 2
EXAMPLE = Path(__file__).parents[2] / "examples" / "cluster.yaml"


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for."""

    once: bool
    as_json: bool
    workers: int
    example: Path
    limit_seconds: float
    state: Path | None


@dataclass(slots=True)
class Report:
    """What the last line says."""

    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    def line(self) -> str:
        """One JSON object."""
        ok = bool(self.figures.get("complete")) and not self.error
        return orjson.dumps({"ok": ok, **self.figures, **({"error": self.error} if self.error else {})}).decode()


def demo(
    once: Annotated[bool, typer.Option("--once", help="Tear everything down at the end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object, as the last line; all else goes to standard error.")] = False,
    workers: Annotated[int, typer.Option(min=WORKERS_MIN, help="Reconciler workers.")] = WORKERS_MIN,
    example: Annotated[Path, typer.Option(help="The manifest to apply.", exists=True, dir_okay=False)] = EXAMPLE,
    limit_seconds: Annotated[float, typer.Option("--timeout", min=1, help="How long the cluster may take to be Available.")] = 120.0,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="State folder of the rig [default: this checkout's; with --once a temporary one]."),
    ] = None,
) -> None:
    """Start everything on this machine, apply a cluster, and watch it become Available."""
    from fleetwake.views.terminal import console

    out = console(sys.stderr) if as_json else console()
    report = Report()
    code = _run(Wish(once, as_json, workers, example, limit_seconds, state), out, report)
    if as_json:
        print(report.line(), flush=True)
    raise typer.Exit(code)


def _run(wish: Wish, out: Console, report: Report) -> int:
    from fleetwake.rig import RigError

    code = FAILED
    try:
        with _folder(wish) as folder:
            code = _with_rig(folder, wish, out, report)
    except (FleetwakeError, RigError, OSError) as error:
        report.error = str(error)
    except KeyboardInterrupt:
        report.error, code = "interrupted", INTERRUPTED
    if report.error:
        out.print(f"fleetwake demo: {report.error}", style="red", markup=False, soft_wrap=True)
    return code


@contextlib.contextmanager
def _folder(wish: Wish) -> Iterator[Path | None]:
    """The rig's folder: the one asked for, else this checkout's; a run that tears down has one of its own, kept only when it failed."""
    if wish.state is not None or not wish.once:
        yield wish.state
        return
    folder = Path(tempfile.mkdtemp(prefix="fleetwake-demo-"))
    try:
        yield folder
    except BaseException:
        print(f"the logs are in {folder}/logs", file=sys.stderr)
        raise
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _with_rig(folder: Path | None, wish: Wish, out: Console, report: Report) -> int:
    from fleetwake.rig import Rig
    from fleetwake.tracing.receiver import Receiver

    with Receiver() as receiver:
        # processes of a rig inherit the environment of whoever starts them
        os.environ["FLEETWAKE_OTLP_ENDPOINT"] = receiver.endpoint
        out.print("starting Kafka, a Kubernetes API server, Redis and fleetwake's services …", style="dim")
        rig = Rig.up(folder, workers=wish.workers, bound_to=os.getpid() if wish.once else None)
        try:
            outcome = _demonstrate(rig, wish, out, receiver)
            report.figures = outcome.figures
            report.error = outcome.error
            if outcome.error:
                raise DemoError(outcome.error)
        except DemoError:
            if wish.once:
                raise
        finally:
            if wish.once:
                out.print("stopping everything …", style="dim")
                rig.down()
        if not wish.once:
            _farewell(rig, wish, out)
    return FAILED if report.error else 0


def _demonstrate(rig: Rig, wish: Wish, out: Console, receiver: Any) -> Outcome:
    from fleetwake.cli.demonstration import Demonstration

    return asyncio.run(Demonstration(rig, out, receiver, wish.example, wish.limit_seconds).run())


def _farewell(rig: Rig, wish: Wish, out: Console) -> None:
    from fleetwake.cli.demonstration import clusters_of

    endpoints = rig.endpoints()
    cluster = clusters_of(wish.example)[0].name
    option = f" --state {wish.state}" if wish.state is not None else ""
    lines = [
        "",
        "[bold]everything is still running; try[/]",
        f"  export KUBECONFIG={endpoints.kubeconfig} PATH={Path(endpoints.kubectl).parent}:$PATH",
        "  kubectl get clusters,kubeadmcontrolplanes,machinedeployments,machines",
        f"  kubectl get secret {cluster}-kubeconfig -o jsonpath='{{.data.value}}' | base64 -d > /tmp/{cluster}.kubeconfig",
        f"  kubectl --kubeconfig /tmp/{cluster}.kubeconfig get nodes",
        f"  kubectl scale machinedeployment/{cluster}-workers --replicas 10",
        f"  fleetwake describe cluster {cluster} --show-conditions cluster{option}",
        f"  fleetwake describe --fleet --watch{option}",
        f"  fleetwake trace cluster/{cluster}{option}",
        f"  fleetwake audit cluster/{cluster}{option}",
        f"  kubectl delete cluster {cluster}",
        f"[bold]and stop it all with[/]  fleetwake dev down{option}",
    ]
    out.print("\n".join(lines), soft_wrap=True)


class DemoError(FleetwakeError):
    """The demonstration failed; the message says at what."""
