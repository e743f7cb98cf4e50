"""Which objects are called stuck."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetwake.views.stuck import as_json, render, stuck
from tests.shell.view_records import text_of

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TEN = timedelta(minutes=10)


def condition(kind: str, status: str, minutes: float, message: str = "") -> dict[str, Any]:
    since = (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"type": kind, "status": status, "reason": f"Because{kind}", "message": message, "lastTransitionTime": since}


def machine(*conditions: dict[str, Any], generation: tuple[int, int] = (1, 1), **metadata: Any) -> dict[str, Any]:
    wanted, seen = generation
    meta = {"name": "m", "namespace": "team", "generation": wanted, **metadata}
    return {"kind": "Machine", "metadata": meta, "spec": {"clusterName": "c"}, "status": {"observedGeneration": seen, "conditions": list(conditions)}}


def written(minutes: float, subresource: str = "") -> list[dict[str, str]]:
    return [{"time": (NOW - timedelta(minutes=minutes)).strftime("%Y-%m-%dT%H:%M:%SZ"), "subresource": subresource}]


@pytest.mark.parametrize(
    ("state", "says"),
    [
        pytest.param(machine(condition("Available", "False", 11, "no  Node\nyet")), ("is not Available", "BecauseAvailable: no Node yet"), id="not Available"),
        pytest.param(machine(condition("Ready", "Unknown", 11)), ("is not Ready", "BecauseReady"), id="Ready unknown"),
        pytest.param(
            machine(condition("Available", "True", 99), condition("Deleting", "True", 3, "drain"), deletionTimestamp="2026-01-01T11:49:00Z"),
            ("is being deleted", "BecauseDeleting: drain"),
            id="deleted",
        ),
        pytest.param(machine(generation=(4, 3), managedFields=written(11)), ("has generation 4, of which 3 was acted on", ""), id="not acted on"),
    ],
)
def test_what_takes_too_long_is_stuck(state: dict[str, Any], says: tuple[str, str]) -> None:
    (found,) = stuck([state], NOW, TEN)
    assert (found.what, found.says) == says and (found.kind, found.namespace, found.name, found.cluster) == ("Machine", "team", "m", "c")
    assert stuck([state], NOW, timedelta(minutes=12)) == ()


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(machine(condition("Available", "True", 99), condition("Ready", "False", 99)), id="available"),
        pytest.param(machine(condition("Available", "False", 9)), id="not long yet"),
        pytest.param(machine(condition("Paused", "True", 99), condition("Available", "False", 99)), id="paused"),
        pytest.param(machine(generation=(4, 3), managedFields=[*written(99), *written(9)]), id="changed just now"),
        pytest.param(machine(generation=(4, 3), managedFields=written(99, "status")), id="nobody knows since when"),
        pytest.param({"kind": "KubeadmConfigTemplate", "metadata": {"name": "t", "namespace": "team", "generation": 1}, "spec": {}}, id="no status"),
    ],
)
def test_what_gets_on_is_not(state: dict[str, Any]) -> None:
    assert stuck([state], NOW, TEN) == ()


def test_the_objects_of_a_cluster_stand_together_the_longest_first() -> None:
    late, later = machine(condition("Ready", "False", 20), name="late"), machine(condition("Ready", "False", 30), name="later")
    cluster = {**machine(condition("Available", "False", 25), name="c"), "kind": "Cluster"}
    found = stuck([late, cluster, later], NOW, TEN)
    assert [one.name for one in found] == ["later", "c", "late"]
    assert text_of(render(found, NOW)).splitlines()[1].split()[:3] == ["team", "Machine/later", "30m"]
    assert as_json(found)[1]["since"] == "2026-01-01T11:35:00+00:00"
