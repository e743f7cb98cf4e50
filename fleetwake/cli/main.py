"""``fleetwake``: every command of the project, one module each. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, NoReturn

import typer

from fleetwake.cli.commands import Commands, Source
from fleetwake.cli.looking import looking

if TYPE_CHECKING:
    from fleetwake.settings import Settings


class All(Commands):
    """Every command but those that run a service."""

    SOURCES: ClassVar[Mapping[str, Source]] = {
        "dev": Source("fleetwake.cli.dev", "app"),
        "bench": Source("fleetwake.cli.bench", "app"),
        "schemas": Source("fleetwake.cli.schemas", "app"),
        "secrets": Source("fleetwake.cli.secrets", "app"),
        "topics": Source("fleetwake.cli.topics", "app"),
        "readmodel": Source("fleetwake.cli.readmodel", "app"),
        "demo": Source("fleetwake.cli.demo", "demo"),
        "describe": Source("fleetwake.cli.describe", "describe"),
        "doctor": Source("fleetwake.cli.doctor", "doctor"),
        "lag": Source("fleetwake.cli.lag", "lag"),
        "trace": Source("fleetwake.cli.trace", "trace"),
        "audit": Source("fleetwake.cli.audit", "app"),
        "autoscaler": Source("fleetwake.cli.autoscaler", "app"),
        "settings": Source("fleetwake.cli.settings", "settings"),
    }


app = typer.Typer(
    cls=All,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Cluster API's job as an event-driven reconciliation service on a message bus.",
)

Namespace = Annotated[str | None, typer.Option("--namespace", help="Only objects of this namespace; empty: all.")]
WatchFilter = Annotated[str | None, typer.Option("--watch-filter", help="Only objects whose label cluster.x-k8s.io/watch-filter has this value.")]


def _run(command: str, service: str, main: Callable[[Settings], int], **given: str | None) -> NoReturn:
    """Run a service by its settings, those ``given`` on the command line before those of the environment; exits with its code."""
    from fleetwake.cli.logs import configure
    from fleetwake.settings import Settings

    with looking(command):
        chosen = Settings.from_env(None, **given)
        configure(chosen, service)
        raise typer.Exit(main(chosen))


@app.command()
def watch(namespace: Namespace = None, watch_filter: WatchFilter = None) -> None:
    """Stream Kubernetes object events into Kafka."""
    from services.watcher.app import main

    _run("watch", "watcher", main, namespace=namespace, watch_filter=watch_filter)


@app.command()
def reconcile() -> None:
    """Run one worker of the reconcilers: Clusters, Machines, MachineSets, MachineDeployments, MachinePools, kubeadm's kinds."""
    from services.reconcilers.app import main

    _run("reconcile", "reconcilers", main)


@app.command()
def remediate() -> None:
    """Run one worker of remediation: MachineHealthChecks."""
    from services.remediation.app import main

    _run("remediate", "remediation", main)


@app.command()
def admit() -> None:
    """Answer the API server's admission webhooks: defaults and validation of Cluster API's kinds."""
    from services.admission.app import main

    _run("admit", "admission", main)


@app.command()
def bridge() -> None:
    """Run one worker of the bridge to cluster-autoscaler: node groups, and the gRPC cloud provider that scales them."""
    from services.autoscaler_bridge.app import main

    _run("bridge", "autoscaler_bridge", main)


@app.command()
def dev_infrastructure() -> None:
    """Run the development infrastructure provider: DevClusters and DevMachines with emulated workload clusters."""
    from services.dev_infrastructure.app import main

    _run("dev-infrastructure", "dev_infrastructure", main)


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as of

    typer.echo(of("fleetwake"))
