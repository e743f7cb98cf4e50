"""A ClusterClass: its templates are its own, its status tells variables, and whether its references are up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.plan import Patch
from fleetwake.topology.blueprint import TemplateKey, references
from fleetwake.topology.class_patches import patch_problems
from fleetwake.topology.class_variables import status_variables, variable_problems
from schemas.api.core.v1beta2.class_variables import ClusterClassVariable
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.keys import GroupKind
from services.reconcilers.kinds.cluster_class.decide import Observed, reconcile
from services.reconcilers.kinds.cluster_class.references import Templates
from tests.decide.topology_world import TopologyWorld, cluster_class, templates, variable
from tests.decide.topology_world import patch as a_patch
from tests.decide.world import NOW, plan_writes

Json = dict[str, Any]
TEXT: Json = {"type": "string"}
QUICK_START = Path(__file__).parents[2] / "examples" / "topology" / "quick-start.yaml"


def world(**spec: Any) -> TopologyWorld:
    return TopologyWorld([*templates(), cluster_class(**spec)], at=NOW)


def conditions(found: TopologyWorld) -> dict[str, tuple[str, str, str]]:
    stored = found.the(ClusterClass, "quick")
    return {one.type: (one.status, one.reason, one.message) for one in stored.status.conditions}


def test_templates_get_their_owner_and_the_class_its_status() -> None:
    found = world(variables=[variable("b", TEXT), variable("a", {"type": "integer", "default": 3}, required=True)])
    steps = plan_writes(found.run_class())
    assert [type(step) for step in steps].count(Patch) == 7 and all(step.key.kind.endswith("Template") for step in steps[:7])
    owner = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "ClusterClass", "name": "quick", "uid": "uid-class"}
    owned = [obj for key, obj in found.sorted() if key.kind.endswith("Template")]
    assert all(one["metadata"]["ownerReferences"] == [owner] for one in owned)
    stored = found.the(ClusterClass, "quick").status
    assert [(one.name, one.definitions_conflict, [each.from_ for each in one.definitions]) for one in stored.variables] == [
        ("a", False, ["inline"]), ("b", False, ["inline"]),
    ]  # fmt: skip
    assert stored.variables[0].definitions[0].required and stored.observed_generation == 1
    assert {type_: one[:2] for type_, one in conditions(found).items()} == {
        "VariablesReady": ("True", "VariablesReady"), "RefVersionsUpToDate": ("True", "RefVersionsUpToDate"), "Paused": ("False", "NotPaused"),
    }  # fmt: skip
    assert plan_writes(found.run_class()) == [], "a settled class asks for nothing"


def test_a_missing_template_keeps_the_class_unobserved() -> None:
    found = world()
    gone = next(key for key in found.store if key.kind == "DevClusterTemplate")
    del found.store[gone]
    found.run_class()
    status, reason, message = conditions(found)["RefVersionsUpToDate"]
    assert (status, reason) == ("Unknown", "InternalError") and "DevClusterTemplate cluster" in message and "create it or correct the class" in message
    assert found.the(ClusterClass, "quick").status.observed_generation is None


def test_outdated_references_are_listed() -> None:
    found = world()
    one = found.the(ClusterClass, "quick")
    stored = {TemplateKey(ref.api_version, ref.kind, ref.name): found.external(GroupKind(ref.group, ref.kind), "default", ref.name) for ref in references(one)}
    newest = {GroupKind(ref.group, ref.kind): "v1beta3" if ref.kind == "DevMachineTemplate" else "v1beta2" for ref in references(one)}
    plan = reconcile(Observed(NOW, one, Templates({key: value for key, value in stored.items() if value is not None}, newest)))
    found.carry_out(plan.steps)
    assert conditions(found)["RefVersionsUpToDate"] == (
        "False", "RefVersionsNotUpToDate",
        "The following templateRefs are not using the latest apiVersion:\n"
        "* DevMachineTemplate control-plane-machine: current: v1beta2, latest: v1beta3\n* DevMachineTemplate worker-machine: current: v1beta2, latest: v1beta3",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("theirs", "conflict"),
    [
        (variable("a", {"type": "string"}), False),
        (variable("a", {"type": "string", "uniqueItems": False}), False),
        (variable("a", {"type": "integer"}), True),
        (variable("a", {"type": "string"}, required=True), True),
    ],
)
def test_definitions_of_extensions_must_be_alike(theirs: Json, conflict: bool) -> None:
    one = ClusterClass.model_validate(cluster_class(variables=[variable("a", TEXT)]))
    found = status_variables(one, {"ext": [ClusterClassVariable.model_validate(theirs)]})
    assert found[0]["definitionsConflict"] is conflict and [each["from"] for each in found[0]["definitions"]] == ["inline", "ext"]


def test_a_conflict_and_an_extension_that_does_not_answer_are_told() -> None:
    found = world(variables=[variable("a", TEXT)])
    one = found.the(ClusterClass, "quick")
    theirs = {"ext": [ClusterClassVariable.model_validate(variable("a", {"type": "integer"}))]}
    for observed, message in (
        (Observed(NOW, one, Templates({}, {}), theirs), "VariableDiscovery failed: the following variables have conflicting schemas: a"),
        (Observed(NOW, one, Templates({}, {}), {}, {"ext": "no answer"}), "VariableDiscovery failed: patch ext: no answer"),
    ):
        found.carry_out(reconcile(observed).steps)
        assert conditions(found)["VariablesReady"] == ("False", "VariableDiscoveryFailed", message)


def test_only_its_annotation_pauses_a_class() -> None:
    found = world()
    found.run_class()
    found.class_spec["kubernetesVersions"] = ["v1.34.2"]
    next(obj for key, obj in found.store.items() if key.kind == "ClusterClass")["metadata"]["annotations"] = {"cluster.x-k8s.io/paused": ""}
    found.run_class()
    assert conditions(found)["Paused"][0] == "True" and found.the(ClusterClass, "quick").status.observed_generation == 1
    assert plan_writes(found.run_class()) == []


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "integer", "default": "x"}, "default: the default breaks its own schema: must be of type integer"),
        ({"type": "object", "properties": {"a": {"type": "string", "default": 1}}}, "properties[a].default: the default breaks its own schema"),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}}, "default.b: the default breaks its own schema: the schema has no"),
        ({"type": "string", "pattern": "("}, "pattern: it is no regular expression"),
        ({"type": "array"}, "an array must say what its items are; add items"),
        ({"type": "object", "required": ["a"]}, 'it requires "a", which is none of its properties'),
        ({"properties": {"a": {"type": "string"}}}, "it has no type; give one of object"),
        ({"type": "integer", "x-kubernetes-validations": [{"rule": "self >"}]}, "is no CEL"),
        ({"type": "integer", "default": 1, "x-kubernetes-validations": [{"rule": "self > 3", "message": "m"}]}, "the default breaks its own schema: m"),
    ],
)
def test_wrong_schemas(schema: Json, message: str) -> None:
    found = [f"{one.path}: {one.message}" for one in variable_problems([ClusterClassVariable.model_validate(variable("v", schema))])]
    assert len(found) == 1 and message in found[0] and found[0].startswith("spec.variables[v]")


@pytest.mark.parametrize(("name", "message"), [("builtin", "Cluster API itself sets"), ("a.b", "has a dot")])
def test_wrong_names(name: str, message: str) -> None:
    assert [message in one.message for one in variable_problems([ClusterClassVariable.model_validate(variable(name, TEXT))])] == [True]


# --- patches ---------------------------------------------------------------------------------------------------------------------------------

WORKERS: Json = {"machineDeploymentClass": {"names": ["*"]}}
SET: Json = {"op": "add", "path": "/spec/template/spec/x", "value": 1}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (a_patch("p", "OtherTemplate", WORKERS, SET), "definitions[0].selector: no template of the class is meant: none of kind OtherTemplate"),
        (a_patch("p", "DevMachineTemplate", {"infrastructureCluster": True}, SET), "stands where matchResources says"),
        (a_patch("p", "DevMachineTemplate", {"machineDeploymentClass": {"names": ["a*b", "*"]}}, SET), '"a*b" has a star inside'),
        (a_patch("p", "DevMachineTemplate", WORKERS, {**SET, "path": "/metadata/x"}), "jsonPatches[0].path: the path '/metadata/x' must begin with /spec/"),
        (a_patch("p", "DevMachineTemplate", WORKERS, {"op": "add", "path": "/spec/x"}), "add needs exactly one of value"),
        (a_patch("p", "DevMachineTemplate", WORKERS, {**SET, "valueFrom": {"variable": "a"}}), "add needs exactly one of value"),
        (a_patch("p", "DevMachineTemplate", WORKERS, {"op": "remove", "path": "/spec/x", "value": 1}), "remove takes no value"),
        (a_patch("p", "DevMachineTemplate", WORKERS, {"op": "add", "path": "/spec/x", "valueFrom": {"variable": "nope.x[0]"}}), 'no variable "nope"'),
        (
            a_patch("p", "DevMachineTemplate", WORKERS, {"op": "add", "path": "/spec/x", "valueFrom": {"template": "{{ if }}"}}),
            "it cannot be read: a command is empty",
        ),
        (a_patch("p", "DevMachineTemplate", WORKERS, SET, enabled_if="{{ end }}"), "enabledIf: it cannot be read"),
        ({"name": "p"}, "either definitions or external"),
    ],
)
def test_wrong_patches(patch: Json, message: str) -> None:
    one = ClusterClass.model_validate(cluster_class(patches=[patch], variables=[variable("a", TEXT)]))
    found = [f"{each.path}: {each.message}" for each in patch_problems(one)]
    assert len(found) == 1 and message in found[0] and found[0].startswith("spec.patches[p]")


# --- a class as users have it ----------------------------------------------------------------------------------------------------------------


def quick_start(**topology: Any) -> TopologyWorld:
    """The class of examples/topology/quick-start.yaml with its Cluster of fifteen lines."""
    documents = list(yaml.safe_load_all(QUICK_START.read_text()))
    for one in documents:
        one["metadata"] |= {"namespace": "default", "uid": f"uid-{one['kind']}", "generation": 1}
    documents[-1]["spec"]["topology"] |= topology
    documents[0]["metadata"]["name"] = documents[-1]["spec"]["topology"]["classRef"]["name"] = "quick"
    found = TopologyWorld(documents, at=NOW)
    assert not [*patch_problems(found.the(ClusterClass, "quick"))]
    found.run_class()
    found.settle_topology()
    return found


def test_a_cluster_of_fifteen_lines() -> None:
    text = QUICK_START.read_text().rpartition("---\n")[2]
    assert len(text.splitlines()) <= 15
    found = quick_start()
    assert found.condition()[:2] == ("True", "ReconcileSucceeded")
    assert all(
        one["spec"]["template"]["spec"]["backend"]["inMemory"]["vm"] == {"provisioning": {"startupDuration": "0s"}} for one in found.all("DevMachineTemplate")
    )
    assert "fleetwake" not in found.one("KubeadmControlPlane")["spec"]["kubeadmConfigSpec"]


def test_a_proxy_by_a_variable_reaches_every_host_and_changing_it_replaces_them() -> None:
    proxy = {"httpsProxy": "http://proxy.example:3128", "noProxy": ["example.org"], "credentialsSecret": {"name": "proxy"}}
    found = quick_start(variables=[{"name": "httpProxy", "value": proxy}])
    assert found.one("KubeadmControlPlane")["spec"]["kubeadmConfigSpec"]["fleetwake"] == {"httpProxy": proxy}
    before = found.one("KubeadmConfigTemplate")
    assert before["spec"]["template"]["spec"]["fleetwake"] == {"httpProxy": proxy}
    next(one for one in found.topology["variables"] if one["name"] == "httpProxy")["value"]["httpsProxy"] = "http://other.example:3128"
    found.control_plane_runs()
    written = [f"{type(step).__name__} {step.key.kind}" for step in plan_writes(found.run_topology())]
    assert written == ["Apply KubeadmControlPlane", "Create KubeadmConfigTemplate", "Apply MachineDeployment"]
    found.topology["variables"] = [{"name": "httpProxy", "value": {"noProxy": []}}]
    found.run_topology()
    assert found.condition()[2] == 'spec.topology.variables[httpProxy].value: variable "httpProxy": at least one of httpProxy and httpsProxy must be set'
