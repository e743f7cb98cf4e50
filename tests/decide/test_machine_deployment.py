"""MachineDeployment: revisions, in-place propagation, adoption, pause, clean up, deletion, status."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.conditions import get
from fleetwake.kind import Change, Failure
from fleetwake.plan import Apply, Create, Delete, Patch, Plan
from schemas.api.core.v1beta2.machine import Machine, MachineSpec
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kinds import machine_deployment
from services.reconcilers.kinds.machine_deployment.template import rollout_equal, template_hash
from tests.decide.workers_world import (
    CLUSTER,
    CORE,
    DEPLOYMENT,
    INFRA,
    NAMESPACE,
    OWN,
    VERSION,
    Workers,
    deployment,
    machine_template,
    steps_on,
    template,
    templates,
    workers,
)
from tests.decide.world import plan_writes


def spec(**fields: Any) -> MachineSpec:
    return MachineSpec.model_validate(machine_template(**fields)["spec"])


def ref(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": INFRA, "kind": kind, "name": name}


@pytest.mark.parametrize(
    ("other", "reasons"),
    [
        pytest.param({}, (), id="equal"),
        pytest.param({"version": "v1.35.0"}, ("Version v1.34.1, v1.35.0 required",), id="version"),
        pytest.param({"failureDomain": "b"}, ("Failure domain , b required",), id="failure-domain"),
        pytest.param({"infrastructureRef": ref("DevMachineTemplate", "x")}, ("DevMachine is not up-to-date",), id="infrastructure"),
        pytest.param({"bootstrap": {"configRef": ref("KubeadmConfigTemplate", "x")}}, ("KubeadmConfig is not up-to-date",), id="bootstrap"),
        pytest.param({"bootstrap": {"dataSecretName": "s"}}, ("KubeadmConfig is not up-to-date",), id="config-to-secret"),
        pytest.param({"failureDomain": "b", "version": "v1.35.0"}, ("Version v1.34.1, v1.35.0 required", "Failure domain , b required"), id="version-first"),
        pytest.param({"minReadySeconds": 5, "providerID": "x", "deletion": {"nodeDrainTimeoutSeconds": 1}}, (), id="in-place-fields"),
    ],
)
def test_what_makes_a_revision(other: dict[str, Any], reasons: tuple[str, ...]) -> None:
    assert rollout_equal(spec(), spec(**other)) == reasons
    assert (template_hash(spec()) == template_hash(spec(**other))) == (not reasons)


def test_data_secrets_are_compared_by_name() -> None:
    one, other = spec(bootstrap={"dataSecretName": "a"}), spec(bootstrap={"dataSecretName": "b"})
    assert rollout_equal(one, other) == ("spec.bootstrap.dataSecretName a, b required",)


def test_the_hash_is_the_same_in_every_process() -> None:
    assert template_hash(spec()) == "f45c78dae7"


def test_a_new_deployment_makes_its_machine_set_with_all_replicas() -> None:
    world = workers(deployment(3))
    plan = world.run_deployment()
    patch, *_, create = plan_writes(plan)
    assert isinstance(patch, Patch)
    assert patch.body["metadata"]["finalizers"] == ["cluster.x-k8s.io/machinedeployment"]
    assert patch.body["metadata"]["ownerReferences"][0]["uid"] == "uid-cluster"
    assert patch.body["metadata"]["annotations"] == {"machinedeployment.clusters.x-k8s.io/revision": "1"}
    assert isinstance(create, Create)
    assert create.body["spec"]["replicas"] == 3
    assert create.body["metadata"]["finalizers"] == ["cluster.x-k8s.io/machineset"]
    assert "no MachineSet exists yet; 0 to 3 replicas: 0 Machines exist" in create.reason
    [made] = world.sets()
    suffix = made.name.removeprefix("workers-")
    assert made.metadata.labels == {**OWN, "machine-template-hash": f"f45c78dae7-{suffix}"}
    assert made.spec.selector.match_labels == made.spec.template.metadata.labels == made.metadata.labels
    assert {one["metadata"]["ownerReferences"][0]["name"] for one in world.of("DevMachineTemplate")} == {CLUSTER}


def test_bringing_workers_up_keeps_the_budget_of_writes_and_then_is_silent() -> None:
    world = workers(deployment(3))
    world.converge()
    by_deployment = sum(number for name, number in world.writes.items() if name.startswith("MachineDeployment: ") and name.endswith(" MachineDeployment"))
    assert world.writes["MachineDeployment: Patch MachineDeployment"] == 1
    assert by_deployment <= 1 + 3
    assert world.writes["MachineDeployment: Create MachineSet"] == 1
    assert world.writes["MachineSet: Apply status MachineSet"] <= 3
    assert not any(world.writes[f"MachineSet: Patch {kind}"] for kind in ("MachineSet", "DevMachineTemplate", "Machine"))
    world.writes.clear()
    world.later(3600)
    assert world.settle_kinds() == 0
    assert not world.writes


@pytest.mark.parametrize("limit", range(8))
def test_a_crash_after_any_write_leads_to_the_same_world(limit: int) -> None:
    world = workers(deployment(3))
    world.run(machine_deployment.KIND, NAMESPACE, DEPLOYMENT, limit)
    world.converge()
    assert (world.sizes(), len(world.machines())) == ("3", 3)


def test_a_stale_view_gives_the_same_name() -> None:
    world, other = workers(deployment(3)), workers(deployment(3))
    world.run_deployment()
    other.run_deployment()
    assert world.sets()[0].name == other.sets()[0].name


def test_defaults_are_stored_with_the_first_patch() -> None:
    world = workers(deployment(None, selector={}, template={**machine_template(), "metadata": {}}))
    plan = world.run_deployment()
    [patch] = steps_on(plan, "MachineDeployment")
    assert isinstance(patch, Patch)
    assert patch.body["spec"] == {"replicas": 1, "selector": {"matchLabels": OWN}, "template": {"metadata": {"labels": OWN}}}
    world.converge()
    assert world.sizes() == "1"
    assert world.md().status.observed_generation == world.md().metadata.generation == 2


def rolled_out(world: Workers, **fields: Any) -> None:
    """Change the template's spec."""
    world.change(MachineDeployment, DEPLOYMENT, template=machine_template(**fields))
    world.judge()


def test_revisions_count_up_and_an_old_one_can_come_back() -> None:
    world = workers(deployment(2))
    world.converge()
    rolled_out(world, version="v1.34.2")
    world.settle_kinds()
    first, second = world.sets()
    numbers = [one.metadata.annotations["machinedeployment.clusters.x-k8s.io/revision"] for one in (first, second)]
    assert (numbers, world.md().metadata.annotations["machinedeployment.clusters.x-k8s.io/revision"]) == (["1", "2"], "2")
    rolled_out(world)
    world.settle_kinds()
    again = world.sets()[0].metadata.annotations
    assert again["machinedeployment.clusters.x-k8s.io/revision"] == "3"
    assert again["machinedeployment.clusters.x-k8s.io/revision-history"] == "1"
    world.converge()
    assert [one.name for one in world.sets()] == [first.name]


def test_in_place_fields_reach_every_machine_set_without_a_rollout() -> None:
    world = workers(deployment(2))
    world.converge()
    rolled_out(world, version="v1.34.2")
    world.settle_kinds()
    body = machine_template(version="v1.34.2", minReadySeconds=7, deletion={"nodeDrainTimeoutSeconds": 30})
    body["metadata"]["labels"]["team"] = "blue"
    world.change(MachineDeployment, DEPLOYMENT, template=body)
    world.settle_kinds()
    assert len(world.sets()) == 2
    assert all(one.spec.template.spec.min_ready_seconds == 7 and one.metadata.labels["team"] == "blue" for one in world.sets())
    assert all(one.spec.min_ready_seconds == 7 and one.metadata.labels["team"] == "blue" for one in world.machines())
    assert [one.spec.template.spec.version for one in world.sets()] == [VERSION, "v1.34.2"]


def test_annotations_reach_machine_sets_but_not_those_about_the_deployment() -> None:
    found = deployment(1)
    found["metadata"]["annotations"] = {"team": "blue", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
    world = workers(found)
    world.run_deployment()
    assert world.sets()[0].metadata.annotations == {
        "team": "blue",
        "cluster.x-k8s.io/disable-machine-create": "false",
        "machinedeployment.clusters.x-k8s.io/desired-replicas": "1",
        "machinedeployment.clusters.x-k8s.io/max-replicas": "2",
        "machinedeployment.clusters.x-k8s.io/revision": "1",
    }


def test_without_its_templates_no_machine_set_is_made_and_the_condition_says_why() -> None:
    world = Workers(objects=[obj for obj in workers(deployment(2)).store.values() if not obj["kind"].endswith("Template")])
    plan = world.run_deployment()
    assert not steps_on(plan, "MachineSet")
    condition = get(world.md().status.conditions, "ScalingUp")
    assert condition is not None
    assert condition.message == (
        "Scaling up from 0 to 2 replicas is blocked because "
        "KubeadmConfigTemplate default/first does not exist: create it or correct spec.template.spec.bootstrap.configRef and "
        "DevMachineTemplate default/first does not exist: create it or correct spec.template.spec.infrastructureRef"
    )
    for one in templates():
        world.put(one)
    world.converge()
    assert len(world.machines()) == 2


def test_a_terminal_failure_is_told() -> None:
    world = workers(deployment(2))
    world.terminal = Failure("create MachineSet default/x", "quota exceeded")
    world.run_deployment()
    condition = get(world.md().status.conditions, "ScalingUp")
    assert condition is not None
    assert condition.message.endswith("is blocked because create MachineSet default/x: quota exceeded")


def test_rollout_after_makes_a_new_machine_set_when_its_time_comes() -> None:
    world = workers(deployment(1))
    world.converge()
    rollout = {**world.json(MachineDeployment, DEPLOYMENT)["spec"]["rollout"], "after": "2026-01-02T04:00:00Z"}
    world.change(MachineDeployment, DEPLOYMENT, rollout=rollout)
    [before] = world.sets()
    plan = world.run_deployment()
    assert not steps_on(plan, "MachineSet")
    assert plan.requeue_after is not None
    world.later(plan.requeue_after.total_seconds())
    plan = world.run_deployment()
    [create] = [step for step in steps_on(plan, "MachineSet") if isinstance(step, Create)]
    assert create.reason.startswith("a rollout was asked for after 2026-01-02T04:00:00Z; 0 to 1 replicas")
    world.converge()
    assert [one.name for one in world.sets()] != [before.name]


def test_an_orphaned_machine_set_is_adopted_and_a_foreign_one_left_alone() -> None:
    world = workers(deployment(2))
    world.converge()
    found = world.json(MachineSet, world.sets()[0].name)
    del found["metadata"]["ownerReferences"]
    [apply] = steps_on(world.run_deployment(), "MachineSet")
    assert isinstance(apply, Apply)
    assert found["metadata"]["ownerReferences"][0]["controller"]
    found["metadata"]["ownerReferences"][0]["uid"] = "somebody-else"
    plan = world.run_deployment()
    assert [type(step) for step in steps_on(plan, "MachineSet")] == [Create]


def test_paused_follows_scaling_in_proportion_and_makes_nothing_new() -> None:
    world = workers(deployment(6, surge=2, unavailable=0))
    world.converge()
    rolled_out(world, version="v1.34.2")
    world.settle_kinds()
    assert world.sizes() == "6/2"
    world.change(MachineDeployment, DEPLOYMENT, paused=True, replicas=14)
    world.run_deployment()
    assert world.sizes() == "12/4"
    rolled_out(world, version="v1.34.3")
    world.run_deployment()
    assert len(world.sets()) == 2


def test_a_single_active_machine_set_takes_all_replicas_while_paused() -> None:
    world = workers(deployment(2))
    world.converge()
    world.change(MachineDeployment, DEPLOYMENT, paused=True, replicas=5)
    world.settle_kinds()
    assert (world.sizes(), len(world.machines())) == ("5", 5)


def test_a_pause_annotation_only_tells_of_the_pause() -> None:
    world = workers(deployment(2))
    world.converge()
    world.json(MachineDeployment, DEPLOYMENT)["metadata"]["annotations"]["cluster.x-k8s.io/paused"] = ""
    before = world.md().status
    world.change(MachineDeployment, DEPLOYMENT, replicas=5)
    [step] = plan_writes(world.run_deployment())
    assert isinstance(step, Apply)
    after = world.md().status
    paused = get(after.conditions, "Paused")
    assert paused is not None
    assert (paused.status, paused.message) == ("True", "MachineDeployment has the cluster.x-k8s.io/paused annotation")
    assert (after.replicas, after.observed_generation) == (before.replicas, before.observed_generation)
    assert len(after.conditions) == len(before.conditions)
    assert not world.run_deployment().writes


def test_conditions_and_phase_tell_of_a_rollout() -> None:
    world = workers(deployment(3))
    world.converge()
    rolled_out(world, version="v1.34.2")
    world.settle_kinds()
    world.later(20)
    world.run_deployment()
    status = world.md().status
    rolling = get(status.conditions, "RollingOut")
    assert rolling is not None
    assert rolling.message == "Rolling out 3 not up-to-date replicas\n* Version v1.34.1, v1.34.2 required"
    assert (status.phase, status.replicas, status.up_to_date_replicas) == ("ScalingDown", 4, 0)
    assert [(entry.version, entry.replicas) for entry in status.versions] == [("v1.34.1", 3), ("v1.34.2", 1)]
    for one in world.machines():
        world.condition(one.name, "Available", False)
    world.settle_kinds()
    available = get(world.md().status.conditions, "Available")
    assert available is not None
    assert available.message == "0 available replicas, at least 3 required (spec.strategy.rollout.maxUnavailable is 0, spec.replicas is 3)"


def test_the_status_waits_a_moment_for_machine_sets_to_count_but_not_for_ever() -> None:
    world = workers(deployment(2))
    world.converge()
    world.later(60)
    world.condition(world.machines()[0].name, "Available", False)
    world.condition(world.machines()[0].name, "Ready", False)
    plan = world.run_deployment()
    assert not plan.writes and plan.requeue_after is not None
    world.later(plan.requeue_after.total_seconds())
    world.run_deployment()
    ready = get(world.md().status.conditions, "MachinesReady")
    assert ready is not None and ready.status == "False"


def test_no_machine_of_an_old_revision_is_called_up_to_date_though_it_does_not_know_yet() -> None:
    world = workers(deployment(2, surge=1, unavailable=0))
    world.converge()
    rolled_out(world, version="v1.34.2")
    world.run_deployment()
    for machine_set in world.sets():
        world.run_set(machine_set.name)
    for machine in world.machines():
        world.condition(machine.name, "UpToDate", machine.status.node_ref is not None)
    world.later(60)
    world.run_deployment()
    status = world.md().status
    assert (status.observed_generation, status.replicas, status.up_to_date_replicas) == (world.md().metadata.generation, 2, 0)


def test_the_new_revision_grows_only_when_old_ones_have_seen_their_spec() -> None:
    world = workers(deployment(2, surge=1, unavailable=1))
    world.converge()
    rolled_out(world, version="v1.34.2")
    world.run_deployment()
    assert world.sizes() == "1/1"
    world.converge_sets_but(0)
    world.run_deployment()
    assert world.sizes() == "1/1"
    world.converge()
    assert world.sizes() == "2"


def test_deletion_takes_machine_sets_then_the_finalizer() -> None:
    world = workers(deployment(2))
    world.converge()
    world.json(MachineDeployment, DEPLOYMENT)["metadata"]["deletionTimestamp"] = "2026-01-02T05:00:00Z"
    plan = world.run_deployment()
    assert [type(step) for step in steps_on(plan, "MachineSet")] == [Delete]
    deleting = get(world.md().status.conditions, "Deleting")
    assert deleting is not None
    assert deleting.message == "Deleting 2 Machines"
    world.run_set(world.sets()[0].name)
    world.leave()
    world.run_set(world.sets()[0].name)
    last = world.run_deployment()
    assert last.rests_on_absence
    assert not world.of("MachineDeployment") and not world.of("MachineSet") and not world.of("DevMachine")


def test_without_its_cluster_nothing_is_done() -> None:
    world = workers(deployment(2))
    del world.store[ObjectKey(CORE, "Cluster", NAMESPACE, CLUSTER)]
    plan = world.run_deployment()
    assert not plan.steps and plan.requeue_after is not None
    assert world.run_deployment("gone") == Plan()


def change(kind: str, name: str, before: dict[str, Any] | None, after: dict[str, Any] | None, group: str = CORE) -> Change:
    return Change(ObjectKey(group, kind, NAMESPACE, name), ClusterKey(NAMESPACE, CLUSTER), before, after)


def test_what_wakes_a_deployment() -> None:
    world = workers(deployment(1))
    world.converge()
    own, found = ObjectKey(CORE, "MachineDeployment", NAMESPACE, DEPLOYMENT), world.json(MachineSet, world.sets()[0].name)
    machine = world.json(Machine, world.machines()[0].name)
    of = {watch.source.kind: watch for watch in machine_deployment.KIND.watches}

    def woken(watch: str, event: Change) -> list[ObjectKey]:
        return list(of[watch].concerns(event, world)) if of[watch].matters(event) else []

    orphan = {**found, "metadata": {**found["metadata"], "ownerReferences": []}}
    assert woken("MachineSet", change("MachineSet", "x", found, found)) == [own]
    assert woken("MachineSet", change("MachineSet", "x", None, orphan)) == [own]
    assert woken("Machine", change("Machine", "m", machine, {**machine, "status": {}})) == [own]
    assert woken("Machine", change("Machine", "m", machine, {**machine, "spec": {}})) == []
    assert woken("Cluster", change("Cluster", CLUSTER, {"spec": {}}, {"spec": {"paused": True}})) == [own]
    assert woken("Cluster", change("Cluster", CLUSTER, {"status": {}}, {"status": {"x": 1}})) == []
    infra = template(INFRA, "DevMachineTemplate", "first")
    assert woken("*", change("DevMachineTemplate", "first", None, infra, INFRA)) == [own]
    assert woken("*", change("DevMachineTemplate", "other", None, infra, INFRA)) == []
    assert woken("*", change("DevMachine", "first", None, infra, INFRA)) == []
