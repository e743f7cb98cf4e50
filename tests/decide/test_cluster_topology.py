"""The desired state of a topology and what is written of it: names, labels, owners, merging, rotation, holds, status."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake import labels
from fleetwake.plan import Apply, Create, Delete
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.keys import ObjectKey
from services.reconcilers.kinds.cluster_topology import condition
from services.reconcilers.kinds.cluster_topology.control_plane import go_duration
from tests.decide.topology_world import (
    CLUSTER_UID,
    INFRASTRUCTURE,
    LATER,
    NEXT,
    VERSION,
    TopologyWorld,
    cluster,
    cluster_class,
    created,
    patch,
    ref,
    template,
    variable,
    world,
)
from tests.decide.world import plan_writes

Json = dict[str, Any]
OWNER = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "my", "uid": CLUSTER_UID}
CHECK: Json = {"checks": {"unhealthyNodeConditions": [{"type": "Ready", "status": "Unknown", "timeoutSeconds": 300}]}}


def kinds(found: TopologyWorld) -> dict[str, list[str]]:
    """Kind and names of all that belongs to the Cluster."""
    out: dict[str, list[str]] = {}
    for key, obj in found.sorted():
        if obj["metadata"].get("labels", {}).get(labels.CLUSTER_NAME) == "my" and key.kind not in ("Cluster", "Machine"):
            out.setdefault(key.kind, []).append(key.name)
    return out


def written(found: TopologyWorld) -> list[str]:
    """What the next run writes, carried out: verb and kind."""
    return [f"{type(step).__name__} {step.key.kind}" for step in plan_writes(found.run_topology())]


# --- from nothing ----------------------------------------------------------------------------------------------------------------------------


def test_a_cluster_from_nothing() -> None:
    found = world()
    assert written(found) == [
        "Create DevCluster", "Create DevMachineTemplate", "Create KubeadmControlPlane", "Patch Cluster",
        "Create KubeadmConfigTemplate", "Create DevMachineTemplate", "Create MachineDeployment", "Apply Cluster",
    ]  # fmt: skip
    assert written(found) == ["Apply Cluster"], "the status of the generation that the references made"
    assert written(found) == []
    stored = found.the(Cluster, "my")
    assert stored.spec.infrastructure_ref.name == found.one("DevCluster")["metadata"]["name"]
    assert stored.spec.control_plane_ref.name == found.one("KubeadmControlPlane")["metadata"]["name"]
    assert stored.metadata.labels[labels.TOPOLOGY_OWNED] == "" and stored.metadata.labels[labels.CLUSTER_NAME] == "my"
    assert labels.UPGRADE_STEP not in stored.metadata.annotations


def test_names_labels_and_owners() -> None:
    found = created()
    for kind, prefix in (("DevCluster", "my-"), ("KubeadmControlPlane", "my-"), ("MachineDeployment", "my-md-0-"), ("KubeadmConfigTemplate", "my-md-0-")):
        name = found.one(kind)["metadata"]["name"]
        assert name.startswith(prefix) and len(name) == len(prefix) + 5
    machines, workers = (one["metadata"] for one in found.all("DevMachineTemplate"))
    assert machines["ownerReferences"] == workers["ownerReferences"] == [OWNER]
    assert workers["labels"] == {"of": "class", labels.CLUSTER_NAME: "my", labels.TOPOLOGY_OWNED: "", labels.TOPOLOGY_DEPLOYMENT_NAME: "md-0"}
    assert workers["annotations"][labels.CLONED_FROM_NAME] == "worker-machine"
    for kind in ("DevCluster", "KubeadmControlPlane"):
        # from its birth: a Cluster that is deleted before it refers to them takes them along
        assert found.one(kind)["metadata"]["ownerReferences"] == [{**OWNER, "controller": True, "blockOwnerDeletion": True}]
    deployment = found.one("MachineDeployment")
    own = {labels.CLUSTER_NAME: "my", labels.TOPOLOGY_OWNED: "", labels.TOPOLOGY_DEPLOYMENT_NAME: "md-0"}
    assert deployment["metadata"]["labels"] == own == deployment["spec"]["selector"]["matchLabels"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_naming_templates_of_the_class() -> None:
    of_class = cluster_class()
    of_class["spec"]["infrastructure"]["naming"] = {"template": "infra-{{ .cluster.name }}"}
    of_class["spec"]["controlPlane"]["naming"] = {"template": "{{ .cluster.name }}-cp-{{ .random }}"}
    of_class["spec"]["workers"]["machineDeployments"][0]["naming"] = {"template": '{{ .machineDeployment.topologyName | printf "%s-w" }}-{{ .random }}'}
    found = created(of_class)
    assert found.one("DevCluster")["metadata"]["name"] == "infra-my"
    assert found.one("KubeadmControlPlane")["metadata"]["name"].startswith("my-cp-")
    assert found.one("MachineDeployment")["metadata"]["name"].startswith("md-0-w-")
    of_class["spec"]["infrastructure"]["naming"] = {"template": "{{ .clustr.name }}"}
    wrong = world(of_class)
    wrong.run_topology()
    assert "uses a variable there is none of; there are .random and .cluster.name" in wrong.condition()[2]


def test_long_names_are_cut_before_their_suffix() -> None:
    name = "x" * 60
    found = created(None, cluster(workers={"machineDeployments": [{"class": "default-worker", "name": name}]}))
    names = [found.one("MachineDeployment")["metadata"]["name"], found.one("KubeadmConfigTemplate")["metadata"]["name"]]
    assert all(len(one) == 63 for one in names) and len(set(names)) == 2


# --- merging class and topology --------------------------------------------------------------------------------------------------------------


def test_the_topology_beats_the_class() -> None:
    taint = {"key": "a", "effect": "NoSchedule", "propagation": "Always"}
    of_class = cluster_class()
    of_class["spec"]["workers"]["machineDeployments"][0] |= {
        "metadata": {"labels": {"both": "class", "class": "x"}, "annotations": {"both": "class"}}, "failureDomain": "fd-class", "minReadySeconds": 5,
        "deletion": {"order": "Oldest", "nodeDrainTimeoutSeconds": 10, "nodeDeletionTimeoutSeconds": 20},
        "rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 3}}}, "taints": [taint],
    }  # fmt: skip
    worker = {
        "class": "default-worker", "name": "md-0", "metadata": {"labels": {"both": "topology"}, "annotations": {labels.DEFER_UPGRADE: "", "a": "b"}},
        "failureDomain": "fd", "deletion": {"nodeDrainTimeoutSeconds": 30}, "rollout": {"strategy": {"type": "OnDelete"}},
        "readinessGates": [{"conditionType": "example.com/Gate"}],
    }  # fmt: skip
    deployment = created(of_class, cluster(workers={"machineDeployments": [worker]})).one("MachineDeployment")
    metadata, spec, machines = deployment["metadata"], deployment["spec"], deployment["spec"]["template"]["spec"]
    assert (metadata["labels"]["both"], metadata["labels"]["class"], metadata["annotations"]["both"]) == ("topology", "x", "class")
    assert labels.DEFER_UPGRADE not in metadata["annotations"] and metadata["annotations"]["a"] == "b"
    assert spec["template"]["metadata"]["annotations"] == {"both": "class", "a": "b"}
    assert (machines["failureDomain"], machines["minReadySeconds"], machines["taints"]) == ("fd", 5, [taint])
    assert machines["deletion"] == {"nodeDrainTimeoutSeconds": 30, "nodeDeletionTimeoutSeconds": 20}
    assert machines["readinessGates"] == [{"conditionType": "example.com/Gate"}]
    assert spec["rollout"] == {"strategy": {"type": "OnDelete"}} and spec["deletion"] == {"order": "Oldest"}


def test_replicas_that_are_not_given_are_not_managed() -> None:
    workers = {"machineDeployments": [{"class": "default-worker", "name": "md-0"}], "machinePools": [{"class": "default-pool", "name": "mp-0"}]}
    found = created(None, cluster(workers=workers, controlPlane={}))
    for kind in ("MachineDeployment", "MachinePool", "KubeadmControlPlane"):
        assert "replicas" not in found.one(kind)["spec"]
        found.one(kind)["spec"]["replicas"] = 7
    assert written(found) == [], "an autoscaler's number is no difference"


def test_the_control_plane_gets_what_topology_and_class_say() -> None:
    of_class = cluster_class()
    gates = [{"conditionType": "example.com/Ready"}]
    of_class["spec"]["controlPlane"] |= {"metadata": {"labels": {"l": "class"}}, "readinessGates": gates, "deletion": {"nodeDrainTimeoutSeconds": 7}}
    asked = {
        "replicas": 1,
        "rollout": {"after": "2026-01-01T00:00:00Z"},
        "metadata": {"annotations": {"a": "b"}},
        "deletion": {"nodeDeletionTimeoutSeconds": 9},
    }
    body = created(of_class, cluster(controlPlane=asked)).one("KubeadmControlPlane")
    machines = body["spec"]["machineTemplate"]
    assert body["spec"]["rollout"] == {"after": "2026-01-01T00:00:00Z"} and body["spec"]["replicas"] == 1
    assert machines["spec"]["readinessGates"] == gates and machines["spec"]["deletion"] == {"nodeDrainTimeoutSeconds": 7, "nodeDeletionTimeoutSeconds": 9}
    assert machines["metadata"]["labels"]["l"] == "class" and machines["metadata"]["annotations"] == {"a": "b"}
    assert body["metadata"]["labels"]["l"] == "class" and body["metadata"]["annotations"]["a"] == "b"


@pytest.mark.parametrize(("seconds", "wanted"), [(0, "0s"), (59, "59s"), (60, "1m0s"), (3661, "1h1m1s"), (7200, "2h0m0s")])
def test_durations_of_the_older_contract(seconds: int, wanted: str) -> None:
    assert go_duration(seconds) == wanted


# --- health checks ---------------------------------------------------------------------------------------------------------------------------


def test_health_checks_of_class_and_topology() -> None:
    of_class = cluster_class()
    of_class["spec"]["controlPlane"]["healthCheck"] = CHECK
    found = created(of_class)
    check, control_plane = found.one("MachineHealthCheck"), found.one("KubeadmControlPlane")
    assert check["metadata"]["name"] == control_plane["metadata"]["name"] and check["metadata"]["ownerReferences"] == [OWNER]
    assert check["spec"]["selector"]["matchLabels"] == {labels.TOPOLOGY_OWNED: "", labels.CONTROL_PLANE: ""}
    assert check["spec"]["checks"] == {**CHECK["checks"], "nodeStartupTimeoutSeconds": 600}
    found.topology["workers"]["machineDeployments"][0]["healthCheck"] = {"checks": {"nodeStartupTimeoutSeconds": 60}, "remediation": {"maxInFlight": 2}}
    assert written(found) == ["Create MachineHealthCheck", "Apply MachineDeployment"]
    name = found.one("MachineDeployment")["metadata"]["name"]
    worker = next(one for one in found.all("MachineHealthCheck") if one["metadata"]["name"] == name)
    assert worker["spec"]["checks"] == {"nodeStartupTimeoutSeconds": 60} and "maxInFlight" not in worker["spec"].get("remediation", {})
    assert worker["spec"]["selector"]["matchLabels"] == {labels.TOPOLOGY_OWNED: "", labels.TOPOLOGY_DEPLOYMENT_NAME: "md-0"}
    assert found.one("MachineDeployment")["spec"]["remediation"] == {"maxInFlight": 2}
    found.topology["controlPlane"]["healthCheck"] = {"enabled": False}
    assert written(found) == ["Delete MachineHealthCheck"]
    found.topology["controlPlane"]["healthCheck"] = {"checks": {"nodeStartupTimeoutSeconds": 90}}
    assert written(found) == ["Create MachineHealthCheck"]
    assert [one["spec"]["checks"] for one in found.all("MachineHealthCheck")][-1] == {"nodeStartupTimeoutSeconds": 90}, "the whole block replaces the class's"


# --- changes and rotation --------------------------------------------------------------------------------------------------------------------


def test_a_changed_template_takes_the_place_of_the_old_one() -> None:
    found = created()
    before, stored = found.one("MachineDeployment"), {one["metadata"]["name"] for one in found.all("DevMachineTemplate")}
    old = before["spec"]["template"]["spec"]["infrastructureRef"]["name"]
    _class_template(found, "DevMachineTemplate", "worker-machine")["spec"]["template"]["spec"]["image"] = "new"
    assert written(found) == ["Create DevMachineTemplate", "Apply MachineDeployment"]
    after = found.one("MachineDeployment")["spec"]["template"]["spec"]
    new = after["infrastructureRef"]["name"]
    assert new != old and new.startswith("my-md-0-") and {one["metadata"]["name"] for one in found.all("DevMachineTemplate")} == {*stored, new}
    assert after["bootstrap"]["configRef"]["name"] == found.one("KubeadmConfigTemplate")["metadata"]["name"], "what did not change stays"
    assert written(found) == []


def test_a_field_that_is_taken_out_of_a_template_rotates_it_too() -> None:
    found = created()
    del _class_template(found, "KubeadmConfigTemplate", "worker-bootstrap")["spec"]["template"]["spec"]["files"]
    assert written(found) == ["Create KubeadmConfigTemplate", "Apply MachineDeployment"]
    assert written(found) == []


def test_fields_that_others_set_are_no_difference() -> None:
    found = created()
    for kind in ("DevCluster", "DevMachineTemplate", "KubeadmControlPlane", "KubeadmConfigTemplate", "MachineDeployment"):
        for one in found.all(kind):
            one["spec"]["setByOthers"] = {"a": [1]}
            one["metadata"]["labels"]["others"] = "x"
            one["metadata"].setdefault("annotations", {})["others"] = "x"
    assert written(found) == []


def test_labels_of_a_template_are_changed_in_place() -> None:
    found = created()
    _class_template(found, "DevMachineTemplate", "worker-machine")["metadata"]["labels"] = {"of": "another", "and": "one more"}
    assert written(found) == ["Apply DevMachineTemplate"]
    _class_template(found, "DevMachineTemplate", "worker-machine")["metadata"]["labels"] = {}
    assert written(found) == ["Apply DevMachineTemplate"]
    assert all("of" not in one["metadata"]["labels"] for one in found.all("DevMachineTemplate"))


def test_the_control_planes_template_is_replaced_and_the_old_one_goes_at_once() -> None:
    found = created()
    _class_template(found, "DevMachineTemplate", "control-plane-machine")["spec"]["template"]["spec"]["image"] = "new"
    plan = found.run_topology()
    steps = plan_writes(plan)
    assert [type(step) for step in steps[:3]] == [Create, Apply, Delete] and steps[2].key.kind == "DevMachineTemplate"
    named = found.one("KubeadmControlPlane")["spec"]["machineTemplate"]["spec"]["infrastructureRef"]["name"]
    assert named == steps[0].key.name and steps[2].key.name != named
    assert written(found) == []


def test_a_rotation_that_died_half_way_is_finished_with_the_same_name() -> None:
    found = created()
    _class_template(found, "DevMachineTemplate", "worker-machine")["spec"]["template"]["spec"]["image"] = "new"
    (made, refer), again = plan_writes(found.run_topology(limit=1))[:2], plan_writes(found.run_topology())
    assert (type(made), made.key.kind, refer.key.kind) == (Create, "DevMachineTemplate", "MachineDeployment")
    # what was made is there, and only referred to: an apply that makes it would be one without a uid
    assert [step.key for step in again] == [refer.key]
    assert written(found) == [] and len(found.all("DevMachineTemplate")) == 3


def test_what_was_made_before_the_class_changed_is_brought_to_what_it_says_now() -> None:
    found = world()
    found.run_topology(limit=1)
    _class_template(found, "DevClusterTemplate", "cluster")["spec"]["template"]["spec"]["controlPlaneEndpoint"] = {"host": "late", "port": 1}
    steps = plan_writes(found.run_topology())
    assert [type(step) for step in steps if step.key.kind == "DevCluster"] == [Apply]
    assert found.one("DevCluster")["spec"]["controlPlaneEndpoint"] == {"host": "late", "port": 1}


@pytest.mark.parametrize(
    ("metadata", "said"),
    [({"labels": {}}, "taken by an object of somebody else"), ({"deletionTimestamp": "2026-01-02T03:04:05Z"}, "is being deleted")],
)
def test_a_name_that_is_held_is_told_and_nothing_is_written_over_it(metadata: Json, said: str) -> None:
    found = world()
    found.run_topology(limit=1)
    held = found.one("DevCluster")
    held["metadata"].update(metadata)
    told = found.decide().condition
    assert said in told.message and held["metadata"]["name"] in told.message


def test_back_to_an_earlier_template_is_another_name() -> None:
    found = created()
    names = set()
    spec = _class_template(found, "DevMachineTemplate", "worker-machine")["spec"]["template"]["spec"]
    for image in ("a", "b", "a", "b"):
        spec["image"] = image
        found.settle_topology()
        names.add(found.one("MachineDeployment")["spec"]["template"]["spec"]["infrastructureRef"]["name"])
    assert len(names) == 4


def test_another_kind_is_refused_but_for_bootstrap() -> None:
    found = created(None, None)
    found.put(template(INFRASTRUCTURE, "OtherMachineTemplate", "other"))
    found.class_spec["workers"]["machineDeployments"][0]["infrastructure"] = ref(INFRASTRUCTURE, "OtherMachineTemplate", "other")
    found.run_class()
    found.run_topology()
    assert "a Cluster's objects keep their group and kind" in found.condition()[2]


def test_a_variable_changes_what_its_patch_changes_and_nothing_else() -> None:
    one = patch(
        "image",
        "DevMachineTemplate",
        {"machineDeploymentClass": {"names": ["*"]}},
        {"op": "add", "path": "/spec/template/spec/image", "valueFrom": {"variable": "image"}},
    )
    found = created(cluster_class(variables=[variable("image", {"type": "string", "default": "a"})], patches=[one]))
    assert found.topology["variables"] == [{"name": "image", "value": "a"}], "defaults are stored"
    found.topology["variables"][0]["value"] = "b"
    assert written(found) == ["Create DevMachineTemplate", "Apply MachineDeployment"]


def test_workers_come_and_go() -> None:
    found = created()
    found.topology["workers"]["machineDeployments"].append({"class": "default-worker", "name": "md-1", "replicas": 1})
    assert written(found) == ["Create KubeadmConfigTemplate", "Create DevMachineTemplate", "Create MachineDeployment"]
    del found.topology["workers"]["machineDeployments"][0]
    assert written(found) == ["Delete MachineDeployment"]
    assert found.one("MachineDeployment")["metadata"]["labels"][labels.TOPOLOGY_DEPLOYMENT_NAME] == "md-1"


def test_a_deployment_that_comes_back_while_the_old_one_goes_has_another_name() -> None:
    found = created()
    gone = found.one("MachineDeployment")
    gone["metadata"]["finalizers"] = ["x"]
    listed = found.topology["workers"].pop("machineDeployments")
    found.run_topology()
    assert found.one("MachineDeployment")["metadata"]["deletionTimestamp"]
    found.topology["workers"]["machineDeployments"] = listed
    found.run_topology()
    assert len({one["metadata"]["name"] for one in found.all("MachineDeployment")}) == 2


def test_pools_are_changed_in_place() -> None:
    found = created(None, cluster(workers={"machinePools": [{"class": "default-pool", "name": "mp-0", "replicas": 1, "failureDomains": ["a"]}]}))
    assert kinds(found).keys() == {"DevCluster", "DevMachineTemplate", "KubeadmControlPlane", "KubeadmConfig", "DevMachinePool", "MachinePool"}
    assert found.one("DevMachinePool")["metadata"]["ownerReferences"] == [OWNER] and found.one("MachinePool")["spec"]["failureDomains"] == ["a"]
    _class_template(found, "DevMachinePoolTemplate", "pool-machine")["spec"]["template"]["spec"]["image"] = "new"
    assert written(found) == ["Apply DevMachinePool"]
    found.topology["workers"] = {}
    assert written(found) == ["Delete MachinePool"]


# --- upgrades, carried out -------------------------------------------------------------------------------------------------------------------


def test_an_upgrade() -> None:
    found = created()
    found.machine("md-0", VERSION)
    found.topology["version"] = NEXT
    assert written(found) == ["Patch Cluster", "Apply KubeadmControlPlane", "Apply Cluster"], "the step is noted before the control plane begins"
    stored = found.the(Cluster, "my")
    assert stored.metadata.annotations[labels.UPGRADE_STEP] == NEXT and stored.metadata.annotations[labels.PENDING_HOOKS] == "AfterClusterUpgrade"
    assert found.condition() == (
        "False", condition.UPGRADING,
        "Cluster is upgrading to v1.35.0\n  * KubeadmControlPlane upgrading to version v1.35.0\n"
        f"  * MachineDeployment {found.one('MachineDeployment')['metadata']['name']} pending upgrade to version v1.35.0",
    )  # fmt: skip
    found.control_plane_runs(VERSION)
    assert found.one("MachineDeployment")["spec"]["template"]["spec"]["version"] == VERSION
    found.settle_topology()
    found.control_plane_runs()
    assert written(found) == ["Apply MachineDeployment", "Apply Cluster"]
    found.settle_topology()
    assert "upgrading to version v1.35.0" in found.condition()[2]
    found.machine("md-0", NEXT)
    assert written(found) == ["Patch Cluster", "Apply Cluster"]
    assert found.condition() == ("True", "ReconcileSucceeded", "") and labels.UPGRADE_STEP not in found.the(Cluster, "my").metadata.annotations
    assert written(found) == []


def test_nothing_else_of_a_part_changes_while_it_waits_for_its_version() -> None:
    found = created()
    found.machine("md-0", VERSION)
    found.topology["version"] = NEXT
    found.topology["workers"]["machineDeployments"][0]["replicas"] = 9
    found.run_topology()
    assert found.one("MachineDeployment")["spec"]["replicas"] == 2
    found.control_plane_runs()
    found.run_topology()
    spec = found.one("MachineDeployment")["spec"]
    assert (spec["replicas"], spec["template"]["spec"]["version"]) == (9, NEXT)


def test_deferred_workers_are_told_and_wait() -> None:
    found = created()
    found.machine("md-0", VERSION)
    found.topology["version"] = NEXT
    found.topology["workers"]["machineDeployments"][0]["metadata"] = {"annotations": {labels.DEFER_UPGRADE: ""}}
    found.run_topology()
    found.control_plane_runs()
    found.settle_topology()
    assert found.condition()[1] == condition.DEPLOYMENTS_DEFERRED and "deferred using defer-upgrade" in found.condition()[2]
    assert found.the(Cluster, "my").metadata.annotations[labels.UPGRADE_STEP] == NEXT
    assert [one.version for one in found.the(Cluster, "my").status.workers.upgrade_plan] == [NEXT]


def test_an_annotation_holds_an_upgrade_and_says_so() -> None:
    found = created()
    hook = f"{labels.BEFORE_UPGRADE_HOOK_PREFIX}/backup"
    found.store[ObjectKey("cluster.x-k8s.io", "Cluster", "default", "my")]["metadata"]["annotations"] = {hook: ""}
    found.topology["version"] = NEXT
    assert written(found) == ["Apply Cluster"]
    assert hook in found.condition()[2] and found.condition()[1] == condition.UPGRADING
    found.store[ObjectKey("cluster.x-k8s.io", "Cluster", "default", "my")]["metadata"]["annotations"] = {}
    assert written(found) == ["Patch Cluster", "Apply KubeadmControlPlane", "Apply Cluster"]


def test_a_version_that_cannot_be_reached_is_told() -> None:
    found = created()
    found.topology["version"] = LATER
    assert written(found) == ["Apply Cluster"]
    assert found.condition()[1] == condition.FAILED and "list kubernetesVersions in the ClusterClass" in found.condition()[2]


def test_an_upgrade_plan_is_kept_while_nothing_can_be_decided() -> None:
    found = created()
    found.topology["version"] = NEXT
    found.run_topology()
    found.class_spec["kubernetesVersions"] = [VERSION, NEXT]
    found.run_topology()
    assert found.condition()[1] == condition.CLASS_NOT_RECONCILED
    assert [one.version for one in found.the(Cluster, "my").status.control_plane.upgrade_plan] == [NEXT]


def test_a_version_without_its_v_is_the_same_version() -> None:
    found = created()
    found.topology["version"] = VERSION.removeprefix("v")
    assert written(found) == ["Patch Cluster"] and found.topology["version"] == VERSION


# --- what keeps a topology from being reconciled ---------------------------------------------------------------------------------------------


def test_paused_and_deleting() -> None:
    found = world()
    stored = found.store[ObjectKey("cluster.x-k8s.io", "Cluster", "default", "my")]
    stored["spec"]["paused"] = True
    assert written(found) == ["Apply Cluster"] and found.condition()[1:] == ("Paused", "Cluster spec.paused is set to true")
    stored["spec"]["paused"] = False
    stored["metadata"] |= {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["x"]}
    assert written(found) == ["Apply Cluster"] and found.condition()[1] == "Deleting"


def test_no_class_or_one_that_is_not_ready() -> None:
    found = world()
    found.class_spec["kubernetesVersions"] = [VERSION]
    assert written(found) == ["Apply Cluster"]
    assert found.condition()[1] == condition.CLASS_NOT_RECONCILED and "its status is older than its spec" in found.condition()[2]
    found.topology["classRef"]["name"] = "nope"
    found.run_topology()
    assert "ClusterClass default/nope does not exist; create it or correct spec.topology.classRef" in found.condition()[2]


def test_wrong_variables_are_told_and_nothing_is_written() -> None:
    of_class = cluster_class(variables=[variable("n", {"type": "integer"}, required=True)])
    found = world(of_class, cluster(variables=[{"name": "n", "value": "x"}]))
    assert written(found) == ["Apply Cluster"]
    assert found.condition() == ("False", "ReconcileFailed", "spec.topology.variables[n].value: variable \"n\": must be of type integer, is 'x'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": {"machineDeployments": [{"class": "nope", "name": "a"}]}}, 'has no MachineDeployment class "nope"; it has default-worker'),
        ({"workers": {"machinePools": [{"class": "nope", "name": "a"}]}}, 'has no MachinePool class "nope"; it has default-pool'),
    ],
)
def test_classes_of_workers_that_do_not_exist(change: Json, message: str) -> None:
    found = world(None, cluster(**change))
    found.run_topology()
    assert message in found.condition()[2]


def test_a_reference_to_what_is_gone_is_told() -> None:
    found = created()
    del found.store[ObjectKey("infrastructure.cluster.x-k8s.io", "DevCluster", "default", found.one("DevCluster")["metadata"]["name"])]
    assert written(found) == ["Apply Cluster"]
    assert "that the Cluster refers to does not exist; restore it, or delete the Cluster" in found.condition()[2]


def _class_template(found: TopologyWorld, kind: str, name: str) -> Json:
    return next(obj for key, obj in found.store.items() if key.kind == kind and key.name == name)
