"""The order of a control plane's phases. At most one Machine is made or deleted in a run; all else that can be done is done in it.

The status tells what was observed. A run whose own writes change that at once (first certificates, first Machine, a look at etcd) leaves it to
the next, which those writes wake.

Source: kinds.md §8.1, §18; architecture.md §4 (one run does all it can).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from fleetwake import labels
from fleetwake.errors import InvalidError
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owners_with, target
from fleetwake.plan import Create, Patch, Plan, Step, flatten, soonest
from services.reconcilers.kinds.kubeadm_control_plane import certificates, chain, health, machines, remediation, status
from services.reconcilers.kinds.kubeadm_control_plane.addons import update_addons
from services.reconcilers.kinds.kubeadm_control_plane.delete import reconcile_delete
from services.reconcilers.kinds.kubeadm_control_plane.expiry import note_expiry
from services.reconcilers.kinds.kubeadm_control_plane.kubeconfigs import issue
from services.reconcilers.kinds.kubeadm_control_plane.leaving import finish_leaving, remove_stranger
from services.reconcilers.kinds.kubeadm_control_plane.move import Move
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import Preflight
from services.reconcilers.kinds.kubeadm_control_plane.rollout import due_in, roll_out, wait_for_update
from services.reconcilers.kinds.kubeadm_control_plane.scale import scale
from services.reconcilers.kinds.pausing import paused_condition, paused_plan
from services.reconcilers.kubeadm.versions import kubeadm_api

NOT_INITIALIZED_RETRY = timedelta(seconds=20)


def reconcile(observed: Observed) -> Plan:
    """Decide for one KubeadmControlPlane."""
    kcp = observed.kcp
    paused = paused_condition(kcp, observed.cluster)
    if paused.status == "True":
        owned = status.OWNED if observed.etcd_managed else status.OWNED_WITHOUT_ETCD
        return paused_plan(kcp, kcp.status.conditions, paused, owned, observed.at)
    return reconcile_delete(observed) if kcp.metadata.deleting else _reconcile(observed)


def _reconcile(observed: Observed) -> Plan:
    judged = health.judge(observed)
    if observed.failure is not None:
        # only a change can mend it: tell, and wait for one
        return _told(observed, judged, (), Move(), None)
    steps: list[Step] = [step for step in (_finalizer(observed), _own_template(observed)) if step is not None]
    if not observed.cluster.status.initialization.infrastructure_provisioned:
        return _told(observed, judged, steps, Move(), None)
    steps.extend(certificates.certificate_steps(observed))
    if not observed.cluster.spec.control_plane_endpoint.valid:
        return _told(observed, judged, steps, Move(), None)
    # certificates that are missing now were made by the steps above, unless the control plane has been initialized
    kubeconfig, renewal = certificates.kubeconfig_steps(observed, ca_coming=not observed.initialized)
    steps.extend(kubeconfig)
    adoption = machines.adopt(observed)
    if adoption or observed.adoptable or observed.foreign:
        # two controllers of one control plane would undo each other: nothing but adoption until all Machines are ours. It is guarded, because
        # a control plane that was deleted without its Machines lets them go, which may be seen before its own end
        return _told(observed, judged, [*steps, *adoption], Move(preflight=Preflight(_not_ours(observed)), guarded=bool(adoption)), renewal)
    repairs = machines.repair(observed)
    steps.extend(repairs)
    steps.extend(machines.follow(observed))
    steps.extend(chain.clean_up(observed))
    notes, retry = note_expiry(observed, judged)
    move, issued = _move(observed, judged), issue(observed)
    plan = _told(observed, judged, [*steps, *notes, *move.steps, *issued.steps], move, soonest(renewal, retry, due_in(observed), issued.wait))
    return Plan(plan.steps, plan.requeue_after, plan.rests_on_absence or bool(repairs), plan.guarded or issued.guarded)


def _not_ours(observed: Observed) -> tuple[str, ...]:
    refusals = [text for text in (machines.refusal(observed, machine) for machine in observed.adoptable) if text]
    foreign = [f"Machine {name} is controlled by another object" for name in observed.foreign]
    return (*refusals, *foreign)


def _refusal(observed: Observed) -> str:
    """Why no Machine may be touched, ``""`` if nothing forbids it."""
    try:
        kubeadm_api(observed.version)
    except InvalidError as error:
        return error.message
    return ""


def _finalizer(observed: Observed) -> Patch | None:
    kcp = observed.kcp
    if labels.KUBEADM_CONTROL_PLANE_FINALIZER in kcp.metadata.finalizers:
        return None
    wanted = MetadataChange(finalizers=(*kcp.metadata.finalizers, labels.KUBEADM_CONTROL_PLANE_FINALIZER))
    return metadata_patch(target(kcp), wanted, "Machines are to be deleted before their control plane")


def _own_template(observed: Observed) -> Patch | None:
    """The Cluster owns the infrastructure template, so that a move carries it and a deletion collects it."""
    found = observed.template
    if found is None or found.metadata.deleting:
        return None
    wanted = owners_with(found.metadata.owner_references, owner_reference(observed.cluster))
    return metadata_patch(Target(found.key, found.api_version, found.metadata), MetadataChange(owners=wanted), "the Cluster owns the templates it is made of")


PHASES = (remove_stranger, finish_leaving, remediation.remediate, wait_for_update, roll_out, scale, update_addons)
"""In this order; the first that does something, or forbids it, is the last of a run. So at most one Machine is made or deleted, or one member removed."""


def _move(observed: Observed, judged: health.Health) -> Move:
    """The one thing done to the Machines in this run, and what Machines are told of their remediation."""
    refusal = _refusal(observed)
    if refusal:
        return Move(preflight=Preflight((refusal,)))
    told = dict(remediation.waiting(observed, judged)) if observed.leaving else {}
    wait: timedelta | None = None
    for phase in PHASES:
        move = phase(observed, judged)
        told |= move.remediated
        wait = soonest(wait, move.wait)
        if move.decides:
            return replace(move, wait=wait, remediated=told)
    return Move(wait=wait, remediated=told)


def _told(observed: Observed, judged: health.Health, steps: Iterable[Step], move: Move, renewal: timedelta | None) -> Plan:
    """The plan with the statuses that this run can tell."""
    steps = list(steps)
    if judged.asking.look is not None and not any(step == judged.asking.look for step in steps):
        steps.append(judged.asking.look)
    held: timedelta | None = None
    if not judged.asking.stale and not _changes_at_once(observed, steps):
        progress = status.Progress(move.preflight, remediated=move.remediated)
        steps.extend(status.machine_steps(observed, judged, progress))
        told, held = status.status_step(observed, judged, progress)
        steps.extend((told,) if told is not None else ())
    poll = NOT_INITIALIZED_RETRY if observed.workload.connected and observed.members and not observed.initialized else None
    return Plan(tuple(steps), soonest(move.wait, judged.wait, renewal, poll, held), move.rests_on_absence, move.guarded)


def _changes_at_once(observed: Observed, steps: Iterable[Step]) -> bool:
    """Whether the run begins the control plane: its answers wake the next run, which has more to tell."""
    return not observed.members and observed.failure is None and any(isinstance(step, Create) for step in flatten(steps))
