"""Replica counters, versions and phase of a Cluster's status.

Source: kinds.md §1 (phase, replica counters); Cluster API v1.14 cluster controller status.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fleetwake.conditions import is_true
from fleetwake.patches import wire
from fleetwake.versions import summed, versions_of
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import MachineVersion
from services.reconcilers.kinds.cluster.descendants import (
    control_plane_machines,
    owned_by,
    standalone_machine_sets,
    without_pools,
    worker_machines,
)
from services.reconcilers.kinds.cluster.observed import Observed
from services.reconcilers.kinds.cluster.provisioning import Provisioned

COUNTERS = ("desiredReplicas", "replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")
VERSIONS_MAX = 32

Counted = dict[str, Any]


def phase(observed: Observed, provisioned: Provisioned) -> str:
    """The phase: Pending, Provisioning once anything is referred to, Provisioned with infrastructure and endpoint, Deleting."""
    spec = observed.cluster.spec
    if observed.cluster.metadata.deleting:
        return "Deleting"
    if provisioned.infrastructure and provisioned.endpoint.valid:
        return "Provisioned"
    return "Provisioning" if spec.infrastructure_ref or spec.control_plane_ref else "Pending"


def control_plane_counters(observed: Observed) -> Counted:
    """Counters of the control plane: as its provider reports them, else of the Machines there are. Absent counters are None."""
    spec, provider = observed.cluster.spec, observed.control_plane
    if spec.control_plane_ref is None and spec.topology is None:
        return _of_machines(control_plane_machines(observed))
    if provider is None:
        return dict.fromkeys((*COUNTERS, "versions"))
    numbers = (provider.replicas, provider.status_replicas, provider.ready_replicas, provider.available_replicas, provider.up_to_date_replicas)
    versions = tuple(MachineVersion(version=one.version, replicas=one.replicas or None) for one in provider.versions)
    return {**dict(zip(COUNTERS, numbers, strict=True)), "versions": _versions(versions)}


def worker_counters(observed: Observed) -> Counted:
    """Sums over pools, deployments, sets of no deployment and Machines of no one; None where nothing counts."""
    makers: tuple[MachinePool | MachineDeployment | MachineSet, ...] = (
        *observed.machine_pools,
        *observed.machine_deployments,
        *standalone_machine_sets(observed),
    )
    machines = [one for one in without_pools(worker_machines(observed)) if owned_by(one, observed.cluster)]
    alone = _of_machines(machines)
    sums = {
        "desiredReplicas": _sum([*(one.spec.replicas for one in makers), alone["desiredReplicas"]]),
        "replicas": _sum([*(one.status.replicas for one in makers), alone["replicas"]]),
        "readyReplicas": _sum([*(one.status.ready_replicas for one in makers), alone["readyReplicas"]]),
        "availableReplicas": _sum([*(one.status.available_replicas for one in makers), alone["availableReplicas"]]),
        "upToDateReplicas": _sum([*(one.status.up_to_date_replicas for one in makers), alone["upToDateReplicas"]]),
    }
    versions = summed([*(version for one in makers for version in one.status.versions), *versions_of(machines)])
    return {**sums, "versions": _versions(versions)}


def _of_machines(machines: Sequence[Machine]) -> Counted:
    """Machines of no one: each that exists counts as asked for."""
    count = len(machines) or None
    with_condition = [sum(is_true(one.status.conditions, type_) for one in machines) or None for type_ in ("Ready", "Available", "UpToDate")]
    return {**dict(zip(COUNTERS, (count, count, *with_condition), strict=True)), "versions": _versions(versions_of(machines))}


def _sum(numbers: Iterable[int | None]) -> int | None:
    given = [number for number in numbers if number is not None]
    return sum(given) if given else None


def _versions(versions: Sequence[MachineVersion]) -> list[dict[str, Any]] | None:
    return [wire(one) for one in versions[:VERSIONS_MAX]] or None
