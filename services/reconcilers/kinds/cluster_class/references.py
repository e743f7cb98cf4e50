"""The templates of a class: each is owned by the class, and named in the version that its contract has newest.

Source: kinds.md §10.5, §0.7; Cluster API v1.14 (RefVersionsUpToDate).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owners_with
from fleetwake.plan import Patch
from fleetwake.topology.blueprint import TemplateKey, references
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.shared import TemplateReference
from schemas.keys import GroupKind

REF_VERSIONS_UP_TO_DATE = "RefVersionsUpToDate"
UP_TO_DATE = "RefVersionsUpToDate"
NOT_UP_TO_DATE = "RefVersionsNotUpToDate"
INTERNAL_ERROR = "InternalError"


@dataclass(frozen=True, slots=True)
class Templates:
    """The templates a class names that exist, and which version each kind's contract has newest (empty: nobody knows the kind)."""

    found: Mapping[TemplateKey, External]
    newest: Mapping[GroupKind, str]


def adoptions(cluster_class: ClusterClass, templates: Templates) -> Iterator[Patch]:
    """Owner references to the class on templates that lack one."""
    wanted = owner_reference(cluster_class)
    for ref in references(cluster_class):
        found = templates.found.get(_key(ref))
        if found is None or found.metadata.deleting:
            continue
        owners = owners_with(found.metadata.owner_references, wanted)
        patch = metadata_patch(Target(found.key, found.api_version, found.metadata), MetadataChange(owners=owners), "the template belongs to its class")
        if patch is not None:
            yield patch


def missing(cluster_class: ClusterClass, templates: Templates) -> tuple[TemplateReference, ...]:
    """The templates that do not exist, or whose kind nobody knows."""
    return tuple(ref for ref in references(cluster_class) if _key(ref) not in templates.found)


def outdated(cluster_class: ClusterClass, templates: Templates) -> tuple[tuple[TemplateReference, str], ...]:
    """The references that name another version than their contract's newest, with that."""
    found = []
    for ref in references(cluster_class):
        newest = templates.newest.get(GroupKind(ref.group, ref.kind), "")
        if newest and newest != ref.api_version.rpartition("/")[2]:
            found.append((ref, newest))
    return tuple(found)


def versions_condition(absent: Sequence[TemplateReference], old: Sequence[tuple[TemplateReference, str]]) -> ConditionValue:
    """Whether all references name the newest version of their contract."""
    if absent:
        lines = [f"* {ref.kind} {ref.name} ({ref.api_version}) does not exist; create it or correct the class" for ref in absent]
        return ConditionValue(REF_VERSIONS_UP_TO_DATE, UNKNOWN, INTERNAL_ERROR, "\n".join(["The following templateRefs cannot be judged:", *lines]))
    if old:
        lines = [f"* {ref.kind} {ref.name}: current: {ref.api_version.rpartition('/')[2]}, latest: {newest}" for ref, newest in old]
        return ConditionValue(
            REF_VERSIONS_UP_TO_DATE, FALSE, NOT_UP_TO_DATE, "\n".join(["The following templateRefs are not using the latest apiVersion:", *lines])
        )
    return ConditionValue(REF_VERSIONS_UP_TO_DATE, TRUE, UP_TO_DATE)


def _key(ref: TemplateReference) -> TemplateKey:
    return TemplateKey(ref.api_version, ref.kind, ref.name)
