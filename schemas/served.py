"""The definitions of an installation: the hub alone, or older versions beside it.

Every version costs the API server a watch cache of its own and a conversion of every event, so none is served that was not asked for.
Source: contracts.md §10; Kubernetes "Versions in CustomResourceDefinitions" (1.36).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final

from schemas import crd
from schemas.api import older, registry
from schemas.api.meta import KubeObject

HUB: Final = "v1beta2"
OLDER: Final = ("v1beta1", "v1alpha4", "v1alpha1")
"""Newest first. v1alpha1 was the version of ExtensionConfigs and IP addresses beside v1beta1 of all others."""


def versions(text: str) -> tuple[str, ...]:
    """The older versions of a list with commas; the hub may be in it, and is always served."""
    named = {part.strip() for part in text.split(",")}
    return tuple(version for version in OLDER if version in named)


def models(model: type[KubeObject], named: Collection[str]) -> tuple[type[KubeObject], ...]:
    """A kind in those of the older versions that it has."""
    return tuple(one for one in older.VERSIONS if (one.GROUP, one.KIND) == (model.GROUP, model.KIND) and one.VERSION in named)


def name(model: type[KubeObject]) -> str:
    """The name of a kind's definition."""
    return f"{model.PLURAL}.{model.GROUP}"


def definition(model: type[KubeObject], named: Collection[str], client_config: Mapping[str, Any], present: Collection[str] = ()) -> dict[str, Any]:
    """The definition of a kind. Versions that it has at ``present`` and that are not named stay, unserved: objects may be stored in them."""
    kept = models(model, set(present) - set(named))
    chosen = models(model, named)
    return crd.served(model, chosen, client_config, unserved=kept) if chosen or kept else crd.definition(model)


def definitions(named: Collection[str], client_config: Mapping[str, Any], present: Mapping[str, Collection[str]] | None = None) -> list[dict[str, Any]]:
    """Every definition; ``present`` has the versions of those that there are, by name."""
    return [definition(model, named, client_config, (present or {}).get(name(model), ())) for model in registry.KINDS]


def converted() -> Iterable[type[KubeObject]]:
    """The kinds that have older versions."""
    return [model for model in registry.KINDS if models(model, OLDER)]
