"""What rules must know of other objects, read from the API server when it asks: the class of a Cluster, the Clusters of a class.

Read, not watched: by what was true a moment ago a class would go that a Cluster has just named. Only changes of specs, and deletes of classes, ask.

Source: contracts.md §11 (Cluster, ClusterClass).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from fleetwake.kube.client import ApiClient, raise_for, resource_path
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.meta import KubeObject
from services.admission.rules.rule import Known

API_VERSION = f"{Cluster.GROUP}/{Cluster.VERSION}"
PAGE = 500
NOTHING = Known()


class Lookups(Protocol):
    """What a webhook asks before it decides."""

    async def known(self, model: type[KubeObject], request: Mapping[str, Any]) -> Known:
        """What the rules of the model need beside the request.

        Raises:
            FleetwakeError: the API server could not tell.
        """
        ...


class NoTopologies:
    """Topologies are off: nothing is read, and what would need them is refused."""

    async def known(self, model: type[KubeObject], request: Mapping[str, Any]) -> Known:
        """Nothing, but that they are off."""
        return Known(topologies=False)


class Reads:
    """Reads by a client; ``only``: the one namespace whose objects there are."""

    def __init__(self, client: ApiClient, only: str = "") -> None:
        self._client, self._only = client, only

    async def known(self, model: type[KubeObject], request: Mapping[str, Any]) -> Known:
        """See ``Lookups``."""
        if model is Cluster:
            return await self._of_cluster(request)
        if model is ClusterClass and request.get("oldObject"):
            return Known(read=True, clusters=await self._clusters(request["oldObject"]["metadata"]))
        return NOTHING

    async def _of_cluster(self, request: Mapping[str, Any]) -> Known:
        new, old = (_class_of(request.get(name) or {}) for name in ("object", "oldObject"))
        if new is None:
            return NOTHING
        former = await self._class(*old) if old is not None and old != new else None
        return Known(read=True, cluster_class=await self._class(*new), former_class=former)

    async def _class(self, namespace: str, name: str) -> ClusterClass | None:
        answer = await self._client.request("GET", resource_path(API_VERSION, ClusterClass.PLURAL, namespace, name))
        if answer.status == 404:
            return None
        raise_for(answer, f"get ClusterClass {namespace}/{name}")
        try:
            return ClusterClass.model_validate(answer.json())
        except ValidationError:
            # its own reconciler tells so; a Cluster is not to blame
            return None

    async def _clusters(self, metadata: Mapping[str, Any]) -> tuple[Cluster, ...]:
        wanted, found, rest = (str(metadata["namespace"]), str(metadata["name"])), [], ""
        path = resource_path(API_VERSION, Cluster.PLURAL, self._only)
        while True:
            answer = await self._client.request("GET", path, query={"limit": str(PAGE)} | ({"continue": rest} if rest else {}))
            raise_for(answer, "list Clusters")
            listed = answer.json()
            found += [item for item in listed["items"] if _class_of(item) == wanted]
            rest = (listed.get("metadata") or {}).get("continue") or ""
            if not rest:
                return tuple(Cluster.model_validate(item) for item in found)


def _class_of(value: Mapping[str, Any]) -> tuple[str, str] | None:
    """Namespace and name of the class that a Cluster names."""
    ref = ((value.get("spec") or {}).get("topology") or {}).get("classRef") or {}
    return (str(ref.get("namespace") or value["metadata"].get("namespace", "")), str(ref["name"])) if ref.get("name") else None
