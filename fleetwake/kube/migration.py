"""Objects stored or written in older versions, brought to the hub's, so that an older version can be dropped.

Three things hold a version in a definition: objects stored in it, ``status.storedVersions`` which says that there may be some, and entries of managedFields
in it, on which a later server-side apply would fail. All three go here, and then the version, unless it is served.
Source: contracts.md §9 (CRD migration); Kubernetes "Upgrade existing objects to a new stored version" (1.36); kubernetes/kubernetes#111937.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from fleetwake.errors import ConflictError, FleetwakeError, NotFoundError, UnavailableError
from fleetwake.kube.client import JSON_PATCH, MERGE_PATCH, METADATA_LIST, ApiClient, Response, raise_for, resource_path
from fleetwake.kube.definitions import API_VERSION, PLURAL, apply_definitions, definition_of, unserved, without_webhook
from schemas import served
from schemas.api.meta import KubeObject

PAGE_LIMIT: Final = 500
AT_ONCE: Final = 8
ATTEMPTS: Final = 5
"""An object that somebody else keeps writing is stored anew by those writes; its managed fields need a moment of quiet."""

METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
log = logging.getLogger(__name__)
Object = Mapping[str, Any]


@dataclass
class Migrated:
    """What was done."""

    rewritten: int = 0
    cleaned: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    """Versions taken out, by the name of the definition."""


class Migration:
    """One pass over all definitions. Whatever it did stays done: it can be repeated, and two at once only do some of it twice."""

    def __init__(self, client: ApiClient, named: Collection[str], client_config: Mapping[str, Any]) -> None:
        self._client, self._named, self._client_config = client, named, client_config
        self._done = Migrated()

    async def __call__(self) -> Migrated:
        """Migrate.

        Raises:
            FleetwakeError: the API server refused, could not be reached, or could not convert what is stored.
        """
        for model in served.converted():
            definition = await definition_of(self._client, served.name(model))
            if definition is not None:
                await self._migrate(model, definition)
        return self._done

    async def _migrate(self, model: type[KubeObject], definition: Object) -> None:
        stored_older = definition.get("status", {}).get("storedVersions") != [served.HUB]
        gone = {f"{model.GROUP}/{version}" for version in served.OLDER if version not in self._named}
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(metadata: Object) -> None:
            async with slots:
                await self._object(model, metadata, gone, rewrite=stored_older)

        async for page in self._pages(model):
            await asyncio.gather(*(one(item["metadata"]) for item in page))
        name = served.name(model)
        if stored_older:
            body = {"metadata": {"resourceVersion": definition["metadata"]["resourceVersion"]}, "status": {"storedVersions": [served.HUB]}}
            path = resource_path(API_VERSION, PLURAL, name=name, subresource="status")
            answer = await self._client.request("PATCH", path, body=orjson.dumps(body), content_type=MERGE_PATCH)
            raise_for(answer, f"patch status of CustomResourceDefinition {name}")
        if versions := unserved(definition, self._named):
            await self._drop(model)
            self._done.dropped[name] = list(versions)
            log.info("%s: %s dropped", name, ", ".join(versions))

    async def _drop(self, model: type[KubeObject]) -> None:
        wanted = served.definition(model, self._named, self._client_config)
        if "conversion" not in wanted["spec"]:
            await without_webhook(self._client, wanted)
        await apply_definitions(self._client, [wanted])

    async def _pages(self, model: type[KubeObject]) -> AsyncIterator[list[Object]]:
        """The metadata of every object of a kind, read in the hub, page by page."""
        path, query = resource_path(f"{model.GROUP}/{model.VERSION}", model.PLURAL), {"limit": str(PAGE_LIMIT)}
        while True:
            answer = await self._client.request("GET", path, query=query, accept=METADATA_LIST, timeout_seconds=30.0)
            raise_for(answer, f"list {model.PLURAL}")
            page = answer.json()
            yield page["items"] or []
            following = page["metadata"].get("continue")
            if not following:
                return
            query = {"limit": str(PAGE_LIMIT), "continue": following}

    async def _object(self, model: type[KubeObject], metadata: Object, gone: Collection[str], *, rewrite: bool) -> None:
        path = resource_path(f"{model.GROUP}/{model.VERSION}", model.PLURAL, metadata.get("namespace", ""), metadata["name"])
        for _ in range(ATTEMPTS):
            kept = managed_fields(metadata, gone, f"{model.GROUP}/{model.VERSION}")
            if kept is None and not rewrite:
                return
            answer = await self._write(path, metadata, kept)
            try:
                raise_for(answer, f"migrate {model.KIND} {metadata.get('namespace', '')}/{metadata['name']}")
            except NotFoundError:
                return
            except ConflictError:
                if kept is None:
                    # who wrote it meanwhile has stored it anew
                    return
                answer = await self._client.request("GET", path, accept=METADATA)
                if answer.status == 404:
                    return
                raise_for(answer, f"get {model.KIND} {metadata['name']}")
                metadata = answer.json()["metadata"]
                continue
            self._done.rewritten += rewrite
            self._done.cleaned += kept is not None
            return
        raise UnavailableError(f"{model.KIND} {metadata['name']} is being written all the time", operation="migrate")

    async def _write(self, path: str, metadata: Object, kept: list[Object] | None) -> Response:
        """A patch that changes nothing but, where they are given, the managed fields: whatever is written is stored in the hub's version."""
        version = metadata["resourceVersion"]
        if kept is None:
            body: Any = {"metadata": {"resourceVersion": version}}
            return await self._client.request("PATCH", path, body=orjson.dumps(body), content_type=MERGE_PATCH)
        body = [
            {"op": "replace", "path": "/metadata/managedFields", "value": kept},
            {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        ]
        return await self._client.request("PATCH", path, body=orjson.dumps(body), content_type=JSON_PATCH)


def managed_fields(metadata: Object, gone: Collection[str], hub: str) -> list[Object] | None:
    """The managed fields without those in versions that are gone; None when there are none of those.

    Never empty: the API server would guess an owner of everything at the next apply.
    """
    entries: list[Object] = metadata.get("managedFields") or []
    kept = [entry for entry in entries if entry.get("apiVersion") not in gone]
    if len(kept) == len(entries):
        return None
    if kept:
        return kept
    first = entries[0]
    return [{**first, "apiVersion": hub, "fieldsType": "FieldsV1", "fieldsV1": {"f:metadata": {"f:name": {}}}}]


async def migrated(client: ApiClient, named: Collection[str], client_config: Mapping[str, Any], *, seconds_max: float, pause: float = 2.0) -> Migrated:
    """Migrate, again and again until it is done: an installation's webhook may come up beside this.

    Raises:
        FleetwakeError: it was not done in time; the last error is the cause.
    """
    migration = Migration(client, named, client_config)
    last: FleetwakeError | None = None
    try:
        async with asyncio.timeout(seconds_max):
            while True:
                try:
                    return await migration()
                except FleetwakeError as error:
                    last = error
                    log.info("%s; again in %g s", error, pause)
                await asyncio.sleep(pause)
    except TimeoutError as error:
        raise last or UnavailableError(f"not done within {seconds_max:g} s", operation="migrate") from error
