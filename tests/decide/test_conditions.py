"""Merging and writing of conditions. The expected texts are upstream's observable output for the same situations."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from fleetwake.conditions import (
    FALSE,
    TRUE,
    UNKNOWN,
    Aggregate,
    ConditionValue,
    Reasons,
    Source,
    Summary,
    aggregate,
    merge,
    mirror,
    plural,
    same,
    summary,
)
from schemas.api.meta import Condition, ConditionStatus

AT = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)


def value(type_: str, status: ConditionStatus, message: str = "", reason: str = "Because") -> ConditionValue:
    return ConditionValue(type_, status, reason, message)


def machines(*told: tuple[str, ConditionStatus | None, str], control_plane: tuple[str, ...] = (), kind: str = "Machine") -> list[Source]:
    """Sources by (name, status, message); status None: the condition is missing."""
    return [Source(kind, name, (value("Ready", status, message),) if status is not None else (), name in control_plane) for name, status, message in told]


SUMMARY_CASES = [
    pytest.param(
        [value("A", FALSE, "a broke"), value("B", TRUE, "fine"), value("D", FALSE)],
        ("A", "B", "D"),
        FALSE,
        "* A: a broke\n* D: Because",
        id="issues-hide-info-and-fall-back-to-the-reason",
    ),
    pytest.param([value("A", TRUE, "note"), value("B", TRUE)], ("A", "B"), TRUE, "* A: note", id="info-shows-when-all-is-well"),
    pytest.param([value("B", UNKNOWN, "b?"), value("A", FALSE, "a!")], ("A", "B"), FALSE, "* A: a!\n* B: b?", id="declared-order-not-stored-order"),
    pytest.param([value("A", TRUE)], ("A", "B"), UNKNOWN, "* B: Condition not yet reported", id="missing-counts-as-unknown"),
    pytest.param([value("Deleting", TRUE, "going")], ("Deleting",), FALSE, "* Deleting: going", id="negative-polarity-true-is-an-issue"),
    pytest.param([value("Deleting", FALSE, "no")], ("Deleting",), TRUE, "* Deleting: no", id="negative-polarity-false-is-info"),
    pytest.param([value("A", TRUE)], ("A", "Optional"), TRUE, "", id="ignorable-missing-type-is-left-out"),
    pytest.param(
        [value("A", TRUE, "* x"), value("B", TRUE, "* x\n* y"), value("C", TRUE, "x\n* y"), value("D", TRUE, "* x\n  * y\n* z")],
        ("A", "B", "C", "D"),
        TRUE,
        "* A:\n  * x\n* B:\n  * x\n  * y\n* C:\n  * x\n    * y\n* D:\n  * x\n    * y\n  * z",
        id="messages-with-bullets-are-nested",
    ),
]


@pytest.mark.parametrize(("conditions", "types", "status", "message"), SUMMARY_CASES)
def test_summary(conditions: list[ConditionValue], types: tuple[str, ...], status: str, message: str) -> None:
    rule = Summary("Target", types, negative=("Deleting",), ignore_missing=("Optional",), reasons=Reasons("Bad", "Maybe", "Good"))
    found = summary(rule, conditions)
    assert (found.type, found.status, found.message) == ("Target", status, message)
    assert found.reason == {FALSE: "Bad", UNKNOWN: "Maybe", TRUE: "Good"}[found.status]


def test_summary_override_stands_in_for_the_stored_condition() -> None:
    found = summary(Summary("Ready", ("Deleting",), negative=("Deleting",)), [value("Deleting", TRUE, "long story")], [value("Deleting", TRUE, "short")])
    assert found.message == "* Deleting: short"


AGGREGATE_CASES = [
    pytest.param(machines(("m0", FALSE, "broke"), ("m1", TRUE, "ok")), FALSE, "* Machine m0: broke", id="one-issue"),
    pytest.param(
        machines(*((f"m{i}", FALSE, "broke") for i in (4, 2, 0, 1, 3))),
        FALSE,
        "* Machines m0, m1, m2, ... (2 more): broke",
        id="three-names-then-a-count",
    ),
    pytest.param(
        machines(("m0", FALSE, "a"), ("m1", FALSE, "b"), ("m2", FALSE, "d"), ("m3", FALSE, "e"), ("m4", FALSE, "a"), ("m5", FALSE, "c")),
        FALSE,
        "* Machines m0, m4: a\n* Machine m1: b\n* Machine m2: d\nAnd 2 Machines with other issues",
        id="three-messages-bigger-groups-first-then-by-name",
    ),
    pytest.param(
        machines(("m0", FALSE, "a"), ("m1", FALSE, "b"), ("m2", UNKNOWN, "?"), ("m3", FALSE, "c"), ("m4", FALSE, "d")),
        FALSE,
        "* Machine m0: a\n* Machine m1: b\n* Machine m3: c\nAnd 1 Machine with other issues\nAnd 1 Machine with status unknown",
        id="issues-before-unknown-and-counts-apart",
    ),
    pytest.param(
        machines(("m2", UNKNOWN, "* a"), ("m1", UNKNOWN, "* a"), ("m4", FALSE, "* b"), ("m3", FALSE, "* b"), ("m5", FALSE, "* b"), control_plane=("m2",)),
        FALSE,
        "* Machines m2, m1:\n  * a\n* Machines m3, m4, m5:\n  * b",
        id="control-plane-machines-first-whatever-their-state",
    ),
    pytest.param(machines(("m0", None, "")), UNKNOWN, "* Machine m0: Condition Ready not yet reported", id="missing-condition"),
    pytest.param(machines(("m0", TRUE, "x"), ("m1", TRUE, "")), TRUE, "* Machine m0: x", id="info-without-message-is-left-out"),
    pytest.param(
        machines(("a", TRUE, "1"), ("b", TRUE, "2"), ("c", TRUE, "3"), ("d", TRUE, "4")),
        TRUE,
        "* Machine a: 1\n* Machine b: 2\n* Machine c: 3\nAnd 1 Machine with additional info",
        id="info-is-limited-too",
    ),
    pytest.param(
        [*machines(*((f"d{i}", FALSE, f"m{i}") for i in range(4)), kind="MachineDeployment"), *machines(("s1", FALSE, "m0"), kind="MachineSet")],
        FALSE,
        "* MachineDeployment d0: m0\n* MachineDeployment d1: m1\n* MachineDeployment d2: m2\n"
        "And 1 MachineDeployment with other issues\nAnd 1 MachineSet with other issues",
        id="the-limit-spans-kinds",
    ),
]


@pytest.mark.parametrize(("sources", "status", "message"), AGGREGATE_CASES)
def test_aggregate(sources: list[Source], status: str, message: str) -> None:
    found = aggregate(Aggregate("Ready", "MachinesReady", reasons=Reasons("NotReady", "ReadyUnknown", "Ready")), sources)
    assert (found.type, found.status, found.message) == ("MachinesReady", status, message)


def test_aggregate_of_negative_polarity_is_true_on_issue() -> None:
    sources = [Source("MachineSet", "a", (value("ScalingUp", TRUE, "1 to 2"),)), Source("MachineSet", "b", (value("ScalingUp", FALSE),))]
    found = aggregate(Aggregate("ScalingUp", "ScalingUp", negative=True, reasons=Reasons("ScalingUp", "ScalingUpUnknown", "NotScalingUp")), sources)
    assert (found.status, found.reason, found.message) == (TRUE, "ScalingUp", "* MachineSet a: 1 to 2")


def test_aggregate_of_nothing_is_the_callers_question() -> None:
    with pytest.raises(ValueError, match="nothing to aggregate"):
        aggregate(Aggregate("Ready", "MachinesReady"), [])


def test_mirror_copies_with_the_time_of_the_original() -> None:
    original = ConditionValue("Ready", FALSE, "Broken", "no disk", EARLIER)
    assert mirror([original], "Ready", "InfrastructureReady") == ConditionValue("InfrastructureReady", FALSE, "Broken", "no disk", EARLIER)


def test_mirror_falls_back() -> None:
    assert mirror([], "Ready", "X", value("whatever", FALSE, "m")) == value("X", FALSE, "m")
    assert mirror([], "Ready", "X").message == "Condition Ready not yet reported"


def condition(type_: str, status: ConditionStatus, since: datetime = EARLIER) -> Condition:
    return Condition(type=type_, status=status, reason="Because", message="", last_transition_time=since, observed_generation=3)


@pytest.mark.parametrize(
    ("before", "after", "since"),
    [
        pytest.param(TRUE, TRUE, "2026-01-01T00:00:00Z", id="same-status-keeps-its-time"),
        pytest.param(FALSE, TRUE, "2026-01-02T03:04:05Z", id="flip-takes-now-in-seconds"),
        pytest.param(None, TRUE, "2026-01-02T03:04:05Z", id="new-takes-now"),
    ],
)
def test_merge_times(before: ConditionStatus | None, after: ConditionStatus, since: str) -> None:
    existing = (condition("Ready", before),) if before is not None else ()
    (found,) = merge(existing, [value("Ready", after, "edited")], 4, AT)
    assert found == {"type": "Ready", "status": after, "observedGeneration": 4, "lastTransitionTime": since, "reason": "Because", "message": "edited"}


def test_merge_takes_the_mirrored_time_on_a_flip_only() -> None:
    mirrored = ConditionValue("Ready", TRUE, "Because", "", EARLIER - timedelta(days=1))
    assert merge((condition("Ready", FALSE),), [mirrored], 1, AT)[0]["lastTransitionTime"] == "2025-12-31T00:00:00Z"
    assert merge((condition("Ready", TRUE),), [mirrored], 1, AT)[0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_merge_orders_by_relevance_and_leaves_foreign_types_out() -> None:
    types = ("Deleting", "Paused", "zzz.example.org/Gate", "NodeReady", "NodeHealthy", "Ready", "Available", "AGate")
    found = merge((condition("HealthCheckSucceeded", TRUE),), [value(type_, TRUE) for type_ in types], 1, AT)
    assert [one["type"] for one in found] == ["Available", "Ready", "NodeHealthy", "NodeReady", "AGate", "zzz.example.org/Gate", "Paused", "Deleting"]


def test_same_sees_every_field() -> None:
    existing = (condition("Ready", TRUE),)
    wire = merge(existing, [value("Ready", TRUE)], 3, AT)
    assert same(existing, wire)
    assert not same(existing, merge(existing, [value("Ready", TRUE)], 4, AT))
    assert not same(existing, merge(existing, [value("Ready", TRUE, "x")], 3, AT))
    assert not same((), wire)


@pytest.mark.parametrize(("kind", "expected"), [("Machine", "Machines"), ("FooProxy", "FooProxies"), ("Box", "Boxes"), ("Gateway", "Gateways")])
def test_plural(kind: str, expected: str) -> None:
    assert plural(kind) == expected
