"""What is wrong with the patches of a class before any Cluster meets them: templates nobody refers to, paths, values, templates that cannot be read.

For admission of a class, and for its author: everything here would otherwise stop each Cluster of the class.

Source: kinds.md §10.3; contracts.md §11 (ClusterClass: patches); Cluster API v1.14 (validation of inline patches).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fleetwake.templating.go_reading import TemplateError, read
from fleetwake.topology.blueprint import BUILTIN
from fleetwake.topology.json_patch import problem
from fleetwake.topology.schema import Wrong
from fleetwake.topology.selectors import Part, Place, selects
from schemas.api.core.v1beta2.class_variables import ClusterClassPatch, JSONPatch, PatchSelector
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.shared import TemplateReference

_STARS_MAX = 1


def patch_problems(cluster_class: ClusterClass) -> Iterator[Wrong]:
    """What is wrong with the patches of a class, with the place of each in it."""
    seen: set[str] = set()
    known = {one.name for one in cluster_class.spec.variables} | {one.name for one in cluster_class.status.variables} | {BUILTIN}
    for one in cluster_class.spec.patches:
        where = f"spec.patches[{one.name}]"
        if one.name in seen:
            yield Wrong(where, f'the patch "{one.name}" is there twice; name it otherwise')
        seen.add(one.name)
        if bool(one.definitions) == (one.external is not None):
            yield Wrong(where, "it must have either definitions or external")
        yield from _template_problem(one.enabled_if, f"{where}.enabledIf")
        yield from _definition_problems(cluster_class, one, where, known)


def _definition_problems(cluster_class: ClusterClass, one: ClusterClassPatch, where: str, known: set[str]) -> Iterator[Wrong]:
    for number, definition in enumerate(one.definitions):
        place = f"{where}.definitions[{number}]"
        yield from _selector_problems(cluster_class, definition.selector, f"{place}.selector")
        for index, operation in enumerate(definition.json_patches):
            yield from _operation_problems(operation, f"{place}.jsonPatches[{index}]", known)


def _selector_problems(cluster_class: ClusterClass, selector: PatchSelector, where: str) -> Iterator[Wrong]:
    match = selector.match_resources
    for name, names in (("machineDeploymentClass", match.machine_deployment_class), ("machinePoolClass", match.machine_pool_class)):
        for one in names.names if names is not None else ():
            if one.count("*") > _STARS_MAX or "*" in one[1:-1]:
                yield Wrong(f"{where}.matchResources.{name}", f'"{one}" has a star inside, or two; a name may have one at its beginning or end')
    if not any(selects(selector, place, ref.api_version, ref.kind) for place, ref in placed_references(cluster_class)):
        yield Wrong(where, f"no template of the class is meant: none of kind {selector.kind} ({selector.api_version}) stands where matchResources says")


def placed_references(cluster_class: ClusterClass) -> Iterator[tuple[Place, TemplateReference]]:
    """All templates of a class with the places they stand at."""
    spec = cluster_class.spec
    yield Place(Part.INFRASTRUCTURE_CLUSTER), spec.infrastructure.template_ref
    yield Place(Part.CONTROL_PLANE), spec.control_plane.template_ref
    if spec.control_plane.machine_infrastructure is not None:
        yield Place(Part.CONTROL_PLANE_MACHINES), spec.control_plane.machine_infrastructure.template_ref
    for one in spec.workers.machine_deployments:
        yield Place(Part.DEPLOYMENT_BOOTSTRAP, worker_class=one.class_), one.bootstrap.template_ref
        yield Place(Part.DEPLOYMENT_INFRASTRUCTURE, worker_class=one.class_), one.infrastructure.template_ref
    for pool in spec.workers.machine_pools:
        yield Place(Part.POOL_BOOTSTRAP, worker_class=pool.class_), pool.bootstrap.template_ref
        yield Place(Part.POOL_INFRASTRUCTURE, worker_class=pool.class_), pool.infrastructure.template_ref


def _operation_problems(one: JSONPatch, where: str, known: set[str]) -> Iterator[Wrong]:
    wrong = problem(one.op, one.path)
    if wrong:
        yield Wrong(f"{where}.path", wrong)
    source: dict[str, Any] = {}
    if one.value_from is not None:
        source = {name: value for name, value in (("variable", one.value_from.variable), ("template", one.value_from.template)) if value is not None}
    given = (one.value is not None) + (one.value_from is not None)
    if one.op == "remove":
        if given:
            yield Wrong(where, "remove takes no value; drop value and valueFrom")
    elif given != 1 or (one.value_from is not None and len(source) != 1):
        yield Wrong(where, f"{one.op} needs exactly one of value, valueFrom.variable and valueFrom.template")
    yield from _template_problem(source.get("template"), f"{where}.valueFrom.template")
    name = str(source.get("variable", "")).partition(".")[0].partition("[")[0]
    if name and name not in known:
        yield Wrong(f"{where}.valueFrom.variable", f'the class has no variable "{name}"; define it or correct the name')


def _template_problem(template: str | None, where: str) -> Iterator[Wrong]:
    if template:
        try:
            read(template)
        except TemplateError as error:
            yield Wrong(where, f"it cannot be read: {error}")
