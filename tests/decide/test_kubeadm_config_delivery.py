"""KubeadmConfig: how data reaches hosts beyond one Machine's Secret (pools, fetching), and when it is deleted."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from schemas.keys import ObjectKey
from services.reconcilers.bootstrap.request import FetchPoint
from services.reconcilers.kinds.kubeadm_config import KIND
from services.reconcilers.kinds.kubeadm_config.observed import FETCH_POINT, TOKEN_LIFE
from tests.decide.kubeadm_config_world import INITIALIZED, settle, world_of
from tests.decide.kubeadm_world import CLUSTER, KubeadmWorld, certificates, cluster, condition, kubeadm_config


def pool(nodes: int) -> dict[str, Any]:
    refs = [{"kind": "Node", "name": f"n{number}"} for number in range(nodes)]
    bootstrap = {"configRef": {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "KubeadmConfig", "name": "m1"}}
    spec = {"clusterName": "demo", "bootstrap": bootstrap, "version": "v1.34.2", "infrastructureRef": {"apiGroup": "x.io", "kind": "P", "name": "p"}}
    return {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "MachinePool",
        "metadata": {"name": "pool", "namespace": "default", "uid": "uid-pool", "labels": {"cluster.x-k8s.io/cluster-name": "demo"}},
        "spec": {"clusterName": "demo", "replicas": 2, "template": {"spec": spec}},
        "status": {"nodeRefs": refs},
    }


def pool_world(spec: dict[str, Any] | None = None) -> KubeadmWorld:
    config = kubeadm_config("m1", "m1", spec)
    owner = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachinePool", "name": "pool", "uid": "uid-pool", "controller": True}
    config["metadata"]["ownerReferences"] = [owner]
    world = KubeadmWorld([cluster(**INITIALIZED), pool(0), config, *certificates()])
    world.connected = True
    return world


def pool_token(world: KubeadmWorld) -> str:
    config, secret = world.stored("KubeadmConfig", "m1"), world.stored("Secret", "m1")
    assert config is not None and secret is not None
    token: str = config["spec"]["joinConfiguration"]["discovery"]["bootstrapToken"]["token"]
    identity = config["metadata"]["annotations"]["fleetwake.io/bootstrap-token-id"]
    assert token.startswith(f"{identity}.") and secret["metadata"]["annotations"]["fleetwake.io/bootstrap-token-id"] == identity
    assert token.encode() in secret["data"]["value"]
    assert world.stored("Secret", f"bootstrap-token-{identity}", CLUSTER) is not None
    return token


@pytest.mark.parametrize("minutes", [15, 60, 3], ids=["unless told", "longer", "shorter"])
def test_token_of_a_pool_is_kept_alive_and_then_exchanged(minutes: int) -> None:
    world, third = pool_world(), minutes * 20
    if minutes != 15:
        world.locals = {TOKEN_LIFE: timedelta(minutes=minutes)}
    settle(world)
    first = pool_token(world)
    world.later(third - 1)
    assert settle(world) == [], "a third of its life is not over"
    world.later(1)
    assert settle(world) == ["Patch Secret"]
    world.edit("MachinePool", "pool", {"status": pool(2)["status"]})
    world.later(third)
    # two thirds are left: more than half, so nothing changes
    assert settle(world) == [] and pool_token(world) == first
    world.later(third)
    assert settle(world) == ["Create Secret", "Patch KubeadmConfig", "Patch Secret", "Apply KubeadmConfig"]
    second = pool_token(world)
    assert second != first
    world.later(2 * third)
    settle(world)
    assert pool_token(world) not in (first, second)


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_interrupted_exchange_is_finished(limit: int) -> None:
    world = pool_world()
    settle(world)
    first = pool_token(world)
    world.edit("MachinePool", "pool", {"status": pool(2)["status"]})
    world.later(600)
    # the look, then the exchange as far as it gets
    world.run(KIND, "default", "m1")
    world.run(KIND, "default", "m1", limit=limit)
    settle(world)
    assert pool_token(world) != first


def test_pool_cannot_fetch() -> None:
    world = pool_world({"fleetwake": {"secretTransport": {"type": "Fetch"}}})
    settle(world)
    assert "MachinePool share their data" in world.condition_of("KubeadmConfig", "m1", "DataSecretAvailable")[2]


POINT = FetchPoint("https://bootstrap.example.com:9443", ObjectKey("", "Secret", "fleetwake-system", "fleetwake-bootstrap-data-tls"))


def fetch_world(**more: Any) -> KubeadmWorld:
    world = world_of(initialized=False, control_plane=True, spec={"fleetwake": {"secretTransport": {"type": "Fetch", **more}}})
    world.locals = {FETCH_POINT: POINT}
    authority = {"name": POINT.ca.name, "namespace": POINT.ca.namespace}
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": authority, "data": {"ca.crt": b"-----BEGIN CERTIFICATE-----\n"}})
    return world


def test_fetched_data_leaves_no_key_in_the_secret() -> None:
    world = fetch_world()
    settle(world)
    secret = world.stored("Secret", "m1")
    assert secret is not None and b"PRIVATE KEY" not in secret["data"]["value"] and b"https://bootstrap.example.com:9443" in secret["data"]["value"]
    annotations = secret["metadata"]["annotations"]
    assert annotations["fleetwake.io/fetch-expires-at"] == "2026-01-02T04:04:05Z" and annotations["fleetwake.io/bootstrap-role"] == "INIT"
    token = secret["data"]["value"].decode().partition("Bearer ")[2].split()[0]
    assert annotations["fleetwake.io/fetch-token-sha256"] == hashlib.sha256(token.encode()).hexdigest()


def test_fetch_token_lives_while_its_host_has_not_come() -> None:
    world = fetch_world(tokenLifetimeSeconds=600)
    settle(world)
    waits = world.plan(KIND, "m1")
    assert (waits.steps, waits.requeue_after) == ((), timedelta(seconds=300))
    world.later(300)
    assert settle(world) == ["Patch Secret"]
    secret = world.stored("Secret", "m1")
    assert secret is not None and secret["metadata"]["annotations"]["fleetwake.io/fetch-expires-at"] == "2026-01-02T03:19:05Z"
    world.edit("Secret", "m1", {"metadata": {"annotations": {"fleetwake.io/fetched-at": "2026-01-02T03:10:00Z"}}})
    world.later(3600)
    assert settle(world) == []


def test_fetching_needs_a_service() -> None:
    world = fetch_world()
    world.locals = {}
    settle(world)
    assert "serves no bootstrap data" in world.condition_of("KubeadmConfig", "m1", "DataSecretAvailable")[2]


@pytest.mark.parametrize("seconds", [0, 300])
def test_data_is_deleted_once_its_node_was_ready_long_enough(seconds: int) -> None:
    world = world_of(initialized=False, control_plane=True, spec={"fleetwake": {"dataDeletion": {"afterNodeReadySeconds": seconds}}})
    settle(world)
    world.edit("Machine", "m1", {"spec": {"bootstrap": {"dataSecretName": "m1"}}, "status": {"nodeRef": {"name": "m1"}}})
    assert settle(world) == []
    ready = {**condition("NodeReady"), "lastTransitionTime": "2026-01-02T03:04:05Z"}
    world.edit("Machine", "m1", {"status": {"conditions": [ready]}})
    if seconds:
        assert world.plan(KIND, "m1").requeue_after is not None
        assert world.stored("Secret", "m1") is not None
        world.later(seconds)
    assert settle(world) == ["Delete Secret"]
    assert world.stored("Secret", "m1") is None
    # it does not come back, and the Machine's data counts as made
    assert settle(world) == []
    assert world.condition_of("KubeadmConfig", "m1", "Ready")[0] == "True"


def test_data_stays_where_nobody_asked_for_its_deletion() -> None:
    world = world_of(initialized=False, control_plane=True)
    settle(world)
    world.edit("Machine", "m1", {"status": {"nodeRef": {"name": "m1"}, "conditions": [condition("NodeReady")]}})
    world.later(86400)
    assert settle(world) == []
