"""What tells the API server to ask here and whom to believe: the webhook configurations, written by the service itself where nobody else does, and the CA in
definitions whose objects are converted here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from fleetwake.kube.client import APPLY_PATCH, ApiClient, raise_for, resource_path
from fleetwake.kube.discovery import DEFINITIONS
from schemas import served
from services.admission import conversion
from services.admission.configurations import API_VERSION, MUTATING_KIND, VALIDATING_KIND, Address, configurations

FIELD_MANAGER = "fleetwake-admission"
APPLIED = {"fieldManager": FIELD_MANAGER, "force": "true"}
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
        for configuration in configurations(self._address, ca_bundle):
            kind = str(configuration["kind"])
            path = resource_path(API_VERSION, PLURALS[kind], "", configuration["metadata"]["name"])
            answer = await self._client.request("GET", path)
            if answer.status != 404:
                raise_for(answer, f"get {kind} {self._address.service}")
                if says(answer.json(), configuration):
                    continue
            answer = await self._client.request("PATCH", path, query=APPLIED, body=orjson.dumps(configuration), content_type=APPLY_PATCH)
            raise_for(answer, f"apply {kind} {self._address.service}")


class ConversionRegistration:
    """Keeps the CA in the definitions that name this webhook; whoever applies them says where it is, and with which versions.

    A definition without older versions, or one whose objects somebody else converts, is left alone.
    """

    def __init__(self, client: ApiClient, address: Address) -> None:
        self._client, self._address = client, address

    async def __call__(self, ca_bundle: bytes) -> None:
        """Have the API server believe these CAs.

        Raises:
            FleetwakeError: it refused, or could not be reached.
        """
        bundle = base64.b64encode(ca_bundle).decode()
        for model in served.converted():
            name = served.name(model)
            path = resource_path(DEFINITIONS.api_version, DEFINITIONS.plural, "", name)
            answer = await self._client.request("GET", path)
            if answer.status == 404:
                continue
            raise_for(answer, f"get CustomResourceDefinition {name}")
            present = client_config(answer.json())
            if not says(present, self._address.client_config(conversion.PATH, b"")) or present.get("caBundle") == bundle:
                continue
            answer = await self._client.request("PATCH", path, query=APPLIED, body=orjson.dumps(_believing(name, bundle)), content_type=APPLY_PATCH)
            raise_for(answer, f"apply CustomResourceDefinition {name}")


def client_config(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where a definition has objects converted; empty when nowhere."""
    webhook = (definition["spec"].get("conversion") or {}).get("webhook") or {}
    return webhook.get("clientConfig") or {}


def _believing(name: str, bundle: str) -> dict[str, Any]:
    spec = {"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}
    return {"apiVersion": DEFINITIONS.api_version, "kind": DEFINITIONS.kind, "metadata": {"name": name}, "spec": spec}


def says(stored: Any, wanted: Any) -> bool:
    """Whether what is stored has all that is wanted; what the API server added to it does not count."""
    if isinstance(wanted, Mapping):
        return isinstance(stored, Mapping) and all(says(stored.get(name), value) for name, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(stored, list) and len(stored) == len(wanted) and all(says(one, other) for one, other in zip(stored, wanted, strict=True))
    return bool(stored == wanted)
