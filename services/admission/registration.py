"""The webhook configurations in the API server: written by the service itself where nobody else does, with the CA to believe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from fleetwake.kube.client import APPLY_PATCH, ApiClient, raise_for, resource_path
from services.admission.configurations import API_VERSION, MUTATING_KIND, VALIDATING_KIND, Address, configurations

FIELD_MANAGER = "fleetwake-admission"
PLURALS = {MUTATING_KIND: "mutatingwebhookconfigurations", VALIDATING_KIND: "validatingwebhookconfigurations"}


class Registration:
    """Applies both configurations. What is there already is not written again: a settled fleet is silent."""

    def __init__(self, client: ApiClient, address: Address) -> None:
        self._client, self._address = client, address

    async def __call__(self, ca_bundle: bytes) -> None:
        """Have the API server ask here, and believe these CAs.

        Raises:
            FleetwakeError: it refused, or could not be reached.
        """
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        for configuration in configurations(self._address, ca_bundle):
            kind = str(configuration["kind"])
            path = resource_path(API_VERSION, PLURALS[kind], "", configuration["metadata"]["name"])
            answer = await self._client.request("GET", path)
            if answer.status != 404:
                raise_for(answer, f"get {kind} {self._address.service}")
                if says(answer.json(), configuration):
                    continue
            answer = await self._client.request("PATCH", path, query=query, body=orjson.dumps(configuration), content_type=APPLY_PATCH)
            raise_for(answer, f"apply {kind} {self._address.service}")


def says(stored: Any, wanted: Any) -> bool:
    """Whether what is stored has all that is wanted; what the API server added to it does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(says(stored.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(stored, list) and len(stored) == len(wanted) and all(says(one, other) for one, other in zip(stored, wanted, strict=True))
    return bool(stored == wanted)
