"""Deleting a Machine: hooks, drain, volumes, hooks, infrastructure, bootstrap configuration, Node, finalizer. One run goes as far as nothing is waited for.

Source: kinds.md §2 (delete flow); Cluster API v1.14 machine controller (reasons and messages of Deleting).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from fleetwake import labels
from fleetwake.conditions import get, wire_time
from fleetwake.kind import External
from fleetwake.patches import key_of, target, without_finalizer
from fleetwake.plan import Delete, Event, Step, Together, soonest
from services.reconcilers.kinds.machine.drain import DONE, Stage, drain
from services.reconcilers.kinds.machine.node_metadata import node_key
from services.reconcilers.kinds.machine.observed import Observed
from services.reconcilers.kinds.machine.volumes import detach

NODE_DELETION_TIMEOUT = timedelta(seconds=10)
PRE_DRAIN, DRAIN, VOLUMES, PRE_TERMINATE = (
    "waitForPreDrainHookStartTime",
    "nodeDrainStartTime",
    "waitForNodeVolumeDetachStartTime",
    "waitForPreTerminateHookStartTime",
)

Times = dict[str, datetime]


@dataclass(frozen=True, slots=True)
class Deletion:
    """How far the deletion is, what it does next, and when its stages began. ``final``: the finalizer goes in this run."""

    reason: str
    message: str
    times: Times = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None
    guarded: bool = False
    rests_on_absence: bool = False
    final: bool = False

    def after(self, steps: tuple[Step, ...], *, guarded: bool = False) -> Deletion:
        """The same with steps of the stages before it put first."""
        return replace(self, steps=(*steps, *self.steps), guarded=self.guarded or guarded)


def delete(observed: Observed) -> Deletion:
    """Decide what a Machine that is being deleted does next."""
    times = _stored_times(observed)
    if not node_deletion_allowed(observed):
        return _after_node(observed, times, delete_node=False)
    hooks = _hooks(observed, labels.PRE_DRAIN_HOOK_PREFIX)
    if hooks:
        times.setdefault(PRE_DRAIN, observed.at)
        return Deletion("WaitingForPreDrainHook", f"Waiting for pre-drain hooks to succeed (hooks: {','.join(hooks)})", times)
    drained = _drain(observed, times)
    if not drained.done:
        return _waiting("DrainingNode", drained, times, _time_left(observed, times, DRAIN))
    detached = _detach(observed, times)
    told = _event(observed, "DrainingNode", "SuccessfulDrainNode", "success draining Machine's node")
    if not detached.done:
        waiting = _waiting("WaitingForVolumeDetach", detached, times, _time_left(observed, times, VOLUMES))
        return waiting.after((*drained.steps, *told), guarded=drained.guarded)
    told += _event(observed, "WaitingForVolumeDetach", "NodeVolumesDetached", "success waiting for node volumes detaching Machine's node")
    return _after_node(observed, times, delete_node=True).after((*drained.steps, *told), guarded=drained.guarded)


def node_deletion_allowed(observed: Observed) -> bool:
    """Whether the Node may be drained and deleted: there is one, and a control plane that goes on living without it."""
    cluster = observed.cluster
    if cluster is None or cluster.metadata.deleting or not observed.node_name:
        return False
    provider = observed.control_plane
    if provider is not None and provider.obj.metadata.deleting:
        return False
    if provider is not None and provider.externally_managed:
        return True
    return observed.control_plane_machine_left


def _after_node(observed: Observed, times: Times, *, delete_node: bool) -> Deletion:
    """The stages that do not depend on the Node: hooks, infrastructure, configuration, and then the Node itself."""
    hooks = _hooks(observed, labels.PRE_TERMINATE_HOOK_PREFIX)
    if hooks:
        times.setdefault(PRE_TERMINATE, observed.at)
        return Deletion("WaitingForPreTerminateHook", f"Waiting for pre-terminate hooks to succeed (hooks: {','.join(hooks)})", times)
    if not observed.infra_readable or not observed.bootstrap_readable:
        return Deletion("InternalError", "The contract version of a referenced object is not known", times)
    if observed.infra is not None:
        obj = observed.infra.obj
        return Deletion("WaitingForInfrastructureDeletion", f"Waiting for {obj.key.kind} to be deleted", times, _delete(obj))
    steps: tuple[Step, ...] = ()
    if observed.bootstrap is not None:
        obj = observed.bootstrap.obj
        steps = _delete(obj)
        # an object without finalizers is gone when its delete is answered
        if obj.metadata.finalizers or obj.metadata.deleting:
            return Deletion("WaitingForBootstrapDeletion", f"Waiting for {obj.key.kind} to be deleted", times, steps, rests_on_absence=bool(steps))
    return (_delete_node(observed, times) if delete_node else _completed(observed, times)).after(steps)


def _delete_node(observed: Observed, times: Times) -> Deletion:
    """Delete the Node, for as long as the Machine allows; then go on without.

    The time counts from when the Machine was to go, and a drain may have used it up: a Node that can be reached is deleted all the same, but a failure
    then holds up nobody any more.
    """
    deadline = _node_deadline(observed)
    late = deadline is not None and observed.at >= deadline
    workload, node = observed.workload, observed.named_node
    wait = None if deadline is None else deadline - observed.at
    if not workload.connected or (node is None and not workload.watch_synced):
        if late:
            return _completed(observed, times)
        return Deletion("DeletingNode", "Waiting for a connection to delete the Node", times, wait=wait)
    if node is None:
        return _completed(observed, times)
    uid = str(node["metadata"].get("uid", ""))
    step, done = Delete(node_key(observed, observed.node_name), "v1", uid, "the host of the node is gone"), _completed(observed, times)
    if late:
        return replace(done, steps=(Together(((step,), done.steps), reason="the time for deleting the node is over"),), guarded=True)
    return replace(done.after((step,), guarded=True), wait=wait)


def _node_deadline(observed: Observed) -> datetime | None:
    """Until when deleting the Node is tried; None: for ever."""
    seconds = observed.machine.spec.deletion.node_deletion_timeout_seconds
    since = observed.machine.metadata.deletion_timestamp
    if seconds == 0 or since is None:
        return None
    return since + (NODE_DELETION_TIMEOUT if seconds is None else timedelta(seconds=seconds))


def _completed(observed: Observed, times: Times) -> Deletion:
    off = without_finalizer(target(observed.machine), labels.MACHINE_FINALIZER, "everything of the machine is gone")
    return Deletion("DeletionCompleted", "Deletion completed", times, (off,) if off else (), rests_on_absence=True, final=off is not None)


def _drain(observed: Observed, times: Times) -> Stage:
    """The drain, unless it is excluded, over, or its time is up."""
    if labels.EXCLUDE_NODE_DRAINING in observed.machine.metadata.annotations or VOLUMES in times or not _host_lives(observed, times):
        return DONE
    if _time_up(observed, times, DRAIN):
        return DONE
    times.setdefault(DRAIN, observed.at)
    return drain(observed, observed.named_node, times[DRAIN])


def _detach(observed: Observed, times: Times) -> Stage:
    """The wait for volumes, unless it is excluded, over, or its time is up."""
    if labels.EXCLUDE_WAIT_FOR_NODE_VOLUME_DETACH in observed.machine.metadata.annotations or not _host_lives(observed, times):
        return DONE
    if _time_up(observed, times, VOLUMES):
        return DONE
    times.setdefault(VOLUMES, observed.at)
    return detach(observed, observed.named_node, times[VOLUMES])


def _host_lives(observed: Observed, times: Times) -> bool:
    """Whether caring for Pods and volumes still makes sense: the host exists and nobody waits for its end already."""
    return PRE_TERMINATE not in times and observed.infra is not None and not observed.infra.obj.metadata.deleting


def _limit(observed: Observed, stage: str) -> timedelta | None:
    spec = observed.machine.spec.deletion
    seconds = spec.node_drain_timeout_seconds if stage == DRAIN else spec.node_volume_detach_timeout_seconds
    return timedelta(seconds=seconds) if seconds else None


def _time_left(observed: Observed, times: Times, stage: str) -> timedelta | None:
    limit = _limit(observed, stage)
    return times[stage] + limit - observed.at if limit is not None else None


def _time_up(observed: Observed, times: Times, stage: str) -> bool:
    left = _time_left(observed, times, stage) if stage in times else None
    return left is not None and left <= timedelta(0)


def _waiting(reason: str, stage: Stage, times: Times, left: timedelta | None) -> Deletion:
    return Deletion(reason, stage.message, times, stage.steps, soonest(stage.wait, left), guarded=stage.guarded)


def _hooks(observed: Observed, prefix: str) -> list[str]:
    return sorted(key for key in observed.machine.metadata.annotations if key.startswith(prefix))


def _delete(obj: External) -> tuple[Step, ...]:
    if obj.metadata.deleting:
        return ()
    return (Delete(obj.key, obj.api_version, obj.metadata.uid, "the machine is being deleted", obj.metadata.resource_version),)


def _event(observed: Observed, stage: str, reason: str, message: str) -> tuple[Step, ...]:
    """Tell of the end of a stage that the Machine was told to be in; once, because the stage changes with it."""
    machine = observed.machine
    stored = get(machine.status.conditions, "Deleting")
    if stored is None or stored.reason != stage:
        return ()
    return (Event(key_of(machine), f"{machine.GROUP}/{machine.VERSION}", machine.metadata.uid, reason, f'{message} "{observed.node_name}"'),)


def _stored_times(observed: Observed) -> Times:
    stored = observed.machine.status.deletion
    found = {
        PRE_DRAIN: stored.wait_for_pre_drain_hook_start_time,
        DRAIN: stored.node_drain_start_time,
        VOLUMES: stored.wait_for_node_volume_detach_start_time,
        PRE_TERMINATE: stored.wait_for_pre_terminate_hook_start_time,
    }
    return {name: at for name, at in found.items() if at is not None}


def times_wire(times: Times) -> dict[str, Any]:
    """The start times as ``status.deletion`` has them; absent stages are None."""
    return {name: wire_time(times[name]) if name in times else None for name in (DRAIN, VOLUMES, PRE_DRAIN, PRE_TERMINATE)}
