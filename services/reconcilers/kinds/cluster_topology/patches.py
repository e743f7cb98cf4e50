"""The patches of a class, done to the templates of a topology in the class's order.

A patch sees what the patches before it made. What the topology itself sets is put back afterwards: patches change templates, not the topology. The first
patch that cannot be done ends it all: half a patched topology is nobody's wish.

Source: kinds.md §10.3; Cluster API v1.14 (patch engine: matching, order, fields that are kept).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from fleetwake import labels
from fleetwake.kind import External
from fleetwake.topology.blueprint import BUILTIN, INLINE, Blueprint, Json, TopologyError
from fleetwake.topology.json_patch import Operation, PatchError, apply_to
from fleetwake.topology.selectors import Place, selects
from schemas.api.core.v1beta2.class_variables import ClusterClassPatch, JSONPatch, PatchDefinition
from schemas.api.core.v1beta2.topology import ClusterVariable
from services.reconcilers.kinds.cluster_topology.values import NoValueError, enabled, rendered, variable

_KEPT_LABELS = (labels.CLUSTER_NAME, labels.TOPOLOGY_OWNED, labels.TOPOLOGY_DEPLOYMENT_NAME, labels.TOPOLOGY_POOL_NAME)
_KEPT_ANNOTATIONS = (labels.CLONED_FROM_NAME, labels.CLONED_FROM_GROUP_KIND)


@dataclass(slots=True)
class Patched:
    """One template of the topology on its way through the patches.

    ``body`` is the object or template that comes of it; ``made``: it is an object made from the template, not the Cluster's copy of the template.
    ``builtin`` is what only its patches know, ``overrides`` the values that hold for it alone, ``kept`` the paths of its body that patches do not change.
    """

    place: Place
    template: External
    body: Json
    made: bool
    builtin: Mapping[str, Any] = field(default_factory=dict)
    overrides: Sequence[ClusterVariable] = ()
    kept: Sequence[tuple[str, ...]] = ()
    document: Json = field(default_factory=dict)

    def begin(self) -> None:
        """The template as patches see it: with the labels and annotations of what comes of it."""
        self.document = {"apiVersion": self.template.api_version, "kind": self.template.key.kind, "metadata": {"name": self.template.key.name}}
        self.document["spec"] = deepcopy(dict(self.template.fields.get("spec") or {}))
        metadata = {name: dict(self.body["metadata"][name]) for name in ("labels", "annotations") if self.body["metadata"].get(name)}
        if self.made:
            self.document["spec"].setdefault("template", {})["metadata"] = metadata
        else:
            self.document["metadata"] |= metadata

    def finish(self) -> None:
        """The body as the patched template makes it."""
        inner = self.document["spec"].get("template") or {}
        before = self.body
        if self.made:
            self.body = {**before, "spec": inner.get("spec") or {}}
            if not self.body["spec"] and "spec" not in before:
                del self.body["spec"]
            self._relabel(inner.get("metadata") or {}, before)
        else:
            self.body = {**before, "spec": {**before["spec"], "template": inner} if inner else before["spec"]}
        for path in self.kept:
            _restore(self.body, before, path)

    def _relabel(self, metadata: Mapping[str, Any], before: Json) -> None:
        own = before["metadata"]
        self.body["metadata"] = {
            **own,
            "labels": {**(metadata.get("labels") or {}), **_those(own.get("labels"), _KEPT_LABELS)},
            "annotations": {**(metadata.get("annotations") or {}), **_those(own.get("annotations"), _KEPT_ANNOTATIONS)},
        }


def _those(found: Mapping[str, str] | None, keys: Iterable[str]) -> dict[str, str]:
    return {key: found[key] for key in keys if found and key in found}


def _restore(body: Json, before: Mapping[str, Any], path: Sequence[str]) -> None:
    """Put back what stood at a path before, if anything did."""
    value: Any = before
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return
        value = value[name]
    for name in path[:-1]:
        inner = body.get(name)
        if not isinstance(inner, dict):
            inner = body[name] = {}
        body = inner
    body[path[-1]] = deepcopy(value)


def patch(blueprint: Blueprint, variables: Sequence[ClusterVariable], builtin: Mapping[str, Any], items: Sequence[Patched]) -> None:
    """Do all patches of the class to the items, in place. Raises: TopologyError naming class, patch, definition, operation and template."""
    patches = blueprint.cluster_class.spec.patches
    if not patches:
        return
    known = blueprint.variables_from(INLINE)
    for item in items:
        item.begin()
    for one in patches:
        if one.external is not None:
            raise TopologyError(f'{blueprint.named}: patch "{one.name}" needs a runtime extension, and none can be called; use inline definitions')
        for item in items:
            given = {each.name: each.value for each in (*variables, *item.overrides) if each.name in known and each.name != BUILTIN}
            _one_patch(blueprint.named, one, item, {**given, BUILTIN: {**builtin, **item.builtin}})
    for item in items:
        item.finish()


def _one_patch(named: str, one: ClusterClassPatch, item: Patched, variables: Mapping[str, Any]) -> None:
    matching = [
        (number, definition)
        for number, definition in enumerate(one.definitions, 1)
        if selects(definition.selector, item.place, item.template.api_version, item.template.key.kind)
    ]
    if not matching:
        return
    where = f'{named}: patch "{one.name}"'
    of = f"on the {item.template.key.kind} {item.template.key.name} ({item.place})"
    try:
        if not enabled(one.enabled_if, variables):
            return
    except NoValueError as error:
        raise TopologyError(f"{where}, enabledIf {of}: {error}") from error
    for number, definition in matching:
        _one_definition(f"{where}, definition {number}", of, definition, item, variables)


def _one_definition(where: str, of: str, definition: PatchDefinition, item: Patched, variables: Mapping[str, Any]) -> None:
    # a definition's values are all computed before its first operation is done
    operations: list[Operation] = []
    for number, one in enumerate(definition.json_patches, 1):
        try:
            operations.append(Operation(one.op, one.path, _value(one, variables)))
        except NoValueError as error:
            raise TopologyError(f"{where}, operation {number} ({one.op} {one.path}) {of}: {error}") from error
    for number, operation in enumerate(operations, 1):
        try:
            apply_to(item.document, operation)
        except PatchError as error:
            raise TopologyError(f"{where}, operation {number} ({operation}) {of}: {error}") from error


def _value(one: JSONPatch, variables: Mapping[str, Any]) -> Any:
    if one.op == "remove":
        return None
    if one.value is not None:
        return one.value
    if one.value_from is None:
        raise NoValueError("it has neither value nor valueFrom; give one of them")
    if one.value_from.variable is not None:
        return variable(variables, one.value_from.variable)
    return rendered(one.value_from.template or "", variables)
