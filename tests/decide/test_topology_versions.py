"""Versions of a topology's parts: upgrade plans, the control plane first, workers in order, holds, concurrency, hooks, and what the condition says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetwake import labels
from fleetwake.topology.upgrade_plan import UpgradePlanError, order, upgrade_plans
from services.reconcilers.kinds.cluster_topology.versions import (
    AFTER_CLUSTER_UPGRADE,
    AFTER_CONTROL_PLANE_UPGRADE,
    BEFORE_CLUSTER_UPGRADE,
    BEFORE_CONTROL_PLANE_UPGRADE,
    BEFORE_WORKERS_UPGRADE,
    Asked,
    ControlPlaneNow,
    Hooks,
    WorkerWanted,
    concurrency,
    decide_versions,
)

OLD, NEW = "v1.34.2", "v1.35.0"
CLASS = ("v1.30.0", "v1.31.0", "v1.31.5", "v1.32.1", "v1.33.0", "v1.34.2", "v1.35.0", "v1.36.1")


# --- plans -----------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("desired", "control_plane", "workers", "listed", "wanted"),
    [
        pytest.param(NEW, NEW, [NEW], (), ((), ()), id="nothing to do"),
        pytest.param(NEW, OLD, [OLD], (), ((NEW,), (NEW,)), id="one minor"),
        pytest.param("v1.34.9", OLD, [OLD], (), (("v1.34.9",), ("v1.34.9",)), id="patch"),
        pytest.param(NEW, NEW, [OLD], (), ((), (NEW,)), id="workers only"),
        pytest.param(NEW, OLD, [], (), ((NEW,), ()), id="no workers"),
        pytest.param("v1.33.0", "v1.30.0", ["v1.30.0"], CLASS, (("v1.31.5", "v1.32.1", "v1.33.0"), ("v1.33.0",)), id="three minors"),
        pytest.param("v1.34.2", "v1.30.0", ["v1.30.0"], CLASS, (("v1.31.5", "v1.32.1", "v1.33.0", "v1.34.2"), ("v1.33.0", "v1.34.2")), id="four minors"),
        pytest.param("v1.36.1", "v1.33.0", ["v1.30.0"], CLASS, (("v1.34.2", "v1.35.0", "v1.36.1"), ("v1.33.0", "v1.36.1")), id="workers are at the limit"),
        pytest.param("v1.31.5", "v1.31.0", ["v1.31.0"], CLASS, (("v1.31.5",), ("v1.31.5",)), id="patch of a list"),
        pytest.param("v1.35.0+b", "v1.35.0+a", ["v1.35.0+a"], (), (("v1.35.0+b",), ("v1.35.0+b",)), id="build tags"),
        pytest.param(NEW, OLD, [OLD, NEW], (), ((NEW,), (NEW,)), id="the oldest worker counts"),
    ],
)
def test_upgrade_plans(desired: str, control_plane: str, workers: list[str], listed: tuple[str, ...], wanted: tuple[tuple[str, ...], ...]) -> None:
    found = upgrade_plans(desired, control_plane, workers, listed)
    assert (found.control_plane, found.workers) == wanted


@pytest.mark.parametrize(
    ("desired", "control_plane", "workers", "listed", "message"),
    [
        ("v1.36.1", OLD, [], (), "cannot go from v1.34.2 to v1.36.1 at once: go one minor version at a time, or list kubernetesVersions"),
        ("v1.34.2", "v1.30.0", [], ("v1.30.0", "v1.34.2"), "list a version of minor 31"),
        ("v1.35.5", OLD, [], CLASS, "ends at v1.35.0, not at v1.35.5"),
        (OLD, NEW, [], (), "v1.34.2 after v1.35.0; versions must ascend"),
        (OLD, OLD, [NEW], (), "workers at v1.35.0 are newer than v1.34.2"),
        ("x", OLD, [], (), "is no version; write it as v1.31.2"),
    ],
)
def test_there_is_no_plan(desired: str, control_plane: str, workers: list[str], listed: tuple[str, ...], message: str) -> None:
    with pytest.raises(UpgradePlanError) as raised:
        upgrade_plans(desired, control_plane, workers, listed)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        ("v1.2.3", "1.2.3", 0), ("v1.2.3-rc.1", "v1.2.3", -1), ("v1.2.3-rc.2", "v1.2.3-rc.10", -1), ("v1.10.0", "v1.9.0", 1), ("v1.2.3+1", "v1.2.3+2", -1),
        ("v1.2.3+a", "v1.2.3+b", None), ("v1.2.3+1", "v1.2.3+a", -1), ("v1.2.3", "v1.2.3+a", -1),
    ],
)  # fmt: skip
def test_order_of_versions(one: str, other: str, wanted: int | None) -> None:
    assert order(one, other) == wanted


# --- decisions -------------------------------------------------------------------------------------------------------------------------------


def worker(name: str, version: str = OLD, *, upgrading: bool = False, **annotations: str) -> WorkerWanted:
    return WorkerWanted(name, version, f"my-{name}" if version else "", annotations, upgrading)


def asked(*deployments: WorkerWanted, version: str = NEW, now: ControlPlaneNow | None = None, **more: object) -> Asked:
    return replace(Asked(version, now or ControlPlaneNow(OLD), deployments), **more)  # type: ignore[arg-type]


def told(found: Asked) -> tuple[str, list[str]]:
    """The control plane's version, and each worker's with its state."""
    decided = decide_versions(found)
    return decided.control_plane.version, [f"{one.topology_name} {one.version} {one.state.value}" for one in (*decided.deployments, *decided.pools)]


def test_a_new_control_plane_and_new_workers_begin_at_the_topologys_version() -> None:
    assert told(Asked(NEW, None, [worker("a", "")])) == (NEW, ["a v1.35.0 current"])


def test_the_control_plane_goes_first() -> None:
    assert told(asked(worker("a"))) == (NEW, ["a v1.34.2 pending"])
    decided = decide_versions(asked(worker("a")))
    assert decided.control_plane.starting and decided.hooks.pending == {AFTER_CLUSTER_UPGRADE}


@pytest.mark.parametrize("now", [ControlPlaneNow(OLD, provisioning=True), ControlPlaneNow(OLD, upgrading=True)])
def test_a_control_plane_that_is_busy_keeps_its_version_and_workers_wait(now: ControlPlaneNow) -> None:
    assert told(asked(worker("a"), worker("new", ""), now=now)) == (OLD, ["a v1.34.2 pending", "new v1.35.0 pending create"])


def test_workers_follow_in_their_order_one_at_a_time() -> None:
    stable = ControlPlaneNow(NEW)
    assert told(asked(worker("a"), worker("b"), now=stable))[1] == ["a v1.35.0 upgrading", "b v1.34.2 pending"]
    assert told(asked(worker("a", NEW, upgrading=True), worker("b"), now=stable))[1] == ["a v1.35.0 upgrading", "b v1.34.2 pending"]
    assert told(asked(worker("a", NEW), worker("b"), now=stable))[1] == ["a v1.35.0 current", "b v1.35.0 upgrading"]


def test_concurrency() -> None:
    assert told(asked(worker("a"), worker("b"), worker("c"), now=ControlPlaneNow(NEW), concurrency=2))[1] == [
        "a v1.35.0 upgrading", "b v1.35.0 upgrading", "c v1.34.2 pending",
    ]  # fmt: skip
    assert [concurrency({labels.UPGRADE_CONCURRENCY: text}) for text in ("3", "0", "x", "")] == [3, 1, 1, 1]


def test_deferred_and_held_workers() -> None:
    held, deferred = {labels.HOLD_UPGRADE_SEQUENCE: ""}, {labels.DEFER_UPGRADE: ""}
    one = asked(worker("a"), worker("b", **deferred), worker("c", **held), worker("d"), now=ControlPlaneNow(NEW), concurrency=9)
    assert told(one)[1] == ["a v1.35.0 upgrading", "b v1.34.2 deferred", "c v1.34.2 deferred", "d v1.34.2 deferred"]


def test_pools_follow_the_same_rules_on_their_own() -> None:
    one = asked(worker("a"), now=ControlPlaneNow(NEW), pools=(worker("p"), worker("q")))
    assert told(one)[1] == ["a v1.35.0 upgrading", "p v1.35.0 upgrading", "q v1.34.2 pending"]


def test_the_control_plane_waits_while_workers_upgrade() -> None:
    assert told(asked(worker("a", OLD, upgrading=True))) == (OLD, ["a v1.34.2 upgrading"])


def test_a_chain_lets_workers_catch_up_before_they_are_too_old() -> None:
    """Four minors: workers may be three behind, so they go once in between and once at the end."""
    control_plane, deployment, seen = "v1.30.0", "v1.30.0", []
    hooks = Hooks()
    for _ in range(20):
        one = Asked("v1.34.2", ControlPlaneNow(control_plane), [worker("a", deployment)], class_versions=CLASS, hooks=hooks)
        decided = decide_versions(one)
        before = (control_plane, deployment)
        control_plane, deployment, hooks = decided.control_plane.version, decided.deployments[0].version, decided.hooks
        assert control_plane == before[0] or deployment == before[1], "never both at once"
        if (control_plane, deployment) == before:
            break
        seen.append((control_plane, deployment))
    assert seen == [
        ("v1.31.5", "v1.30.0"), ("v1.32.1", "v1.30.0"), ("v1.33.0", "v1.30.0"), ("v1.33.0", "v1.33.0"), ("v1.34.2", "v1.33.0"), ("v1.34.2", "v1.34.2"),
    ]  # fmt: skip
    assert not hooks.pending, "the upgrade is over"


@pytest.mark.parametrize(
    ("hook", "now", "wanted"),
    [
        (BEFORE_CLUSTER_UPGRADE, OLD, (OLD, ["a v1.34.2 pending"])),
        (BEFORE_CONTROL_PLANE_UPGRADE, OLD, (OLD, ["a v1.34.2 pending"])),
        (AFTER_CONTROL_PLANE_UPGRADE, NEW, (NEW, ["a v1.34.2 pending"])),
        (BEFORE_WORKERS_UPGRADE, NEW, (NEW, ["a v1.34.2 pending"])),
    ],
)
def test_hooks_block(hook: str, now: str, wanted: tuple[str, list[str]]) -> None:
    assert told(asked(worker("a"), now=ControlPlaneNow(now), hooks=Hooks(blocking={hook: "wait"}))) == wanted


def test_an_upgrade_that_has_begun_is_not_held_by_what_is_asked_before_it() -> None:
    one = asked(worker("a"), hooks=Hooks(frozenset({AFTER_CLUSTER_UPGRADE}), {BEFORE_CLUSTER_UPGRADE: "wait"}))
    assert told(one)[0] == NEW


def test_an_upgrade_is_over_when_all_are_there_and_not_while_something_is_put_off() -> None:
    begun = Hooks(frozenset({AFTER_CLUSTER_UPGRADE}))
    assert not decide_versions(asked(worker("a", NEW), now=ControlPlaneNow(NEW), hooks=begun)).upgrading
    assert decide_versions(asked(worker("a", OLD, **{labels.DEFER_UPGRADE: ""}), now=ControlPlaneNow(NEW), hooks=begun)).upgrading
    assert decide_versions(asked(worker("a", NEW, upgrading=True), now=ControlPlaneNow(NEW), hooks=begun)).upgrading
