"""Patches of a ClusterClass: which templates they mean, where their values come from, in which order, and how a broken one is told."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.topology.json_patch import Operation, PatchError, applied, problem
from fleetwake.topology.selectors import Part, Place, fits, selects
from schemas.api.core.v1beta2.class_variables import PatchSelector
from services.reconcilers.kinds.cluster_topology.values import NoValueError, read_yaml, rendered, variable
from tests.decide.topology_world import BOOTSTRAP, CONTROL_PLANE, INFRASTRUCTURE, cluster, cluster_class, created, world
from tests.decide.topology_world import patch as a_patch
from tests.decide.topology_world import variable as a_variable

Json = dict[str, Any]
TEXT: Json = {"type": "string"}


# --- selectors -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "wanted"),
    [
        ("*", "anything", True), ("default-*", "default-worker", True), ("*-worker", "default-worker", True), ("default-worker", "default-worker", True),
        ("default", "default-worker", False), ("*-pool", "default-worker", False), ("a*", "b", False),
    ],
)  # fmt: skip
def test_names_of_classes_may_have_a_star_at_one_end(pattern: str, name: str, wanted: bool) -> None:
    assert fits(pattern, name) is wanted


@pytest.mark.parametrize(
    ("match", "place", "wanted"),
    [
        ({"infrastructureCluster": True}, Place(Part.INFRASTRUCTURE_CLUSTER), True),
        ({"controlPlane": True}, Place(Part.INFRASTRUCTURE_CLUSTER), False),
        ({"controlPlane": True}, Place(Part.CONTROL_PLANE), True),
        ({"controlPlane": True}, Place(Part.CONTROL_PLANE_MACHINES), True),
        ({"controlPlane": False}, Place(Part.CONTROL_PLANE), False),
        ({"machineDeploymentClass": {"names": ["a", "b*"]}}, Place(Part.DEPLOYMENT_BOOTSTRAP, "md", "bc"), True),
        ({"machineDeploymentClass": {"names": ["a"]}}, Place(Part.DEPLOYMENT_INFRASTRUCTURE, "md", "b"), False),
        ({"machineDeploymentClass": {"names": ["a"]}}, Place(Part.POOL_BOOTSTRAP, "mp", "a"), False),
        ({"machinePoolClass": {"names": ["*"]}}, Place(Part.POOL_INFRASTRUCTURE, "mp", "a"), True),
        ({"controlPlane": True, "machinePoolClass": {"names": ["*"]}}, Place(Part.POOL_BOOTSTRAP, "mp", "a"), True),
    ],
)
def test_selectors(match: Json, place: Place, wanted: bool) -> None:
    selector = PatchSelector.model_validate({"apiVersion": INFRASTRUCTURE, "kind": "DevMachineTemplate", "matchResources": match})
    assert selects(selector, place, INFRASTRUCTURE, "DevMachineTemplate") is wanted
    assert not selects(selector, place, INFRASTRUCTURE, "DevClusterTemplate")
    assert not selects(selector, place, "infrastructure.cluster.x-k8s.io/v1beta1", "DevMachineTemplate")


# --- operations ------------------------------------------------------------------------------------------------------------------------------

DOCUMENT: Json = {"spec": {"template": {"spec": {"a": 1, "list": ["x"], "m": {"k/v": 1, "~": 2}}}}}


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        pytest.param(Operation("add", "/spec/template/spec/b", 2), {"a": 1, "b": 2, "list": ["x"], "m": {"k/v": 1, "~": 2}}, id="add"),
        pytest.param(Operation("add", "/spec/template/spec/a", 2), {"a": 2, "list": ["x"], "m": {"k/v": 1, "~": 2}}, id="add over"),
        pytest.param(Operation("replace", "/spec/template/spec/a", {"x": 1}), {"a": {"x": 1}, "list": ["x"], "m": {"k/v": 1, "~": 2}}, id="replace"),
        pytest.param(Operation("remove", "/spec/template/spec/a"), {"list": ["x"], "m": {"k/v": 1, "~": 2}}, id="remove"),
        pytest.param(Operation("add", "/spec/template/spec/list/-", "y"), {"a": 1, "list": ["x", "y"], "m": {"k/v": 1, "~": 2}}, id="append"),
        pytest.param(Operation("add", "/spec/template/spec/list/0", "y"), {"a": 1, "list": ["y", "x"], "m": {"k/v": 1, "~": 2}}, id="prepend"),
        pytest.param(Operation("remove", "/spec/template/spec/m/k~1v"), {"a": 1, "list": ["x"], "m": {"~": 2}}, id="slash"),
        pytest.param(Operation("replace", "/spec/template/spec/m/~0", 3), {"a": 1, "list": ["x"], "m": {"k/v": 1, "~": 3}}, id="tilde"),
    ],
)
def test_operations(operation: Operation, wanted: Json) -> None:
    assert applied(DOCUMENT, [operation])["spec"]["template"]["spec"] == wanted
    assert DOCUMENT["spec"]["template"]["spec"]["a"] == 1


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Operation("add", "/metadata/labels/x", 1), "must begin with /spec/"),
        (Operation("add", "/spec/nope/x", 1), "there is no /spec/nope; add it by an operation before"),
        (Operation("replace", "/spec/template/spec/b", 1), "there is no /spec/template/spec/b to replace; use add"),
        (Operation("remove", "/spec/template/spec/b"), "drop the operation"),
        (Operation("add", "/spec/template/spec/a/b", 1), "neither a map nor a list"),
        (Operation("add", "/spec/template/spec/list/1", 1), "only be added at its front"),
        (Operation("remove", "/spec/template/spec/list/0"), "replace the whole list"),
    ],
)
def test_operations_that_cannot_be_done(operation: Operation, message: str) -> None:
    with pytest.raises(PatchError, match=message):
        applied(DOCUMENT, [operation])


@pytest.mark.parametrize(
    ("op", "path", "message"),
    [
        ("add", "/spec/template/spec/a", ""), ("add", "/spec/template/spec/list/-", ""), ("add", "/spec/template/spec/list/0", ""),
        ("add", "/status/x", "must begin"), ("add", "/spec/l/1", "can only be added"), ("remove", "/spec/l/0", "can only be added"),
        ("replace", "/spec/l/-", "can only be added"), ("add", "/spec/l/0/a", "through an element"),
    ],
)  # fmt: skip
def test_paths_that_a_class_may_have(op: str, path: str, message: str) -> None:
    assert message in problem(op, path) if message else problem(op, path) == ""


# --- values ----------------------------------------------------------------------------------------------------------------------------------

VARIABLES: Json = {"n": 4, "list": [{"a": "x"}], "map": {"k": {"v": True}}}


@pytest.mark.parametrize(("path", "wanted"), [("n", 4), ("list[0].a", "x"), ("list[0]", {"a": "x"}), ("map.k.v", True), ("list", [{"a": "x"}])])
def test_a_variable_by_its_path(path: str, wanted: Any) -> None:
    assert variable(VARIABLES, path) == wanted


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope", 'no value is known for the variable "nope"; give it a default'), ("map.x", 'map has no field "x"'),
        ("list[3]", "list has 1 elements, so none at 3"),
        ("n[0]", "n is no list"), ("n.a", 'n has no field "a"'), ("list[x]", "cannot be read"),
    ],
)  # fmt: skip
def test_a_variable_that_is_not_there(path: str, message: str) -> None:
    with pytest.raises(NoValueError) as raised:
        variable(VARIABLES, path)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        pytest.param("{{ .n }}", 4, id="number"),
        pytest.param("v{{ .n }}", "v4", id="text"),
        pytest.param("a: {{ .n }}\nb: [{{ (index .list 0).a | quote }}]", {"a": 4, "b": ["x"]}, id="map"),
        pytest.param('{"a": {{ .map | toJson }}}', {"a": {"k": {"v": True}}}, id="json"),
        pytest.param("", None, id="nothing"),
        pytest.param('{{ if .map.k.v }}"yes"{{ end }}', "yes", id="quoted"),
    ],
)
def test_a_template_renders_to_yaml(template: str, wanted: Any) -> None:
    assert rendered(template, VARIABLES) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1e3", 1000), ("0x1f", 31), ("0777", 511), ("1_000", 1000), ("2026-01-02", "2026-01-02"), ("1:30", "1:30"), ("y", True), ("Off", False), ("~", None),
        ("1.0", 1), ("1.5", 1.5), (".5", 0.5), ("v1.2", "v1.2"), ("1.2.3", "1.2.3"), ("'4'", "4"), ("{2: a, true: b}", {"2": "a", "true": "b"}),
    ],
)  # fmt: skip
def test_scalars_are_what_go_makes_of_them(text: str, wanted: Any) -> None:
    assert read_yaml(text) == wanted and type(read_yaml(text)) is type(wanted)


@pytest.mark.parametrize(
    ("template", "message"), [("{{ .n", "cannot be rendered: an action is not closed"), ("a: [", "no YAML"), ("{{ fail `no` }}", "fails: no")]
)
def test_a_template_that_gives_nothing(template: str, message: str) -> None:
    with pytest.raises(NoValueError, match=message):
        rendered(template, VARIABLES)


# --- patches of a class ----------------------------------------------------------------------------------------------------------------------

NAME, CONFIG = "builtin.cluster.name", "builtin.machinePool.bootstrap.configRef.name"
REPLACE: Json = {"op": "replace", "path": "/spec/template/spec/x", "value": 1}
ALL_DEPLOYMENTS: Json = {"machineDeploymentClass": {"names": ["*"]}}


def set_(path: str, **value: Any) -> Json:
    return {"op": "add", "path": f"/spec/template/spec/{path}", **value}


def patched(patches: list[Json], variables: list[Json], values: list[Json], **topology: Any) -> Any:
    given = {"variables": values} if values else {}
    found = world(cluster_class(patches=patches, **({"variables": variables} if variables else {})), cluster(**given, **topology))
    decision = found.decide()
    assert decision.desired is not None, decision.condition.message
    return decision.desired


def test_values_templates_and_builtins_reach_the_templates_they_mean() -> None:
    desired = patched(
        [
            a_patch("image", "DevMachineTemplate", {"controlPlane": True, **ALL_DEPLOYMENTS}, set_("image", valueFrom={"variable": "image"})),
            a_patch("version", "DevMachineTemplate", {"controlPlane": True}, set_("for", valueFrom={"template": "{{ .builtin.controlPlane.version }}"})),
            a_patch("class", "DevMachineTemplate", ALL_DEPLOYMENTS, set_("for", valueFrom={"variable": "builtin.machineDeployment.class"})),
            a_patch(
                "cluster", "DevClusterTemplate", {"infrastructureCluster": True}, set_("id", valueFrom={"variable": "builtin.cluster.name"}), set_("n", value=1)
            ),
        ],
        [a_variable("image", TEXT)],
        [{"name": "image", "value": "ubuntu"}],
    )
    assert desired.infrastructure_cluster["spec"] | {"backend": 0} == {"backend": 0, "id": "my", "n": 1}
    machines = desired.control_plane_machines["spec"]["template"]["spec"]
    assert (machines["image"], machines["for"]) == ("ubuntu", "v1.34.2")
    worker = desired.deployments[0].infrastructure["spec"]["template"]["spec"]
    assert (worker["image"], worker["for"]) == ("ubuntu", "default-worker")
    assert "image" not in desired.deployments[0].bootstrap["spec"]["template"]["spec"]


def test_patches_are_done_in_order_and_see_what_those_before_made() -> None:
    desired = patched(
        [
            a_patch("first", "DevMachineTemplate", ALL_DEPLOYMENTS, set_("list", value=["a"])),
            a_patch("second", "DevMachineTemplate", ALL_DEPLOYMENTS, {"op": "add", "path": "/spec/template/spec/list/-", "value": "b"}),
            a_patch("third", "DevMachineTemplate", ALL_DEPLOYMENTS, {"op": "replace", "path": "/spec/template/spec/backend", "value": {}}),
        ],
        [],
        [],
    )
    assert desired.deployments[0].infrastructure["spec"]["template"]["spec"] == {"backend": {}, "list": ["a", "b"]}


@pytest.mark.parametrize(
    ("condition", "wanted"),
    [
        ("{{ .on }}", True), ("{{ not .on }}", False), ("true", True), ("yes", True), ("", True), ("1", False), ('"true"', False),
        ('{{ semverCompare ">= 1.35" .builtin.machineDeployment.version }}', False), ('{{ eq .builtin.machineDeployment.topologyName "md-0" }}', True),
    ],
)  # fmt: skip
def test_enabled_if(condition: str, wanted: bool) -> None:
    one = a_patch("p", "DevMachineTemplate", ALL_DEPLOYMENTS, set_("x", value=1), enabled_if=condition)
    desired = patched([one], [a_variable("on", {"type": "boolean"})], [{"name": "on", "value": True}])
    assert ("x" in desired.deployments[0].infrastructure["spec"]["template"]["spec"]) is wanted


def test_overrides_hold_in_their_part_alone() -> None:
    one = a_patch("p", "DevMachineTemplate", {"controlPlane": True, **ALL_DEPLOYMENTS}, set_("image", valueFrom={"variable": "image"}))
    override = {"variables": {"overrides": [{"name": "image", "value": "other"}]}}
    workers = {"machineDeployments": [{"class": "default-worker", "name": "a", **override}, {"class": "default-worker", "name": "b"}]}
    desired = patched([one], [a_variable("image", TEXT)], [{"name": "image", "value": "all"}], workers=workers)
    images = [each.infrastructure["spec"]["template"]["spec"]["image"] for each in desired.deployments]
    assert (images, desired.control_plane_machines["spec"]["template"]["spec"]["image"]) == (["other", "all"], "all")


def test_pools_and_bootstrap_are_patched_too() -> None:
    names = {"machinePoolClass": {"names": ["default-*"]}}
    desired = patched(
        [
            a_patch("pool", "DevMachinePoolTemplate", names, set_("of", valueFrom={"variable": "builtin.machinePool.topologyName"})),
            a_patch(
                "boot", "KubeadmConfigTemplate", names, set_("x", valueFrom={"variable": "builtin.machinePool.bootstrap.configRef.name"}), api_version=BOOTSTRAP
            ),
        ],
        [],
        [],
        workers={"machinePools": [{"class": "default-pool", "name": "mp-0", "replicas": 1}]},
    )
    pool = desired.pools[0]
    assert pool.infrastructure["spec"]["of"] == "mp-0" and pool.infrastructure["kind"] == "DevMachinePool"
    assert pool.bootstrap["spec"]["x"] == pool.bootstrap["metadata"]["name"] and pool.bootstrap["kind"] == "KubeadmConfig"


def test_what_the_topology_owns_is_put_back() -> None:
    owned = {"replicas": 9, "version": "v9.9.9", "machineTemplate/spec/infrastructureRef": {"name": "x"}, "machineTemplate/metadata": {"labels": {"gone": "x"}}}
    of_template = [set_("machineTemplate", value={"spec": {}})] + [set_(path, value=value) for path, value in owned.items()]
    labels = {"op": "add", "path": "/spec/template/metadata/labels", "value": {"from-patch": "y", "topology.cluster.x-k8s.io/owned": "changed"}}
    one = a_patch("p", "KubeadmControlPlaneTemplate", {"controlPlane": True}, *of_template, set_("kept", value=True), labels, api_version=CONTROL_PLANE)
    desired = patched([one], [], [])
    spec, machines = desired.control_plane["spec"], desired.control_plane_machines
    assert (spec["replicas"], spec["version"], spec["kept"]) == (3, "v1.34.2", True)
    assert spec["machineTemplate"]["spec"]["infrastructureRef"]["name"] == machines["metadata"]["name"]
    assert "gone" not in spec["machineTemplate"]["metadata"]["labels"]
    found = desired.control_plane["metadata"]["labels"]
    assert (found["from-patch"], found["topology.cluster.x-k8s.io/owned"], found["cluster.x-k8s.io/cluster-name"]) == ("y", "", "my")


def test_replicas_that_nobody_manages_may_come_from_a_patch() -> None:
    one = a_patch("p", "KubeadmControlPlaneTemplate", {"controlPlane": True}, set_("replicas", value=5), api_version=CONTROL_PLANE)
    assert patched([one], [], [], controlPlane={}).control_plane["spec"]["replicas"] == 5


@pytest.mark.parametrize(
    ("operation", "enabled_if", "message"),
    [
        pytest.param(
            set_("x", valueFrom={"variable": "nope"}), "",
            'ClusterClass default/quick: patch "p", definition 1, operation 1 (add /spec/template/spec/x) on the DevMachineTemplate worker-machine '
            '(MachineDeployment infrastructure of md-0): no value is known for the variable "nope"; give it a default, or set it in the Cluster', id="variable",
        ),
        pytest.param(REPLACE, "", "operation 1 (replace /spec/template/spec/x) on the DevMachineTemplate", id="operation"),
        pytest.param(set_("x", valueFrom={"template": "{{ .a | nosuch }}"}), "", "cannot be rendered: the function nosuch is not known", id="template"),
        pytest.param(set_("x", value=1), "{{ .builtin.x.y | upper }}", 'patch "p", enabledIf on the DevMachineTemplate worker-machine', id="condition"),
        pytest.param(set_("x"), "", "neither value nor valueFrom", id="no value"),
    ],
)  # fmt: skip
def test_a_broken_patch_is_told_by_class_patch_definition_and_template(operation: Json, enabled_if: str, message: str) -> None:
    found = world(cluster_class(patches=[a_patch("p", "DevMachineTemplate", ALL_DEPLOYMENTS, operation, enabled_if=enabled_if)]))
    found.run_topology()
    assert found.condition()[:2] == ("False", "ReconcileFailed") and message in found.condition()[2]
    assert not found.all("MachineDeployment"), "nothing is written of a topology that is half understood"


def test_an_external_patch_is_refused() -> None:
    found = world(cluster_class(patches=[{"name": "ext", "external": {"generatePatchesExtension": "x.y"}}]))
    found.run_topology()
    assert 'patch "ext" needs a runtime extension' in found.condition()[2]


def test_a_variable_that_is_not_the_classs_own_is_unknown_to_inline_patches() -> None:
    found = created(cluster_class(variables=[a_variable("a", TEXT)]), cluster(variables=[{"name": "a", "value": "x"}]))
    assert found.decide().condition.reason == "ReconcileSucceeded"
