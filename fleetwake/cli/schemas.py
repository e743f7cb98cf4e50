"""``fleetwake schemas``: the CustomResourceDefinitions, written to files and applied to API servers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from fleetwake.kube.client import ApiClient

app = typer.Typer(no_args_is_help=True, help="Generate the CustomResourceDefinitions and apply them, in the API versions that are served.")

FAILED = 1
INJECTED = "cert-manager.io/inject-ca-from"
TOPICS_PAGE = "../../docs/topics.md"
ADMISSION_PAGE = "../../docs/admission.md"
"""Beside the packages in a checkout only; an installation has no docs."""


@app.command()
def generate(check: Annotated[bool, typer.Option("--check", help="Write nothing; exit with 1 if a file is not what the models say.")] = False) -> None:
    """Write what is made from the models: schemas/generated (CRDs, JSON Schemas of the records, the AsyncAPI document) docs/topics.md and docs/admission.md."""
    directory = generated_directory()
    wanted = rendered_files() | (pages() if (directory / TOPICS_PAGE).parent.is_dir() else {})
    found = [*directory.glob("crds/*.yaml"), *directory.glob("json/*.json"), *directory.glob("asyncapi.json")]
    present = {str(path.relative_to(directory)): path.read_text() for path in found}
    present |= {page: (directory / page).read_text() for page in (TOPICS_PAGE, ADMISSION_PAGE) if page in wanted and (directory / page).exists()}
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


Kubeconfig = Annotated[str, typer.Option(envvar="FLEETWAKE_KUBECONFIG", help="The kubeconfig of the API server; KUBECONFIG by default.")]
Serve = Annotated[str | None, typer.Option("--serve", metavar="VERSIONS", help="Older versions, as in v1beta1,v1alpha4 [default: FLEETWAKE_SERVED_VERSIONS].")]


@app.command()
def apply(
    kubeconfig: Kubeconfig = "",
    serve: Serve = None,
    timeout_seconds: Annotated[float, typer.Option("--timeout", min=1, help="How long to wait until the definitions are established.")] = 60,
) -> None:
    """Apply all CustomResourceDefinitions and wait until the API server serves them."""
    from fleetwake.kube.definitions import install

    chosen = _chosen(serve)

    async def applied(client: ApiClient) -> str:
        names = await install(client, chosen.text, chosen.client_config, chosen.annotations, limit=timedelta(seconds=timeout_seconds))
        return f"{len(names)} CustomResourceDefinitions established"

    _run(kubeconfig, applied)


@app.command()
def render(serve: Serve = None) -> None:
    """Print all CustomResourceDefinitions, and the policies that older versions need, as YAML, for whoever applies them otherwise."""
    import yaml

    from fleetwake.kube.definitions import annotate
    from schemas import policies, served

    chosen = _chosen(serve)
    documents = served.definitions(served.versions(chosen.text), chosen.client_config)
    annotate(documents, chosen.annotations)
    if served.versions(chosen.text):
        documents += policies.policies()
    typer.echo(yaml.safe_dump_all(documents, sort_keys=False, width=160), nl=False)


@app.command()
def migrate(
    kubeconfig: Kubeconfig = "",
    serve: Serve = None,
    timeout_seconds: Annotated[float, typer.Option("--timeout", min=1, help="How long to try: what is stored in older versions waits for admission.")] = 300,
) -> None:
    """Store every object anew in the hub's version, and drop versions that are not served any more."""
    from fleetwake.kube.migration import migrated
    from schemas import served

    chosen = _chosen(serve)

    async def done(client: ApiClient) -> str:
        found = await migrated(client, served.versions(chosen.text), chosen.client_config, seconds_max=timeout_seconds)
        dropped = "; ".join(f"{name}: {', '.join(versions)}" for name, versions in found.dropped.items()) or "none"
        return f"{found.rewritten} objects stored anew, managed fields of {found.cleaned} cleaned, versions dropped: {dropped}"

    _run(kubeconfig, done)


@dataclass(frozen=True)
class _Chosen:
    """The versions asked for, and where the API server has objects converted."""

    text: str
    client_config: Mapping[str, Any]
    annotations: Mapping[str, str]


def _chosen(serve: str | None) -> _Chosen:
    from fleetwake.cli.looking import looking
    from fleetwake.settings import Settings
    from services.admission.configurations import Address
    from services.admission.conversion import PATH

    with looking("schemas"):
        settings = Settings.from_env(None, served_versions=serve)
    address = Address(settings.webhook_service, settings.system_namespace, settings.webhook_url)
    annotations = {INJECTED: settings.webhook_ca_from} if settings.webhook_ca_from else {}
    return _Chosen(settings.served_versions, address.client_config(PATH, b""), annotations)


def _run(kubeconfig: str, act: Callable[[ApiClient], Awaitable[str]]) -> None:
    """Do it with a client and say what was done; an error of ours ends the command with 1."""
    from fleetwake import errors
    from fleetwake.kube import config
    from fleetwake.kube.client import ApiClient

    async def connected() -> str:
        async with ApiClient(config.load(kubeconfig), service="schemas") as client:
            return await act(client)

    try:
        typer.echo(asyncio.run(connected()))
    except errors.FleetwakeError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None


def pages() -> dict[str, str]:
    """The texts of docs/topics.md and docs/admission.md."""
    from schemas import topics_page
    from services.admission import page

    return {TOPICS_PAGE: topics_page.rendered(), ADMISSION_PAGE: page.rendered()}


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
