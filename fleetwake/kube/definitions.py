"""CustomResourceDefinitions applied to an API server, in the versions that an installation serves."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import orjson

from fleetwake import errors
from fleetwake.kube.client import APPLY_PATCH, MERGE_PATCH, ApiClient, raise_for, resource_path
from schemas import policies, served

FIELD_MANAGER: Final = "fleetwake"
API_VERSION: Final = "apiextensions.k8s.io/v1"
PLURAL: Final = "customresourcedefinitions"
ESTABLISH_LIMIT: Final = timedelta(seconds=60)
WRITE_LIMIT_SECONDS: Final = 30.0
SERVED_RETRY_SECONDS: Final = 0.1
SERVED_VARIABLE: Final = "FLEETWAKE_SERVED_VERSIONS"

Document = Mapping[str, Any]


async def install(client: ApiClient, text: str, client_config: Document, annotations: Mapping[str, str], *, limit: timedelta = ESTABLISH_LIMIT) -> list[str]:
    """Apply every definition in the hub and the versions of ``text`` (``served.versions``), and the policies that older versions need.

    ``client_config`` leads to the conversion webhook; the CA to believe is for whoever has its certificate. ``annotations`` are for definitions with a webhook.

    Raises:
        InvalidError: a definition has older versions that nobody asked for or bade farewell to.
        FleetwakeError: see ``apply_definitions``.
    """
    named, present = served.versions(text), await _present(client)
    if not text:
        refuse_silent_removal(present)
    older = {name: [one["name"] for one in found["spec"]["versions"]] for name, found in present.items()}
    wanted = served.definitions(named, client_config, older)
    annotate(wanted, annotations)
    if named:
        await asyncio.gather(*(_apply(client, policies.API_VERSION, policies.PLURALS[one["kind"]], one) for one in policies.policies()))
    return await apply_definitions(client, wanted, limit=limit)


def annotate(definitions: Iterable[dict[str, Any]], annotations: Mapping[str, str]) -> None:
    """Annotate the definitions that have a webhook."""
    for definition in definitions:
        if annotations and "conversion" in definition["spec"]:
            definition["metadata"].setdefault("annotations", {}).update(annotations)


async def _present(client: ApiClient) -> dict[str, dict[str, Any]]:
    names = [served.name(model) for model in served.converted()]
    found = await asyncio.gather(*(definition_of(client, name) for name in names))
    return {name: one for name, one in zip(names, found, strict=True) if one is not None}


async def definition_of(client: ApiClient, name: str) -> dict[str, Any] | None:
    """A definition as it is; None when there is none.

    Raises:
        FleetwakeError: the API server refused, or could not be reached.
    """
    answer = await client.request("GET", resource_path(API_VERSION, PLURAL, name=name))
    if answer.status == 404:
        return None
    raise_for(answer, f"get CustomResourceDefinition {name}")
    found: dict[str, Any] = answer.json()
    return found


def refuse_silent_removal(present: Mapping[str, Document]) -> None:
    """Refuse to drop older versions in which objects may have been stored or written.

    Raises:
        InvalidError: a definition has some; the message says what to do.
    """
    for name, found in present.items():
        older = sorted({*(one["name"] for one in found["spec"]["versions"]), *found.get("status", {}).get("storedVersions", ())} - {served.HUB})
        if older:
            raise errors.InvalidError(
                f"{name} has the versions {', '.join(older)} and may hold objects written in them: set {SERVED_VARIABLE} to those that stay served, or to "
                f"{served.HUB} for none, apply again, and run `fleetwake schemas migrate`; then it may be empty",
                operation=f"apply {PLURAL}",
            )


async def without_webhook(client: ApiClient, definition: Document) -> None:
    """Take a definition back to the hub alone. Its CA is another's field, which an apply would leave behind, and a webhook without a strategy is invalid.

    Raises:
        FleetwakeError: the API server refused, or could not be reached.
    """
    name = definition["metadata"]["name"]
    body = {"spec": {"versions": definition["spec"]["versions"], "conversion": {"strategy": "None", "webhook": None}}}
    path = resource_path(API_VERSION, PLURAL, name=name)
    answer = await client.request("PATCH", path, body=orjson.dumps(body), content_type=MERGE_PATCH, timeout_seconds=WRITE_LIMIT_SECONDS)
    raise_for(answer, f"patch CustomResourceDefinition {name}")


async def apply_definitions(client: ApiClient, definitions: Iterable[Document], *, limit: timedelta = ESTABLISH_LIMIT) -> list[str]:
    """Apply CustomResourceDefinitions server-side, all at once, and return their names once the API server serves them.

    Raises:
        FleetwakeError: the API server refused one, or could not be reached.
        UnavailableError: one was not established within ``limit``; the message names it and its conditions.
    """
    wanted = list(definitions)
    applied = await asyncio.gather(*(_apply(client, API_VERSION, PLURAL, definition) for definition in wanted))
    stored = {one["metadata"]["name"]: one.get("status", {}).get("conditions") or [] for one in applied}
    waiting = {name: conditions for name, conditions in stored.items() if not _established(conditions)}
    try:
        async with asyncio.timeout(limit.total_seconds()):
            while waiting:
                await _await_established(client, waiting)
            await asyncio.gather(*(_await_served(client, definition) for definition in wanted))
    except TimeoutError as error:
        states = "; ".join(f"{name}: {_summary(conditions)}" for name, conditions in sorted(waiting.items())) or "all established, not all served"
        raise errors.UnavailableError(f"not ready within {limit.total_seconds():g} s: {states}", operation=f"apply {PLURAL}") from error
    return sorted(stored)


async def _apply(client: ApiClient, api_version: str, plural: str, document: Document) -> dict[str, Any]:
    """Apply one object; gives it as it is stored."""
    name = document["metadata"]["name"]
    response = await client.request(
        "PATCH",
        resource_path(api_version, plural, name=name),
        query={"fieldManager": FIELD_MANAGER, "force": "true", "fieldValidation": "Strict"},
        body=orjson.dumps(document),
        content_type=APPLY_PATCH,
        timeout_seconds=WRITE_LIMIT_SECONDS,
    )
    raise_for(response, f"apply {document['kind']} {name}")
    stored: dict[str, Any] = response.json()
    return stored


async def _await_established(client: ApiClient, waiting: dict[str, list[dict[str, Any]]]) -> None:
    """Remove from ``waiting`` what gets established, until nothing is left or the API server ends the watch."""
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


async def _await_served(client: ApiClient, definition: Document) -> None:
    """Return when requests for the kind are answered.

    Established is told slightly earlier: the handler follows by its own watch (404 until then), and after a delete and create it answers
    429 while it sets up its storage anew. There is nothing to watch for that.
    """
    spec = definition["spec"]
    path = resource_path(f"{spec['group']}/{spec['versions'][0]['name']}", spec["names"]["plural"])
    while (await client.request("GET", path, query={"limit": "1"})).status in (404, 429, 503):
        await asyncio.sleep(SERVED_RETRY_SECONDS)


def _established(conditions: Iterable[Document]) -> bool:
    held = {condition["type"] for condition in conditions if condition["status"] == "True"}
    return {"Established", "NamesAccepted"} <= held


def _summary(conditions: Iterable[Document]) -> str:
    return ", ".join(f"{c['type']}={c['status']} ({c.get('message', '')})" for c in conditions) or "no conditions yet"


def unserved(definition: Document, named: Collection[str]) -> Sequence[str]:
    """The versions of a definition that are neither the hub nor named."""
    return [one["name"] for one in definition["spec"]["versions"] if one["name"] not in (served.HUB, *named)]
