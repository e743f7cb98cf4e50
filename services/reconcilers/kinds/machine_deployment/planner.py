"""How many Machines each MachineSet of a MachineDeployment shall have next: the replica arithmetic of a rollout.

Pure numbers in, numbers and reasons out; it knows no object, no clock and no API. ``revision`` turns its intents into MachineSets. A strategy says
where a rollout goes (``Targets``); how fast it may go there is decided here for every strategy alike, so that none can break the bounds.
"spec" is the value stored on the MachineSet *before* this pass, "intent" what this pass has already decided for it.

Source: kinds.md §4 "Maths" (Cluster API v1.14 machinedeployment rollout planner); the sequences in tests/golden were checked against upstream's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fleetwake.amount import scaled

Strategy = Literal["RollingUpdate", "OnDelete"]
Targets: TypeAlias = Mapping[str, int]
"""The replicas a strategy wants MachineSets to have, by name; a set it does not name keeps its own."""


@dataclass(frozen=True, slots=True)
class Counts:
    """One MachineSet in numbers: its spec.replicas, and status.replicas and status.availableReplicas as its controller reported them."""

    name: str
    spec: int
    replicas: int
    available: int
    max_replicas: int | None = None
    """The annotated R + surge of the time it was last scaled; only scaling while paused reads it."""
    available_max: int = 0
    """How many may be available by now, though not all reports say so yet: what is taken for unavailable must be so by all of them."""

    @property
    def perhaps(self) -> int:
        """The most that may be available."""
        return max(self.available, self.available_max)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a rollout must respect: R Machines wanted, at most R + surge existing, at least R - unavailable available."""

    replicas: int
    surge: int = 0
    unavailable: int = 0

    @property
    def total_max(self) -> int:
        """Most Machines that may exist."""
        return self.replicas + self.surge

    @property
    def available_min(self) -> int:
        """Fewest Machines that must stay available."""
        return max(self.replicas - self.unavailable, 0)


@dataclass(frozen=True, slots=True)
class Intent:
    """The replicas a MachineSet shall have, and why, for people."""

    replicas: int
    reason: str


def rolling_bounds(replicas: int, max_surge: int | str | None, max_unavailable: int | str | None) -> Bounds:
    """The bounds of a RollingUpdate. Both resolving to 0 would stop the rollout for ever, so then one Machine may be unavailable.

    Source: kinds.md §4 (surge rounds up, unavailable rounds down, unavailable is capped to R and 0 when R is 0).
    """
    surge = scaled(1 if max_surge is None else max_surge, replicas, up=True)
    unavailable = scaled(max_unavailable, replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Bounds(replicas, surge, min(unavailable, replicas))


@dataclass(slots=True)
class _Pass:
    """The intents of one planning pass while it is being worked out."""

    bounds: Bounds
    new: Counts
    old: tuple[Counts, ...]
    targets: Targets = field(default_factory=dict)
    intents: dict[str, Intent] = field(default_factory=dict)

    @property
    def all(self) -> tuple[Counts, ...]:
        return (*self.old, self.new)

    def intent(self, counts: Counts) -> int:
        decided = self.intents.get(counts.name)
        return counts.spec if decided is None else decided.replicas

    def target(self, counts: Counts) -> int:
        return self.targets.get(counts.name, counts.spec)

    def decide(self, counts: Counts, replicas: int, reason: str) -> None:
        self.intents[counts.name] = Intent(replicas, reason)


def plan(strategy: Strategy, bounds: Bounds, new: Counts, old: Sequence[Counts]) -> Mapping[str, Intent]:
    """Decide the replicas of all MachineSets for one pass. ``old`` is ordered oldest first; sets without an intent keep their spec."""
    if strategy == "OnDelete":
        state = _Pass(bounds, new, tuple(old))
        _resize_new(state, bounds.total_max, bounds.replicas, "")
        _shrink_old_on_delete(state)
        return state.intents
    return plan_towards(rolling_targets(bounds, new, old), bounds, new, old)


def rolling_targets(bounds: Bounds, new: Counts, old: Sequence[Counts]) -> Targets:
    """Where a RollingUpdate goes: all Machines to the new revision, none of the others."""
    return {new.name: bounds.replicas} | dict.fromkeys((counts.name for counts in old), 0)


def plan_towards(targets: Targets, bounds: Bounds, new: Counts, old: Sequence[Counts]) -> Mapping[str, Intent]:
    """Go towards the targets as far as one pass may: never above R + surge Machines, never below R - unavailable that are available.

    The new revision may grow up to R, all others only shrink; what a target asks beyond that is not done.
    """
    state = _Pass(bounds, new, tuple(old), targets)
    _resize_new(state, bounds.total_max, min(state.target(new), bounds.replicas), f" + {bounds.surge} surge")
    _shrink(state)
    _break_deadlock(state)
    return state.intents


def _resize_new(state: _Pass, total_max: int, target: int, surge_words: str) -> None:
    wanted, spec = state.bounds.replicas, state.new.spec
    if spec > wanted:
        state.decide(state.new, wanted, f"{spec} replicas are more than the {wanted} the MachineDeployment wants")
        return
    total = sum(max(counts.spec, counts.replicas) for counts in state.all)
    grow = min(total_max - total, target - spec)
    if grow > 0:
        state.decide(state.new, spec + grow, f"{total} Machines exist, up to {wanted}{surge_words} are allowed")


def _shrink(state: _Pass) -> None:
    """Take from the sets that shall shrink what availability allows: first what is unavailable anyway, then the rest.

    Unavailable Machines of the new revision reduce the budget: a sick new revision brakes its own rollout. Where it is itself to shrink, they go without
    that brake, so that it can be withdrawn; what they leave room for is not spent on others.
    """
    shrinking = [counts for counts in state.all if state.target(counts) < counts.spec]
    if not shrinking:
        return
    available_min = state.bounds.available_min
    pending = sum(max(counts.replicas - min(counts.spec, state.intent(counts)), 0) for counts in state.all)
    new_unavailable = max(state.new.spec - state.new.available, 0)
    room = sum(counts.spec for counts in state.all) - pending - available_min
    available = sum(counts.available for counts in state.all)
    if state.new in shrinking and new_unavailable and room > 0:
        taken, available = _take(state, state.new, min(new_unavailable, room), available, unavailable_only=True)
        room -= taken
    budget = room - new_unavailable
    for unavailable_only in (True, False):
        for counts in shrinking:
            if budget <= 0:
                return
            taken, available = _take(state, counts, budget, available, unavailable_only)
            budget -= taken


def _take(state: _Pass, counts: Counts, budget: int, available: int, unavailable_only: bool) -> tuple[int, int]:
    """Shrink one set by at most ``budget``; returns how much was taken and the availability left in the worst case.

    The MachineSet picks the Machine, so every existing Machine that goes may be an available one.
    """
    intent, available_min = state.intent(counts), state.bounds.available_min
    excess = max(intent - max(state.target(counts), 0), 0)
    down = min(max(intent - counts.perhaps, 0) if unavailable_only else excess, excess, budget)
    if down <= 0:
        return 0, available
    left, lost = intent - down, 0
    if counts.perhaps > 0:
        spare = max(available - available_min, 0)
        if max(counts.replicas - left, 0) > spare:
            left = min(counts.replicas - spare, intent)
        lost = min(counts.perhaps, max(counts.replicas - left, 0))
    if left >= intent:
        return 0, available - lost
    if lost:
        reason = f"{available} Machines are available, at least {available_min} must stay"
    else:
        reason = f"no available Machine goes: {counts.replicas} exist, {counts.available} of them available"
    state.decide(counts, left, reason)
    return intent - left, available - lost


def _break_deadlock(state: _Pass) -> None:
    """Give up one unavailable Machine of an old set when nothing else can move.

    The worst-case rule of ``_take`` may forbid every step although only a broken old Machine would go; nobody remediates old revisions.
    Source: kinds.md §4 "Deadlock breaker".
    """
    existing, available = sum(c.replicas for c in state.old), sum(c.perhaps for c in state.old)
    if existing in (0, available) or state.intents:
        return
    if any(counts.spec != counts.replicas for counts in state.all) or state.new.available != state.new.replicas:
        return
    if any(counts.perhaps != counts.available for counts in state.all):
        # not all reports are in: what looks stuck may move with the next
        return
    if sum(counts.spec for counts in state.all) <= state.bounds.available_min:
        # never so in a RollingUpdate: a strategy that does not let the new revision grow has nothing to give up
        return
    for counts in state.old:
        if counts.perhaps < counts.replicas and counts.spec > max(state.target(counts), 0):
            state.decide(counts, counts.spec - 1, "the rollout is stuck: an old Machine is unavailable and nothing else may move")
            return


def _shrink_old_on_delete(state: _Pass) -> None:
    """Drop replicas whose Machines the user deleted, then oldest first what exceeds R (only ever after a scale down)."""
    excess = sum(counts.spec for counts in state.old) + state.intent(state.new) - state.bounds.replicas
    for counts in state.old:
        gone = counts.spec - counts.replicas
        if gone > 0:
            state.decide(counts, counts.replicas, f"{gone} of its Machines were deleted; their replacements belong to the new revision")
            excess -= gone
    for counts in state.old:
        down = min(state.intent(counts), excess)
        if down > 0:
            state.decide(counts, state.intent(counts) - down, f"more Machines exist than the {state.bounds.replicas} the MachineDeployment wants")
            excess -= down


def plan_paused(strategy: Strategy, bounds: Bounds, new: Counts | None, old: Sequence[Counts]) -> Mapping[str, Intent]:
    """Follow a scaling of a paused MachineDeployment without moving the rollout: one set takes all, several share in proportion.

    ``old`` is ordered oldest first. Source: kinds.md §4 "Paused/scale".
    """
    everyone = (*old, *((new,) if new is not None else ()))
    active = [counts for counts in everyone if counts.spec > 0]
    wanted = bounds.replicas
    if len(active) <= 1:
        target = active[0] if active else (everyone[-1] if everyone else None)
        if target is None or target.spec == wanted:
            return {}
        return {target.name: Intent(wanted, f"paused: the only active MachineSet follows the {wanted} replicas wanted")}
    if new is not None and new.spec == new.available == wanted:
        return {counts.name: Intent(0, "paused: the new revision has all replicas wanted") for counts in old if counts.spec > 0}
    if strategy != "RollingUpdate":
        return {}
    return _proportional(bounds, active)


def _proportional(bounds: Bounds, active: Sequence[Counts]) -> Mapping[str, Intent]:
    """Spread a change of size over the active sets (oldest first as given), so that a paused rollout keeps its mix of revisions."""
    allowed = bounds.total_max if bounds.replicas > 0 else 0
    change = allowed - sum(counts.spec for counts in active)
    if change == 0:
        return {}
    # largest first; among equals newer ones grow first and older ones shrink first (sorted is stable)
    ordered = sorted(reversed(active) if change > 0 else active, key=lambda counts: -counts.spec)
    total = sum(counts.spec for counts in active)
    sizes, added = {}, 0
    for counts in ordered:
        fraction = _fraction(counts, bounds, total)
        part = min(fraction, change - added) if change > 0 else max(fraction, change - added)
        sizes[counts.name] = counts.spec + part
        added += part
    sizes[ordered[0].name] = max(sizes[ordered[0].name] + change - added, 0)
    reason = f"paused: the change to {bounds.replicas} replicas is shared in proportion"
    return {counts.name: Intent(sizes[counts.name], reason) for counts in ordered if sizes[counts.name] != counts.spec}


def _fraction(counts: Counts, bounds: Bounds, total: int) -> int:
    if bounds.replicas == 0:
        return -counts.spec
    annotated = counts.max_replicas or total
    # round half up of spec * allowed / annotated, in whole numbers
    return (2 * counts.spec * bounds.total_max + annotated) // (2 * annotated) - counts.spec
