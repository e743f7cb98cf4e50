"""The desired state of a topology: every object of it, patched.

Source: kinds.md §10.1 (5), §10.2, §10.3; Cluster API v1.14 (desired state).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fleetwake.topology.blueprint import Blueprint, Json
from fleetwake.topology.selectors import Part, Place
from schemas.api.core.v1beta2.topology import Topology
from services.reconcilers.kinds.cluster_topology import control_plane, health_checks, workers
from services.reconcilers.kinds.cluster_topology.builtins import cluster_builtin, control_plane_builtin, worker_builtin
from services.reconcilers.kinds.cluster_topology.current import Current
from services.reconcilers.kinds.cluster_topology.patches import Patched, patch
from services.reconcilers.kinds.cluster_topology.versions import Versions
from services.reconcilers.kinds.cluster_topology.workers import Workers


@dataclass(slots=True)
class Desired:
    """All objects of a topology as they shall be, under the names those that exist have already."""

    infrastructure_cluster: Json
    control_plane: Json
    control_plane_machines: Json | None
    control_plane_health_check: Json | None
    deployments: tuple[Workers, ...]
    pools: tuple[Workers, ...]

    def bodies(self) -> Iterator[Json]:
        """All of them, in the order in which they come to be."""
        yield self.infrastructure_cluster
        if self.control_plane_machines is not None:
            yield self.control_plane_machines
        yield self.control_plane
        if self.control_plane_health_check is not None:
            yield self.control_plane_health_check
        for one in (*self.deployments, *self.pools):
            yield from (one.bootstrap, one.infrastructure, one.body)
            if one.health_check is not None:
                yield one.health_check


def desired_state(blueprint: Blueprint, current: Current, topology: Topology, versions: Versions) -> Desired:
    """What class and topology ask for. The topology's variables are defaulted and valid. Raises: TopologyError."""
    machines = control_plane.machine_template(blueprint, current)
    asked = topology.workers
    by_name = {one.topology_name: one.version for one in versions.deployments}
    pool_versions = {one.topology_name: one.version for one in versions.pools}
    found = Desired(
        infrastructure_cluster=control_plane.infrastructure_cluster(blueprint, current),
        control_plane=control_plane.control_plane(blueprint, current, topology, machines, versions.control_plane.version),
        control_plane_machines=machines,
        control_plane_health_check=None,
        deployments=tuple(workers.deployment(blueprint, current, one, by_name[one.name]) for one in asked.machine_deployments),
        pools=tuple(workers.pool(blueprint, current, one, pool_versions[one.name]) for one in asked.machine_pools),
    )
    checks = health_checks.chosen(topology.control_plane.health_check, blueprint.cluster_class.spec.control_plane.health_check)
    if machines is not None and checks is not None:
        name = found.control_plane["metadata"]["name"]
        found.control_plane_health_check = health_checks.health_check(current.cluster, name, health_checks.control_plane_selector(), checks)
    _patch(blueprint, current, topology, found)
    return found


def _patch(blueprint: Blueprint, current: Current, topology: Topology, found: Desired) -> None:
    """Let the class's patches change what the templates gave."""
    of_cluster, of_control_plane = _items_of_cluster(blueprint, topology, found)
    machines = of_control_plane[1] if len(of_control_plane) > 1 else None
    of_deployments = [_items_of(blueprint, "machineDeployment", topology, one) for one in found.deployments]
    of_pools = [_items_of(blueprint, "machinePool", topology, one) for one in found.pools]
    items = [of_cluster, *of_control_plane, *(item for pair in (*of_deployments, *of_pools) for item in pair)]
    patch(blueprint, topology.variables, cluster_builtin(current.cluster, topology), items)
    found.infrastructure_cluster, found.control_plane = of_cluster.body, of_control_plane[0].body
    if machines is not None:
        found.control_plane_machines = machines.body
    for one, (bootstrap, infrastructure) in zip((*found.deployments, *found.pools), (*of_deployments, *of_pools), strict=True):
        one.bootstrap, one.infrastructure = bootstrap.body, infrastructure.body


def _items_of_cluster(blueprint: Blueprint, topology: Topology, found: Desired) -> tuple[Patched, list[Patched]]:
    spec = blueprint.cluster_class.spec
    infrastructure = Patched(Place(Part.INFRASTRUCTURE_CLUSTER), blueprint.template(spec.infrastructure.template_ref), found.infrastructure_cluster, made=True)
    builtin = control_plane_builtin(found.control_plane, found.control_plane_machines, topology)
    template, overrides = blueprint.template(spec.control_plane.template_ref), topology.control_plane.variables.overrides
    kept = tuple(path for contract in ("v1beta1", "v1beta2") for path in control_plane.paths(contract).values())
    items = [Patched(Place(Part.CONTROL_PLANE), template, found.control_plane, True, builtin, overrides, kept)]
    if spec.control_plane.machine_infrastructure is not None and found.control_plane_machines is not None:
        machines = blueprint.template(spec.control_plane.machine_infrastructure.template_ref)
        items.append(Patched(Place(Part.CONTROL_PLANE_MACHINES), machines, found.control_plane_machines, False, builtin, overrides))
    return infrastructure, items


def _items_of(blueprint: Blueprint, kind: str, topology: Topology, found: Workers) -> tuple[Patched, Patched]:
    """The bootstrap and infrastructure templates of workers; ``kind`` is machineDeployment or machinePool."""
    if kind == "machineDeployment":
        of_class: Any = blueprint.deployment_class(found.worker_class)
        listed: Any = topology.workers.machine_deployments
        parts = (Part.DEPLOYMENT_BOOTSTRAP, Part.DEPLOYMENT_INFRASTRUCTURE)
    else:
        of_class, listed = blueprint.pool_class(found.worker_class), topology.workers.machine_pools
        parts = (Part.POOL_BOOTSTRAP, Part.POOL_INFRASTRUCTURE)
    overrides = next(one for one in listed if one.name == found.topology_name).variables.overrides
    builtin, made = worker_builtin(kind, found), kind == "machinePool"
    bootstrap, infrastructure = (
        Patched(Place(part, found.topology_name, found.worker_class), blueprint.template(ref), body, made, builtin, overrides)
        for part, ref, body in zip(
            parts, (of_class.bootstrap.template_ref, of_class.infrastructure.template_ref), (found.bootstrap, found.infrastructure), strict=True
        )
    )
    return bootstrap, infrastructure
