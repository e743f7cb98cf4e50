"""What becomes of one request: an answer, or the writes that fulfil it.

A size is never set below the least nor above the most that the annotations allow. Machines that are to go are marked before the size is lowered, so that
exactly they go; what was marked and then not removed is unmarked (``leftovers``). Each write of a size names the version of the object it was decided from.

Source: kinds.md §15; cluster-autoscaler 1.36 clusterapi provider (order of marks and size, refusals) and its pass over MachineDeployments that roll out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fleetwake import labels
from fleetwake.conditions import wire_time
from fleetwake.patches import MetadataChange, api_version_of, key_of, metadata_patch, target
from fleetwake.plan import Patch
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_pool import MachinePool
from services.autoscaler_bridge.kinds.node_group.bounds import Bounds
from services.autoscaler_bridge.kinds.node_group.observed import Observed, marked, registered
from services.autoscaler_bridge.kinds.node_group.wanted import Answer, Attempt, Wanted

MARK = " autoscaler-bridge"
"""What our marks end with, after the time: marks of anybody else are left alone."""

OK = Answer("OK")


@dataclass(frozen=True, slots=True)
class Change:
    """A new size, and the Machines to mark before it is set."""

    attempt: Attempt
    marks: tuple[Machine, ...] = field(default=())


def decide(observed: Observed, bounds: Bounds, asked: Wanted) -> Answer | Change:
    """Answer the request, or say what to write for it."""
    replicas = observed.obj.spec.replicas
    assert replicas is not None  # else the group is not served
    if asked.attempt is not None:
        if replicas == asked.attempt.target:
            return OK
        if replicas != asked.attempt.base:
            return Answer("ABORTED", f"somebody else set the size to {replicas} meanwhile: ask again")
    match asked.verb:
        case "increase":
            return _increase(replicas, bounds, asked)
        case "decrease":
            return _decrease(observed, replicas, bounds, asked)
        case "remove":
            return _remove(observed, replicas, bounds, asked)


def _increase(replicas: int, bounds: Bounds, asked: Wanted) -> Answer | Change:
    if asked.amount <= 0:
        return Answer("INVALID_ARGUMENT", "the size can only be increased by a positive number")
    if replicas + asked.amount > bounds.most:
        return Answer("OUT_OF_RANGE", f"{replicas} and {asked.amount} more are more than the {bounds.most} allowed")
    return Change(Attempt(replicas, replicas + asked.amount))


def _decrease(observed: Observed, replicas: int, bounds: Bounds, asked: Wanted) -> Answer | Change:
    if asked.amount <= 0:
        return Answer("INVALID_ARGUMENT", "the size can only be decreased by a negative number")
    size, nodes = replicas - asked.amount, _nodes(observed)
    if size < nodes:
        return Answer(
            "FAILED_PRECONDITION", f"{asked.amount} of {replicas} cannot be given up: {nodes} are Nodes already, which have to be named to be removed"
        )
    if size < bounds.least:
        return Answer("OUT_OF_RANGE", f"{asked.amount} fewer than {replicas} are fewer than the {bounds.least} allowed")
    pending = sorted((one for one in observed.live if not registered(one)), key=_youngest_first, reverse=True)
    return Change(Attempt(replicas, size), tuple(pending[: max(len(observed.live) - size, 0)]))


def _youngest_first(machine: Machine) -> tuple[float, str]:
    created = machine.metadata.creation_timestamp
    return (created.timestamp() if created is not None else 0.0, machine.name)


def _nodes(observed: Observed) -> int:
    if isinstance(observed.obj, MachinePool) and not observed.machines:
        return len(observed.obj.spec.provider_id_list)
    return sum(registered(machine) for machine in observed.live)


def _remove(observed: Observed, replicas: int, bounds: Bounds, asked: Wanted) -> Answer | Change:
    members = {machine.name: machine for machine in observed.machines}
    foreign = [name for name in asked.machines if name not in members]
    if foreign:
        return Answer("FAILED_PRECONDITION", f"no Machines of the group: {', '.join(foreign)}")
    if observed.holders > 1:
        return Answer("FAILED_PRECONDITION", f"it rolls out: which of its Machines go is the rollout's; they are in {observed.holders} MachineSets")
    # what a former request removes and has not gone yet is not taken off the size once more
    going = len(observed.live) > replicas and asked.attempt is None
    named = [members[name] for name in dict.fromkeys(asked.machines)]
    left = tuple(one for one in named if not one.metadata.deleting and not (going and _ours(one)))
    if not left:
        return OK
    size = replicas - len(left)
    if size < bounds.least:
        return Answer("OUT_OF_RANGE", f"{len(left)} fewer than {replicas} are fewer than the {bounds.least} allowed")
    return Change(Attempt(replicas, size), left)


def _ours(machine: Machine) -> bool:
    return machine.metadata.annotations.get(labels.DELETE_MACHINE, "").endswith(MARK)


def writes(observed: Observed, change: Change, asked: Wanted) -> Iterator[Patch]:
    """The marks, then the size."""
    obj, attempt = observed.obj, change.attempt
    for machine in change.marks:
        if not marked(machine):
            mark = {labels.DELETE_MACHINE: wire_time(observed.at) + MARK}
            step = metadata_patch(target(machine), MetadataChange(annotations=mark), f"{asked.text}: this Machine goes when the group shrinks")
            if step is not None:
                yield step
    bounds = observed.bounds
    assert isinstance(bounds, Bounds)  # else the request was refused
    yield Patch(
        key=key_of(obj),
        api_version=api_version_of(obj),
        uid=obj.metadata.uid,
        body={"spec": {"replicas": attempt.target}},
        reason=f"{asked.text}: {attempt.base} to {attempt.target}, of {bounds.least} to {bounds.most}",
        resource_version=obj.metadata.resource_version,
    )


def leftovers(observed: Observed, asked: Sequence[Wanted]) -> Iterator[Patch]:
    """Marks of ours that nothing will come of: no Machine is too many, and no request names them."""
    if observed.obj.spec.replicas is None or len(observed.live) > observed.obj.spec.replicas:
        return
    named = {name for one in asked for name in one.machines} if asked else set()
    if any(one.verb == "decrease" for one in asked):
        return
    for machine in observed.live:
        if _ours(machine) and machine.name not in named:
            gone = MetadataChange(annotations={labels.DELETE_MACHINE: None})
            step = metadata_patch(target(machine), gone, "its group did not shrink: the Machine stays")
            if step is not None:
                yield step
