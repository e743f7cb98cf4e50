"""The order of a control plane's phases. At most one Machine is made or deleted in a run; all else that can be done is done in it.

The status tells what was observed. A run whose own writes change that at once (first certificates, first Machine, a look at etcd) leaves it to
the next, which those writes wake.

Source: kinds.md §8.1, §18; architecture.md §4 (one run does all it can).
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from fleetwake import labels
from fleetwake.errors import InvalidError
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owners_with, target
from fleetwake.plan import Create, Patch, Plan, Step, flatten, soonest
from services.reconcilers.kinds.kubeadm_control_plane import certificates, health, machines, scale, status
from services.reconcilers.kinds.kubeadm_control_plane.delete import reconcile_delete
from services.reconcilers.kinds.kubeadm_control_plane.expiry import note_expiry
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import Preflight
from services.reconcilers.kinds.pausing import paused_condition, paused_plan
from services.reconcilers.kubeadm.versions import kubeadm_api

NOT_INITIALIZED_RETRY = timedelta(seconds=20)


def reconcile(observed: Observed) -> Plan:
    """Decide for one KubeadmControlPlane."""
    kcp = observed.kcp
    paused = paused_condition(kcp, observed.cluster)
    if paused.status == "True":
        return paused_plan(kcp, kcp.status.conditions, paused, status.OWNED, observed.at)
    return reconcile_delete(observed) if kcp.metadata.deleting else _reconcile(observed)


def _reconcile(observed: Observed) -> Plan:
    judged = health.judge(observed)
    if observed.failure is not None:
        # only a change can mend it: tell, and wait for one
        return _told(observed, judged, (), scale.Move(), None)
    steps: list[Step] = [step for step in (_finalizer(observed), _own_template(observed)) if step is not None]
    if not observed.cluster.status.initialization.infrastructure_provisioned:
        return _told(observed, judged, steps, scale.Move(), None)
    steps.extend(certificates.certificate_steps(observed))
    if not observed.cluster.spec.control_plane_endpoint.valid:
        return _told(observed, judged, steps, scale.Move(), None)
    # certificates that are missing now were made by the steps above, unless the control plane has been initialized
    kubeconfig, renewal = certificates.kubeconfig_steps(observed, ca_coming=not observed.initialized)
    steps.extend(kubeconfig)
    adoption = machines.adopt(observed)
    if adoption or observed.adoptable or observed.foreign:
        # two controllers of one control plane would undo each other: nothing but adoption until all Machines are ours
        return _told(observed, judged, [*steps, *adoption], scale.Move(preflight=Preflight(_not_ours(observed))), renewal)
    repairs = machines.repair(observed)
    steps.extend(repairs)
    steps.extend(machines.follow(observed))
    notes, retry = note_expiry(observed, judged)
    move = _move(observed, judged)
    plan = _told(observed, judged, [*steps, *notes, *move.steps], move, soonest(renewal, retry))
    return Plan(plan.steps, plan.requeue_after, plan.rests_on_absence or bool(repairs), plan.guarded)


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


def _move(observed: Observed, judged: health.Health) -> scale.Move:
    """The one thing done to the Machines in this run."""
    refusal = _refusal(observed)
    if refusal:
        return scale.Move(preflight=Preflight((refusal,)))
    for phase in (scale.remove_stranger, scale.finish_leaving, scale.scale):
        move = phase(observed, judged)
        if move.steps or move.ends or not move.preflight.passed:
            return move
    return scale.Move()


def _told(observed: Observed, judged: health.Health, steps: Iterable[Step], move: scale.Move, renewal: timedelta | None) -> Plan:
    """The plan with the statuses that this run can tell."""
    steps = list(steps)
    if judged.asking.look is not None and not any(step == judged.asking.look for step in steps):
        steps.append(judged.asking.look)
    held: timedelta | None = None
    if not judged.asking.stale and not _changes_at_once(observed, steps):
        steps.extend(status.machine_steps(observed, judged))
        told, held = status.status_step(observed, judged, status.Progress(move.preflight))
        steps.extend((told,) if told is not None else ())
    poll = NOT_INITIALIZED_RETRY if observed.workload.connected and observed.members and not observed.initialized else None
    return Plan(tuple(steps), soonest(move.wait, judged.wait, renewal, poll, held), move.rests_on_absence, move.guarded)


def _changes_at_once(observed: Observed, steps: Iterable[Step]) -> bool:
    """Whether the run begins the control plane: its answers wake the next run, which has more to tell."""
    return not observed.members and observed.failure is None and any(isinstance(step, Create) for step in flatten(steps))
