"""The Machines and what makes Machines of a Cluster, sorted by the part they play.

Source: kinds.md §1 (replica counters, delete order).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from fleetwake import labels
from fleetwake.conditions import is_false
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.meta import KubeObject
from services.reconcilers.kinds.cluster.observed import Observed

NAMES_MAX = 5


def control_plane_machines(observed: Observed) -> tuple[Machine, ...]:
    """Machines that carry the control plane label."""
    return tuple(machine for machine in observed.machines if labels.CONTROL_PLANE in machine.metadata.labels)


def worker_machines(observed: Observed) -> tuple[Machine, ...]:
    """All other Machines."""
    return tuple(machine for machine in observed.machines if labels.CONTROL_PLANE not in machine.metadata.labels)


def without_pools(machines: Iterable[Machine]) -> tuple[Machine, ...]:
    """The Machines that do not stand for instances of a MachinePool: those report no condition about being up to date."""
    return tuple(machine for machine in machines if labels.POOL_NAME not in machine.metadata.labels)


def unhealthy(machines: Iterable[Machine]) -> tuple[Machine, ...]:
    """Machines whose health check failed."""
    return tuple(machine for machine in machines if is_false(machine.status.conditions, "HealthCheckSucceeded"))


def to_be_remediated(machines: Iterable[Machine]) -> tuple[Machine, ...]:
    """Unhealthy Machines whose owner has been asked to remediate."""
    return tuple(machine for machine in unhealthy(machines) if is_false(machine.status.conditions, "OwnerRemediated"))


def owned_by(obj: KubeObject, cluster: Cluster) -> bool:
    """Whether the object has the Cluster itself among its owners."""
    return any(ref.uid == cluster.metadata.uid for ref in obj.metadata.owner_references)


def standalone_machine_sets(observed: Observed) -> tuple[MachineSet, ...]:
    """MachineSets that belong to the Cluster and to no MachineDeployment."""
    return tuple(one for one in observed.machine_sets if owned_by(one, observed.cluster))


def to_delete_first(observed: Observed) -> Iterator[KubeObject]:
    """What the Cluster deletes before its control plane: pools, deployments, and sets and Machines of no one else.

    Control plane Machines only where no control plane provider answers for them.
    """
    machines: tuple[Machine, ...] = worker_machines(observed)
    if observed.cluster.spec.control_plane_ref is None:
        machines += control_plane_machines(observed)
    candidates: tuple[Sequence[KubeObject], ...] = (observed.machine_pools, observed.machine_deployments, observed.machine_sets, machines)
    for group in candidates:
        yield from (one for one in group if owned_by(one, observed.cluster) and not one.metadata.deleting)


def pending_deletion(observed: Observed) -> tuple[str, ...]:
    """What of any ownership must be gone before the control plane may go, a line per kind with names."""
    lines = []
    if observed.cluster.spec.control_plane_ref is None:
        lines.append(("Control plane Machines", control_plane_machines(observed)))
    groups: tuple[tuple[str, Sequence[KubeObject]], ...] = (
        *lines,
        ("MachineDeployments", observed.machine_deployments),
        ("MachineSets", observed.machine_sets),
        ("MachinePools", observed.machine_pools),
        ("Worker Machines", worker_machines(observed)),
    )
    return tuple(f"* {title}: {listed((one.name for one in group), NAMES_MAX)}" for title, group in groups if group)


def listed(names: Iterable[str], limit: int) -> str:
    """Names in order, at most ``limit`` of them, and how many more."""
    ordered = sorted(names)
    more = [f"... ({len(ordered) - limit} more)"] if len(ordered) > limit else []
    return ", ".join(ordered[:limit] + more)
