"""Deleting a MachinePool: bootstrap configuration and infrastructure, the Machines that are left, the Nodes, the finalizer.

Source: kinds.md §6 step 7; Cluster API v1.14 MachinePool controller (order; the infrastructure deletes its Machines).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from fleetwake import labels
from fleetwake.kind import External
from fleetwake.patches import api_version_of, key_of, target, without_finalizer
from fleetwake.plan import Delete, Step
from schemas.api.core.v1beta2.machine import Machine
from services.reconcilers.kinds.machine_pool.nodes import retired
from services.reconcilers.kinds.machine_pool.observed import Observed


@dataclass(frozen=True, slots=True)
class Deletion:
    """What is waited for, what is done next. ``final``: the finalizer goes in this run; ``guarded``: a Node goes."""

    message: str
    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None
    guarded: bool = False
    rests_on_absence: bool = False
    final: bool = False


def delete(observed: Observed) -> Deletion:
    """Decide what a MachinePool that is being deleted does next."""
    if not observed.infra_readable or not observed.bootstrap_readable:
        return Deletion("The contract version of a referenced object is not known")
    left = [one for one in (observed.bootstrap.obj if observed.bootstrap else None, observed.infra.obj if observed.infra else None) if one is not None]
    if left:
        return Deletion(f"Waiting for {' and '.join(one.key.kind for one in left)} to be deleted", tuple(_object(one) for one in left if not _going(one)))
    if observed.machines:
        # nobody is left who would: the infrastructure went without them
        steps = tuple(_machine(one) for one in observed.machines if not one.metadata.deleting)
        return Deletion("", steps, rests_on_absence=bool(steps))
    return _nodes(observed)


def _going(obj: External) -> bool:
    return obj.metadata.deleting


def _object(obj: External) -> Delete:
    return Delete(obj.key, obj.api_version, obj.metadata.uid, "the pool is being deleted", obj.metadata.resource_version)


def _machine(one: Machine) -> Delete:
    return Delete(key_of(one), api_version_of(one), one.metadata.uid, "the infrastructure of its pool is gone", one.metadata.resource_version)


def _nodes(observed: Observed) -> Deletion:
    """Delete the Nodes that are left, for as long as the pool allows; not in a cluster that goes as a whole."""
    pool = observed.pool
    off = without_finalizer(target(observed.stored), labels.MACHINE_POOL_FINALIZER, "everything of the pool is gone")
    last = Deletion("Deletion completed", (off,) if off else (), rests_on_absence=True, final=True)
    cluster, since = observed.cluster, pool.metadata.deletion_timestamp
    if not pool.status.node_refs or cluster is None or cluster.metadata.deleting or since is None:
        return last
    seconds = pool.spec.template.spec.deletion.node_deletion_timeout_seconds
    deadline = since + timedelta(seconds=seconds) if seconds else None
    if deadline is not None and observed.at >= deadline:
        return last
    wait = deadline - observed.at if deadline is not None else None
    if not observed.nodes_known:
        return Deletion("Waiting for a connection to delete the Nodes", wait=wait)
    return Deletion(last.message, (*retired(observed, ()), *last.steps), wait, guarded=True, rests_on_absence=True, final=True)
