"""Admission of what needs other objects: a Cluster's topology by its class, a class by its Clusters."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from fleetwake import labels
from fleetwake.topology.class_variables import status_variables
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from services.admission.review import mutate, validate
from services.admission.rules.rule import Known
from tests.decide.admission_world import OF_KIND, Document, changed, request
from tests.decide.topology_world import INFRASTRUCTURE, NEXT, VERSION, cluster, cluster_class, patch, ref, variable

TOPOLOGY = "spec.topology"
DEPLOYMENTS = "spec.workers.machineDeployments"
WORD = variable("word", {"type": "string", "default": "a", "minLength": 1, "maxLength": 3})
OBJECT = variable("proxy", {"type": "object", "properties": {"url": {"type": "string"}, "port": {"type": "integer", "default": 3128}}})
OTHER_KIND = ref(INFRASTRUCTURE, "OtherClusterTemplate", "cluster")
WORKER = cluster_class()["spec"]["workers"]["machineDeployments"][0]


def ready(document: Document) -> ClusterClass:
    """The class as its reconciler leaves it."""
    variables = status_variables(ClusterClass.model_validate(document))
    conditions = [{"type": "VariablesReady", "status": "True", "reason": "VariablesReady", "lastTransitionTime": "2026-01-02T03:04:05Z"}]
    return ClusterClass.model_validate({**document, "status": {"observedGeneration": 1, "variables": variables, "conditions": conditions}})


def known(**spec: Any) -> Known:
    """A Cluster's class."""
    return Known(read=True, cluster_class=ready(cluster_class(variables=[WORD, OBJECT], **spec)))


def judged(new: Document, old: Document | None = None, of: Known = Known()) -> list[str]:  # noqa: B008 -- a frozen value
    """The fields that are refused, and why."""
    response = validate(OF_KIND[new["kind"]], request(new, old), of)
    if response["allowed"]:
        return []
    return [f"{cause['field']}: {cause['message']}" for cause in response["status"]["details"]["causes"]]


def fields(new: Document, old: Document | None = None, of: Known = Known()) -> list[str]:  # noqa: B008 -- a frozen value
    return [line.partition(": ")[0] for line in judged(new, old, of)]


def value(name: str, given: Any) -> list[Document]:
    return [{"name": name, "value": given}]


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        pytest.param({}, [], id="nothing is set"),
        pytest.param({"variables": value("word", "abc")}, [], id="a value of the schema"),
        pytest.param({"variables": value("word", "abcd")}, [f"{TOPOLOGY}.variables[word].value"], id="too long"),
        pytest.param({"variables": value("wrod", "a")}, [f"{TOPOLOGY}.variables[wrod]"], id="misspelt"),
        pytest.param({"variables": value("proxy", {"url": 1})}, [f"{TOPOLOGY}.variables[proxy].value.url"], id="a field within"),
        pytest.param(
            {"workers": {"machineDeployments": [{"class": "default-worker", "name": "a", "variables": {"overrides": value("word", "abcd")}}]}},
            [f"{TOPOLOGY}.workers.machineDeployments[a].variables.overrides[word].value"],
            id="an override",
        ),
        pytest.param(
            {"workers": {"machineDeployments": [{"class": "none", "name": "a"}], "machinePools": [{"class": "neither", "name": "b"}]}},
            [f"{TOPOLOGY}.workers.machineDeployments[0].class", f"{TOPOLOGY}.workers.machinePools[0].class"],
            id="classes that there are not",
        ),
        pytest.param(
            {"controlPlane": {"replicas": 1, "healthCheck": {"enabled": True}}},
            [f"{TOPOLOGY}.controlPlane.healthCheck.enabled"],
            id="a check that nobody says",
        ),
    ],
)
def test_a_topology_fits_its_class(topology: Document, expected: list[str]) -> None:
    assert fields(cluster(**topology), None, known()) == expected
    assert fields(cluster(**topology), None) == [], "without the class nothing can be said"


def test_a_message_says_what_to_write_instead() -> None:
    (line,) = judged(cluster(workers={"machineDeployments": [{"class": "none", "name": "a"}]}), None, known())
    assert line.endswith('ClusterClass default/quick has no class "none"; it has default-worker')


def test_defaults_of_the_class_are_stored_and_only_once() -> None:
    admission, new = OF_KIND["Cluster"], cluster(variables=value("proxy", {"url": "x"}))
    response = mutate(admission, request(new), known())
    operations = json.loads(base64.b64decode(response["patch"]))
    (found,) = [one for one in operations if one["path"] == "/spec/topology/variables"]
    assert found["value"] == [{"name": "proxy", "value": {"url": "x", "port": 3128}}, {"name": "word", "value": "a"}]
    whole = changed(new, "spec.topology.variables", found["value"])
    assert mutate(admission, request(whole), known()) == {"allowed": True}
    assert mutate(admission, request(new)) == {"allowed": True}


def test_a_class_that_is_not_there_or_not_ready_is_told_and_holds_nobody_up() -> None:
    wrong = cluster(variables=value("wrod", "a"))
    absent = validate(OF_KIND["Cluster"], request(wrong), Known(read=True))
    assert absent["allowed"] and "ClusterClass default/quick, which does not exist" in absent["warnings"][0]
    unready = Known(read=True, cluster_class=ClusterClass.model_validate(cluster_class()))
    assert "which is not ready" in validate(OF_KIND["Cluster"], request(wrong), unready)["warnings"][0]
    assert "warnings" not in validate(OF_KIND["Cluster"], request(cluster()), known())


@pytest.mark.parametrize(
    ("old", "new", "listed", "expected"),
    [
        pytest.param(VERSION, NEXT, (), [], id="one minor up"),
        pytest.param("v1.33.0", NEXT, (), [f"{TOPOLOGY}.version"], id="two minors up"),
        pytest.param("v1.33.0", NEXT, ("v1.33.0", VERSION, NEXT), [], id="two minors up on the class's way"),
        pytest.param("v1.33.0", "v1.35.1", ("v1.33.0", VERSION, NEXT), [f"{TOPOLOGY}.version"], id="a version the class does not list"),
        pytest.param(NEXT, VERSION, (VERSION, NEXT), [f"{TOPOLOGY}.version"], id="back"),
        pytest.param("v1.30.0", "v1.30.0", (VERSION,), [], id="no change"),
    ],
)
def test_versions_go_the_classs_way(old: str, new: str, listed: tuple[str, ...], expected: list[str]) -> None:
    of = known(**({"kubernetesVersions": list(listed)} if listed else {}))
    assert fields(cluster(version=new), cluster(version=old), of) == expected


def test_no_version_is_asked_for_while_an_upgrade_is_under_way() -> None:
    old = changed(cluster(version=VERSION), "metadata.annotations", {labels.PENDING_HOOKS: "AfterClusterUpgrade,AfterWorkersUpgrade"})
    (line,) = judged(cluster(version=NEXT), old, known())
    assert f"while the upgrade to {VERSION} is under way" in line
    meant = changed(cluster(version=NEXT), "metadata.annotations", {labels.UNSAFE_UPDATE_VERSION: ""})
    assert judged(meant, old, known()) == []
    assert judged(cluster(version=VERSION, variables=value("word", "b")), old, known()) == [], "all else may change"


def test_another_class_must_have_templates_of_the_same_kinds() -> None:
    before, after = cluster(), cluster(classRef={"name": "other"})
    other = cluster_class(infrastructure=OTHER_KIND)
    of = replace(known(), former_class=ready(cluster_class()))
    assert judged(after, before, of) == []
    (line,) = judged(after, before, replace(of, cluster_class=ready(other)))
    assert "spec.infrastructure.templateRef is a DevClusterTemplate" in line and "OtherClusterTemplate" in line


def test_where_topologies_are_off_none_is_taken_and_what_there_is_may_change() -> None:
    off = Known(topologies=False)
    assert fields(cluster(), None, off) == [TOPOLOGY] and fields(cluster_class(), None, off) == ["spec"]
    assert judged(cluster(version=NEXT), cluster(), off) == []
    without = changed(cluster(), "spec.topology", None)
    assert judged(without, None, off) == []


# --- the class -------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({}, [], id="as it is"),
        pytest.param({"variables": [variable("builtin", {"type": "string"})]}, ["spec.variables[builtin]"], id="a name that is taken"),
        pytest.param(
            {"variables": [variable("a", {"type": "string", "default": 1})]},
            ["spec.variables[a].schema.openAPIV3Schema.default"],
            id="a default of another type",
        ),
        pytest.param(
            {"patches": [patch("p", "DevMachineTemplate", {"controlPlane": True}, {"op": "add", "path": "/status/x", "value": 1})]},
            ["spec.patches[p].definitions[0].jsonPatches[0].path"],
            id="a patch outside the spec",
        ),
        pytest.param({"kubernetesVersions": [NEXT, VERSION]}, ["spec.kubernetesVersions"], id="descending"),
        pytest.param({"kubernetesVersions": ["v1.33.0", NEXT]}, ["spec.kubernetesVersions"], id="a minor left out"),
        pytest.param({"kubernetesVersions": [VERSION, "1.x"]}, ["spec.kubernetesVersions[1]"], id="no version"),
        pytest.param({"infrastructure": {**ref(INFRASTRUCTURE, "DevCluster", "cluster")}}, ["spec"], id="no template"),
        pytest.param(
            {"infrastructure": {**ref(INFRASTRUCTURE, "DevClusterTemplate", "cluster"), "naming": {"template": "{{ .cluster.name"}}},
            ["spec.infrastructure.naming.template"],
            id="a name that cannot be read",
        ),
    ],
)
def test_a_class_that_would_stop_its_clusters_is_refused(spec: Document, expected: list[str]) -> None:
    assert fields(cluster_class(**spec)) == expected


def used(**topology: Any) -> Known:
    return Known(read=True, clusters=(Cluster.model_validate(cluster(**topology)),))


def test_a_class_keeps_what_its_clusters_use() -> None:
    before = cluster_class(variables=[WORD], kubernetesVersions=[VERSION, NEXT])
    another = {**WORKER, "class": "another"}
    without = changed(before, DEPLOYMENTS, [another])
    assert fields(without, before, used()) == ["spec.workers.machineDeployments[default-worker]"]
    assert fields(without, before, used(workers={})) == [], "nobody uses it"
    assert fields(changed(before, "spec.kubernetesVersions", [NEXT]), before, used()) == ["spec.kubernetesVersions"]
    narrower = changed(before, "spec.variables", [variable("word", {"type": "string", "enum": ["x", "y"]})])
    (line,) = judged(narrower, before, used(variables=value("word", "b")))
    assert line.startswith("spec.variables") and "Cluster default/my would not be valid any more" in line
    assert judged(narrower, before, used(variables=value("word", "x"))) == []
    assert judged(narrower, before, used(variables=value("gone", 1))) == [], "what was wrong before is no reason"


def test_the_kinds_of_templates_do_not_change_but_for_bootstrap() -> None:
    before = cluster_class()
    assert fields(cluster_class(infrastructure=OTHER_KIND), before) == ["spec.infrastructure.templateRef"]
    bootstrap = {**WORKER, "bootstrap": ref("bootstrap.example.com/v1", "OtherTemplate", "x")}
    assert fields(changed(before, DEPLOYMENTS, [bootstrap]), before) == []
    machines = {**WORKER, "infrastructure": ref(INFRASTRUCTURE, "OtherMachineTemplate", "x")}
    assert fields(changed(before, DEPLOYMENTS, [machines]), before) == ["spec.workers.machineDeployments[default-worker].infrastructure.templateRef"]


def deleted(old: Document, of: Known) -> Document:
    asked = {"uid": "1", "operation": "DELETE", "name": old["metadata"]["name"], "object": None, "oldObject": old}
    return validate(OF_KIND["ClusterClass"], asked, of)


def test_a_class_in_use_is_not_deleted() -> None:
    response = deleted(cluster_class(), used())
    assert not response["allowed"] and "cannot be deleted: Cluster default/my use" in response["status"]["message"]
    assert deleted(cluster_class(), Known(read=True)) == {"allowed": True}
    moved = changed(cluster_class(), "metadata.annotations", {labels.DELETE_FOR_MOVE: ""})
    assert deleted(moved, used()) == {"allowed": True}, "clusterctl moves it with its Clusters"
    assert deleted({**cluster_class(), "spec": "unreadable"}, used()) == {"allowed": True}, "what cannot be read can go"
