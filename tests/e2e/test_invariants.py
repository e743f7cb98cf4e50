"""The rules of a history find what breaks them, and nothing in a history that keeps them. Needs no servers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.invariants import HistoryOfFailures, violations
from tests.e2e.recorder import Name, Seen
from tests.status_rules import TYPES, required

NAMESPACE = "default"
DEPLOYMENT = ("MachineDeployment", "md")
SET, OTHER_SET = ("MachineSet", "ms-1"), ("MachineSet", "ms-2")
PLANE = ("KubeadmControlPlane", "kcp")


class Story:
    """Events, each so many seconds after the one before."""

    def __init__(self) -> None:
        self.events: list[Seen] = []
        self.at, self.seconds = 0.0, 10.0

    def faster(self) -> Story:
        """From now on events are a second apart."""
        self.seconds = 1.0
        return self

    def tell(self, kind: str, name: str, owner: tuple[str, str] | None = None, *, replicas: int | None = None, **marks: Any) -> Story:
        """One event: ``available``, ``joined`` and ``deleting`` mark a Machine, ``gone`` ends any object."""
        metadata: dict[str, Any] = {"name": name, "namespace": NAMESPACE}
        if owner:
            metadata["ownerReferences"] = [{"kind": owner[0], "name": owner[1], "controller": True}]
        if marks.get("deleting"):
            metadata["deletionTimestamp"] = "now"
        status: dict[str, Any] = {"nodeRef": {"name": name}} if marks.get("joined") else {}
        told = required({"kind": kind, "metadata": metadata, "spec": {}})
        status["conditions"] = [{"type": "Available", "status": str(bool(marks.get("available"))), "reason": "Told"}]
        status["conditions"] += [{"type": type_, "status": "False", "reason": "Told"} for type_ in marks.get("types", told) if type_ != "Available"]
        if "phase" in marks:
            status["phase"] = marks["phase"]
        value = {"metadata": metadata, "spec": {} if replicas is None else {"replicas": replicas}, "status": status}
        number = len(self.events)
        self.events.append(Seen(number, bool(marks.get("gone")), Name(kind, NAMESPACE, name), value, self.at))
        self.at += self.seconds
        return self


def _workers(replicas: int) -> Story:
    return Story().tell(*DEPLOYMENT, replicas=replicas).tell(*SET, DEPLOYMENT, replicas=replicas)


def _rolling() -> Story:
    """One of one is available, and its successor was made."""
    story = _workers(1).tell("Machine", "old", SET).tell("Machine", "old", SET, available=True)
    return story.tell(*OTHER_SET, DEPLOYMENT, replicas=1).tell("Machine", "new", OTHER_SET)


def _aged(**marks: Any) -> Story:
    """A Machine whose phase was right, and what comes next."""
    return _workers(1).tell("Machine", "a", SET, phase="Pending").tell("Machine", "a", SET, **marks)


def _plane() -> Story:
    return Story().tell(*PLANE, replicas=3).tell("Machine", "first", PLANE)


@pytest.mark.parametrize(
    ("story", "words"),
    [
        pytest.param(_workers(1).tell("Machine", "a", SET).tell("Machine", "b", SET), "asked for 1", id="two Machines in one slot"),
        pytest.param(_rolling().tell(*SET, DEPLOYMENT, replicas=2).tell("Machine", "third", SET), "at most 2", id="more than the surge"),
        pytest.param(_rolling().tell("Machine", "old", SET, available=True, deleting=True), "at least 1", id="fewer available than due"),
        pytest.param(_plane().tell("Machine", "second", PLANE), "is created while first", id="two control planes at once"),
        pytest.param(
            _plane().tell("Machine", "first", PLANE, joined=True).tell("Machine", "second", PLANE).tell("Machine", "first", PLANE, joined=True, deleting=True),
            "is deleted while second",
            id="a control plane deleted while another joins",
        ),
        pytest.param(_workers(1).tell("Machine", "a", SET, types=()), "lacks the conditions Ready", id="conditions that were never told"),
        pytest.param(_workers(1).tell("Machine", "a", SET).tell("Machine", "a", SET, types=TYPES["Machine"][2:]), "conditions Ready", id="a condition gone"),
        pytest.param(_workers(1).tell("Machine", "a", SET, phase="Running"), "Pending follows", id="a phase that does not follow"),
        pytest.param(_aged(phase="Failed"), "Pending follows", id="a phase of nobody"),
    ],
)
def test_a_broken_rule_is_found(story: Story, words: str) -> None:
    found = violations(story.events)
    assert len(found) == 1
    assert words in found[0]


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(_rolling().tell("Machine", "new", OTHER_SET, available=True).tell("Machine", "old", SET, deleting=True), id="a rollout"),
        pytest.param(_workers(2).tell("Machine", "a", SET).tell("Machine", "a", SET, deleting=True).tell("Machine", "b", SET), id="one replaced while it goes"),
        pytest.param(_plane().tell("Machine", "first", PLANE, joined=True).tell("Machine", "second", PLANE), id="control planes in turn"),
        pytest.param(_aged(phase="Pending", deleting=True), id="a phase a moment old"),
        pytest.param(_workers(1).tell("Machine", "a", SET, phase="Deleting", deleting=True), id="a phase that follows"),
    ],
)
def test_a_kept_rule_is_not_complained_of(story: Story) -> None:
    assert violations(story.events) == []


def _two_of_two() -> Story:
    """Two of two are available, and a successor was made."""
    story = _workers(2)
    for name in ("a", "b"):
        story.tell("Machine", name, SET).tell("Machine", name, SET, available=True)
    return story.tell(*OTHER_SET, DEPLOYMENT, replicas=1).tell("Machine", "new", OTHER_SET)


def _lowered() -> Story:
    """The successor is available, and the old set is to have one less."""
    return _two_of_two().tell("Machine", "new", OTHER_SET, available=True).faster().tell(*SET, DEPLOYMENT, replicas=1)


def _failed_before() -> Story:
    """The same, decided long after one had failed."""
    story = _two_of_two().tell("Machine", "new", OTHER_SET, available=True).tell("Machine", "b", SET).tell(*DEPLOYMENT, replicas=2)
    return story.faster().tell(*SET, DEPLOYMENT, replicas=1)


@pytest.mark.parametrize(
    ("story", "taken", "broken"),
    [
        pytest.param(_two_of_two().tell("Machine", "a", SET), 0, False, id="a Node fails"),
        pytest.param(_two_of_two().tell("Machine", "a", SET).tell("Machine", "a", SET, deleting=True), 0, False, id="the failed one is replaced"),
        pytest.param(_two_of_two().tell("Machine", "a", SET).tell("Machine", "b", SET, available=True, deleting=True), 1, True, id="the healthy one is taken"),
        pytest.param(
            _two_of_two().tell("Machine", "new", OTHER_SET, available=True).tell("Machine", "a", SET, available=True, deleting=True),
            1,
            False,
            id="one is taken when its successor is there",
        ),
        pytest.param(
            _lowered().tell("Machine", "b", SET).faster().tell("Machine", "a", SET, available=True, deleting=True), 1, False, id="another failed since"
        ),
        pytest.param(_failed_before().tell("Machine", "a", SET, available=True, deleting=True), 1, True, id="another had failed before"),
    ],
)
def test_while_nodes_fail_what_is_taken_is_held_to_the_budget(story: Story, taken: int, broken: bool) -> None:
    history = HistoryOfFailures()
    for seen in story.events:
        history.take(seen)
    assert history.taken == taken
    assert bool(history.violations) == broken
    assert all("available as that was decided, at least 2 are due" in one for one in history.violations)
