"""``fleetwake secrets``: the Secrets that an installation makes for itself, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from fleetwake.kube.client import ApiClient

app = typer.Typer(no_args_is_help=True, help="Make the Secrets of the installation that are missing; those that exist stay as they are.")
FAILED = 1


@app.command()
def keys() -> None:
    """Make the keys of the hashes that stand for secret values in Kafka, Redis and traces, of the seals of results, and the CAs of webhooks and autoscalers."""
    from datetime import UTC, datetime

    from fleetwake.kube.authority import HANDED_OUT, Lifetimes
    from fleetwake.kube.certificates import ensure_authority
    from fleetwake.kube.redaction import REDACTION_SECRET, redaction_key
    from fleetwake.kube.sealing import SEALING_SECRET, sealing_key
    from fleetwake.settings import Settings

    async def make(client: ApiClient, namespace: str) -> str:
        await redaction_key(client, namespace, create=True)
        await sealing_key(client, namespace, create=True)
        settings = Settings.from_env()
        authorities = {settings.webhook_service: Lifetimes(), settings.autoscaler_service: HANDED_OUT}
        for authority, lifetimes in authorities.items():
            await ensure_authority(client, namespace, authority, now=datetime.now(UTC), lifetimes=lifetimes)
        return f"Secrets {', '.join((REDACTION_SECRET, SEALING_SECRET, *authorities))} of {namespace} hold the keys"

    _run(make)


@app.command()
def redis(
    host: Annotated[str, typer.Option(help="Name of the Service that clients connect to.")] = "fleetwake-redis",
    name: Annotated[str, typer.Option(help="Name of the Secret.")] = "fleetwake-redis",
) -> None:
    """Make certificates and password of a development cluster's own Redis."""
    from datetime import UTC, datetime

    from fleetwake.kube.redis_secret import create_if_absent, redis_credentials

    async def make(client: ApiClient, namespace: str) -> str:
        created = await create_if_absent(client, namespace, name, redis_credentials(host, namespace, now=datetime.now(UTC)))
        return f"Secret {namespace}/{name} {'created' if created else 'exists and stays'}"

    _run(make)


def _run(make: Callable[[ApiClient, str], Awaitable[str]]) -> None:
    """Do it with a client of the management API and say what was done; an error of ours ends the command with 1."""
    from fleetwake.errors import FleetwakeError
    from fleetwake.kube import config
    from fleetwake.kube.client import ApiClient
    from fleetwake.settings import Settings

    async def connected() -> str:
        settings = Settings.from_env()
        async with ApiClient(config.load(settings.kubeconfig), service="secrets") as client:
            return await make(client, settings.system_namespace)

    try:
        typer.echo(asyncio.run(connected()))
    except FleetwakeError as error:
        typer.echo(f"fleetwake secrets: {error}", err=True)
        raise typer.Exit(FAILED) from None
