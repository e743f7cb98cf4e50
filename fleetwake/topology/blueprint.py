"""The class of a topology with the templates it names, and how class and topology are merged.

Source: kinds.md §10.1, §10.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from fleetwake import labels
from fleetwake.conditions import TRUE, get
from fleetwake.kind import External
from schemas.api.core.v1beta2.cluster_class import ClusterClass, MachineDeploymentClass, MachinePoolClass
from schemas.api.core.v1beta2.shared import TemplateMetadata, TemplateReference

Json = dict[str, Any]
T = TypeVar("T")
W = TypeVar("W", MachineDeploymentClass, MachinePoolClass)

BUILTIN = "builtin"
"""The variable that patches have besides those of the class."""
INLINE = "inline"
"""Where the definitions of variables come from that the class says itself."""
_NOT_PROPAGATED = (labels.DEFER_UPGRADE, labels.HOLD_UPGRADE_SEQUENCE)


class TopologyError(ValueError):
    """The topology cannot be had from its class; the message says why and what to change."""


class TemplateKey(NamedTuple):
    """What a template is found by."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A ClusterClass with the templates it names that exist."""

    cluster_class: ClusterClass
    templates: Mapping[TemplateKey, External]

    @property
    def named(self) -> str:
        """The class as messages name it."""
        return f"ClusterClass {self.cluster_class.namespace}/{self.cluster_class.name}"

    def template(self, ref: TemplateReference) -> External:
        """The template of a reference. Raises: TopologyError when it does not exist."""
        found = self.templates.get(TemplateKey(ref.api_version, ref.kind, ref.name))
        if found is None:
            raise TopologyError(
                f"{self.named} names the {ref.kind} {ref.name} ({ref.api_version}), which does not exist "
                f"in namespace {self.cluster_class.namespace}; create it or correct the class"
            )
        if found.api_version != ref.api_version:
            # its fields, and the paths of patches, would be those of another version
            raise TopologyError(f"{self.named} names the {ref.kind} {ref.name} as {ref.api_version}; name it as {found.api_version}, its contract's newest")
        return found

    def deployment_class(self, name: str) -> MachineDeploymentClass:
        """A class of MachineDeployments. Raises: TopologyError when there is none of that name."""
        return self._class(name, self.cluster_class.spec.workers.machine_deployments, "MachineDeployment")

    def pool_class(self, name: str) -> MachinePoolClass:
        """A class of MachinePools. Raises: TopologyError when there is none of that name."""
        return self._class(name, self.cluster_class.spec.workers.machine_pools, "MachinePool")

    def _class(self, name: str, classes: tuple[W, ...], kind: str) -> W:
        found = next((one for one in classes if one.class_ == name), None)
        if found is None:
            known = ", ".join(one.class_ for one in classes) or "none"
            raise TopologyError(f'{self.named} has no {kind} class "{name}"; it has {known}')
        return found

    def variables_from(self, source: str) -> frozenset[str]:
        """The names of the variables that have a definition from there."""
        return frozenset(one.name for one in self.cluster_class.status.variables if any(each.from_ == source for each in one.definitions))


VARIABLES_READY = "VariablesReady"


def class_problem(cluster_class: ClusterClass) -> str:
    """Why a class cannot be used yet, empty when it can."""
    named = f"ClusterClass {cluster_class.namespace}/{cluster_class.name}"
    if cluster_class.metadata.generation != (cluster_class.status.observed_generation or 0):
        return f"{named} is not reconciled: its status is older than its spec; look at its conditions, and whether it is paused"
    ready = get(cluster_class.status.conditions, VARIABLES_READY)
    if ready is None or ready.status != TRUE:
        return f"{named} is not ready: {ready.message if ready is not None and ready.message else 'its variables are not known yet'}"
    return ""


def references(cluster_class: ClusterClass) -> Iterator[TemplateReference]:
    """All templates a class names, each once, in the order of its fields."""
    spec = cluster_class.spec
    found = [spec.infrastructure.template_ref, spec.control_plane.template_ref]
    if spec.control_plane.machine_infrastructure is not None:
        found.append(spec.control_plane.machine_infrastructure.template_ref)
    workers: tuple[MachineDeploymentClass | MachinePoolClass, ...] = (*spec.workers.machine_deployments, *spec.workers.machine_pools)
    for worker in workers:
        found += [worker.bootstrap.template_ref, worker.infrastructure.template_ref]
    seen: set[TemplateKey] = set()
    for ref in found:
        key = TemplateKey(ref.api_version, ref.kind, ref.name)
        if key not in seen:
            seen.add(key)
            yield ref


def first_given(*values: T | None) -> T | None:
    """The first value that is given: the topology's before the class's."""
    return next((value for value in values if value is not None), None)


def merged_labels(topology: TemplateMetadata, of_class: TemplateMetadata) -> dict[str, str]:
    """Labels of class and topology, where the topology wins."""
    return {**of_class.labels, **topology.labels}


def merged_annotations(topology: TemplateMetadata, of_class: TemplateMetadata) -> dict[str, str]:
    """Annotations of class and topology, where the topology wins; those that steer upgrades stay where they are."""
    found = {**of_class.annotations, **topology.annotations}
    return {key: value for key, value in found.items() if key not in _NOT_PROPAGATED}
