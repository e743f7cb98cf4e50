"""``fleetwake dev``: the rig of this checkout."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from fleetwake.rig import Progress, Rig, RigError, RigStatus
from fleetwake.rig.security import ADMIN
from fleetwake.rig.servers import programs
from fleetwake.rig.services import client_env
from fleetwake.rig.tools import tool, tool_names

app = typer.Typer(no_args_is_help=True, help="Run Kafka, a Kubernetes API server, Redis and fleetwake's services on this machine.")

StateDir = Annotated[Path | None, typer.Option("--state", metavar="DIR", help="State folder [default: one per checkout, in the cache folder].")]
FAILED = 1


@app.command()
def up(
    brokers: Annotated[int, typer.Option(help="Kafka brokers: 1 or 3.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Reconciler workers.")] = 2,
    only_servers: Annotated[bool, typer.Option("--only-servers", help="Start Kafka, the API server and Redis only.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Start again at once whatever dies.")] = False,
    secure: Annotated[bool, typer.Option("--secure", help="Kafka and Redis with TLS, users and ACLs; nobody is let in unknown.")] = False,
    serve: Annotated[str, typer.Option("--serve", metavar="VERSIONS", help="Older API versions to serve, as in v1beta1,v1alpha4.")] = "",
    state: StateDir = None,
) -> None:
    """Start a rig and wait until it is ready. The first time it builds the API server, which takes minutes."""
    try:
        rig = Rig.up(state, brokers=brokers, workers=workers, only_servers=only_servers, restart=restart, secure=secure, served_versions=serve)
    except RigError as error:
        _fail(error)
    _show(rig.status())


@app.command()
def down(state: StateDir = None) -> None:
    """Stop everything that `up` started, also after a crash. The logs stay until the next `up`."""
    try:
        Rig(state).down()
    except RigError as error:
        _fail(error)


@app.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    state: StateDir = None,
) -> None:
    """Show where things are and whether they are ready; exits with 1 when there is no rig."""
    try:
        found = Rig(state).status()
    except RigError as error:
        _fail(error)
    if found is None:
        _fail(RigError(f"no rig in {Rig(state).state_dir}: start one with `fleetwake dev up`"))
    if as_json:
        print(found.model_dump_json(indent=2))
    else:
        _show(found)


@app.command()
def env(
    identity: Annotated[str, typer.Argument(help="Whom to be toward Kafka and Redis: a service, views, readmodel, topics, audit, lag, admin.")] = ADMIN.service,
    state: StateDir = None,
) -> None:
    """Print the variables that lead any fleetwake command to this rig, for `eval "$(fleetwake dev env)"`."""
    try:
        endpoints = Rig(state).endpoints()
    except RigError as error:
        _fail(error)
    if endpoints.clients and identity not in endpoints.clients:
        _fail(RigError(f"there is no identity {identity!r}; there are {', '.join(endpoints.clients)}"))
    for name, value in client_env(endpoints, identity).items():
        print(f"export {name}={shlex.quote(value)}")


@app.command()
def build() -> None:
    """Fetch and build everything a rig needs, without starting it."""
    try:
        programs(Progress())
    except RigError as error:
        _fail(error)


@app.command()
def tools(names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Which [default: all].", show_default=False)] = None) -> None:
    """Build the programs that tests and generators need beside the servers, and print their paths."""
    try:
        for name in names or tool_names():
            print(f"{name}\t{tool(name, Progress())}")
    except RigError as error:
        _fail(error)


@app.command()
def manifests(check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file is not what the chart says.")] = False) -> None:
    """Write deploy/k8s/base, deploy/k8s/components and docs/security/rbac.md from the chart, and the chart's webhook configurations from the rules."""
    from fleetwake.rig.access import MANIFESTS
    from fleetwake.rig.access_page import PAGE, rendered_page
    from fleetwake.rig.kustomizations import generated_files, rendered_files
    from services.admission.page import CHART_FILE, chart_text

    webhooks = MANIFESTS / CHART_FILE
    if not webhooks.is_file() or webhooks.read_text() != chart_text():
        if check:
            _fail(RigError(f"{webhooks} is not what the rules say: run `make deploy`"))
        webhooks.write_text(chart_text())
    try:
        wanted = rendered_files()
    except RigError as error:
        _fail(error)
    present = generated_files(MANIFESTS)
    changed = sorted(name for name, text in wanted.items() if present.get(name) != text)
    left_over = sorted(set(present) - set(wanted))
    if check and (changed or left_over):
        _fail(RigError("\n".join(f"{MANIFESTS / name} is not what the chart says: run `make deploy`" for name in [*changed, *left_over])))
    for name in changed:
        (MANIFESTS / name).parent.mkdir(parents=True, exist_ok=True)
        (MANIFESTS / name).write_text(wanted[name])
    for name in left_over:
        (MANIFESTS / name).unlink()
    page = rendered_page()
    if check and (not PAGE.is_file() or PAGE.read_text() != page):
        _fail(RigError(f"{PAGE} is not what the roles say: run `make deploy`"))
    if not check:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page)
    print(f"{len(wanted)} generated files: {len(changed)} written, {len(left_over)} removed")


def _show(found: RigStatus | None) -> None:
    if found is None:
        return
    console = Console(highlight=False, soft_wrap=True)
    table = Table("process", "pid", "ready", "MB", box=None, pad_edge=False)
    for process in found.processes:
        ready = "[green]yes[/]" if process.ready else "[red]no[/]"
        table.add_row(process.name, str(process.pid or "-"), ready, f"{process.rss_mb or 0:.0f}")
    console.print(table)
    console.print(f"\nexport KUBECONFIG={found.kubeconfig}\nkubectl    {found.kubectl}\nKafka      {found.bootstrap_servers}\nRedis      {found.redis_url}")
    if found.clients:
        console.print('clients    eval "$(fleetwake dev env IDENTITY)", where IDENTITY is ' + ", ".join(found.clients))
    console.print(f"logs       {found.state_dir}/logs")


def _fail(error: RigError) -> NoReturn:
    Console(stderr=True, highlight=False, soft_wrap=True).print(str(error), style="red", markup=False)
    raise typer.Exit(FAILED)


if __name__ == "__main__":
    app()
