"""Deleting a Cluster: workers, then the control plane, then the infrastructure, then the finalizer.

Source: kinds.md §1 (delete order); Cluster API v1.14 cluster controller (reasons and messages of Deleting).
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetwake import labels
from fleetwake.kind import External
from fleetwake.patches import target, without_finalizer
from fleetwake.plan import Delete, Step, Together
from schemas.api.meta import KubeObject
from services.reconcilers.kinds.cluster.descendants import pending_deletion, to_delete_first
from services.reconcilers.kinds.cluster.observed import Observed


@dataclass(frozen=True, slots=True)
class Deletion:
    """The next steps of a deletion and what the Deleting condition says of it. ``final``: the finalizer goes in this run."""

    reason: str
    message: str = ""
    steps: tuple[Step, ...] = ()
    rests_on_absence: bool = False
    final: bool = False


def delete(observed: Observed, *, runtime_hooks: bool = False) -> Deletion:
    """Decide what a Cluster that is being deleted does next. ``runtime_hooks``: the BeforeClusterDelete hook must have allowed it."""
    cluster = observed.cluster
    if runtime_hooks and cluster.spec.topology is not None and not cluster.annotated(labels.OK_TO_DELETE):
        return Deletion("WaitingForBeforeDeleteHook", "Waiting for BeforeClusterDelete hook")
    pending = pending_deletion(observed)
    if pending:
        branches = tuple((_delete(one, "the cluster is being deleted"),) for one in to_delete_first(observed))
        steps = (Together(branches, "workers go before their control plane"),) if branches else ()
        return Deletion("WaitingForWorkersDeletion", "\n".join(pending), steps)
    if not observed.control_plane_readable or not observed.infra_readable:
        return Deletion("InternalError", "The contract version of a referenced object is not known")
    if observed.control_plane is not None:
        waiting = _wait_for(observed.control_plane.obj, "no worker is left")
        return Deletion("WaitingForControlPlaneDeletion", waiting.message, waiting.steps, rests_on_absence=True)
    if observed.infra is not None:
        waiting = _wait_for(observed.infra.obj, "no machine is left")
        return Deletion("WaitingForInfrastructureDeletion", waiting.message, waiting.steps, rests_on_absence=True)
    off = without_finalizer(target(cluster), labels.CLUSTER_FINALIZER, "everything of the cluster is gone")
    return Deletion("DeletionCompleted", "Deletion completed", (off,) if off else (), rests_on_absence=True, final=off is not None)


def _wait_for(obj: External, why: str) -> Deletion:
    step = Delete(obj.key, obj.api_version, obj.metadata.uid, f"the cluster is being deleted and {why}", obj.metadata.resource_version)
    return Deletion("", f"Waiting for {obj.key.kind} to be deleted", () if obj.metadata.deleting else (step,))


def _delete(obj: KubeObject, why: str) -> Delete:
    found = target(obj)
    return Delete(found.key, found.api_version, found.metadata.uid, why)
