"""One run of a MachinePool: own its objects, take over what they report, make Machines of their hosts, tell its state; or take it down stage by stage.

Source: kinds.md §6.
"""

from __future__ import annotations

from datetime import timedelta

from fleetwake.conditions import TRUE
from fleetwake.patches import following, target
from fleetwake.pausing import paused_condition, paused_plan
from fleetwake.plan import Patch, Plan, Step, soonest
from services.reconcilers.kinds.machine_pool import machines, nodes
from services.reconcilers.kinds.machine_pool.deletion import delete
from services.reconcilers.kinds.machine_pool.observed import Observed
from services.reconcilers.kinds.machine_pool.provisioning import adopt_references, missing_reference_wait, own_patch, take_over
from services.reconcilers.kinds.machine_pool.status import OWNED, status


def reconcile(observed: Observed) -> Plan:
    """Decide what a MachinePool does next. Without its Cluster nothing: the Cluster's return wakes it."""
    stored, cluster = observed.stored, observed.cluster
    if cluster is None:
        return Plan()
    paused = paused_condition(stored, cluster)
    if paused.status == TRUE:
        return paused_plan(stored, stored.status.conditions, paused, OWNED, observed.at)
    if stored.metadata.deleting:
        return _deleted(observed)
    provisioned = take_over(observed)
    own = own_patch(observed, provisioned, cluster)
    followed = machines.follow(observed)
    gone = nodes.retired(observed, provisioned.provider_ids) if provisioned.provider_ids or not provisioned.wanted else ()
    work: tuple[Step, ...] = (
        *((own,) if own is not None else ()),
        *adopt_references(observed),
        *machines.create(observed),
        *followed,
        *machines.remediate(observed),
        *machines.tell(observed),
        *nodes.mark(observed, provisioned.provider_ids),
        *gone,
    )
    # the patch above raises the generation by one, and this status is computed from the spec it leaves
    generation = stored.metadata.generation + (1 if own is not None and "spec" in own.body else 0)
    late = any(machines.suspect(observed, one) for one in observed.machines if not one.metadata.deleting)
    found = nodes.count(observed, provisioned.provider_ids)
    told, wait = status(observed, provisioned, found, None, (stored.status.observed_generation or 0) if late else generation)
    told = following(told, when=own is not None and "spec" in own.body and observed.failure is None)
    steps = (*work, *((told,) if told is not None else ()), *((_followed(observed, generation),) if late else ()))
    return Plan(steps, soonest(wait, missing_reference_wait(observed)), guarded=bool(gone))


def _followed(observed: Observed, generation: int) -> Patch:
    """Raise observedGeneration behind the last step that follows a changed template: a run that fails before is repeated knowing of the change."""
    own = target(observed.stored)
    body = {"status": {"observedGeneration": generation}}
    return Patch(own.key, own.api_version, own.metadata.uid, body, "all Machines follow the changed template", subresource="status")


def _deleted(observed: Observed) -> Plan:
    deletion = delete(observed)
    if deletion.final:
        # the pool will be gone: its status is worth no write
        return Plan(deletion.steps, deletion.wait, rests_on_absence=True, guarded=deletion.guarded)
    provisioned = take_over(observed)
    told, wait = status(observed, provisioned, nodes.count(observed, provisioned.provider_ids), deletion, observed.stored.metadata.generation)
    steps = (*deletion.steps, *machines.tell(observed), *((told,) if told is not None else ()))
    waits: tuple[timedelta | None, ...] = (wait, deletion.wait)
    return Plan(steps, soonest(*waits), rests_on_absence=deletion.rests_on_absence, guarded=deletion.guarded)
