"""Replace outdated Machines by new ones, one at a time: first one more where the strategy allows it, then one fewer, until none is outdated.

Before any Machine is touched the workload cluster is made ready for what the new ones are: kubeadm's permissions and its configuration.

Source: kinds.md §8.2; Cluster API v1.14 (order of the preparations, maxSurge).
"""

from __future__ import annotations

from datetime import timedelta

from fleetwake.plan import soonest
from services.reconcilers.kinds.kubeadm_control_plane import scale
from services.reconcilers.kinds.kubeadm_control_plane.cluster_configuration import follow_configuration
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.move import Move
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kinds.kubeadm_control_plane.permissions import grant_permissions
from services.reconcilers.kinds.kubeadm_control_plane.preflight import Preflight, check
from services.reconcilers.kinds.kubeadm_control_plane.up_to_date import outdated

REPLICAS_MIN_WITHOUT_SURGE = 3


def roll_out(observed: Observed, health: Health) -> Move:
    """Bring the replacement of outdated Machines one step further."""
    reasons = {member.name: found for member in observed.living if (found := outdated(observed, member))}
    if not reasons:
        return Move()
    if not health.readable:
        result = check(observed, health, scale_up=True)
        return scale.blocked(observed, result) if not result.passed else Move(ends=True)
    for prepare in (grant_permissions, follow_configuration):
        ready = prepare(observed)
        if ready is not None:
            return ready
    reason = "rollout: " + "; ".join(sorted({text for found in reasons.values() for text in found}))
    if len(observed.members) < observed.replicas + surge(observed):
        return scale.up(observed, health, reason)
    return scale.down(observed, health, reason)


def wait_for_update(observed: Observed, health: Health) -> Move:
    """Nothing is made or deleted while a Machine is updated in place."""
    updating = [member.name for member in observed.living if member.updating]
    return Move(preflight=Preflight((f"waiting for the in-place update of Machine {updating[0]} to complete",)), ends=True) if updating else Move()


def surge(observed: Observed) -> int:
    """How many Machines too many a rollout may have: 1, or 0 where that is asked for and leaves a control plane that can spare one."""
    strategy = observed.kcp.spec.rollout.strategy
    asked = strategy.rolling_update.max_surge if strategy is not None else None
    return 0 if str(asked) == "0" and observed.replicas >= REPLICAS_MIN_WITHOUT_SURGE else 1


def due_in(observed: Observed) -> timedelta | None:
    """When the next Machine will be outdated by time alone: by rollout.after, or as its certificates near their end."""
    rollout, waits = observed.kcp.spec.rollout, []
    if rollout.after is not None and rollout.after > observed.at:
        waits.append(rollout.after - observed.at)
    days = rollout.before.certificates_expiry_days
    for member in observed.living if days is not None else ():
        expiry = member.machine.status.certificates_expiry_date
        if expiry is not None and expiry - timedelta(days=days or 0) >= observed.at:
            waits.append(expiry - timedelta(days=days or 0) - observed.at + timedelta(seconds=1))
    return soonest(*waits)
