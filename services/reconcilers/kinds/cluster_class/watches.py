"""Which changes wake a ClusterClass.

Source: kinds.md §10.5 (triggers), §16.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleetwake.kind import ANY_KIND, Change, Lookup, Watch
from fleetwake.topology.blueprint import references
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.cluster_topology.watches import TEMPLATE, existence

CLASS = GroupKind(ClusterClass.GROUP, ClusterClass.KIND)
DEFINITION = GroupKind("apiextensions.k8s.io", "CustomResourceDefinition")


def own_change(change: Change) -> bool:
    """Whether a change of the class is more than our own status write."""
    return existence(change) or change.differs("spec") or any(change.differs("metadata", name) for name in ("annotations", "labels"))


def of_template(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The classes that name a template."""
    for key in lookup.namespace_keys(CLASS, change.key.namespace):
        found = lookup.read(ClusterClass, key)
        named = references(found) if found is not None else ()
        if any((ref.group, ref.kind, ref.name) == (change.key.group, change.key.kind, change.key.name) for ref in named):
            yield key


def template_matters(change: Change) -> bool:
    """Whether the template came, went, or has other owners."""
    if not change.key.kind.endswith(TEMPLATE):
        return False
    return existence(change) or change.differs("metadata", "ownerReferences") or change.differs("apiVersion")


def of_definition(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The classes that name a template of the defined kind."""
    spec = change.state.get("spec") or {}
    defined = (spec.get("group"), (spec.get("names") or {}).get("kind"))
    for key in lookup.namespace_keys(CLASS, ""):
        found = lookup.read(ClusterClass, key)
        if found is not None and any((ref.group, ref.kind) == defined for ref in references(found)):
            yield key


def definition_matters(change: Change) -> bool:
    """Whether the kind may have another newest version now."""
    return existence(change) or change.differs("metadata", "labels") or change.differs("spec", "versions")


WATCHES = (
    Watch(DEFINITION, of_definition, definition_matters),
    Watch(ANY_KIND, of_template, template_matters),
)
