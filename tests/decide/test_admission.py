"""Admission's rules, a table a kind: what is refused, with its field; what is filled in."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from fleetwake import labels
from fleetwake.errors import DecodeError
from services.admission.review import CAUSES_MAX, mutate, request_of, validate
from tests.decide.admission_world import NAMESPACE, OF_KIND, Document, changed, document, of, refused, request, stored

CORE = "cluster.x-k8s.io/v1beta2"
LONG = "n" * 64
TOPOLOGY = {"classRef": {"name": "quick"}, "version": "v1.31.0"}
REPLICAS = "spec.replicas"


def invalid(*paths: str) -> list[tuple[str, str]]:
    return [(path, "Invalid") for path in paths]


def not_allowed(*paths: str) -> list[tuple[str, str]]:
    return [(path, "Forbidden") for path in paths]


def cluster(**topology: Any) -> Document:
    return changed(document("Cluster"), "spec.topology", {**TOPOLOGY, **topology} if topology else None)


def machine(**spec: Any) -> Document:
    whole = {"clusterName": "c", "bootstrap": {"dataSecretName": "s"}, "infrastructureRef": {"apiGroup": "a.b", "kind": "K", "name": "n"}, **spec}
    return of(CORE, "Machine", whole)


def health_check(**spec: Any) -> Document:
    return of(CORE, "MachineHealthCheck", {"clusterName": "c", "selector": {"matchLabels": {"a": "b"}}, **spec})


def labelled(source: Document, key: str, value: str = "") -> Document:
    return {**source, "metadata": {**source["metadata"], "labels": {**source["metadata"].get("labels", {}), key: value}}}


def annotated(source: Document, key: str, value: str = "") -> Document:
    return {**source, "metadata": {**source["metadata"], "annotations": {key: value}}}


@pytest.mark.parametrize("kind", ["Cluster", "KubeadmControlPlane", "MachineDeployment", "KubeadmConfigTemplate", "DevMachineTemplate"])
def test_what_users_apply_is_allowed_twice_and_filled_in_once(kind: str) -> None:
    whole = document(kind)
    assert refused(whole) == [] and refused(whole, whole) == []
    assert stored(whole, whole) == whole


POOL_TAINT = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule", "propagation": "Always"}]
MANIFESTS = {"kind": "Secret", "name": "s"}
DEPLOYMENTS = "spec.topology.workers.machineDeployments"


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        pytest.param(changed(cluster(), "metadata.name", LONG), None, invalid("metadata.name"), id="name-too-long-for-labels"),
        pytest.param(cluster(version="v1.31.0"), cluster(), not_allowed("spec.topology.classRef"), id="topology-on-a-cluster-without"),
        pytest.param(annotated(cluster(version="v1.31.0"), labels.UNSAFE_UPDATE_CLASS_NAME), cluster(), [], id="topology-that-is-meant"),
        pytest.param(cluster(version="v1.32.5"), cluster(version="v1.31.0"), [], id="one-minor-up"),
        pytest.param(cluster(version="v1.33.0"), cluster(version="v1.31.0"), not_allowed("spec.topology.version"), id="two-minors-up"),
        pytest.param(cluster(version="v1.30.9"), cluster(version="v1.31.0"), not_allowed("spec.topology.version"), id="back"),
        pytest.param(annotated(cluster(version="v1.30.9"), labels.UNSAFE_UPDATE_VERSION), cluster(version="v1.31.0"), [], id="back-and-meant"),
        pytest.param(
            annotated(cluster(version="v1.31.0"), labels.UPGRADE_CONCURRENCY, "0"),
            None,
            invalid(f"metadata.annotations[{labels.UPGRADE_CONCURRENCY}]"),
            id="no-concurrency",
        ),
        pytest.param(annotated(cluster(version="v1.31.0"), labels.UPGRADE_CONCURRENCY, "3"), None, [], id="concurrency"),
        pytest.param(
            cluster(controlPlane={"metadata": {"labels": {"bad key": "x"}}}),
            None,
            invalid("spec.topology.controlPlane.metadata.labels"),
            id="labels",
        ),
        pytest.param(
            cluster(
                workers={"machineDeployments": [{"class": "w", "name": "a", "replicas": 3, "metadata": {"annotations": {labels.AUTOSCALER_MIN_SIZE: "1"}}}]}
            ),
            None,
            not_allowed(f"{DEPLOYMENTS}[0].replicas"),
            id="two-masters-of-replicas",
        ),
    ],
)
def test_clusters(new: Document, old: Document | None, expected: list[tuple[str, str]]) -> None:
    assert refused(new, old) == expected


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(machine(), [], id="with-data"),
        pytest.param(machine(bootstrap={}), [("spec.bootstrap", "Required")], id="without-bootstrap"),
        pytest.param(labelled(machine(bootstrap={}), labels.POOL_NAME, "p"), [], id="a-pools"),
        pytest.param(machine(taints=POOL_TAINT), invalid("spec.taints[0].key"), id="control-plane-taint-on-a-worker"),
        pytest.param(labelled(machine(taints=POOL_TAINT), labels.CONTROL_PLANE), [], id="on-a-control-plane"),
    ],
)
def test_machines(new: Document, expected: list[tuple[str, str]]) -> None:
    assert refused(new) == expected


WORKERS = document("MachineDeployment")
SET = {**changed(WORKERS, "spec.rollout", None), "kind": "MachineSet"}
SKIPPED = f"metadata.annotations[{labels.SKIP_PREFLIGHT_CHECKS}]"


@pytest.mark.parametrize("base", [WORKERS, SET], ids=["MachineDeployment", "MachineSet"])
@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        pytest.param("spec.selector.matchLabels", {"a": "b"}, invalid("spec.template.metadata.labels"), id="selector-matches-not"),
        pytest.param("spec.selector.matchLabels", {"a": "-"}, invalid("spec.selector.matchLabels"), id="no-label-value"),
        pytest.param(
            "spec.selector.matchExpressions",
            [{"key": "a", "operator": "Is", "values": ["b"]}],
            invalid("spec.selector.matchExpressions[0].operator"),
            id="no-op",
        ),
        pytest.param("spec.selector.matchExpressions", [{"key": "a", "operator": "In"}], invalid("spec.selector.matchExpressions[0].values"), id="in-nothing"),
        pytest.param("spec.template.metadata.annotations", {"a b": "c"}, invalid("spec.template.metadata.annotations"), id="annotation"),
        pytest.param("spec.machineNaming.template", "x-{{ .nobody }}-{{ .random }}", invalid("spec.machineNaming.template"), id="unknown-variable"),
        pytest.param("spec.machineNaming.template", "X-{{ .random }}", invalid("spec.machineNaming.template"), id="no-name-of-an-object"),
        pytest.param("spec.machineNaming.template", "{{ .machineSet.name }}-{{ .random }}", [], id="a-name"),
        pytest.param("metadata.annotations", {labels.SKIP_PREFLIGHT_CHECKS: "All, Moon"}, invalid(SKIPPED), id="no-such-check"),
        pytest.param("metadata.annotations", {labels.SKIP_PREFLIGHT_CHECKS: "KubeadmVersionSkew, ControlPlaneIsStable"}, [], id="checks"),
    ],
)
def test_workers(base: Document, path: str, value: Any, expected: list[tuple[str, str]]) -> None:
    assert refused(changed(base, path, value)) == expected


def test_the_name_of_a_machine_deployment_becomes_a_label_that_of_a_machine_set_is_hashed() -> None:
    assert refused(changed(WORKERS, "metadata.name", LONG)) == invalid("metadata.name")
    assert refused(changed(SET, "metadata.name", LONG)) == []


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        pytest.param(health_check(), [], id="plain"),
        pytest.param(health_check(selector={"matchLabels": {labels.CLUSTER_NAME: "other"}}), invalid("spec.selector"), id="of-another-cluster"),
        pytest.param(
            health_check(selector={"matchExpressions": [{"key": "", "operator": "Exists"}]}), invalid("spec.selector.matchExpressions[0].key"), id="unreadable"
        ),
        pytest.param(
            health_check(remediation={"triggerIf": {"unhealthyInRange": "[5-3]"}}), invalid("spec.remediation.triggerIf.unhealthyInRange"), id="empty-range"
        ),
        pytest.param(
            of(CORE, "MachineDrainRule", {"drain": {"behavior": "Skip"}, "pods": [{"selector": {"matchLabels": {"a": "?"}}}]}),
            invalid("spec.pods[0].selector.matchLabels"),
            id="drain-rule",
        ),
        pytest.param(
            of("addons.cluster.x-k8s.io/v1beta2", "ClusterResourceSet", {"clusterSelector": {"matchLabels": {"a b": "c"}}, "resources": [MANIFESTS]}),
            invalid("spec.clusterSelector.matchLabels"),
            id="resource-set",
        ),
        pytest.param(
            of(
                "runtime.cluster.x-k8s.io/v1beta2",
                "ExtensionConfig",
                {"clientConfig": {"url": "https://x"}, "namespaceSelector": {"matchLabels": {"a": LONG}}},
            ),
            invalid("spec.namespaceSelector.matchLabels"),
            id="extension",
        ),
    ],
)
def test_kinds_that_select(new: Document, expected: list[tuple[str, str]]) -> None:
    assert refused(new) == expected


def test_defaults_of_a_bare_machine_deployment_and_of_its_replicas() -> None:
    bare = of(CORE, "MachineDeployment", {"clusterName": "c", "selector": {}, "template": {"spec": machine(version="1.31.0")["spec"]}})
    filled = stored(bare)
    own = {labels.DEPLOYMENT_NAME: "one", labels.CLUSTER_NAME: "c"}
    assert filled["metadata"]["labels"] == {labels.CLUSTER_NAME: "c"}
    assert filled["spec"]["selector"]["matchLabels"] == filled["spec"]["template"]["metadata"]["labels"] == own
    assert filled["spec"]["rollout"]["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert filled["spec"]["template"]["spec"]["version"] == "v1.31.0"
    assert filled["spec"]["replicas"] == 1
    assert refused(filled) == []
    # a number that is taken away stays, unless the autoscaler's bounds say otherwise
    seven = changed(filled, REPLICAS, 7)
    assert stored(changed(seven, REPLICAS, None), seven)["spec"]["replicas"] == 7
    bounds = {labels.AUTOSCALER_MIN_SIZE: "1", labels.AUTOSCALER_MAX_SIZE: "5"}
    assert stored(changed(changed(seven, REPLICAS, None), "metadata.annotations", bounds), seven)["spec"]["replicas"] == 5


def test_defaults_of_the_other_kinds() -> None:
    filled = stored(machine(version="1.31.0"))
    assert filled["metadata"]["labels"] == {labels.CLUSTER_NAME: "c"}
    assert (filled["spec"]["version"], filled["spec"]["deletion"]) == ("v1.31.0", {"nodeDeletionTimeoutSeconds": 10})
    assert stored(health_check())["spec"]["checks"] == {"nodeStartupTimeoutSeconds": 600}
    assert stored(health_check(checks={"nodeStartupTimeoutSeconds": 0}))["spec"]["checks"] == {"nodeStartupTimeoutSeconds": 0}
    assert stored(cluster(version="1.31.0"))["spec"]["topology"]["version"] == "v1.31.0"
    plane = stored(changed(changed(document("KubeadmControlPlane"), "spec.version", "1.31.0"), "spec.rollout", {"after": "2026-01-01T00:00:00Z"}))
    assert plane["spec"]["version"] == "v1.31.0"
    assert plane["spec"]["rollout"] == {"after": "2026-01-01T00:00:00Z", "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    pool = of(CORE, "MachinePool", {"clusterName": "c", "template": {"spec": machine(version="1.31.0")["spec"]}})
    assert stored(pool)["spec"]["template"]["spec"]["deletion"] == {"nodeDeletionTimeoutSeconds": 10}


def test_what_cannot_be_read_is_left_to_the_schema_by_defaults_and_refused_by_validation() -> None:
    torn = changed(WORKERS, "spec.clusterName", 7)
    assert mutate(OF_KIND["MachineDeployment"], request(torn)) == {"allowed": True}
    assert refused(torn) == [("spec.clusterName", "Invalid")]


def test_who_mends_an_object_that_cannot_be_read_is_let_through() -> None:
    assert refused(WORKERS, changed(WORKERS, "spec.clusterName", 7)) == []


def test_who_asks_makes_no_difference_and_nothing_of_a_value_is_told() -> None:
    wrong = changed(WORKERS, "spec.selector.matchLabels", {"a": "b"})
    asked = request(wrong)
    first = validate(OF_KIND["MachineDeployment"], asked)
    for user in ({"username": "system:admin", "groups": ["system:masters"]}, {}):
        assert validate(OF_KIND["MachineDeployment"], {**asked, "userInfo": user}) == first
    assert first["status"]["details"]["kind"] == "MachineDeployment" and first["status"]["details"]["name"] == wrong["metadata"]["name"]


def test_a_great_many_faults_are_told_in_part() -> None:
    deployments = [{"class": "w", "name": f"w{number}", "metadata": {"labels": {"bad key": ""}}} for number in range(CAUSES_MAX + 10)]
    response = validate(OF_KIND["Cluster"], request(cluster(workers={"machineDeployments": deployments})))
    assert len(response["status"]["details"]["causes"]) == CAUSES_MAX
    assert "and 10 more" in response["status"]["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", orjson.dumps({"apiVersion": "v1", "kind": "AdmissionReview", "request": {"uid": "1"}})])
def test_what_is_no_review_is_told_so(body: bytes) -> None:
    with pytest.raises(DecodeError, match="AdmissionReview"):
        request_of(body)


def test_a_namespace_is_part_of_no_rule() -> None:
    assert refused({**WORKERS, "metadata": {**WORKERS["metadata"], "namespace": f"not-{NAMESPACE}"}}) == []
