"""One run of a node group: fill in what a host would be, tell how the group stands, and do the oldest thing that is asked of it.

Requests come in by the process (``services.autoscaler_bridge.requests``); each is answered by a step, behind the writes that fulfil it. Of a paused object
nothing is written, and who asks is refused.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetwake.conditions import FALSE, TRUE, ConditionValue, get, merge
from fleetwake.patches import MetadataChange, metadata_patch, status_apply, target
from fleetwake.pausing import paused_condition
from fleetwake.plan import Local, Plan, Step
from schemas.api.core.v1beta2.cluster import Cluster
from services.autoscaler_bridge.kinds.node_group.bounds import Bounds
from services.autoscaler_bridge.kinds.node_group.capacity import FILLED, filling, wanted
from services.autoscaler_bridge.kinds.node_group.decide import Change, decide, leftovers, writes
from services.autoscaler_bridge.kinds.node_group.observed import Observed, owned_by_deployment
from services.autoscaler_bridge.kinds.node_group.standing import ANOTHER_WRITER, NODE_GROUP_READY, SERVED, manager_of, standing
from services.autoscaler_bridge.kinds.node_group.wanted import Answer, Wanted

ANSWER, ATTEMPT, LOOK = "answer autoscaler", "attempt", "look at writers"
"""Actions of the process."""


def reconcile(observed: Observed) -> Plan:
    """Decide what is done about a node group next."""
    refusal = _refusal(observed)
    if refusal is not None:
        return Plan(tuple(_answered(observed, one, refusal) for one in observed.asked))
    if observed.bounds is None:
        gone = Answer("NOT_FOUND", f"{observed.obj.KIND} {observed.obj.name} is no node group")
        # what a MachineSet has from its deployment is that one's to take away: it would copy it again, for ever
        undone = () if owned_by_deployment(observed.obj) else (*_filled(observed), *_withdrawn(observed))
        return Plan((*undone, *(_answered(observed, one, gone) for one in observed.asked)))
    if observed.written is None:
        arguments = {"key": str(observed.key), "generation": observed.obj.metadata.generation}
        return Plan((Local(LOOK, "who writes its size is not known", arguments), *_filled(observed)))
    told = standing(observed)
    assert told is not None  # it has bounds
    steps: list[Step] = [*leftovers(observed, observed.asked), *_asked(observed, told), *_filled(observed)]
    return Plan((*steps, *_told(observed, told)))


def _told(observed: Observed, told: ConditionValue) -> Iterator[Step]:
    """The write of NodeGroupReady; none where it says so already: a size that changed is no news for it."""
    obj, stored = observed.obj, get(observed.obj.status.conditions, NODE_GROUP_READY)
    if stored is not None and (stored.status, stored.reason, stored.message) == (told.status, told.reason, told.message):
        return
    step = status_apply(obj, manager_of(obj), {"conditions": merge(obj.status.conditions, (told,), obj.metadata.generation, observed.at)})
    if step is not None:
        yield step


def _refusal(observed: Observed) -> Answer | None:
    """Why nothing at all may be written; None when it may."""
    obj = observed.obj
    if obj.metadata.deleting:
        return Answer("FAILED_PRECONDITION", f"{obj.KIND} {obj.name} is being deleted")
    paused = paused_condition(obj, observed.cluster)
    if paused.status == TRUE:
        return Answer("FAILED_PRECONDITION", f"paused: {paused.message}")
    if not any((ref.group, ref.kind) == (Cluster.GROUP, Cluster.KIND) for ref in obj.metadata.owner_references) and not owned_by_deployment(obj):
        # its controller's first write names the version it read: a write of ours before that would cost it another round
        return Answer("FAILED_PRECONDITION", f"{obj.KIND} {obj.name} is new: its Cluster does not own it yet")
    return None


def _asked(observed: Observed, told: ConditionValue) -> Iterator[Step]:
    """The steps for the oldest request; or for all of them, when the group is not served."""
    bounds = observed.bounds
    if told.reason != SERVED or not isinstance(bounds, Bounds):
        refusal = Answer("FAILED_PRECONDITION", f"{told.reason}: {told.message}")
        yield from (_answered(observed, one, refusal) for one in observed.asked)
        return
    for asked in observed.asked[:1]:
        found = decide(observed, bounds, asked)
        if isinstance(found, Answer):
            yield _answered(observed, asked, found)
            continue
        yield from _carried_out(observed, asked, found)


def _carried_out(observed: Observed, asked: Wanted, change: Change) -> Iterator[Step]:
    begun = {"key": str(observed.key), "id": asked.id, "base": change.attempt.base, "target": change.attempt.target}
    yield Local(ATTEMPT, "what is begun is not begun twice", begun)
    yield from writes(observed, change, asked)
    yield _answered(observed, asked, Answer("OK"))


def _answered(observed: Observed, asked: Wanted, answer: Answer) -> Local:
    arguments = {"key": str(observed.key), "id": asked.id, "code": answer.code, "message": answer.message}
    outcome = "done" if answer.code == "OK" else f"refused, {answer.code}: {answer.message}"
    return Local(ANSWER, f"{asked.text}: {outcome}", arguments, about=observed.key)


def _filled(observed: Observed) -> Iterator[Step]:
    """The annotations that tell what a host would be; taken away again where there is no node group."""
    annotations = observed.obj.metadata.annotations
    if observed.bounds is None and FILLED not in annotations:
        return
    if observed.bounds is not None and observed.template is None and FILLED in annotations:
        # a template that is not there (yet) tells nothing: what was filled in stays
        return
    change = filling(annotations, wanted(observed) if observed.bounds is not None else {})
    step = metadata_patch(target(observed.obj), MetadataChange(annotations=change), "cluster-autoscaler reads there what a Machine of this group would be")
    if step is not None:
        yield step


def _withdrawn(observed: Observed) -> Iterator[Step]:
    stored = get(observed.obj.status.conditions, NODE_GROUP_READY)
    if stored is None:
        return
    step = status_apply(observed.obj, manager_of(observed.obj), {"conditions": ()}, absent_conditions=(NODE_GROUP_READY,))
    if step is not None:
        yield step


def served(observed: Observed) -> Bounds | None:
    """The bounds of a node group that cluster-autoscaler is shown; None of any other object.

    A spec may change often (a MachinePool's with each of its hosts): until the API server has been asked who wrote it, what it said before holds.
    """
    bounds = observed.bounds
    if not isinstance(bounds, Bounds) or _refusal(observed) is not None:
        return None
    # a process that has just begun knows what the one before it told
    stored = get(observed.obj.status.conditions, NODE_GROUP_READY) if observed.last_written is None else None
    if stored is not None and stored.reason == ANOTHER_WRITER:
        return None
    told = standing(observed)
    return bounds if told is not None and told.status != FALSE else None
