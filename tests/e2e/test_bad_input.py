"""Input that cannot be served is refused, told of or put aside in words that name the field; everybody else is served meanwhile."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

import pytest
from kafka import KafkaProducer

from schemas.topics import MESSAGE_BYTES_MAX
from tests.e2e import manifests
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import World, told
from tests.e2e.topics import TOPICS, read

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

TOLD_LIMIT_S = 30.0
LARGE_BYTES = 1_400_000
COMMAND_BYTES = 10_000


def _says(kind: str, namespace: str, name: str, condition: str, *words: str) -> Callable[[World], list[str]]:
    def missing(world: World) -> list[str]:
        text = told(world.get(kind, namespace, name), condition)
        return [f"{kind} {name}: {condition} says {text!r}, not {word!r}" for word in words if word not in text]

    return missing


def _remove(fleet: Fleet, namespace: str, name: str) -> None:
    fleet.kubectl("-n", namespace, "delete", "cluster", name, "--wait=false")
    fleet.recorder.wait(lambda world: left_of(world, namespace, name), 60.0, f"{name} gone")


def test_a_missing_template_is_named_and_others_are_served(fleet: Fleet) -> None:
    namespace, other = fleet.namespace("missing"), fleet.namespace("beside")
    documents = manifests.cluster("lame", namespace)
    template = next(document for document in documents if document["kind"] == "KubeadmConfigTemplate")
    named = f"KubeadmConfigTemplate {namespace}/{template['metadata']['name']}"
    fleet.apply(*(document for document in documents if document is not template), *manifests.cluster("sound", other))
    fleet.settle(other, "sound")
    fleet.recorder.wait(
        _says("MachineDeployment", namespace, "lame-workers", "ScalingUp", "blocked", f"{named} does not exist", "spec.bootstrap.configRef"),
        TOLD_LIMIT_S,
        "the template is named",
    )
    fleet.apply(template)
    fleet.settle(namespace, "lame")
    _remove(fleet, namespace, "lame")
    _remove(fleet, other, "sound")


def test_an_impossible_version_is_told(fleet: Fleet) -> None:
    namespace = fleet.namespace("version")
    fleet.apply(*manifests.cluster("old", namespace, version="v1.10.0"))
    fleet.recorder.wait(_says("Cluster", namespace, "old", "ScalingUp", "v1.10.0", "needs v1.22.0 or newer"), TOLD_LIMIT_S, "the version is named")
    _remove(fleet, namespace, "old")


@pytest.mark.parametrize("kind", ["MachineDeployment", "KubeadmControlPlane"])
def test_negative_replicas_are_rejected_by_the_api_server(fleet: Fleet, kind: str) -> None:
    namespace = fleet.namespace("negative")
    document = next(document for document in manifests.cluster("less", namespace) if document["kind"] == kind)
    document["spec"]["replicas"] = -1
    endpoints = fleet.rig.endpoints()
    command = [endpoints.kubectl, "--kubeconfig", endpoints.kubeconfig, "apply", "-f", "-"]
    done = subprocess.run(command, input=manifests.text([document]), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "spec.replicas" in done.stderr


def test_garbage_on_the_topic_becomes_a_dead_letter(fleet: Fleet) -> None:
    bootstrap = fleet.rig.endpoints().bootstrap_servers
    namespace = fleet.namespace("garbage")
    producer = KafkaProducer(bootstrap_servers=bootstrap.split(","))
    sent = [
        (
            f"cluster.x-k8s.io/Machine/{namespace}/torn",
            b"{not json",
            [("type", b"ADDED"), ("epoch", b"1"), ("rv", b"1"), ("cluster", f"{namespace}/x".encode())],
        ),
        ("no key of ours", b"\x00\xff", []),
        (f"cluster.x-k8s.io/Machine/{namespace}/bare", b"{}", [("type", b"EXPLODED"), ("epoch", b"x"), ("rv", b"1")]),
    ]
    for partition, (key, value, headers) in enumerate(sent):
        producer.send(TOPICS.objects, value=value, key=key.encode(), headers=headers, partition=partition).get(timeout=10)
    producer.close()
    # the same partitions go on being served
    names = tuple(f"after{number}" for number in range(3))
    fleet.apply(*(document for name in names for document in manifests.cluster(name, namespace, workers=1)))
    fleet.settle(namespace, *names)
    letters = {record.key.decode(errors="replace"): record for record in read(bootstrap, TOPICS.deadletter) if record.key}
    for key, value, _ in sent:
        assert key in letters, f"{key} is no dead letter; there are {list(letters)}"
        assert letters[key].value == value
        headers = dict(letters[key].headers)
        assert headers["error"]
        assert headers["remedy"]
    for name in names:
        _remove(fleet, namespace, name)


def test_a_large_object_is_carried_whole(fleet: Fleet) -> None:
    namespace, name = fleet.namespace("large"), "wide"
    # no Machine is made of it: its bootstrap data would not fit into a Secret
    documents = manifests.cluster(name, namespace, workers=0)
    template = next(document for document in documents if document["kind"] == "KubeadmConfigTemplate")
    commands = [f": {number:0{COMMAND_BYTES - 2}d}" for number in range(LARGE_BYTES // COMMAND_BYTES)]
    template["spec"]["template"]["spec"]["preKubeadmCommands"] = commands
    # an apply would repeat it in an annotation, which may not be that long
    fleet.kubectl("create", "-f", "-", stdin=json.dumps(template))
    fleet.apply(*(document for document in documents if document is not template))
    fleet.settle(namespace, name)
    key = f"bootstrap.cluster.x-k8s.io/KubeadmConfigTemplate/{namespace}/{name}-workers".encode()
    carried = [record.value for record in read(fleet.rig.endpoints().bootstrap_servers, TOPICS.shared) if record.key == key]
    assert carried
    assert LARGE_BYTES <= len(carried[-1]) < MESSAGE_BYTES_MAX
    assert json.loads(carried[-1])["spec"]["template"]["spec"]["preKubeadmCommands"] == commands
    _remove(fleet, namespace, name)
