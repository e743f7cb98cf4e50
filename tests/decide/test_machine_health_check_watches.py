"""What wakes a MachineHealthCheck, and what does not."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest

from fleetwake.kind import CONNECTION, NODE, Change
from fleetwake.kind import Watch as Relation
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from schemas.sights import PRESENCE, PresenceStatus, presence_key, presence_value
from services.remediation.kinds.machine_health_check import KIND
from services.remediation.kinds.machine_health_check.watches import own_change
from tests.decide.health_check_world import CORE, NAME, NAMESPACE, check, cluster, machine, node, stated, world
from tests.decide.world import NOW, FakeView, Json, json_key

DEMO = ClusterKey(NAMESPACE, "demo")
CHECK = ObjectKey("cluster.x-k8s.io", "MachineHealthCheck", NAMESPACE, NAME)
MACHINE = GroupKind("cluster.x-k8s.io", "Machine")


def woken(view: FakeView, change: Change) -> list[ObjectKey]:
    """The keys that a change wakes."""
    named = {watch.source for watch in KIND.watches} | {KIND.group_kind}

    def listens(watch: Relation) -> bool:
        return watch.source == change.key.group_kind or (watch.source.kind == "*" and change.key.group_kind not in named and not change.key.cluster)

    return list(dict.fromkeys(key for watch in KIND.watches if listens(watch) and watch.matters(change) for key in watch.concerns(change, view)))


def changed(before: Json | None, after: Json | None) -> Change:
    """A change of an object of the cluster."""
    return Change(json_key(after or before or {}), DEMO, before, after)


def bent(obj: Json, **parts: Any) -> Json:
    """The object with parts of its metadata or status replaced."""
    found = copy.deepcopy(obj)
    for name, value in parts.items():
        (found["status"] if name in ("conditions", "nodeRef", "phase") else found["metadata"])[name] = value
    return found


@pytest.mark.parametrize(
    ("parts", "wakes"),
    [
        pytest.param({"conditions": [stated("NodeHealthy")]}, True, id="conditions"),
        pytest.param({"nodeRef": {"name": "another"}}, True, id="Node"),
        pytest.param({"annotations": {"cluster.x-k8s.io/remediate-machine": ""}}, True, id="annotation"),
        pytest.param({"labels": {"cluster.x-k8s.io/cluster-name": "demo"}}, True, id="it leaves the selection"),
        pytest.param({"deletionTimestamp": "2026-01-02T03:04:05Z"}, True, id="deletion"),
        pytest.param({"phase": "Running"}, False, id="phase"),
        pytest.param({"resourceVersion": "9"}, False, id="nothing"),
    ],
)
def test_a_machine_wakes_by_what_is_judged(parts: Json, wakes: bool) -> None:
    view = world()
    before = machine()
    assert woken(view, changed(before, bent(before, **parts))) == ([CHECK] if wakes else [])


def test_machines_that_are_not_selected_wake_nobody() -> None:
    other = machine(labels={"pool": "b"})
    assert woken(world(), changed(None, other)) == []
    assert woken(world(), changed(None, machine())) == [CHECK]
    assert woken(world(), changed(machine(), None)) == [CHECK]


def test_a_cluster_wakes_by_its_pause_and_its_first_steps() -> None:
    before = cluster(initialized=None)
    assert woken(world(), changed(before, cluster())) == [CHECK]
    assert woken(world(), changed(before, cluster(initialized=None, paused=True))) == [CHECK]
    assert woken(world(), changed(before, bent(before, conditions=[*before["status"]["conditions"], stated("Available")]))) == []


def test_a_node_wakes_by_its_conditions() -> None:
    def of_node(before: Json | None, after: Json | None) -> Change:
        return Change(ObjectKey(*NODE, "", "m1", str(DEMO)), DEMO, before, after)

    assert woken(world(), of_node(node(), node("m1", stated("Ready", "False")))) == [CHECK]
    assert woken(world(), of_node(node(), None)) == [CHECK]
    assert woken(world(), of_node(node(), bent(node(), labels={"a": "b"}))) == []


def test_the_connection_wakes_and_so_does_the_end_of_a_silence() -> None:
    key = ObjectKey(*CONNECTION, NAMESPACE, "demo", str(DEMO))
    assert woken(world(), Change(key, DEMO, None, {"metadata": {}, "status": {"connected": True}})) == [CHECK]

    def present(seconds: float) -> Json:
        return presence_value(1, PresenceStatus(at=NOW + timedelta(seconds=seconds), instance="r-0"))

    assert presence_key(1).group_kind == PRESENCE
    assert woken(world(), Change(presence_key(1), None, present(0), present(20))) == []
    assert woken(world(), Change(presence_key(1), None, present(0), present(70))) == [CHECK]
    assert woken(world(), Change(presence_key(1), None, None, present(0))) == [CHECK]


def test_templates_and_requests_wake_the_checks_that_name_them() -> None:
    ref = {"apiVersion": "remediation.example.org/v1", "kind": "RebootTemplate", "name": "reboot"}
    view = world(the_check=check(remediation={"templateRef": ref}))

    def made(kind: str, name: str, **annotations: str) -> Json:
        meta = {"name": name, "namespace": NAMESPACE, "annotations": annotations}
        return {"apiVersion": "remediation.example.org/v1", "kind": kind, "metadata": meta}

    assert woken(view, changed(None, made("RebootTemplate", "reboot"))) == [CHECK]
    assert woken(view, changed(made("Reboot", "m1"), None)) == [CHECK]
    assert woken(view, changed(None, made("Fence", "m1", **{"cluster.x-k8s.io/cloned-from-name": "reboot"}))) == [CHECK]
    assert woken(view, changed(None, made("Unrelated", "m1"))) == []
    assert woken(world(), changed(None, made("RebootTemplate", "reboot"))) == []


def test_checks_wake_each_other_by_what_they_look_for() -> None:
    other = check(name="also")
    assert woken(world(), changed(None, other)) == [CHECK]
    assert woken(world(), changed(other, None)) == [CHECK]
    assert woken(world(), changed(other, check({"nodeStartupTimeoutSeconds": 60}, name="also"))) == [CHECK]
    assert woken(world(), changed({**other, "status": {}}, {**other, "status": {"expectedMachines": 1}})) == []


def test_its_own_status_is_no_news() -> None:
    before = {**check(), "apiVersion": CORE, "status": {"expectedMachines": 1}}
    assert not own_change(changed(before, {**before, "status": {"expectedMachines": 2}}))
    assert own_change(changed(before, check({"nodeStartupTimeoutSeconds": 60})))
    assert own_change(changed(before, bent(before, annotations={"cluster.x-k8s.io/paused": ""})))
