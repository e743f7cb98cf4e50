"""Where a template stands in a topology, and which patches mean it.

Source: kinds.md §10.3 (selector); Cluster API v1.14 (inline patches: matching).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from schemas.api.core.v1beta2.class_variables import PatchSelector, PatchSelectorNames

ANY = "*"


class Part(Enum):
    """The part of a topology that a template is for."""

    INFRASTRUCTURE_CLUSTER = "infrastructure cluster"
    CONTROL_PLANE = "control plane"
    CONTROL_PLANE_MACHINES = "control plane machines"
    DEPLOYMENT_BOOTSTRAP = "MachineDeployment bootstrap"
    DEPLOYMENT_INFRASTRUCTURE = "MachineDeployment infrastructure"
    POOL_BOOTSTRAP = "MachinePool bootstrap"
    POOL_INFRASTRUCTURE = "MachinePool infrastructure"


_DEPLOYMENTS = (Part.DEPLOYMENT_BOOTSTRAP, Part.DEPLOYMENT_INFRASTRUCTURE)
_POOLS = (Part.POOL_BOOTSTRAP, Part.POOL_INFRASTRUCTURE)


@dataclass(frozen=True, slots=True)
class Place:
    """A template's part, and of workers their name in the topology and their class."""

    part: Part
    topology_name: str = ""
    worker_class: str = ""

    def __str__(self) -> str:
        return f"{self.part.value} of {self.topology_name}" if self.topology_name else self.part.value


def selects(selector: PatchSelector, place: Place, api_version: str, kind: str) -> bool:
    """Whether a selector means the template of that version and kind at that place."""
    if (selector.api_version, selector.kind) != (api_version, kind):
        return False
    match = selector.match_resources
    if place.part is Part.INFRASTRUCTURE_CLUSTER:
        return bool(match.infrastructure_cluster)
    if place.part in (Part.CONTROL_PLANE, Part.CONTROL_PLANE_MACHINES):
        return bool(match.control_plane)
    if place.part in _DEPLOYMENTS:
        return _named(match.machine_deployment_class, place.worker_class)
    return place.part in _POOLS and _named(match.machine_pool_class, place.worker_class)


def _named(names: PatchSelectorNames | None, name: str) -> bool:
    return names is not None and any(fits(pattern, name) for pattern in names.names)


def fits(pattern: str, name: str) -> bool:
    """Whether a name is the pattern's; a star at either end of a pattern stands for anything there."""
    if pattern in (ANY, name):
        return True
    if pattern.startswith(ANY) and name.endswith(pattern[1:]):
        return True
    return pattern.endswith(ANY) and name.startswith(pattern[:-1])
