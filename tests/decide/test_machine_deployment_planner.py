"""Replica arithmetic of rollouts: known sequences, upstream's recorded passes, and the corner cases of each rule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleetwake.amount import scaled
from services.reconcilers.kinds.machine_deployment.planner import Bounds, Counts, Intent, plan, plan_paused, rolling_bounds

UPSTREAM = json.loads((Path(__file__).parents[1] / "golden" / "upstream_passes.json").read_text())


def sequence(replicas: int, surge: int | str, unavailable: int | str) -> str:
    """The (old, new) specs pass by pass in a world where every Machine is available at once and gone at once."""
    bounds = rolling_bounds(replicas, surge, unavailable)
    old, new = replicas, 0
    seen = [f"{old}/{new}"]
    for _ in range(50):
        intents = plan("RollingUpdate", bounds, Counts("new", new, new, new), [Counts("old", old, old, old)])
        old = intents.get("old", Intent(old, "")).replicas
        new = intents.get("new", Intent(new, "")).replicas
        if seen[-1] != f"{old}/{new}":
            seen.append(f"{old}/{new}")
    return " ".join(seen)


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        pytest.param(3, 1, 0, "3/0 3/1 2/1 2/2 1/2 1/3 0/3", id="surge-1"),
        pytest.param(3, 0, 1, "3/0 2/0 2/1 1/1 1/2 0/2 0/3", id="unavailable-1"),
        pytest.param(6, 1, 3, "6/0 3/1 2/4 0/5 0/6", id="surge-1-unavailable-3"),
        pytest.param(6, 3, 1, "6/0 5/3 2/4 1/6 0/6", id="surge-3-unavailable-1"),
        pytest.param(6, 0, 10, "6/0 0/0 0/6", id="more-unavailable-than-replicas"),
        pytest.param(6, 10, 0, "6/0 6/6 0/6", id="more-surge-than-replicas"),
        pytest.param(4, "25%", "25%", "4/0 3/1 2/2 1/3 0/4", id="percentages"),
        pytest.param(1, 0, "0%", "1/0 0/0 0/1", id="both-zero"),
    ],
)
def test_sequence(replicas: int, surge: int | str, unavailable: int | str, expected: str) -> None:
    assert sequence(replicas, surge, unavailable) == expected


@pytest.mark.parametrize("log", [pytest.param(log, id=log["log"]) for log in UPSTREAM])
def test_upstream_passes_replay_equal(log: dict[str, Any]) -> None:
    for number, recorded in enumerate(log["passes"]):
        wanted = recorded["wanted"]
        if log["strategy"] == "OnDelete":
            bounds = Bounds(wanted)
        else:
            bounds = rolling_bounds(wanted, log["surge"], log["unavailable"])
        counts = {name: Counts(name, before, replicas, available) for name, (replicas, available, before, _) in recorded["sets"].items()}
        new = counts.pop(recorded["new"])
        old = sorted(counts.values(), key=lambda c: int(c.name.removeprefix("ms")))
        intents = plan(log["strategy"], bounds, new, old)
        decided = {c.name: intents[c.name].replicas if c.name in intents else c.spec for c in (*old, new)}
        assert decided == {name: after for name, (_, _, _, after) in recorded["sets"].items()}, f"pass {number}: {recorded}"
        assert all(intent.reason for intent in intents.values())


@pytest.mark.parametrize(
    ("value", "up", "expected"),
    [
        pytest.param(None, True, 0, id="unset"),
        pytest.param(4, True, 4, id="number"),
        pytest.param("25%", True, 3, id="percent-up"),
        pytest.param("25%", False, 2, id="percent-down"),
        pytest.param("110%", False, 11, id="more-than-all"),
        pytest.param("7", True, 0, id="text-without-percent"),
        pytest.param("x%", True, 0, id="no-number"),
    ],
)
def test_scaled(value: int | str | None, up: bool, expected: int) -> None:
    assert scaled(value, 10, up=up) == expected


def test_bounds_of_nothing_are_nothing() -> None:
    assert rolling_bounds(0, "25%", "25%") == Bounds(0, 0, 0)
    assert rolling_bounds(2, None, None) == Bounds(2, 1, 0)


def rolling(new: Counts, *old: Counts, bounds: Bounds | None = None) -> dict[str, int]:
    return {name: intent.replicas for name, intent in plan("RollingUpdate", bounds or Bounds(3, 1, 0), new, old).items()}


def test_a_sick_new_revision_brakes_its_rollout() -> None:
    assert rolling(Counts("new", 1, 1, 0), Counts("old", 3, 3, 3)) == {}


def test_the_new_revision_shrinks_at_once() -> None:
    assert rolling(Counts("new", 5, 5, 5)) == {"new": 3}


def test_the_worst_case_protects_available_machines_of_a_mixed_set() -> None:
    # one old Machine is broken, but the set might pick an available one: only the deadlock breaker may move
    assert rolling(Counts("new", 1, 1, 1), Counts("old", 3, 3, 2)) == {"old": 2}
    reason = plan("RollingUpdate", Bounds(3, 1, 0), Counts("new", 1, 1, 1), [Counts("old", 3, 3, 2)])["old"].reason
    assert reason.startswith("the rollout is stuck")


def test_a_wholly_broken_old_set_goes_at_once() -> None:
    assert rolling(Counts("new", 1, 1, 1), Counts("sick", 1, 1, 0), Counts("old", 2, 2, 2)) == {"sick": 0}


@pytest.mark.parametrize(
    ("new", "old"),
    [
        pytest.param(Counts("new", 1, 1, 0), Counts("old", 3, 3, 2), id="new-not-available"),
        pytest.param(Counts("new", 1, 1, 1), Counts("old", 3, 4, 2), id="old-still-scaling"),
        pytest.param(Counts("new", 1, 1, 1), Counts("old", 0, 0, 0), id="nothing-old"),
    ],
)
def test_the_deadlock_breaker_waits(new: Counts, old: Counts) -> None:
    intents = plan("RollingUpdate", Bounds(3, 1, 0), new, [old])
    assert not any("stuck" in intent.reason for intent in intents.values())


def test_on_delete_drops_what_the_user_deleted_and_what_a_scale_down_leaves_over() -> None:
    intents = plan("OnDelete", Bounds(5), Counts("new", 1, 1, 1), [Counts("old", 9, 8, 8)])
    assert {name: intent.replicas for name, intent in intents.items()} == {"old": 4}


PAUSED = [
    pytest.param(Bounds(5), None, [], {}, id="no-set"),
    pytest.param(Bounds(5), None, [Counts("a", 0, 0, 0), Counts("b", 0, 0, 0)], {"b": 5}, id="newest-of-inactive"),
    pytest.param(Bounds(5), Counts("new", 0, 0, 0), [Counts("a", 3, 3, 3)], {"a": 5}, id="only-active"),
    pytest.param(Bounds(5), Counts("new", 5, 5, 5), [Counts("a", 3, 3, 3)], {"a": 0}, id="saturated"),
    pytest.param(Bounds(14, 2), Counts("new", 2, 2, 2, 8), [Counts("a", 6, 6, 6, 8)], {"a": 12, "new": 4}, id="grows-in-proportion"),
    pytest.param(Bounds(2, 2), Counts("new", 4, 4, 4, 10), [Counts("a", 6, 6, 6, 10)], {"a": 2, "new": 2}, id="shrinks-in-proportion"),
    pytest.param(Bounds(0, 2), Counts("new", 4, 4, 4, 10), [Counts("a", 6, 6, 6, 10)], {"a": 0, "new": 0}, id="to-nothing"),
    pytest.param(Bounds(8, 2), Counts("new", 4, 4, 4, 10), [Counts("a", 6, 6, 6, 10)], {}, id="nothing-to-do"),
    pytest.param(Bounds(9, 2), Counts("new", 4, 4, 4), [Counts("a", 6, 6, 6)], {"a": 7}, id="without-annotation"),
]


@pytest.mark.parametrize(("bounds", "new", "old", "expected"), PAUSED)
def test_paused(bounds: Bounds, new: Counts | None, old: list[Counts], expected: dict[str, int]) -> None:
    assert {name: intent.replicas for name, intent in plan_paused("RollingUpdate", bounds, new, old).items()} == expected


def test_paused_on_delete_leaves_several_sets_alone() -> None:
    assert not plan_paused("OnDelete", Bounds(14), Counts("new", 2, 2, 2), [Counts("a", 6, 6, 6)])
