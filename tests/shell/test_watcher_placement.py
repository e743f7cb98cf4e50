"""Where objects belong, what is redacted, which kinds are watched in which version: the pure parts of the watcher."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.kube.discovery import Definition, newest_version, resolve_contract, watched
from schemas.sensitive import CONVERSION_DATA, LAST_APPLIED, hashes_of, redact, redacted, restore
from services.watcher.placement import SHARED, Placement, key_of
from services.watcher.record import Wish, actor_of
from services.watcher.scope import Scope

CORE, INFRA, BOOTSTRAP = "cluster.x-k8s.io/v1beta2", "infrastructure.cluster.x-k8s.io/v1beta2", "bootstrap.cluster.x-k8s.io/v1beta2"
LABEL = "cluster.x-k8s.io/cluster-name"
KEY = b"k" * 32


def value(api_version: str, kind: str, name: str, *, spec: dict[str, Any] | None = None, namespace: str = "ns", **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace, **metadata}, "spec": spec or {}}


def owned_by(owner: dict[str, Any], *, controller: bool = True) -> list[dict[str, Any]]:
    return [{"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": owner["metadata"]["name"], "uid": "u", "controller": controller}]


def placed(placement: Placement, found: dict[str, Any]) -> str:
    return placement.place(key_of(found), found)[0]


MACHINE = value(CORE, "Machine", "m", spec={"clusterName": "demo"}, labels={LABEL: "edited"})


@pytest.mark.parametrize(
    ("found", "cluster"),
    [
        pytest.param(value(CORE, "Cluster", "demo"), "ns/demo", id="itself"),
        pytest.param(MACHINE, "ns/demo", id="spec.clusterName before the label"),
        pytest.param(value(INFRA, "FooMachine", "m", labels={LABEL: "l"}, ownerReferences=owned_by(MACHINE)), "ns/demo", id="owner before the label"),
        pytest.param(value(INFRA, "FooCluster", "f", ownerReferences=owned_by(value(CORE, "Cluster", "c"), controller=False)), "ns/c", id="owned by a Cluster"),
        pytest.param(value(INFRA, "FooMachine", "m", labels={LABEL: "l"}), "ns/l", id="label"),
        pytest.param(value(INFRA, "FooCluster", "f", spec={"clusterName": "cloud-name"}), "ns/f", id="a provider's clusterName is not ours"),
        pytest.param(value(INFRA, "FooMachineTemplate", "t", labels={LABEL: "l"}), SHARED, id="template"),
        pytest.param(value(CORE, "ClusterClass", "c"), SHARED, id="class"),
        pytest.param(value(INFRA, "Identity", "i", namespace=""), SHARED, id="no namespace"),
        pytest.param({**value("v1", "Secret", "s", labels={LABEL: "l"}), "type": "addons.cluster.x-k8s.io/resource-set"}, SHARED, id="resource-set data"),
    ],
)
def test_the_cluster_of_an_object(found: dict[str, Any], cluster: str) -> None:
    placement = Placement()
    placed(placement, MACHINE)
    assert placed(placement, found) == cluster


def test_an_infrastructure_cluster_follows_the_cluster_that_refers_to_it() -> None:
    placement = Placement()
    infra = value(INFRA, "FooCluster", "foo")
    assert placed(placement, infra) == "ns/foo"
    cluster = value(CORE, "Cluster", "demo", spec={"infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "FooCluster", "name": "foo"}})
    assert placement.place(key_of(cluster), cluster) == ("ns/demo", (key_of(infra),))
    assert placed(placement, infra) == "ns/demo"


def test_what_a_machine_pool_names_follows_it() -> None:
    placement = Placement()
    infra, config = value(INFRA, "FooMachinePool", "hosts"), value("bootstrap.cluster.x-k8s.io/v1beta2", "FooConfig", "data")
    assert (placed(placement, infra), placed(placement, config)) == ("ns/hosts", "ns/data")
    named = {
        "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "FooMachinePool", "name": "hosts"},
        "bootstrap": {"configRef": {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "FooConfig", "name": "data"}},
    }
    pool = value(CORE, "MachinePool", "pool", spec={"clusterName": "demo", "template": {"spec": named}})
    assert placement.place(key_of(pool), pool) == ("ns/demo", (key_of(config), key_of(infra)))
    assert (placed(placement, infra), placed(placement, config)) == ("ns/demo", "ns/demo")


def test_what_an_unplaced_owner_owns_waits_for_it() -> None:
    placement = Placement()
    owner = value(INFRA, "FooThing", "thing")
    child = value(INFRA, "FooPart", "part", ownerReferences=owned_by(owner))
    assert (placed(placement, owner), placed(placement, child)) == ("ns/thing", "ns/part")
    owner["metadata"]["labels"] = {LABEL: "demo"}
    assert placement.place(key_of(owner), owner) == ("ns/demo", (key_of(child),))
    assert placed(placement, child) == "ns/demo"


def test_an_object_that_lost_its_label_stays() -> None:
    placement = Placement()
    assert placed(placement, value(INFRA, "FooMachine", "m", labels={LABEL: "demo"})) == "ns/demo"
    assert placed(placement, value(INFRA, "FooMachine", "m")) == "ns/demo"


def test_a_control_plane_named_like_its_cluster_passes_its_place_on() -> None:
    placement = Placement()
    control_plane = value("controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlane", "demo", labels={LABEL: "demo"})
    secret = value("v1", "Secret", "demo-ca", labels={LABEL: "edited"}, ownerReferences=owned_by(control_plane))
    placed(placement, control_plane)
    assert placed(placement, secret) == "ns/demo"


def test_redaction_keeps_equality_and_can_be_undone_from_the_live_object() -> None:
    spec = {"files": [{"path": "/a", "content": "word"}, {"path": "/b", "content": "word"}], "users": [{"name": "u", "passwd": "other"}]}
    live = value(BOOTSTRAP, "KubeadmConfig", "c", spec=spec, annotations={LAST_APPLIED: "word", CONVERSION_DATA: "word", "kept": "yes"})
    known = hashes_of(live, KEY)
    found = redact(value(BOOTSTRAP, "KubeadmConfig", "c", spec={**spec}, annotations={LAST_APPLIED: "word", CONVERSION_DATA: "word", "kept": "yes"}), KEY)
    assert "word" not in str(found) and "other" not in str(found) and redacted(found)
    assert found["metadata"]["annotations"] == {"kept": "yes"}
    first, second = (file["content"] for file in found["spec"]["files"])
    assert first == second != found["spec"]["users"][0]["passwd"]
    again = redact(found, KEY)
    assert again["spec"]["files"][0]["content"] == first, "redacting twice changes nothing"
    restored = restore(found["spec"], known)
    assert restored["files"][0]["content"] == "word" and restored["users"][0]["passwd"] == "other" and not redacted(restored)
    with pytest.raises(KeyError):
        restore(found["spec"], {})


@pytest.mark.parametrize(
    ("labels", "resolved"),
    [
        ({}, ("", "")),
        ({"cluster.x-k8s.io/v1beta1": "v1beta1"}, ("v1beta1", "v1beta1")),
        ({"cluster.x-k8s.io/v1beta1": "v1", "cluster.x-k8s.io/v1beta2": "v1beta1_v1beta2"}, ("v1beta2", "v1beta2")),
        ({"cluster.x-k8s.io/v1beta2": "v1alpha1_v2_v1_v10"}, ("v1beta2", "v10")),
        ({"cluster.x-k8s.io/v1alpha4": "v1"}, ("", "")),
    ],
)
def test_the_version_of_a_contract(labels: dict[str, str], resolved: tuple[str, str]) -> None:
    assert resolve_contract(labels) == resolved


def test_versions_have_kubernetes_order() -> None:
    versions = ["foo10", "v1alpha1", "v1beta1", "v1", "v2", "v1beta2", "foo1", "v11beta2"]
    ordered = []
    while versions:
        ordered.append(newest_version(versions))
        versions.remove(ordered[-1])
    assert ordered == ["v2", "v1", "v11beta2", "v1beta2", "v1beta1", "v1alpha1", "foo1", "foo10"]


@pytest.mark.parametrize(
    ("group", "labels", "expected"),
    [
        ("cluster.x-k8s.io", {}, True),
        ("ipam.cluster.x-k8s.io", {}, True),
        ("infrastructure.example.com", {"cluster.x-k8s.io/v1beta1": "v1"}, True),
        ("example.com", {"clusterctl.cluster.x-k8s.io": ""}, True),
        ("cert-manager.io", {"clusterctl.cluster.x-k8s.io": "", "clusterctl.cluster.x-k8s.io/core": "cert-manager"}, False),
        ("clusterctl.cluster.x-k8s.io", {"clusterctl.cluster.x-k8s.io": ""}, False),
        ("example.com", {}, False),
    ],
)
def test_the_kinds_that_are_watched(group: str, labels: dict[str, str], expected: bool) -> None:
    assert watched(Definition("x", group, "Foo", "foos", True, ("v1",), labels)) is expected


def test_the_actor_is_the_newest_writer() -> None:
    entries = [
        {"manager": "a", "operation": "Apply", "time": "2026-01-01T00:00:02Z"},
        {"manager": "b", "operation": "Update", "subresource": "status", "time": "2026-01-01T00:00:03Z"},
        {"manager": "c", "operation": "Apply", "time": "2026-01-01T00:00:01Z"},
    ]
    assert actor_of({"managedFields": entries}) == ("b", "Update", "status", "2026-01-01T00:00:03Z")


SCALED = [
    {"manager": "capi", "operation": "Apply", "subresource": "status", "time": "2026-01-01T00:00:09Z"},
    {"manager": "kubectl", "operation": "Update", "subresource": "scale"},
    {"manager": "helm", "operation": "Update", "time": "2026-01-01T00:00:02Z"},
]


@pytest.mark.parametrize(
    ("before", "metadata", "manager"),
    [
        (Wish(3, "2026-01-01T00:00:02Z"), {"generation": 4}, "kubectl"),
        (Wish(4, "2026-01-01T00:00:02Z"), {"generation": 4}, "capi"),
        (Wish(3, "2026-01-01T00:00:01Z"), {"generation": 4}, "capi"),
        (Wish(), {"generation": 4}, "capi"),
        (Wish(3, "2026-01-01T00:00:02Z"), {"generation": 4, "deletionTimestamp": "2026-01-01T00:00:10Z"}, "capi"),
    ],
    ids=["scaled", "a status", "another wish beside it", "nothing is known of before", "a deletion"],
)
def test_a_scaling_leaves_no_time_and_is_known_by_the_generation(before: Wish, metadata: dict[str, Any], manager: str) -> None:
    assert actor_of({**metadata, "managedFields": SCALED}, before).manager == manager


def test_a_filter_selects_by_label_or_by_cluster() -> None:
    scope = Scope(watch_filter="blue")
    labels = {"cluster.x-k8s.io/watch-filter": "blue"}
    cluster = value(CORE, "Cluster", "demo", labels=labels)
    machine = value(CORE, "Machine", "m")
    assert not scope.selects(key_of(machine), machine, "ns/demo")
    assert scope.observe_cluster(key_of(cluster), cluster) and not scope.observe_cluster(key_of(cluster), cluster)
    assert scope.selects(key_of(machine), machine, "ns/demo")
    other = value(CORE, "Machine", "m", labels={"cluster.x-k8s.io/watch-filter": "red"})
    assert not scope.selects(key_of(other), other, "ns/demo")
