"""kube-proxy and CoreDNS follow the control plane, and Corefiles follow CoreDNS."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fleetwake import labels
from fleetwake.kind import Looked
from fleetwake.plan import Event, Look, Patch, Step
from services.dev_infrastructure.emulation.objects import COREFILE
from services.reconcilers.kinds.kubeadm_control_plane import KIND, corefile, images
from tests.decide.control_plane_fleet import Fleet, running
from tests.decide.kubeadm_world import CLUSTER
from tests.decide.world import Json


def image(world: Fleet, kind: str, name: str) -> str:
    found = world.stored(kind, name, CLUSTER)
    assert found is not None
    text: str = found["spec"]["template"]["spec"]["containers"][0]["image"]
    return text


def change(world: Fleet, **spec: Any) -> None:
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": spec})


def dns(world: Fleet, **settings: str) -> None:
    change(world, kubeadmConfigSpec={"clusterConfiguration": {"dns": settings}})


def corefiles(world: Fleet) -> dict[str, str]:
    found = world.stored("ConfigMap", "coredns", CLUSTER)
    assert found is not None
    data: dict[str, str] = found["data"]
    return data


def volume_key(world: Fleet) -> str:
    found = world.stored("Deployment", "coredns", CLUSTER)
    assert found is not None
    text: str = found["spec"]["template"]["spec"]["volumes"][0]["configMap"]["items"][0]["key"]
    return text


def remote(steps: list[Step]) -> list[str]:
    """What was written in the workload cluster."""
    return [f"{step.key.kind}/{step.key.name}" for step in steps if isinstance(step, Patch) and step.key.cluster]


# --- kube-proxy --------------------------------------------------------------------------------------------------------------------------------


def test_kube_proxy_follows_when_all_machines_have() -> None:
    world = running(3)
    assert image(world, "DaemonSet", "kube-proxy") == "registry.k8s.io/kube-proxy:v1.34.2"
    change(world, version="v1.35.1")
    taken = world.settle_kcp()
    assert "DaemonSet/kube-proxy" not in remote(taken)
    taken = world.live()
    assert remote(taken).count("DaemonSet/kube-proxy") == 1
    assert image(world, "DaemonSet", "kube-proxy") == "registry.k8s.io/kube-proxy:v1.35.1"


def test_settled_control_plane_looks_at_kube_proxy_once() -> None:
    world = running(3)
    asked = [query for query in world.asked if "kube-proxy" in query]
    assert len(asked) == 1
    world.later(10_000)
    world.settle_kcp()
    assert [query for query in world.asked if "kube-proxy" in query] == asked


def test_kube_proxy_of_a_build_and_of_another_registry() -> None:
    world = running(1)
    change(world, version="v1.34.3+build.7", kubeadmConfigSpec={"clusterConfiguration": {"imageRepository": "example.com/k8s"}})
    world.live()
    assert image(world, "DaemonSet", "kube-proxy") == "example.com/k8s/kube-proxy:v1.34.3_build.7"


@pytest.mark.parametrize("absent", [True, False])
def test_kube_proxy_that_is_not_ours_to_touch(absent: bool) -> None:
    world = running(1)
    if absent:
        del world.store[next(key for key in world.store if key.name == "kube-proxy")]
    else:
        world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {labels.SKIP_KUBE_PROXY: ""}}})
    world.looks.clear()
    change(world, version="v1.34.9")
    assert "DaemonSet/kube-proxy" not in remote(world.live())


def test_write_rests_on_a_fresh_look_and_on_its_version() -> None:
    world = running(1)
    stored = world.stored("DaemonSet", "kube-proxy", CLUSTER)
    assert stored is not None
    query = "get/apps/v1/DaemonSet/kube-system/kube-proxy"
    old: Json = {**stored, "spec": {"template": {"spec": {"containers": [{"name": "kube-proxy", "image": "registry.k8s.io/kube-proxy:v1.30.0"}]}}}}
    world.looks[query] = Looked(world.at, old)
    world.later(60)
    plan = world.plan(KIND, "demo-cp")
    assert [step.query for step in plan.steps if isinstance(step, Look)] == [query]
    assert not plan.writes
    # the look told otherwise: nothing to write
    world.carry_out(plan.steps)
    assert not world.plan(KIND, "demo-cp").writes


def test_failed_look_is_repeated_after_a_while() -> None:
    world = running(1)
    query = "get/apps/v1/DaemonSet/kube-system/kube-proxy"
    world.looks[query] = Looked(world.at, None, "refused")
    plan = world.plan(KIND, "demo-cp")
    assert not [step for step in plan.steps if isinstance(step, Look) and step.query == query]
    assert plan.requeue_after is not None
    world.later(20)
    assert [step for step in world.plan(KIND, "demo-cp").steps if isinstance(step, Look) and step.query == query]


# --- CoreDNS -----------------------------------------------------------------------------------------------------------------------------------


def test_coredns_follows_its_tag_without_a_rollout() -> None:
    world = running(3, version="v1.30.4")
    assert image(world, "Deployment", "coredns") == "registry.k8s.io/coredns/coredns:v1.11.3"
    before = set(world.names())
    dns(world, imageTag="v1.12.4")
    taken = world.live()
    assert remote(taken) == ["ConfigMap/kubeadm-config", "ConfigMap/coredns", "Deployment/coredns", "ConfigMap/coredns", "Deployment/coredns"]
    assert set(world.names()) == before
    assert image(world, "Deployment", "coredns") == "registry.k8s.io/coredns/coredns:v1.12.4"
    assert corefiles(world) == {"Corefile": COREFILE, "Corefile-backup": COREFILE}
    assert volume_key(world) == "Corefile"
    stored = world.stored("ConfigMap", "kubeadm-config", CLUSTER)
    assert stored is not None
    assert yaml.safe_load(stored["data"]["ClusterConfiguration"])["dns"] == {"imageTag": "v1.12.4"}


def test_coredns_without_a_wish_is_not_even_looked_at() -> None:
    world = running(1)
    assert not [query for query in world.asked if "coredns" in query]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        pytest.param({"dns": {"imageRepository": "example.com/dns"}}, "example.com/dns/coredns:v1.12.4", id="its own registry"),
        pytest.param({"imageRepository": "example.com/k8s/"}, "example.com/k8s/coredns:v1.12.4", id="the registry of all"),
        pytest.param({"imageRepository": "registry.k8s.io"}, "registry.k8s.io/coredns/coredns:v1.12.4", id="Kubernetes' own, where it has a folder"),
        pytest.param({"imageRepository": "a", "dns": {"imageRepository": "b", "imageTag": "v1.13.1"}}, "b/coredns:v1.13.1", id="all of it"),
    ],
)
def test_image_of_coredns(settings: Json, wanted: str) -> None:
    world = running(1)
    change(world, kubeadmConfigSpec={"clusterConfiguration": settings})
    world.live()
    assert image(world, "Deployment", "coredns") == wanted


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        pytest.param("v1.11.1", "must be greater than or equal to fromVersion 'v1.12.4'", id="downgrade"),
        pytest.param("v9.9.9", "CoreDNS 9.9.9 is not a known release", id="unknown"),
        pytest.param("latest", "no version in the tags", id="no version"),
    ],
)
def test_wish_that_cannot_be_met_is_told_once(tag: str, words: str) -> None:
    world = running(1)
    dns(world, imageTag=tag)
    events: list[str] = []
    for seconds in (0, 0, 0, 6, 6, 6, 600, 6):
        world.later(seconds)
        plan = world.run(KIND, "default", "demo-cp")
        events += [step.message for step in plan.steps if isinstance(step, Event)]
    assert {words in event for event in events} == {True}
    assert len(events) <= 2
    assert image(world, "Deployment", "coredns") == "registry.k8s.io/coredns/coredns:v1.12.4"


@pytest.mark.parametrize("annotated", [True, False])
def test_coredns_that_is_not_ours_to_touch(annotated: bool) -> None:
    world = running(1)
    if annotated:
        world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {labels.SKIP_COREDNS: ""}}})
    else:
        del world.store[next(key for key in world.store if (key.kind, key.name) == ("ConfigMap", "coredns"))]
    dns(world, imageTag="v1.13.1")
    assert not remote(world.live())


@pytest.mark.parametrize("limit", range(1, 5))
def test_update_of_coredns_that_was_cut_is_done_again_from_the_backup(limit: int) -> None:
    world = running(1)
    stored = world.stored("ConfigMap", "coredns", CLUSTER)
    deployment = world.stored("Deployment", "coredns", CLUSTER)
    assert stored is not None
    assert deployment is not None
    old = ".:53 {\n    kubernetes cluster.local {\n        transfer to *\n        upstream\n    }\n    forward . /etc/resolv.conf\n}\n"
    stored["data"]["Corefile"] = old
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.k8s.io/coredns:1.6.7"
    dns(world, imageTag="v1.12.4")
    for _ in range(3):
        plan = world.plan(KIND, "demo-cp")
        if remote(list(plan.steps)):
            break
        world.carry_out(plan.steps)
    world.carry_out(plan.steps, limit)
    world.looks.clear()
    world.live()
    assert corefiles(world) == {"Corefile": corefile.migrate(old, (1, 6, 7), (1, 12, 4)), "Corefile-backup": old}
    assert volume_key(world) == "Corefile"
    assert image(world, "Deployment", "coredns") == "registry.k8s.io/coredns/coredns:v1.12.4"


# --- Corefiles ---------------------------------------------------------------------------------------------------------------------------------

OLD = """# ours
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        upstream # not read any more
        resyncperiod 1m
        transfer to 10.0.0.1 10.0.0.2
        ttl 30
    }
    federation cluster.local {
        prod prod.example.com
    }
    forward . /etc/resolv.conf
    cache 30
}

example.com:53 {
    forward . 10.0.0.9 {
        policy random
    }
}
"""


def test_corefile_loses_what_is_not_read_and_gains_what_says_it_now() -> None:
    assert (
        corefile.migrate(OLD, (1, 6, 7), (1, 8, 0))
        == """# ours
.:53 {
    errors
    kubernetes cluster.local in-addr.arpa {
        pods insecure
        ttl 30
    }
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    transfer cluster.local in-addr.arpa {
       to 10.0.0.1 10.0.0.2
    }
}

example.com:53 {
    forward . 10.0.0.9 {
        policy random
       max_concurrent 1000
    }
}
"""
    )


def test_corefile_is_changed_by_the_releases_on_the_way_alone() -> None:
    one = corefile.migrate(OLD, (1, 6, 7), (1, 7, 0))
    assert "transfer to 10.0.0.1" in one
    assert "upstream" not in one
    assert corefile.migrate(one, (1, 7, 0), (1, 12, 4)) == corefile.migrate(OLD, (1, 6, 7), (1, 12, 4))
    assert corefile.migrate(COREFILE, (1, 8, 6), (1, 13, 1)) == COREFILE


@pytest.mark.parametrize("text", ["stray", ".:53 {\n errors\n", "."])
def test_what_is_no_corefile_is_refused(text: str) -> None:
    with pytest.raises(corefile.MigrationError, match="not a Corefile"):
        corefile.migrate(text, (1, 6, 7), (1, 8, 0))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("coredns", ("", "coredns", "", "")),
        ("registry.k8s.io/coredns/coredns:v1.12.4", ("registry.k8s.io/coredns", "coredns", "v1.12.4", "")),
        ("localhost:5000/kube-proxy:v1.34.0", ("localhost:5000", "kube-proxy", "v1.34.0", "")),
        ("a/b@sha256:00", ("a", "b", "", "sha256:00")),
    ],
)
def test_parts_of_an_image(text: str, parts: tuple[str, str, str, str]) -> None:
    found = images.parse(text)
    assert (found.repository, found.name, found.tag, found.digest) == parts
    assert str(found) == text


@pytest.mark.parametrize(("tag", "version"), [("v1.12.4", (1, 12, 4)), ("1.8.4-eksbuild.1", (1, 8, 4)), ("1.9", (1, 9, 0)), ("latest", None)])
def test_version_of_a_tag(tag: str, version: tuple[int, int, int] | None) -> None:
    assert images.tag_version(tag) == version
