"""The decision of a MachineDeployment: own metadata, templates, the MachineSets' next state, clean up, status.

Source: kinds.md §4 "Steps"; §0.1 as architecture.md §4 changes it (one run does all it can, MachineSets are made with their planned replicas).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import cast

from fleetwake import defaults, labels
from fleetwake.conditions import TRUE
from fleetwake.patches import MetadataChange, api_version_of, key_of, metadata_patch, owner_reference, owners_with, target, without_finalizer
from fleetwake.pausing import paused_condition, paused_plan
from fleetwake.plan import Delete, Patch, Plan, Step, soonest
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from services.reconcilers.kinds.machine_deployment import revision
from services.reconcilers.kinds.machine_deployment.observe import Observed
from services.reconcilers.kinds.machine_deployment.planner import (
    Bounds,
    Counts,
    Intent,
    Strategy,
    plan,
    plan_paused,
    plan_towards,
    rolling_bounds,
    rolling_targets,
)
from services.reconcilers.kinds.machine_deployment.revision import Children, Desired, Revisions, counts
from services.reconcilers.kinds.machine_deployment.status import OWNED, sets_behind, status, total
from services.reconcilers.kinds.machine_deployment.strategy import Consultation, consult
from services.reconcilers.kinds.machine_set import members
from services.reconcilers.kinds.machine_set.reconcile import CLUSTER_RETRY, template_owners
from services.reconcilers.kinds.machine_set.scale import together


def reconcile(observed: Observed) -> Plan:
    """Decide what one MachineDeployment needs now."""
    paused = paused_condition(observed.stored, observed.cluster)
    if paused.status == TRUE:
        return paused_plan(observed.stored, observed.stored.status.conditions, paused, OWNED, observed.at)
    revisions = revision.identify(observed.deployment, observed.machine_sets, observed.at)
    bounds = _bounds(observed.deployment)
    if observed.stored.metadata.deleting:
        return _deleting(observed, revisions, bounds)
    if observed.cluster is None:
        return Plan(requeue_after=CLUSTER_RETRY)
    new, old = _desired(observed, revisions, bounds)
    first = _own_patch(observed, observed.cluster, new)
    external = consult(observed, revisions, bounds)
    sets = _carried_out(observed, _intents(observed, new, revisions, external), revisions.reason, (*((new,) if new is not None else ()), *old))
    gone = _cleanup(observed, revisions, bounds)
    owners = template_owners(observed.cluster, observed.infrastructure_template, observed.bootstrap_template)
    steps: tuple[Step, ...] = (*_given(first), *owners, *sets, *gone, *(external.steps if external is not None else ()))
    asked = external.wait if external is not None else None
    wait = soonest(_rollout_due(observed), members.up_to_date_grace_left(observed.machines, observed.at), asked)
    # a run that makes its MachineSet, or changes its own generation, leaves the status to the run its writes wake
    moved = (first is not None and "spec" in first.body) or (new is not None and new.live is None)
    behind = sets_behind(observed)
    if observed.failure is None and moved:
        return Plan(steps, wait)
    if observed.failure is None and behind is not None:
        return Plan(steps, soonest(wait, behind))
    step, held = status(observed, bounds, revisions.new, external.told if external is not None else None)
    return Plan((*steps, *_given(step)), soonest(wait, held))


def _given(step: Step | None) -> tuple[Step, ...]:
    return (step,) if step is not None else ()


def _bounds(deployment: MachineDeployment) -> Bounds:
    replicas, strategy = deployment.spec.replicas or 0, deployment.spec.rollout.strategy
    if strategy is None or strategy.type == "OnDelete":
        return Bounds(replicas)
    return rolling_bounds(replicas, strategy.rolling_update.max_surge, strategy.rolling_update.max_unavailable)


def _desired(observed: Observed, revisions: Revisions, bounds: Bounds) -> tuple[Desired | None, tuple[Desired, ...]]:
    """The new MachineSet and the old ones as they shall be but for their replicas. No new one is made while paused or without its templates."""
    deployment = observed.deployment
    old = tuple(revision.desired_old(deployment, one, bounds) for one in revisions.old)
    if revisions.new is None and (deployment.spec.paused or not observed.templates_exist):
        return None, old
    return revision.desired_new(deployment, revisions, Children(observed.child_uids, observed.taken), bounds), old


def _carried_out(observed: Observed, intents: Mapping[str, Intent], new_because: str, sets: Sequence[Desired]) -> tuple[Step, ...]:
    """Send every MachineSet that is not yet as it shall be, the new one first."""
    steps: list[Step] = []
    for one in sets:
        intent = intents.get(one.name)
        wanted = one if intent is None else one.with_replicas(intent.replicas)
        why = "the MachineSet follows its deployment" if intent is None else f"{one.spec.replicas or 0} to {intent.replicas} replicas: {intent.reason}"
        if one.live is None:
            steps.append(revision.create(observed.deployment, wanted, f"{new_because}; {why}"))
        else:
            steps += _given(revision.follow(observed.deployment, wanted, why))
    return tuple(steps)


def _intents(observed: Observed, new: Desired | None, revisions: Revisions, external: Consultation | None) -> Mapping[str, Intent]:
    """The replicas planned. The new revision grows only once all old ones have seen their spec, so that R + surge holds whoever lags behind."""
    deployment, machines = observed.deployment, observed.machines
    strategy, bounds = cast(Strategy, revision.strategy_type(deployment)), _bounds(deployment)
    latest = None if new is None else counts(new.live, machines) if new.live is not None else Counts(new.name, 0, 0, 0)
    old = [counts(one, machines) for one in revisions.old]
    if deployment.spec.paused:
        return plan_paused(strategy, bounds, latest, old)
    if latest is None:
        return {}
    intents = _followed(external, bounds, latest, old) if external is not None else plan(strategy, bounds, latest, old)
    if all(revision.acted(one) for one in revisions.old):
        return intents
    return {name: intent for name, intent in intents.items() if name != latest.name or intent.replicas < latest.spec}


def _followed(external: Consultation, bounds: Bounds, new: Counts, old: Sequence[Counts]) -> Mapping[str, Intent]:
    """Go where the external strategy wants to, each reason with its own."""
    intents = plan_towards(rolling_targets(bounds, new, old) if external.targets is None else external.targets, bounds, new, old)
    return {name: Intent(one.replicas, "; ".join(filter(None, (external.reasons.get(name), one.reason)))) for name, one in intents.items()}


def _own_patch(observed: Observed, cluster: Cluster, new: Desired | None) -> Patch | None:
    """Finalizer, owner, label, revision and stored defaults of the MachineDeployment in one patch."""
    stored = observed.stored.metadata
    finalizer = labels.MACHINE_DEPLOYMENT_FINALIZER
    change = MetadataChange(
        finalizers=stored.finalizers if finalizer in stored.finalizers else (*stored.finalizers, finalizer),
        owners=owners_with(stored.owner_references, owner_reference(cluster)),
        labels={labels.CLUSTER_NAME: cluster.name},
        annotations={labels.REVISION: new.annotations[labels.REVISION]} if new is not None else {},
    )
    spec = defaults.stored_spec(observed.stored, observed.deployment)
    return metadata_patch(target(observed.stored), change, "the MachineDeployment needs its finalizer, owner, labels and defaults", spec=spec)


def _cleanup(observed: Observed, revisions: Revisions, bounds: Bounds) -> tuple[Step, ...]:
    """Once the rollout is complete, delete old MachineSets that are empty and known to be."""
    sets = observed.machine_sets
    complete = all(total(sets, field) == bounds.replicas for field in ("replicas", "up_to_date_replicas", "available_replicas"))
    if observed.deployment.spec.paused or not complete:
        return ()
    empty = [
        one
        for one in revisions.old
        if not one.spec.replicas and one.status.replicas == 0 and (one.status.observed_generation or 0) >= one.metadata.generation and not one.metadata.deleting
    ]
    return together([_delete(one, "the rollout is complete and the old revision is empty") for one in empty], "old revisions")


def _delete(one: MachineSet, reason: str) -> Delete:
    return Delete(key_of(one), api_version_of(one), one.metadata.uid, reason, resource_version=one.metadata.resource_version)


def _rollout_due(observed: Observed) -> timedelta | None:
    """When ``rollout.after`` passes, if it has not."""
    after = observed.deployment.spec.rollout.after
    return after - observed.at if after is not None and after > observed.at else None


def _deleting(observed: Observed, revisions: Revisions, bounds: Bounds) -> Plan:
    """Delete all MachineSets; the last one gone, let the MachineDeployment go."""
    if not observed.machine_sets:
        last = without_finalizer(target(observed.stored), labels.MACHINE_DEPLOYMENT_FINALIZER, "no MachineSet is left")
        return Plan(_given(last), rests_on_absence=last is not None)
    going = [_delete(one, "the MachineDeployment is being deleted") for one in observed.machine_sets if not one.metadata.deleting]
    step, held = status(observed, bounds, revisions.new)
    return Plan((*together(going, "the MachineDeployment goes"), *_given(step)), held)
