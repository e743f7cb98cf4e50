"""The decision of a MachineSet: which of its phases run, and in which order.

Source: kinds.md §3 "Steps"; §0.1 as architecture.md §4 changes it (one run does all it can).
"""

from __future__ import annotations

from datetime import timedelta

from fleetwake import labels
from fleetwake.conditions import TRUE
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owners_with, target, without_finalizer
from fleetwake.pausing import paused_condition, paused_plan
from fleetwake.plan import Patch, Plan, Step, soonest
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.keys import GroupKind
from services.reconcilers.kinds import defaults
from services.reconcilers.kinds.machine_set import machine, members, preflight
from services.reconcilers.kinds.machine_set.observe import Observed
from services.reconcilers.kinds.machine_set.remediate import remediate
from services.reconcilers.kinds.machine_set.scale import delete, orphans, repair, scale, together
from services.reconcilers.kinds.machine_set.status import OWNED, status

CLUSTER_RETRY = timedelta(seconds=30)


def reconcile(observed: Observed) -> Plan:
    """Decide what one MachineSet needs now."""
    paused = paused_condition(observed.stored, observed.cluster)
    if paused.status == TRUE:
        return paused_plan(observed.stored, observed.stored.status.conditions, paused, OWNED, observed.at)
    if observed.stored.metadata.deleting:
        return _deleting(observed)
    cluster = observed.cluster
    if cluster is None:
        return Plan(requeue_after=CLUSTER_RETRY)
    first = _own_patch(observed, cluster)
    adopted = [step for one in observed.machines if one.metadata.controller is None and (step := _adopt(observed, target(one))) is not None]
    blockers = preflight.failures(preflight.Scene(observed.machine_set, cluster, observed.control_plane, observed.bootstrap_template))
    remedy = remediate(observed, blockers)
    following = _following(observed)
    rest = (*repair(observed), *orphans(observed))
    scaling = scale(observed, blockers, remedy.going)
    work = (*_given(first), *template_owners(cluster, observed.infrastructure_template, observed.bootstrap_template), *adopted)
    steps = (*work, *remedy.steps, *following, *rest, *scaling.steps)
    wait = soonest(remedy.wait, scaling.wait, members.up_to_date_grace_left(observed.machines, observed.at))
    plan = Plan(steps, wait, rests_on_absence=bool(rest))
    moved = bool(scaling.steps or remedy.going or (first is not None and "spec" in first.body)) and observed.failure is None
    return _with_status(observed, plan, scaling.blockers, moved=moved, follows=bool(following))


def _with_status(observed: Observed, plan: Plan, blockers: tuple[str, ...], *, moved: bool, follows: bool) -> Plan:
    """Add the status write.

    A run that makes or deletes Machines (``moved``) leaves it to the run which its own writes wake: what was counted is about to change.
    While a changed template is being followed, observedGeneration advances only behind the last step that follows it, so that a run which
    fails in between is repeated with the knowledge that the template changed.
    """
    steps, wait, generation = plan.steps, plan.requeue_after, observed.stored.metadata.generation
    late = follows and machine.template_changed(observed)
    if not moved:
        step, held = status(observed, blockers, observed.stored.status.observed_generation if late else generation)
        steps = (*_given(step), *steps) if late else (*steps, *_given(step))
        wait = soonest(wait, held)
    if late:
        steps = (*steps, _followed(observed, generation))
    return Plan(steps, wait, plan.rests_on_absence)


def _followed(observed: Observed, generation: int) -> Patch:
    own = target(observed.stored)
    body = {"status": {"observedGeneration": generation}}
    return Patch(own.key, own.api_version, own.metadata.uid, body, "all Machines follow the changed template", subresource="status")


def _given(step: Step | None) -> tuple[Step, ...]:
    return (step,) if step is not None else ()


def _own_patch(observed: Observed, cluster: Cluster) -> Patch | None:
    """Finalizer, owner, label and stored defaults of the MachineSet in one patch."""
    own, stored = target(observed.stored), observed.stored.metadata
    finalizers = stored.finalizers if labels.MACHINE_SET_FINALIZER in stored.finalizers else (*stored.finalizers, labels.MACHINE_SET_FINALIZER)
    owners = stored.owner_references
    held = {GroupKind(ref.group, ref.kind) for ref in owners}
    standalone = not observed.of_deployment and GroupKind(MachineDeployment.GROUP, MachineDeployment.KIND) not in held
    if standalone:
        owners = owners_with(owners, owner_reference(cluster))
    change = MetadataChange(finalizers, owners, labels={labels.CLUSTER_NAME: cluster.name})
    spec = defaults.stored_spec(observed.stored, observed.machine_set)
    return metadata_patch(own, change, "the MachineSet needs its finalizer, owner, labels and defaults", spec=spec)


def template_owners(cluster: Cluster, *templates: External | None) -> tuple[Patch, ...]:
    """Make the Cluster an owner of the templates that do not have it yet, so that they go with it."""
    steps = []
    for template in templates:
        if template is None or not members.is_template(template.key.kind) or template.metadata.deleting:
            continue
        owners = owners_with(template.metadata.owner_references, owner_reference(cluster))
        step = metadata_patch(
            Target(template.key, template.api_version, template.metadata), MetadataChange(owners=owners), f"the template belongs to Cluster {cluster.name}"
        )
        if step is not None:
            steps.append(step)
    return tuple(steps)


def _adopt(observed: Observed, orphan: Target) -> Patch | None:
    owners = owners_with(orphan.metadata.owner_references, owner_reference(observed.machine_set, controller=True))
    return metadata_patch(orphan, MetadataChange(owners=owners), f"the Machine matches MachineSet {observed.machine_set.name} and has no controller")


def _following(observed: Observed) -> tuple[Step, ...]:
    """In-place propagation to Machines and their objects; a Machine just being adopted follows in the next run."""
    steps: list[Step] = []
    for one in observed.machines:
        if one.metadata.controller is None:
            continue
        steps += _given(machine.follow(observed, one))
        if not one.metadata.deleting:
            steps += machine.follow_metadata(observed, one)
    return together(steps, "Machines follow the template in place")


def _deleting(observed: Observed) -> Plan:
    """Delete all Machines at once; the last one gone, let the MachineSet go."""
    if not observed.machines:
        last = without_finalizer(target(observed.stored), labels.MACHINE_SET_FINALIZER, "no Machine is left")
        return Plan(_given(last), rests_on_absence=last is not None)
    going = together([delete(one, "the MachineSet is being deleted") for one in observed.machines if not one.metadata.deleting], "the MachineSet goes")
    step, held = status(observed, (), observed.stored.metadata.generation)
    return Plan((*going, *_given(step)), held)
