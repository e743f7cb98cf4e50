"""``fleetwake``: every command of the project, one module each. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetwake.cli import audit, bench, demo, describe, dev, readmodel, schemas, topics, trace
from fleetwake.cli.logs import configure

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    help="Cluster API's job as an event-driven reconciliation service on a message bus.",
)
app.add_typer(dev.app, name="dev")
app.add_typer(bench.app, name="bench")
app.add_typer(schemas.app, name="schemas")
app.add_typer(topics.app, name="topics")
app.add_typer(readmodel.app, name="readmodel")
app.command()(demo.demo)
app.command()(describe.describe)
app.command()(trace.trace)
app.command()(audit.audit)

Namespace = Annotated[str | None, typer.Option("--namespace", help="Only objects of this namespace; empty: all.")]
WatchFilter = Annotated[str | None, typer.Option("--watch-filter", help="Only objects whose label cluster.x-k8s.io/watch-filter has this value.")]


@app.command()
def watch(namespace: Namespace = None, watch_filter: WatchFilter = None) -> None:
    """Stream Kubernetes object events into Kafka."""
    from fleetwake.settings import Settings
    from services.watcher.app import main

    settings = Settings.from_env(namespace=namespace, watch_filter=watch_filter)
    configure(settings, "watcher")
    raise typer.Exit(main(settings))


@app.command()
def reconcile() -> None:
    """Run one worker of the reconcilers: Clusters, Machines, MachineSets, MachineDeployments, kubeadm's kinds."""
    from fleetwake.settings import Settings
    from services.reconcilers.app import main

    settings = Settings.from_env()
    configure(settings, "reconcilers")
    raise typer.Exit(main(settings))


@app.command()
def remediate() -> None:
    """Run one worker of remediation: MachineHealthChecks."""
    from fleetwake.settings import Settings
    from services.remediation.app import main

    settings = Settings.from_env()
    configure(settings, "remediation")
    raise typer.Exit(main(settings))


@app.command()
def dev_infrastructure() -> None:
    """Run the development infrastructure provider: DevClusters and DevMachines with emulated workload clusters."""
    from fleetwake.settings import Settings
    from services.dev_infrastructure.app import main

    settings = Settings.from_env()
    configure(settings, "dev_infrastructure")
    raise typer.Exit(main(settings))


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import version as of

    typer.echo(of("fleetwake"))
