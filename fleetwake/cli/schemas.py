"""``fleetwake schemas``: the CustomResourceDefinitions, written to files and applied to API servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fleetwake.kube.client import ApiClient

app = typer.Typer(no_args_is_help=True, help="Generate the CustomResourceDefinitions and apply them.")

FIELD_MANAGER = "fleetwake"
API_VERSION = "apiextensions.k8s.io/v1"
PLURAL = "customresourcedefinitions"
ESTABLISH_LIMIT = timedelta(seconds=60)
SERVED_RETRY_SECONDS = 0.1
FAILED = 1
TOPICS_PAGE = "../../docs/topics.md"
"""Beside the packages in a checkout only; an installation has no docs."""


@app.command()
def generate(check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file is not what the models say.")] = False) -> None:
    """Write what is made from the models: schemas/generated (CRDs, JSON Schemas of the records, the AsyncAPI document) and docs/topics.md."""
    directory = generated_directory()
    wanted = rendered_files() | ({TOPICS_PAGE: topics_page()} if (directory / TOPICS_PAGE).parent.is_dir() else {})
    found = [*directory.glob("crds/*.yaml"), *directory.glob("json/*.json"), *directory.glob("asyncapi.json")]
    present = {str(path.relative_to(directory)): path.read_text() for path in found}
    if TOPICS_PAGE in wanted and (directory / TOPICS_PAGE).exists():
        present[TOPICS_PAGE] = (directory / TOPICS_PAGE).read_text()
    changed = sorted(name for name, text in wanted.items() if present.get(name) != text)
    left_over = sorted(set(present) - set(wanted))
    if check:
        for name in [*changed, *left_over]:
            typer.echo(f"{directory / name} is not what the models say: run `fleetwake schemas generate`", err=True)
        raise typer.Exit(FAILED if changed or left_over else 0)
    for name in changed:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(wanted[name])
    for name in left_over:
        (directory / name).unlink()
    typer.echo(f"{len(wanted)} generated files: {len(changed)} written, {len(left_over)} removed")


@app.command()
def apply(
    kubeconfig: Annotated[str, typer.Option(envvar="FLEETWAKE_KUBECONFIG", help="The kubeconfig of the API server; KUBECONFIG by default.")] = "",
    timeout_seconds: Annotated[float, typer.Option("--timeout", min=1, help="How long to wait until the definitions are established.")] = (
        ESTABLISH_LIMIT.total_seconds()
    ),
) -> None:
    """Apply all CustomResourceDefinitions and wait until the API server serves them."""
    from fleetwake import errors

    try:
        names = asyncio.run(_apply_with(kubeconfig, timedelta(seconds=timeout_seconds)))
    except errors.FleetwakeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(f"{len(names)} CustomResourceDefinitions established")


def topics_page() -> str:
    """The text of docs/topics.md."""
    from schemas import topics_page

    return topics_page.rendered()


def generated_directory() -> Path:
    """Where the generated files of this checkout are."""
    import schemas

    return Path(schemas.__path__[0]) / "generated"


def rendered_files() -> dict[str, str]:
    """The text of every generated file, by file name."""
    from schemas import crd, documents
    from schemas.api.registry import KINDS

    return {f"crds/{crd.file_name(model)}": crd.render(model) for model in KINDS} | documents.rendered()


def definitions() -> list[dict[str, Any]]:
    """Every CustomResourceDefinition, from the models."""
    from schemas import crd
    from schemas.api.registry import KINDS

    return [crd.definition(model) for model in KINDS]


async def apply_definitions(client: ApiClient, definitions: Iterable[Mapping[str, Any]], *, limit: timedelta = ESTABLISH_LIMIT) -> list[str]:
    """Apply CustomResourceDefinitions server-side, all at once, and return their names once the API server serves them.

    Raises:
        FleetwakeError: the API server refused one, or could not be reached.
        UnavailableError: one was not established within ``limit``; the message names it and its conditions.
    """
    from fleetwake import errors

    wanted = list(definitions)
    applied = await asyncio.gather(*(_apply_one(client, definition) for definition in wanted))
    waiting = {name: conditions for name, conditions in applied if not _established(conditions)}
    try:
        async with asyncio.timeout(limit.total_seconds()):
            while waiting:
                await _await_established(client, waiting)
            await asyncio.gather(*(_await_served(client, definition) for definition in wanted))
    except TimeoutError as error:
        states = "; ".join(f"{name}: {_summary(conditions)}" for name, conditions in sorted(waiting.items())) or "all established, not all served"
        raise errors.UnavailableError(f"not ready within {limit.total_seconds():g} s: {states}", operation=f"apply {PLURAL}") from error
    return sorted(name for name, _ in applied)


async def _apply_with(kubeconfig: str, limit: timedelta) -> list[str]:
    from fleetwake.kube import config
    from fleetwake.kube.client import ApiClient

    async with ApiClient(config.load(kubeconfig), service="schemas") as client:
        return await apply_definitions(client, definitions(), limit=limit)


async def _apply_one(client: ApiClient, definition: Mapping[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Apply one definition; the answer is its name and conditions."""
    import orjson

    from fleetwake.kube.client import APPLY_PATCH, raise_for, resource_path

    name = definition["metadata"]["name"]
    response = await client.request(
        "PATCH",
        resource_path(API_VERSION, PLURAL, name=name),
        query={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"},
        body=orjson.dumps(definition),
        content_type=APPLY_PATCH,
        timeout_seconds=30.0,
    )
    raise_for(response, f"apply CustomResourceDefinition {name}")
    return name, response.json().get("status", {}).get("conditions") or []


async def _await_established(client: ApiClient, waiting: dict[str, list[dict[str, Any]]]) -> None:
    """Remove from ``waiting`` what gets established, until nothing is left or the API server ends the watch."""
    import orjson

    from fleetwake.kube.client import resource_path

    # without a resourceVersion a watch begins with the present state of every object: nothing can be missed in between
    async with client.open(resource_path(API_VERSION, PLURAL), query={"watch": "true", "labelSelector": "clusterctl.cluster.x-k8s.io"}) as stream:
        async for line in stream.content:
            found = orjson.loads(line)["object"]
            name = found.get("metadata", {}).get("name", "")
            if name in waiting:
                waiting[name] = found.get("status", {}).get("conditions") or []
                if _established(waiting[name]):
                    del waiting[name]
            if not waiting:
                return


async def _await_served(client: ApiClient, definition: Mapping[str, Any]) -> None:
    """Return when requests for the kind are answered.

    Established is told slightly earlier: the handler follows by its own watch (404 until then), and after a delete and create it answers
    429 while it sets up its storage anew. There is nothing to watch for that.
    """
    from fleetwake.kube.client import resource_path

    spec = definition["spec"]
    path = resource_path(f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["plural"])
    while (await client.request("GET", path, query={"limit": "1"})).status in (404, 429, 503):
        await asyncio.sleep(SERVED_RETRY_SECONDS)


def _established(conditions: Iterable[Mapping[str, Any]]) -> bool:
    held = {condition["type"] for condition in conditions if condition["status"] == "True"}
    return {"Established", "NamesAccepted"} <= held


def _summary(conditions: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{c['type']}={c['status']} ({c.get('message', '')})" for c in conditions) or "no conditions yet"
