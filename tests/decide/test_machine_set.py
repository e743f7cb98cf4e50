"""What a MachineSet makes, follows, counts and removes."""

from __future__ import annotations

import copy
from datetime import timedelta

import pytest

from fleetwake.kind import Change, Failure
from fleetwake.plan import Apply, Create, Delete, Patch, Plan, SyncMetadata, Together, UidOf
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kinds import machine_set
from tests.decide.machine_set_world import (
    ALONE,
    SET,
    alone,
    condition,
    own_template,
    remediated,
    settled,
    unhealthy,
)
from tests.decide.workers_world import (
    CLUSTER,
    CONTROL,
    CORE,
    INFRA,
    NAMESPACE,
    VERSION,
    Workers,
    control_plane,
    steps_on,
    template,
    workers,
)
from tests.decide.world import Json, plan_writes


def test_a_machine_is_made_first_and_owns_its_objects() -> None:
    world = workers(alone(1))
    plan = world.run_set(SET)
    own, *_ = plan_writes(plan)
    assert isinstance(own, Patch)
    assert own.body["metadata"]["finalizers"] == ["cluster.x-k8s.io/machineset"]
    assert own.body["metadata"]["ownerReferences"][0]["kind"] == "Cluster"
    [(made,)] = [step.branches for step in plan.steps if isinstance(step, Together)]
    machine, objects = made
    assert isinstance(machine, Create) and machine.apply and machine.manager == "capi-machineset"
    assert isinstance(objects, Together)
    assert all(branch[0].owner_uid == UidOf(machine.key) for branch in objects.branches if isinstance(branch[0], Create))
    [stored] = world.of("Machine")
    name = stored["metadata"]["name"]
    assert stored["metadata"]["labels"] == {**ALONE, "cluster.x-k8s.io/set-name": SET}
    assert stored["metadata"]["annotations"] == {"note": "one"}
    assert stored["metadata"]["finalizers"] == ["machine.cluster.x-k8s.io"]
    assert stored["spec"]["infrastructureRef"] == {"apiGroup": INFRA, "kind": "DevMachine", "name": name}
    assert stored["spec"]["deletion"] == {"nodeDeletionTimeoutSeconds": 10}
    [infra], [config] = world.of("DevMachine"), world.of("KubeadmConfig")
    assert infra["spec"] == {"size": "small"}
    for one in (infra, config):
        assert one["metadata"]["name"] == name
        assert one["metadata"]["ownerReferences"][0] | {"uid": ""} == {
            "apiVersion": f"{CORE}/v1beta2",
            "kind": "Machine",
            "name": name,
            "uid": "",
            "controller": True,
            "blockOwnerDeletion": True,
        }


def test_a_settled_world_asks_for_nothing() -> None:
    world = settled(workers(alone(3)))
    world.later(86400)
    assert world.run_set(SET) == Plan()
    assert condition(world, "MachinesReady") == ("True", "Ready", "")


@pytest.mark.parametrize("limit", range(11))
def test_a_crash_after_any_write_leads_to_the_same_world(limit: int) -> None:
    world = workers(alone(2))
    world.run(machine_set.KIND, NAMESPACE, SET, limit)
    settled(world)
    assert [len(world.of(kind)) for kind in ("Machine", "DevMachine", "KubeadmConfig")] == [2, 2, 2]


def test_a_stale_view_gives_the_same_names() -> None:
    world = workers(alone(3))
    stale = copy.deepcopy(world.store)
    world.run_set(SET)
    names = {one.name for one in world.machines()}
    world.store = {**world.store, **stale}
    again = machine_set.KIND.observe(Workers(store=stale), ObjectKey(CORE, "MachineSet", NAMESPACE, SET))
    assert again is not None
    assert {step.key.name for step in steps_on(machine_set.KIND.reconcile(again), "Machine")} == names
    assert len(names) == 3


def test_a_name_does_not_come_back_after_one_more_and_one_less() -> None:
    world = settled(workers(alone(2, deletion={"order": "Newest"})))
    stay = {one.name for one in world.machines()}
    came = []
    for replicas in (3, 2, 3):
        world.change(MachineSet, SET, replicas=replicas)
        settled(world)
        came += sorted({one.name for one in world.machines()} - stay)
    assert len(came) == 2
    assert came[0] != came[1]


def test_names_follow_the_naming_template() -> None:
    world = workers(alone(1, machineNaming={"template": "{{ .cluster.name }}-x-{{ .random }}"}))
    world.run_set(SET)
    assert world.machines()[0].name.startswith(f"{CLUSTER}-x-")
    world = workers(alone(1, machineNaming={"template": "{{ .cluster.name }}"}))
    world.run_set(SET)
    assert not world.machines()
    assert "it must contain {{ .random }}" in condition(world, "ScalingUp")[2]


def test_machine_creation_can_be_disabled() -> None:
    world = workers(alone(2, {"cluster.x-k8s.io/disable-machine-create": "true"}))
    world.run_set(SET)
    assert not world.machines()
    assert condition(world, "ScalingUp") == ("True", "ScalingUp", "Scaling up from 0 to 2 replicas")


def test_missing_templates_block_scaling_up_only() -> None:
    world = settled(workers(alone(2)))
    absent = "DevMachineTemplate default/first does not exist: create it or correct spec.template.spec.infrastructureRef"
    del world.store[ObjectKey(INFRA, "DevMachineTemplate", NAMESPACE, "first")]
    world.run_set(SET)
    assert condition(world, "ScalingUp")[2] == f"Scaling up would be blocked because {absent}"
    world.change(MachineSet, SET, replicas=3)
    world.run_set(SET)
    assert condition(world, "ScalingUp")[2] == f"Scaling up from 2 to 3 replicas is blocked because:\n* {absent}"
    world.change(MachineSet, SET, replicas=1)
    assert [type(step) for step in steps_on(world.run_set(SET), "Machine")] == [Delete]


def test_a_terminal_failure_is_told_and_not_repeated() -> None:
    world = workers(alone(2))
    world.terminal = Failure("create Machine default/x", "forbidden")
    plan = world.run_set(SET)
    assert not steps_on(plan, "Machine")
    assert condition(world, "ScalingUp")[2].endswith("is blocked because:\n* create Machine default/x: forbidden")


def test_machines_moved_here_are_not_deleted_before_they_are_acknowledged() -> None:
    world = settled(workers(alone(2)))
    metadata = world.json(MachineSet, SET)["metadata"]
    metadata["annotations"] = {"in-place-updates.internal.cluster.x-k8s.io/receive-machines-from-machinesets": "old"}
    name = world.machines()[0].name
    world.json(Machine, name)["metadata"]["annotations"]["in-place-updates.internal.cluster.x-k8s.io/pending-acknowledge-move"] = ""
    world.change(MachineSet, SET, replicas=1)
    assert not [step for step in plan_writes(world.run_set(SET)) if isinstance(step, Delete)]


def test_a_slow_drain_is_explained() -> None:
    world = settled(workers(alone(1)))
    name = world.machines()[0].name
    found = world.json(Machine, name)
    found["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
    found["status"]["deletion"] = {"nodeDrainStartTime": "2026-01-02T03:04:05Z"}
    world.condition(name, "Deleting", message="cannot evict pod as it would violate the pod's disruption budget.", reason="DrainingNode")
    world.later(3600)
    world.change(MachineSet, SET, replicas=0)
    world.run_set(SET)
    assert condition(world, "ScalingDown")[2].endswith(f"Machine {name} is in deletion since more than 15m, delay likely due to PodDisruptionBudgets")


def test_objects_that_a_machine_lacks_are_made_until_they_were_seen_ready() -> None:
    world = workers(alone(1))
    world.run_set(SET)
    name = world.machines()[0].name
    del world.store[ObjectKey(INFRA, "DevMachine", NAMESPACE, name)]
    plan = world.run_set(SET)
    assert plan.rests_on_absence
    assert len(world.of("DevMachine")) == 1
    world.join()
    del world.store[ObjectKey(INFRA, "DevMachine", NAMESPACE, name)]
    assert not steps_on(world.run_set(SET), "DevMachine")


def test_objects_without_a_machine_are_removed() -> None:
    world = settled(workers(alone(1)))
    lost = copy.deepcopy(world.of("DevMachine")[0])
    lost["metadata"] |= {"name": "lost", "uid": "uid-lost"}
    lost["metadata"]["ownerReferences"] = [{"apiVersion": f"{CORE}/v1beta2", "kind": "MachineSet", "name": SET, "uid": f"uid-MachineSet-{SET}"}]
    world.put(lost)
    plan = world.run_set(SET)
    assert plan.rests_on_absence
    assert [step.key.name for step in plan_writes(plan) if isinstance(step, Delete)] == ["lost"]


def test_orphans_are_adopted_and_machines_of_others_are_not_counted() -> None:
    world = settled(workers(alone(2)))
    first, second = (world.json(Machine, one.name) for one in world.machines())
    first["metadata"]["ownerReferences"] = []
    second["metadata"]["ownerReferences"][0]["uid"] = "somebody-else"
    world.run_set(SET)
    assert first["metadata"]["ownerReferences"][0]["name"] == SET
    assert len(world.machines()) == 3


def test_scaling_down_deletes_what_ranks_first_and_only_once() -> None:
    world = settled(workers(alone(4)))
    names = [one.name for one in world.machines()]
    world.json(Machine, names[2])["metadata"]["annotations"]["cluster.x-k8s.io/delete-machine"] = ""
    world.condition(names[3], "HealthCheckSucceeded", False)
    world.change(MachineSet, SET, replicas=2)
    plan = world.run_set(SET)
    assert {step.key.name for step in plan_writes(plan) if isinstance(step, Delete)} == {names[2], names[3]}
    assert not [step for step in plan_writes(world.run_set(SET)) if isinstance(step, Delete)]
    world.later(16 * 60)
    world.run_set(SET)
    message = condition(world, "ScalingDown")[2]
    assert message == f"Scaling down from 4 to 2 replicas\n* Machines {', '.join(sorted(names[2:]))} are in deletion since more than 15m"
    settled(world)
    assert [one.name for one in world.machines()] == names[:2]


def test_in_place_fields_follow_the_template() -> None:
    world = settled(workers(alone(2)))
    body = own_template(minReadySeconds=9, taints=[{"key": "a", "effect": "NoSchedule", "propagation": "Always"}], version="v1.34.9", failureDomain="z")
    body["metadata"] = {"labels": {**ALONE, "team": "blue"}, "annotations": {"note": "two"}}
    world.change(MachineSet, SET, template=body)
    plan = world.run_set(SET)
    assert [type(step) for step in plan_writes(plan)].count(Apply) >= 2
    for one in world.machines():
        assert (one.spec.min_ready_seconds, one.spec.taints[0].key, one.spec.version, one.spec.failure_domain) == (9, "a", VERSION, None)
        assert (one.metadata.labels["team"], one.metadata.annotations["note"]) == ("blue", "two")
    for obj in (*world.of("DevMachine"), *world.of("KubeadmConfig")):
        assert (obj["metadata"]["labels"]["team"], obj["metadata"]["annotations"]["note"]) == ("blue", "two")
        assert obj["metadata"]["annotations"]["cluster.x-k8s.io/cloned-from-name"] == "first"
    settled(world)


def test_a_label_lost_by_the_template_is_left_to_the_server_to_take_away() -> None:
    world = settled(workers(alone(1)))
    body = own_template()
    body["metadata"]["annotations"] = {}
    world.change(MachineSet, SET, template=body)
    writes = plan_writes(world.run_set(SET))
    [apply] = [step for step in writes if isinstance(step, Apply) and step.key.kind == "Machine"]
    assert "annotations" in apply.body["metadata"] and apply.body["metadata"]["annotations"] == {}
    assert sum(isinstance(step, SyncMetadata) for step in writes) == 2
    last = writes[-1]
    assert isinstance(last, Patch) and last.body == {"status": {"observedGeneration": 2}}
    assert not [step for step in plan_writes(world.run_set(SET)) if step.key.kind != "MachineSet"]


def test_scaling_asks_nobody_who_wrote_the_token_s_id_on_a_bootstrap_configuration() -> None:
    world = settled(workers(alone(1)))
    world.of("KubeadmConfig")[0]["metadata"]["annotations"]["fleetwake.io/bootstrap-token-id"] = "abcdef"
    world.change(MachineSet, SET, replicas=2)
    assert not [step for step in plan_writes(world.run_set(SET)) if isinstance(step, SyncMetadata)]


def test_a_failure_while_following_keeps_the_knowledge_that_the_template_changed() -> None:
    world = settled(workers(alone(2)))
    body = own_template()
    body["metadata"]["annotations"] = {}
    world.change(MachineSet, SET, template=body)
    world.run(machine_set.KIND, NAMESPACE, SET, limit=1)
    assert any(isinstance(step, Apply) and step.key.kind == "Machine" for step in plan_writes(world.run_set(SET)))


def test_a_machine_being_deleted_follows_only_its_deletion_settings() -> None:
    world = settled(workers(alone(1)))
    name = world.machines()[0].name
    world.json(Machine, name)["metadata"]["deletionTimestamp"] = "2026-01-02T05:00:00Z"
    world.change(MachineSet, SET, template=own_template(deletion={"nodeDrainTimeoutSeconds": 5}))
    [patch] = steps_on(world.run_set(SET), "Machine")
    assert isinstance(patch, Patch)
    assert patch.body == {"spec": {"deletion": {"nodeDeletionTimeoutSeconds": 10, "nodeDrainTimeoutSeconds": 5}}}


def test_an_unhealthy_machine_is_deleted_and_replaced() -> None:
    world = settled(workers(alone(3)))
    name = world.machines()[1].name
    unhealthy(world, name)
    world.run_set(SET)
    assert remediated(world, name) == ("MachineDeleting", "Machine is deleting")
    assert [one.name for one in world.machines() if one.metadata.deleting] == [name]
    world.run_set(SET)
    assert condition(world, "Remediating") == ("True", "Remediating", f"* Machine {name}: Machine is deleting")
    settled(world)
    assert len(world.machines()) == 3 and name not in [one.name for one in world.machines()]


def test_messages_wait_until_machines_are_quiet_but_states_do_not() -> None:
    world = settled(workers(alone(1)))
    name = world.machines()[0].name
    world.condition(name, "Ready", False, "first")
    world.run_set(SET)
    assert condition(world, "MachinesReady")[2] == f"* Machine {name}: first"
    world.condition(name, "Ready", False, "second")
    plan = world.run_set(SET)
    assert not plan.writes and plan.requeue_after == timedelta(seconds=5)
    world.later(5)
    world.run_set(SET)
    assert condition(world, "MachinesReady")[2] == f"* Machine {name}: second"


def test_counters_leave_out_machines_being_updated_in_place() -> None:
    world = settled(workers(alone(2)))
    name = world.machines()[0].name
    world.json(Machine, name)["metadata"]["annotations"]["in-place-updates.internal.cluster.x-k8s.io/update-in-progress"] = ""
    world.run_set(SET)
    status = world.get(MachineSet, NAMESPACE, SET).status  # type: ignore[union-attr]
    assert (status.replicas, status.ready_replicas, status.available_replicas) == (2, 1, 1)
    assert [(one.version, one.replicas) for one in status.versions] == [(VERSION, 2)]
    assert status.selector == "cluster.x-k8s.io/cluster-name=demo,pool=a"


def test_deletion_takes_all_machines_then_the_finalizer() -> None:
    world = settled(workers(alone(2)))
    world.json(MachineSet, SET)["metadata"]["deletionTimestamp"] = "2026-01-02T05:00:00Z"
    world.run_set(SET)
    assert all(one.metadata.deleting for one in world.machines())
    assert condition(world, "Deleting") == ("True", "Deleting", "Deleting 2 Machines")
    assert not world.run_set(SET).writes
    world.leave()
    assert world.run_set(SET).rests_on_absence
    assert not world.of("MachineSet") and not world.of("DevMachine")


def test_paused_by_the_cluster_nothing_else_is_written() -> None:
    world = workers(alone(2), cluster_spec={"paused": True})
    [step] = plan_writes(world.run_set(SET))
    assert isinstance(step, Apply) and step.subresource == "status"
    assert condition(world, "Paused") == ("True", "Paused", "Cluster spec.paused is set to true")
    assert not world.run_set(SET).writes


def test_without_its_cluster_or_itself_nothing_is_done() -> None:
    world = workers(alone(1))
    del world.store[ObjectKey(CORE, "Cluster", NAMESPACE, CLUSTER)]
    plan = world.run_set(SET)
    assert not plan.steps and plan.requeue_after == timedelta(seconds=30)
    assert world.run_set("gone") == Plan()


def test_what_wakes_a_machine_set() -> None:
    world = settled(workers(alone(1)))
    own, machine = ObjectKey(CORE, "MachineSet", NAMESPACE, SET), world.json(Machine, world.machines()[0].name)
    infra = world.of("DevMachine")[0]
    of = {watch.source.kind: watch for watch in machine_set.KIND.watches}

    def woken(kind: str, name: str, before: Json | None, after: Json | None, group: str = CORE) -> list[ObjectKey]:
        event = Change(ObjectKey(group, kind, NAMESPACE, name), ClusterKey(NAMESPACE, CLUSTER), before, after)
        watch = of.get(kind, of["*"])
        return list(watch.concerns(event, world)) if watch.matters(event) else []

    assert woken("Machine", "m", machine, {**machine, "status": {}}) == [own]
    assert woken("Machine", "m", None, {**machine, "metadata": {**machine["metadata"], "ownerReferences": []}}) == [own]
    assert woken("DevMachine", infra["metadata"]["name"], infra, None, INFRA) == [own]
    assert woken("DevMachine", infra["metadata"]["name"], infra, {**infra, "status": {"x": 1}}, INFRA) == []
    assert woken("DevMachineTemplate", "first", None, template(INFRA, "DevMachineTemplate", "first"), INFRA) == [own]
    assert woken("KubeadmControlPlane", CLUSTER, control_plane(running=""), control_plane(), CONTROL) == [own]
    assert woken("KubeadmControlPlane", "other", control_plane(running=""), control_plane(), CONTROL) == []
    assert woken("Cluster", CLUSTER, {"spec": {}}, {"spec": {"paused": True}}) == [own]
    assert woken("Cluster", CLUSTER, {"status": {}}, {"status": {"x": 1}}) == []
    assert woken("MachineDeployment", "workers", {"spec": {"replicas": 1}}, {"metadata": {"uid": "x"}, "spec": {"replicas": 2}}) == []


@pytest.mark.parametrize(
    ("annotations", "woken"),
    [
        pytest.param({"example.com/note": "1"}, False, id="somebody-else's"),
        pytest.param({"note": "two"}, True, id="the-template's"),
        pytest.param({"example.com/note": "1", "note": "two"}, True, id="both"),
        pytest.param({"cluster.x-k8s.io/delete-machine": "yes"}, True, id="asked-for-deletion"),
        pytest.param({"machine.cluster.x-k8s.io/remediate-machine": ""}, True, id="cluster-api's"),
    ],
)
def test_an_annotation_wakes_only_the_set_that_reads_it(annotations: dict[str, str], woken: bool) -> None:
    world = settled(workers(alone(1)))
    key = next(key for key in world.store if key.kind == "Machine")
    before = world.store[key]
    metadata = {**before["metadata"], "resourceVersion": "99", "annotations": {**before["metadata"]["annotations"], **annotations}}
    change = Change(key, ClusterKey(NAMESPACE, CLUSTER), before, {**before, "metadata": metadata})
    assert [one.name for one in machine_set.of_machine(change, world)] == ([SET] if woken else [])
    other_too = Change(key, change.cluster, before, {**before, "metadata": metadata, "status": {"phase": "Running"}})
    assert [one.name for one in machine_set.of_machine(other_too, world)] == [SET]
