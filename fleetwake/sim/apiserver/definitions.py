"""What the server knows of a kind: names, scope, subresources, merge rules, columns.

A :class:`ResourceDefinition` is made by hand (built-in kinds, simulations) or from a CustomResourceDefinition object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .status import bad_request, qualified
from .structure import Structure, structure, structure_of_schema

JsonDict = dict[str, Any]
ALWAYS_SELECTABLE = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its header, a path (``.status.phase``), its type, and 0 to show it or 1 only with ``-o wide``."""

    name: str
    path: str
    type: str = "string"
    priority: int = 0


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Where the scale subresource reads and writes: dotted paths."""

    spec_replicas: str = "spec.replicas"
    status_replicas: str = "status.replicas"
    selector: str = ""


@dataclass(frozen=True, slots=True)
class ResourceDefinition:
    """One served kind.

    ``versions`` are all served versions, the stored one first; no conversion but of apiVersion takes place. ``generation`` says whether
    metadata.generation is kept; ``status_writes_metadata`` whether a write through ``/status`` may also change labels and annotations
    (true of nodes and pods); ``unconditional_update`` whether a PUT may leave resourceVersion out; ``returns_deleted`` whether a
    delete that removes at once answers with the object instead of a Status.
    """

    group: str
    version: str
    kind: str
    plural: str
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    status: bool = True
    scale: ScalePaths | None = None
    structure: Structure = field(default_factory=lambda: structure({}))
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    served: tuple[str, ...] = ()
    generation: bool = True
    custom: bool = True
    status_writes_metadata: bool = False
    unconditional_update: bool = False
    returns_deleted: bool = False
    initial: JsonDict = field(default_factory=dict)
    schema: JsonDict | None = None

    @property
    def resource(self) -> str:
        """The name requests address: ``machines.cluster.x-k8s.io``, ``nodes``."""
        return qualified(self.group, self.plural)

    @property
    def api_version(self) -> str:
        """The apiVersion of stored objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def list_kind(self) -> str:
        """The kind of a list of these objects."""
        return self.kind + "List"

    @property
    def versions(self) -> tuple[str, ...]:
        """All served versions."""
        return self.served or (self.version,)

    @property
    def selectable_fields(self) -> tuple[str, ...]:
        """The field labels a field selector may use."""
        return ALWAYS_SELECTABLE + self.selectable


def definition_of_crd(crd: JsonDict) -> ResourceDefinition:
    """Return the definition a CustomResourceDefinition (apiextensions.k8s.io/v1) declares; the storage version rules.

    Raises: ApiStatusError 400 when no version is stored.
    """
    spec = crd["spec"]
    names = spec["names"]
    stored = next((version for version in spec["versions"] if version.get("storage")), None)
    if stored is None:
        raise bad_request("spec.versions: exactly one version must be the storage version")
    served = [version["name"] for version in spec["versions"] if version.get("served")]
    subresources: Mapping[str, Any] = stored.get("subresources", {})
    schema = stored.get("schema", {}).get("openAPIV3Schema")
    return ResourceDefinition(
        group=spec["group"],
        version=stored["name"],
        kind=names["kind"],
        plural=names["plural"],
        namespaced=spec.get("scope") == "Namespaced",
        singular=names.get("singular", names["kind"].lower()),
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        status="status" in subresources,
        scale=_scale_paths(subresources.get("scale")),
        structure=structure_of_schema(schema or {}),
        columns=tuple(_column(column) for column in stored.get("additionalPrinterColumns", ())),
        selectable=tuple(entry["jsonPath"].lstrip(".") for entry in stored.get("selectableFields", ())),
        served=tuple(sorted(served, key=lambda name: name != stored["name"])),
        schema=schema,
    )


def _column(column: JsonDict) -> Column:
    return Column(column["name"], column["jsonPath"], column.get("type", "string"), column.get("priority", 0))


def _scale_paths(scale: JsonDict | None) -> ScalePaths | None:
    if scale is None:
        return None
    return ScalePaths(scale["specReplicasPath"].lstrip("."), scale["statusReplicasPath"].lstrip("."), scale.get("labelSelectorPath", "").lstrip("."))
