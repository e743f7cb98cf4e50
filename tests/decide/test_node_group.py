"""Which objects are node groups, how they stand, and what a host of theirs would be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetwake.kind import Failure, Unread
from fleetwake.labels import AUTOSCALER_MAX_SIZE, AUTOSCALER_MIN_SIZE
from fleetwake.plan import Apply, Local
from services.autoscaler_bridge.kinds.node_group.capacity import FILLED, host_template
from services.autoscaler_bridge.kinds.node_group.instances import Instance, instances, machine_of
from services.autoscaler_bridge.kinds.node_group.observed import Writer
from services.autoscaler_bridge.kinds.node_group.quantities import whole
from services.autoscaler_bridge.kinds.node_group.reconcile import LOOK, served
from services.autoscaler_bridge.kinds.node_group.standing import TAKE_OVER, writers_of
from tests.decide.node_group_world import BOUNDS, BY_KIND, CAPACITY, NAMES, Groups, answers, cluster, machine, reference, scalable
from tests.decide.world import NOW, Json

KINDS = tuple(NAMES)
PREFIX = "capacity.cluster-autoscaler.kubernetes.io/"


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_is_told_of_once_and_served(kind: str) -> None:
    world = Groups(kind, scalable(kind))
    world.go()
    assert world.standing() == ("True", "Served", "")
    bounds = served(world.observed)
    assert bounds is not None and (bounds.least, bounds.most) == (0, 5)
    assert not world.go().steps, "a settled group asks for nothing"


@pytest.mark.parametrize("kind", KINDS)
def test_an_object_without_bounds_is_none_of_ours(kind: str) -> None:
    world = Groups(kind, scalable(kind, annotations={}))
    assert not world.go().steps and served(world.observed) is None


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        pytest.param({AUTOSCALER_MIN_SIZE: "1"}, f"annotation {AUTOSCALER_MAX_SIZE} is missing", id="no maximum"),
        pytest.param({AUTOSCALER_MAX_SIZE: "1"}, f"annotation {AUTOSCALER_MIN_SIZE} is missing", id="no minimum"),
        pytest.param({AUTOSCALER_MIN_SIZE: "one", AUTOSCALER_MAX_SIZE: "3"}, f"{AUTOSCALER_MIN_SIZE} is 'one'", id="a word"),
        pytest.param({AUTOSCALER_MIN_SIZE: "0", AUTOSCALER_MAX_SIZE: "-3"}, f"{AUTOSCALER_MAX_SIZE} is '-3'", id="negative"),
        pytest.param({AUTOSCALER_MIN_SIZE: "0", AUTOSCALER_MAX_SIZE: "3.5"}, f"{AUTOSCALER_MAX_SIZE} is '3.5'", id="a fraction"),
        pytest.param({AUTOSCALER_MIN_SIZE: "0", AUTOSCALER_MAX_SIZE: str(2**31)}, "a whole number from 0 to", id="too large"),
        pytest.param({AUTOSCALER_MIN_SIZE: "4", AUTOSCALER_MAX_SIZE: "3"}, f"{AUTOSCALER_MAX_SIZE} is 3, below the 4", id="crossed"),
        pytest.param({AUTOSCALER_MIN_SIZE: "0", AUTOSCALER_MAX_SIZE: "0"}, "can never have a Machine", id="nothing ever"),
    ],
)
def test_bad_bounds_are_named_in_a_condition(annotations: dict[str, str], says: str) -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment", annotations=annotations))
    world.go()
    status, reason, message = world.standing()
    assert (status, reason) == ("False", "InvalidSize") and says in message
    assert served(world.observed) is None


def test_bounds_that_are_taken_away_take_all_of_ours_with_them() -> None:
    world = Groups("MachineSet", scalable("MachineSet", annotations={**BOUNDS, PREFIX + "cpu": "9"}))
    world.go()
    assert world.annotations() == {"cpu": "9", "memory": "16Gi"} and world.standing()[1] == "Served"
    annotations = world.store[world.key]["metadata"]["annotations"]
    for name in BOUNDS:
        del annotations[name]
    plan = world.go()
    assert world.annotations() == {"cpu": "9"} and FILLED not in annotations
    assert [step for step in plan.steps if getattr(step, "subresource", "") == "status"], "the condition is withdrawn"


def test_a_set_of_a_deployment_is_no_group_whatever_it_copied() -> None:
    group = scalable("MachineSet", annotations={**BOUNDS, PREFIX + "cpu": "4", FILLED: '{"cpu":"4"}'})
    group["metadata"]["ownerReferences"] = [reference("MachineDeployment", "md", controller=True)]
    world = Groups("MachineSet", group)
    assert not world.go().steps and served(world.observed) is None


def test_a_new_object_is_left_to_its_controller_first() -> None:
    group = scalable("MachineDeployment")
    owners = group["metadata"].pop("ownerReferences")
    world = Groups("MachineDeployment", group)
    assert not world.go().steps
    world.store[world.key]["metadata"]["ownerReferences"] = owners
    assert world.go().writes


def test_who_writes_the_size_is_looked_up_when_the_spec_has_changed_and_only_then() -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment"))
    world.known.clear()
    world.looks = False
    first = world.go()
    assert [step.action for step in first.steps if isinstance(step, Local)] == [LOOK] and world.standing() == ("", "", "")
    world.looked()
    world.go()
    assert not world.go().steps
    world.store[world.key]["metadata"]["generation"] += 1
    (look,) = world.go().steps
    assert isinstance(look, Local) and look.arguments["key"] == str(world.key)


@pytest.mark.parametrize(
    ("annotations", "others", "says"),
    [
        pytest.param({"cluster.x-k8s.io/replicas-managed-by": "karpenter"}, (), "says that karpenter sets", id="annotation"),
        pytest.param({}, (Writer("argocd", True),), "argocd declares spec.replicas", id="declared by apply"),
        pytest.param({TAKE_OVER: ""}, (Writer("argocd", True),), "argocd declares", id="declared, whatever is taken over"),
        pytest.param({}, (Writer("cluster-autoscaler", False),), "cluster-autoscaler scaled it", id="scaled"),
    ],
)
def test_a_second_writer_is_refused(annotations: dict[str, str], others: tuple[Writer, ...], says: str) -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment", annotations={**BOUNDS, **annotations}))
    world.looked(*others)
    world.ask("increase", 1)
    plan = world.go()
    status, reason, message = world.standing()
    assert (status, reason) == ("False", "AnotherWriter") and says in message
    ((code, told),) = answers(plan)
    assert code == "FAILED_PRECONDITION" and says in told
    assert world.group.spec.replicas == 2 and served(world.observed) is None


@pytest.mark.parametrize("begun", [False, True], ids=["asked before", "just begun"])
def test_a_group_of_another_writer_is_not_shown_before_the_api_server_has_been_asked_again(begun: bool) -> None:
    world = Groups("MachinePool", scalable("MachinePool"))
    world.looked(Writer("cluster-autoscaler", False))
    world.go()
    assert world.standing()[1] == "AnotherWriter"
    world.store[world.key]["metadata"]["generation"] += 1
    if begun:
        world.known.clear()
    assert served(world.observed) is None
    world.looked()
    assert served(world.observed) is not None, "the writer is gone: what is known now counts"


@pytest.mark.parametrize(
    ("annotations", "others"),
    [
        pytest.param({"cluster.x-k8s.io/replicas-managed-by": "false"}, (), id="managed by nobody"),
        pytest.param({TAKE_OVER: ""}, (Writer("cluster-autoscaler", False),), id="taken over"),
    ],
)
def test_who_writes_no_more_is_no_second_writer(annotations: dict[str, str], others: tuple[Writer, ...]) -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment", annotations={**BOUNDS, **annotations}))
    world.looked(*others)
    world.go()
    assert world.standing()[1] == "Served"


@pytest.mark.parametrize(("replicas", "reason"), [(None, "Served"), (3, "AnotherWriter")])
@pytest.mark.parametrize(
    ("kind", "label", "part"), [("MachineDeployment", "deployment-name", "machineDeployments"), ("MachinePool", "pool-name", "machinePools")]
)
def test_the_topology_writes_what_it_has_a_number_for(kind: str, label: str, part: str, replicas: int | None, reason: str) -> None:
    group = scalable(kind)
    group["metadata"]["labels"] = {"topology.cluster.x-k8s.io/owned": "", f"topology.cluster.x-k8s.io/{label}": "pool-a"}
    world = Groups(kind, group)
    entry: Json = {"class": "c", "name": "pool-a"} | ({"replicas": replicas} if replicas is not None else {})
    world.put(cluster(topology={"classRef": {"name": "k"}, "version": "v1.34.0", "workers": {part: [entry]}}))
    world.go()
    assert world.standing()[1] == reason


def test_field_managers_are_read_as_the_api_server_writes_them() -> None:
    replicas: Json = {"f:spec": {"f:replicas": {}}}
    entries: list[Json] = [
        {"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": replicas},
        {"manager": "kubectl", "operation": "Update", "subresource": "scale", "fieldsV1": replicas},
        {"manager": "capi-autoscaler-bridge-machineset", "operation": "Update", "fieldsV1": replicas},
        {"manager": "argocd", "operation": "Apply", "fieldsV1": {"f:spec": {"f:selector": {}}}},
        {"manager": "vpa", "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {"f:replicas": {}}}},
    ]
    assert writers_of(entries) == ()
    scaler = {"manager": "cluster-autoscaler", "operation": "Update", "subresource": "scale", "fieldsV1": replicas}
    applier = {"manager": "zed", "operation": "Apply", "fieldsV1": replicas}
    assert writers_of([*entries, scaler, applier]) == (Writer("zed", True), Writer("cluster-autoscaler", False))
    assert writers_of(None) == ()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_at_all_and_nothing_known_is_told_with_the_remedy(kind: str) -> None:
    world = Groups(kind, scalable(kind, replicas=0), capacity=None)
    world.go()
    status, reason, message = world.standing()
    assert (status, reason) == ("False", "CapacityUnknown")
    assert "FooMachineTemplate t" in message and PREFIX + "cpu" in message and served(world.observed) is None
    world.told(CAPACITY)
    world.go()
    assert world.standing() == ("True", "Served", "") and served(world.observed) is not None


def test_replicas_that_nobody_has_set_are_told() -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment", replicas=None))
    world.go()
    assert world.standing()[1] == "ReplicasUnset"


@pytest.mark.parametrize("paused", ["object", "cluster"])
def test_what_is_paused_is_not_touched(paused: str) -> None:
    annotations = {**BOUNDS, **({"cluster.x-k8s.io/paused": ""} if paused == "object" else {})}
    world = Groups("MachineDeployment", scalable("MachineDeployment", annotations=annotations))
    if paused == "cluster":
        world.put(cluster(paused=True))
    world.ask("increase", 1)
    plan = world.go()
    assert not plan.writes and plan.recorded and served(world.observed) is None


FULL: Json = {"cpu": 16, "memory": "64Gi", "pods": "58", "ephemeral-storage": "100Gi", "nvidia.com/gpu": "2", "example.org/fpga": "1"}


def test_the_template_fills_the_annotations_that_nobody_has_set() -> None:
    taints = [
        {"key": "dedicated", "value": "gpu", "effect": "NoSchedule", "propagation": "Always"},
        {"key": "slow", "effect": "NoExecute", "propagation": "Always"},
    ]
    group = scalable("MachineDeployment", 0, labels={"node.cluster.x-k8s.io/tier": "a", "node-role.kubernetes.io/worker": "", "team": "x"}, taints=taints)
    group["metadata"]["annotations"] |= {PREFIX + "memory": "48Gi"}
    world = Groups("MachineDeployment", group, capacity=FULL, info={"architecture": "arm64", "operatingSystem": "linux"})
    world.go()
    assert world.annotations() == {
        "cpu": "16",
        "memory": "48Gi",
        "maxPods": "58",
        "ephemeral-disk": "100Gi",
        "gpu-type": "nvidia.com/gpu",
        "gpu-count": "2",
        "labels": "kubernetes.io/arch=arm64,kubernetes.io/os=linux,node-role.kubernetes.io/worker=,node.cluster.x-k8s.io/tier=a",
        "taints": "dedicated=gpu:NoSchedule,slow:NoExecute",
    }
    assert "memory" not in json.loads(world.group.metadata.annotations[FILLED])
    host = host_template(world.observed)
    assert dict(host.resources) == {
        "cpu": "16", "memory": "48Gi", "pods": "58", "ephemeral-storage": "100Gi", "nvidia.com/gpu": "2", "example.org/fpga": "1",
    }  # fmt: skip
    assert [taint.text for taint in host.taints] == ["dedicated=gpu:NoSchedule", "slow:NoExecute"]
    assert (host.architecture, host.operating_system, host.labels["node.cluster.x-k8s.io/tier"]) == ("arm64", "linux", "a") and "team" not in host.labels


def test_what_was_filled_in_follows_the_template_and_yields_to_a_user() -> None:
    world = Groups("MachineSet", scalable("MachineSet"))
    world.go()
    assert world.annotations() == {"cpu": "4", "memory": "16Gi"}
    world.told({"cpu": "8", "memory": "16Gi"})
    world.go()
    assert world.annotations() == {"cpu": "8", "memory": "16Gi"}
    world.store[world.key]["metadata"]["annotations"][PREFIX + "cpu"] = "6"
    world.go()
    world.told({"cpu": "9"})
    world.go()
    assert world.annotations() == {"cpu": "6"}, "a user's value stays, one that the template tells no more goes"
    world.told(None)
    assert not world.go().steps, "a template that is not there takes nothing away"


@pytest.mark.parametrize("status", [None, "text", {"capacity": "text"}, {"capacity": {"cpu": True, "memory": {}}}, {"nodeInfo": []}])
def test_a_template_of_any_shape_is_read_as_telling_nothing(status: Any) -> None:
    world = Groups("MachineSet", scalable("MachineSet", 0))
    assert world.template is not None
    object.__setattr__(world.template, "fields", {"status": status})
    world.go()
    assert world.standing()[1] == "CapacityUnknown" and world.annotations() == {}


def test_a_filled_annotation_that_somebody_broke_counts_for_nothing() -> None:
    world = Groups("MachineSet", scalable("MachineSet", annotations={**BOUNDS, FILLED: "{broken"}))
    world.go()
    assert world.annotations() == {"cpu": "4", "memory": "16Gi"}
    assert json.loads(world.group.metadata.annotations[FILLED]) == world.annotations()


def test_annotations_win_over_the_template_for_labels_and_taints_too() -> None:
    annotations = {**BOUNDS, PREFIX + "labels": "a=b, c=d,broken,=e", PREFIX + "taints": "k=v:NoSchedule, alone:NoExecute,broken", PREFIX + "maxPods": "7"}
    host = host_template(Groups("MachineSet", scalable("MachineSet", annotations=annotations)).observed)
    assert dict(host.labels) == {"a": "b", "c": "d"} and [one.text for one in host.taints] == ["k=v:NoSchedule", "alone:NoExecute"]
    assert host.resources["pods"] == "7" and host.known


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("cpu", "4 cores", "it must be a quantity"),
        ("memory", "16GB", "it must be a quantity"),
        ("ephemeral-disk", "-1Gi", "it must be a quantity"),
        ("maxPods", "1k", "it must be a whole number"),
        ("gpu-count", "two", "it must be a whole number"),
    ],
)
def test_an_annotation_that_is_no_quantity_is_named_and_no_template_is_made_of_it(name: str, text: str, says: str) -> None:
    """cluster-autoscaler decodes no template with it: up to 1.33 its loop ended there, for all groups."""
    world = Groups("MachineDeployment", scalable("MachineDeployment", 0, annotations={**BOUNDS, PREFIX + name: text}))
    world.go()
    status, reason, message = world.standing()
    assert (status, reason) == ("False", "CapacityUnknown") and f"annotation {PREFIX}{name} is {text!r}: {says}" in message
    assert not host_template(world.observed).known and served(world.observed) is None
    with_nodes = Groups("MachineDeployment", scalable("MachineDeployment", 2, annotations={**BOUNDS, PREFIX + name: text}))
    with_nodes.go()
    assert with_nodes.standing()[1] == "Served", "its Nodes tell what they are"


def test_what_the_template_tells_is_filled_in_as_cluster_autoscaler_can_read_it() -> None:
    capacity = {"cpu": "3500m", "memory": "1e9", "pods": "1k", "ephemeral-storage": "lots", "nvidia.com/gpu": "0.002k", "example.org/x": "?"}
    world = Groups("MachineDeployment", scalable("MachineDeployment", 0), capacity=capacity)
    world.go()
    assert world.annotations() == {"cpu": "3500m", "memory": "1e9", "maxPods": "1000", "gpu-type": "nvidia.com/gpu", "gpu-count": "2"}
    assert dict(host_template(world.observed).resources) == {"cpu": "3500m", "memory": "1e9", "pods": "1000", "nvidia.com/gpu": "2"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", "0"), ("16", "16"), ("+3", "3"), ("500m", "1"), ("1.5", "2"), ("2.", "2"), (".5k", "500"), ("1Ki", "1024"), ("1.5Gi", "1610612736"),
        ("1n", "1"), ("2E", str(2 * 10**18)), ("1Ei", str(2**60)), ("12e2", "1200"), ("5E-1", "1"),
        ("", None), ("-1", None), ("1K", None), ("1Mib", None), ("1 Gi", None), ("Gi", None), (".", None), ("1e", None), ("1e1.5", None),
        ("١", None), ("9" * 65, None),
    ],
)  # fmt: skip
def test_quantities_are_those_of_kubernetes(text: str, number: str | None) -> None:
    assert whole(text) == number


def test_hosts_are_counted_as_cluster_autoscaler_counts_them() -> None:
    owner = ("MachineSet", "md-1")
    failed = machine("e", owner, node=False)
    failed["status"]["deprecated"] = {"v1beta1": {"failureMessage": "no quota"}}
    unknown = machine("f", owner)
    del unknown["spec"]["providerID"]
    world = Groups(
        "MachineDeployment",
        scalable("MachineDeployment"),
        machine("a", owner),
        machine("b", owner, node=False),
        machine("c", owner, deletionTimestamp="2026-01-02T03:04:05Z", finalizers=["x"]),
        failed,
        unknown,
        machine("z", ("MachineSet", "another")),
    )
    assert instances(world.observed) == (
        Instance("foo://a", "running"),
        Instance("pending-machine-team_b", "creating"),
        Instance("deleting-machine-team_c", "deleting"),
        Instance("failed-machine-team_e", "creating", "ProvisioningFailed", "no quota"),
    )
    machines = world.observed.machines
    asked = (("foo://a", ""), ("", "node-a"), ("pending-machine-team_b", ""), ("foo://nobody", "node-a"), ("pending-machine-other_b", ""), ("", ""))
    found = [machine_of(host, node, machines) for host, node in asked]
    assert [one.name if one else None for one in found] == ["a", "a", "b", None, None, None]


def test_a_pool_lists_its_hosts_where_there_are_no_machines() -> None:
    group = scalable("MachinePool")
    group["spec"]["providerIDList"] = ["foo://1", "foo://2"]
    assert instances(Groups("MachinePool", group).observed) == (Instance("foo://1", "running"), Instance("foo://2", "running"))
    world = Groups("MachinePool", group, machine("a", ("MachinePool", "mp")))
    assert instances(world.observed) == (Instance("foo://a", "running"),)


def test_what_cannot_be_read_is_told() -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment"))
    kind, failure = BY_KIND["MachineDeployment"], Failure("read MachineDeployment team/md", "spec.replicas: no number")
    assert kind.unreadable is not None
    (step,) = kind.unreadable(Unread(world.key, NOW, world.store[world.key], failure)).steps
    assert isinstance(step, Apply) and step.subresource == "status"
    (told,) = step.body["status"]["conditions"]
    assert (told["type"], told["status"], told["reason"]) == ("NodeGroupReady", "Unknown", "InternalError") and "spec.replicas" in told["message"]


def test_a_write_that_was_refused_is_told_and_nothing_more_is_tried() -> None:
    world = Groups("MachineDeployment", scalable("MachineDeployment"))
    world.terminal = Failure("patch MachineDeployment team/md", "forbidden")
    world.ask("increase", 1)
    plan = world.go()
    assert world.standing()[:2] == ("Unknown", "InternalError") and "forbidden" in world.standing()[2]
    assert world.group.spec.replicas == 2 and [code for code, _ in answers(plan)] == ["FAILED_PRECONDITION"]
