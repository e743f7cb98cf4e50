"""A cluster's life as a user sees it: created, scaled, upgraded, repaired, deleted, with every instant of it held to the rules."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.e2e import manifests
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import World, controller

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

COLUMNS = {
    "clusters": ("NAME", "AVAILABLE", "CP DESIRED", "W DESIRED", "PHASE", "AGE"),
    "machines": ("NAME", "CLUSTER", "NODE NAME", "READY", "AVAILABLE", "UP-TO-DATE", "PHASE", "VERSION"),
    "machinedeployments": ("NAME", "CLUSTER", "DESIRED", "AVAILABLE", "UP-TO-DATE", "PHASE", "VERSION"),
    "machinesets": ("NAME", "CLUSTER", "DESIRED", "READY", "AVAILABLE", "VERSION"),
    "kubeadmcontrolplanes": ("NAME", "CLUSTER", "DESIRED", "AVAILABLE", "INITIALIZED", "VERSION"),
    "devmachines": ("NAME", "CLUSTER", "PROVISIONED"),
    "kubeadmconfigs": ("NAME", "CLUSTER", "DATA SECRET CREATED"),
}


def _nodes(fleet: Fleet, namespace: str, name: str, folder: Path) -> dict[str, Any]:
    kubeconfig = fleet.workload_kubeconfig(namespace, name, folder)
    listed = json.loads(fleet.kubectl("get", "nodes", "-o", "json", kubeconfig=kubeconfig))
    return {node["metadata"]["name"]: node for node in listed["items"]}


def _machines_of(world: World, namespace: str, kind: str) -> dict[str, str]:
    """Names and uids of the Machines whose controller is of a kind."""
    return {value["metadata"]["name"]: value["metadata"]["uid"] for value in world.all("Machine", namespace) if controller(value)[0] == kind}


@pytest.fixture(scope="module")
def twins(fleet: Fleet) -> tuple[str, str]:
    """Two namespaces, each with a cluster ``same`` of three and three from one YAML, Available."""
    namespaces = (fleet.namespace("twin-a"), fleet.namespace("twin-b"))
    fleet.apply(*(document for namespace in namespaces for document in manifests.cluster("same", namespace, control_planes=3)))
    for namespace in namespaces:
        fleet.settle(namespace, "same")
    return namespaces


def test_one_name_in_two_namespaces_makes_two_clusters_that_share_nothing(fleet: Fleet, twins: tuple[str, str], tmp_path: Path) -> None:
    for namespace in twins:
        fleet.check_history(namespace)
    world = fleet.recorder.world
    uids = {namespace: {value["metadata"]["uid"] for key, value in world.objects.items() if key.namespace == namespace} for namespace in twins}
    for namespace in twins:
        for key, value in list(world.objects.items()):
            owners = {reference["uid"] for reference in value["metadata"].get("ownerReferences") or ()}
            assert key.namespace != namespace or owners <= uids[namespace], f"{key} has an owner elsewhere"
    for secret in world.all("Secret", twins[0]):
        twin = world.get("Secret", twins[1], secret["metadata"]["name"])
        if twin is not None:
            assert all(twin["data"].get(field) != value for field, value in secret["data"].items() if field != "format"), secret["metadata"]["name"]
    endpoints = [json.dumps(world.objects[("Cluster", namespace, "same")]["spec"]["controlPlaneEndpoint"]) for namespace in twins]  # type: ignore[index]
    assert endpoints[0] != endpoints[1]
    nodes = [_nodes(fleet, namespace, "same", tmp_path) for namespace in twins]
    for namespace, found in zip(twins, nodes, strict=True):
        assert len(found) == 6
        named = {value["status"]["nodeRef"]["name"] for value in world.all("Machine", namespace, "same")}
        assert set(found) == named
    assert {node["metadata"]["uid"] for node in nodes[0].values()}.isdisjoint(node["metadata"]["uid"] for node in nodes[1].values())


@pytest.mark.parametrize("resource", COLUMNS)
def test_kubectl_shows_the_columns(fleet: Fleet, twins: tuple[str, str], resource: str) -> None:
    header, *rows = fleet.kubectl("-n", twins[0], "get", resource).splitlines()
    for column in COLUMNS[resource]:
        assert column in header, header
    assert rows


def test_a_cluster_is_created_scaled_upgraded_repaired_and_deleted(fleet: Fleet, tmp_path: Path) -> None:
    namespace, name = fleet.namespace("life"), "one"
    workers, plane = f"machinedeployment/{name}-workers", f"kubeadmcontrolplane/{name}-control-plane"
    fleet.apply(*manifests.cluster(name, namespace))
    fleet.settle(namespace, name)
    kubeconfig = yaml.safe_load(Path(fleet.workload_kubeconfig(namespace, name, tmp_path)).read_text())
    address = urlsplit(kubeconfig["clusters"][0]["cluster"]["server"])
    for replicas in (10, 2):
        fleet.scale(namespace, workers, replicas)
        fleet.settle(namespace, name)
        assert len(_nodes(fleet, namespace, name, tmp_path)) == replicas + 1
    before = _machines_of(fleet.recorder.world, namespace, "MachineSet")
    fleet.patch(namespace, workers, {"spec": {"template": {"spec": {"version": "v1.34.1"}}}})
    fleet.settle(namespace, name)
    after = _machines_of(fleet.recorder.world, namespace, "MachineSet")
    assert set(before.values()).isdisjoint(after.values())
    for replicas in (3, 1):
        fleet.scale(namespace, plane, replicas)
        fleet.settle(namespace, name)
    fleet.check_history(namespace)

    victim = sorted(after)[0]
    fleet.kubectl("-n", namespace, "delete", "machine", victim)
    fleet.settle(namespace, name)
    repaired = _machines_of(fleet.recorder.world, namespace, "MachineSet")
    assert len(repaired) == len(after)
    assert after[victim] not in repaired.values()
    assert set(_nodes(fleet, namespace, name, tmp_path)) == {*repaired, *_machines_of(fleet.recorder.world, namespace, "KubeadmControlPlane")}

    fleet.kubectl("-n", namespace, "delete", "cluster", name, "--wait=false")
    fleet.recorder.wait(lambda world: left_of(world, namespace, name), 60.0, f"{name} gone")
    assert address.hostname is not None
    assert address.port is not None
    with socket.socket() as probe:
        assert probe.connect_ex((address.hostname, address.port)) != 0, "the emulated API server still listens"
