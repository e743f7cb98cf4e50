"""Who changes the CA's Secret or a webhook configuration is seen at once: another replica that renewed the CA, somebody who deleted a configuration.

Three watches of one object each, where older versions are served one more of providers' definitions, and no polling: a settled fleet is silent whatever runs
beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fleetwake.background import Background
from fleetwake.kube.client import ApiClient
from fleetwake.kube.discovery import DEFINITIONS, Resource
from fleetwake.kube.reflector import Changed, Interrupted, Listed, Page, Reflector, Selection
from services.admission.configurations import API_VERSION, MUTATING_KIND, VALIDATING_KIND, Address
from services.admission.registration import PLURALS, client_config

PROVIDER = "cluster.x-k8s.io/provider"
log = logging.getLogger("services.admission")


PROVIDERS = Selection(DEFINITIONS, label_selector=PROVIDER)


@asynccontextmanager
async def following(client: ApiClient, address: Address, changed: asyncio.Event, *, definitions: bool = False) -> AsyncIterator[None]:
    """Watch while the context is open; ``changed`` is set by every change of what certificates and configurations are kept in.

    With ``definitions`` also by a change of where the API server has objects converted, or whom it believes there.
    """
    background = Background(lambda error: log.critical("watching: %s", error, exc_info=error))
    for selection in selections(address):
        background.spawn(_follow(Reflector(client, selection), changed))
    if definitions:
        background.spawn(_follow_webhooks(Reflector(client, PROVIDERS), changed))
    try:
        yield
    finally:
        await background.stop()


def selections(address: Address) -> tuple[Selection, ...]:
    """The Secret of the CA and both configurations, each by its name."""
    named = f"metadata.name={address.service}"
    group, _, version = API_VERSION.partition("/")
    configurations = tuple(Resource(group, kind, PLURALS[kind], version, namespaced=False) for kind in (MUTATING_KIND, VALIDATING_KIND))
    secret = Selection(Resource("", "Secret", "secrets", "v1"), address.namespace, field_selector=named)
    return (secret, *(Selection(resource, field_selector=named) for resource in configurations))


async def _follow_webhooks(reflector: Reflector, changed: asyncio.Event) -> None:
    """Definitions change often while they are applied, and seldom in this."""
    seen: dict[str, Any] = {}
    async for event in reflector.events():
        match event:
            case Page(items=items):
                seen |= {item["metadata"]["name"]: client_config(item) for item in items}
            case Changed(object=found) if "name" in found["metadata"]:
                name, present = found["metadata"]["name"], client_config(found)
                if seen.get(name) != present:
                    seen[name] = present
                    changed.set()
            case Listed():
                changed.set()
            case Interrupted(error=error):
                log.info("%s", error)


async def _follow(reflector: Reflector, changed: asyncio.Event) -> None:
    async for event in reflector.events():
        match event:
            case Listed() | Changed():
                changed.set()
            case Interrupted(error=error):
                log.info("%s", error)
