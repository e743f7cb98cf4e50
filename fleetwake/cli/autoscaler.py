"""``fleetwake autoscaler``: what a cluster-autoscaler needs to speak with the bridge."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Let a cluster-autoscaler scale the node groups of its cluster through the bridge.")
FAILED = 1
PRIVATE, PUBLIC = 0o600, 0o644


@app.callback()
def _group() -> None:
    """Keep ``certificate`` a command of its own."""


@app.command()
def certificate(
    cluster: Annotated[str, typer.Argument(help="The workload cluster, <namespace>/<name>; nothing of another can be seen with the certificate.")],
    out: Annotated[Path, typer.Option(help="Folder for tls.crt, tls.key, ca.crt and cloud-config.yaml.")],
    address: Annotated[str, typer.Option(help="host:port by which the cluster-autoscaler reaches the bridge.")] = "",
    days: Annotated[int, typer.Option(min=1, max=3650, help="How long the certificate holds; never longer than the CA.")] = 90,
) -> None:
    """Issue a client certificate of the bridge's own CA, with the file that cluster-autoscaler's --cloud-config names."""
    from datetime import UTC, datetime, timedelta

    from fleetwake.errors import FleetwakeError
    from fleetwake.kube import config
    from fleetwake.kube.authority import Authority, read
    from fleetwake.kube.client import ApiClient, raise_for, resource_path
    from fleetwake.settings import Settings
    from schemas.keys import ClusterKey
    from services.autoscaler_bridge.identities import issue
    from services.autoscaler_bridge.listener import place_of

    key = ClusterKey.parse(cluster)
    if not all(key) or "/" in key.name:
        raise typer.BadParameter("give it as <namespace>/<name>")

    async def authority(settings: Settings) -> Authority:
        async with ApiClient(config.load(settings.kubeconfig), service="autoscaler") as client:
            answer = await client.request("GET", resource_path("v1", "secrets", settings.system_namespace, settings.autoscaler_service))
            raise_for(answer, f"get Secret {settings.system_namespace}/{settings.autoscaler_service}")
            return read(answer.json())

    try:
        settings = Settings.from_env()
        found = asyncio.run(authority(settings))
        pair = issue(found, key, now=datetime.now(UTC), validity=timedelta(days=days))
    except FleetwakeError as error:
        typer.echo(f"fleetwake autoscaler: {error}", err=True)
        raise typer.Exit(FAILED) from None
    files = {"tls.crt": (pair.cert_pem, PUBLIC), "tls.key": (pair.key_pem, PRIVATE), "ca.crt": (found.bundle, PUBLIC)}
    where = address or f"{place_of(settings).host}:{settings.autoscaler_port}"
    text = f"address: {where}\nkey: {out}/tls.key\ncert: {out}/tls.crt\ncacert: {out}/ca.crt\ngrpc_timeout: 10s\n"
    files["cloud-config.yaml"] = (text.encode(), PUBLIC)
    out.mkdir(parents=True, exist_ok=True)
    for name, (content, mode) in files.items():
        path = out / name
        # never readable by others, not even for a moment
        path.touch(mode=mode)
        path.chmod(mode)
        path.write_bytes(content)
    typer.echo(f"{out}: the certificate of {key}'s cluster-autoscaler, for {days} days")
