"""The judge of traces says no where it must: planted faults, each found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.compose.story import Story, Told, read

TRACE = "a" * 32
RESOURCE = {"service.name": "fleetwake-reconcilers"}


def told(span: str, parent: str, name: str, kind: str, started: int, **more: Any) -> Told:
    attributes = {"k8s.object.kind": name.split()[-1], **more.pop("attributes", {})}
    return Told(TRACE, span, parent, name, kind, started, more.pop("ended", started + 10), RESOURCE, attributes, **more)


WHOLE = [
    told("1", "", "intent default/demo", "internal", 100),
    told("2", "1", "watch Cluster", "producer", 101),
    told("3", "2", "objects process", "consumer", 102, attributes={"k8s.object.kind": "Cluster"}),
    told("4", "3", "reconcile Cluster", "internal", 103),
    told("5", "4", "patch Cluster", "client", 104),
]


def changed(number: int, **fields: Any) -> list[Told]:
    from dataclasses import replace

    return [replace(one, **fields) if position == number else one for position, one in enumerate(WHOLE)]


def faults(spans: list[Told]) -> dict[str, int]:
    story = Story(spans)
    checks = {name: len(getattr(story, name)()) for name in ("doubled", "orphans", "dangling", "skewed", "out_of_order")}
    return {name: count for name, count in checks.items() if count}


def test_a_whole_story_has_no_fault() -> None:
    assert faults(WHOLE) == {}
    story = Story(WHOLE)
    assert [one.hop for one in story.way(WHOLE[-1])] == ["request", "reconcile", "process", "watch", "intent"]
    assert {hop: list(story.of_hop(hop)) for hop in ("watch", "process", "request")} == {"watch": ["Cluster"], "process": ["Cluster"], "request": ["Cluster"]}


@pytest.mark.parametrize(
    ("spans", "found"),
    [
        pytest.param(WHOLE[1:], {"orphans": 1, "out_of_order": 1}, id="the root is missing"),
        pytest.param([*WHOLE[:2], *WHOLE[3:]], {"orphans": 1, "out_of_order": 1}, id="a hop is missing"),
        pytest.param(changed(3, started=101), {"skewed": 1}, id="an effect is older than its cause"),
        pytest.param(changed(3, ended=102), {"skewed": 1}, id="an end is older than its beginning"),
        pytest.param(changed(4, parent="3"), {"out_of_order": 1}, id="a request that no run made"),
        pytest.param(changed(4, kind="internal"), {"out_of_order": 1}, id="a request that does not say it is one"),
        pytest.param(changed(3, links=((TRACE, "9"),)), {"dangling": 1}, id="a link into nothing"),
        pytest.param([*WHOLE, WHOLE[-1]], {"doubled": 1}, id="a span twice"),
    ],
)
def test_a_fault_is_found(spans: list[Told], found: dict[str, int]) -> None:
    assert faults(spans) == found


def test_a_file_of_the_collector_is_read(tmp_path: Path) -> None:
    span = {
        "traceId": TRACE,
        "spanId": "b" * 16,
        "name": "reconcile Machine",
        "kind": 1,
        "startTimeUnixNano": "5",
        "endTimeUnixNano": "7",
        "attributes": [{"key": "fleetwake.causes", "value": {"intValue": "2"}}],
    }
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "fleetwake-reconcilers"}}]}
    line = json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "fleetwake"}, "spans": [span]}]}]})
    file = tmp_path / "spans.json"
    file.write_text(f"{line}\n{line[:40]}")

    (one,) = read(file)

    assert (one.name, one.kind, one.started, one.ended, one.parent, one.hop) == ("reconcile Machine", "internal", 5, 7, "", "reconcile")
    assert (one.resource, one.attributes) == (RESOURCE, {"fleetwake.causes": "2"})
