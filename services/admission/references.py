"""In which version an older object refers to a provider's: from the contract labels of its definition, asked for once in a while.

The hub's references have no version. v1beta1's do, and clients of it take it at its word, so it must be one that is served.
Source: contracts.md §1 (a definition is found by its conventional plural; the version is the highest of the newest contract), §10.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from fleetwake.errors import FleetwakeError
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.discovery import DEFINITIONS, resolve_contract
from schemas.api import registry
from schemas.conversion import ConversionError

METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
KEPT: Final = timedelta(minutes=1)
"""A provider's upgrade is seen within it."""

KINDS_MAX: Final = 1000
_SIBILANT: Final = ("s", "x", "z", "ch", "sh")


class UnknownKindError(LookupError):
    """A kind whose version was not asked for yet, or too long ago; no fault of the object's, so a conversion ends with it and can be tried again."""

    def __init__(self, group: str, kind: str) -> None:
        super().__init__(f"the version of {kind}.{group} is not known")
        self.group, self.kind = group, kind


class References:
    """The versions known. Without a client our own kinds are known and no other."""

    def __init__(self, client: ApiClient | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._clock = client, clock
        self._known: dict[tuple[str, str], tuple[str, float]] = {}

    def api_version(self, group: str, kind: str) -> str:
        """The ``group/version`` of a kind.

        Raises:
            UnknownKindError: ask ``learn`` first.
        """
        if model := registry.find(group, kind):
            return f"{group}/{model.VERSION}"
        version, until = self._known.get((group, kind), ("", 0.0))
        if self._clock() >= until:
            raise UnknownKindError(group, kind)
        return f"{group}/{version}"

    async def learn(self, group: str, kind: str) -> None:
        """Ask the API server for the definition of a kind.

        Raises:
            ConversionError: there is none, it has no label of a contract we speak, or nobody can be asked.
        """
        name = f"{plural(kind)}.{group}"
        if self._client is None:
            raise ConversionError(f"the version of {kind}.{group} is not known: admission has no account to ask the API server with")
        try:
            answer = await self._client.request("GET", resource_path(DEFINITIONS.api_version, DEFINITIONS.plural, name=name), accept=METADATA)
            raise_for(answer, f"get CustomResourceDefinition {name}")
        except FleetwakeError as error:
            raise ConversionError(f"the version of {kind}.{group} is not known: {error}") from error
        _, version = resolve_contract(answer.json().get("metadata", {}).get("labels") or {})
        if not version:
            raise ConversionError(f"CustomResourceDefinition {name} has no label of a contract that we speak; its provider must set one")
        if len(self._known) >= KINDS_MAX:
            self._known.clear()
        self._known[group, kind] = (version, self._clock() + KEPT.total_seconds())


def plural(kind: str) -> str:
    """The conventional plural of a kind, as it stands in the name of its definition."""
    word = kind.lower()
    if word.endswith(_SIBILANT):
        return f"{word}es"
    if word.endswith("y") and word[-2:-1] not in tuple("aeiou"):
        return f"{word[:-1]}ies"
    return f"{word}s"
