"""The procedures of docs/operations.md, carried out step by step on a rig of their own: another number of partitions, a Kafka that is lost with all its data.

Each time the same Machines are there afterwards, nothing was made twice, and a change of the user's is carried out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer
from kafka.admin import KafkaAdminClient

from fleetwake.rig import Rig
from fleetwake.rig.progress import Progress
from fleetwake.rig.servers import programs
from fleetwake.rig.services import client_env, fleetwake_command
from schemas.topics import PARTITIONS_DEFAULT
from tests.e2e import manifests
from tests.e2e.api import Api
from tests.e2e.fleet import Fleet
from tests.e2e.recorder import Recorder, World
from tests.e2e.topics import TOPICS, objects_on_server, objects_on_topics

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAMESPACE, NAME = "kept", "demo"
SERVICES = ("watcher-0", "autoscaler_bridge-0", "remediation-0", "reconcilers-0", "dev_infrastructure-0")
OTHER_PARTITIONS = 7
COMMAND_LIMIT_S, EQUAL_LIMIT_S = 60, 20.0
BROKER = "kafka-0"
SESSION_S = 45


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One cluster, Available, on a rig that nobody else uses. Sessions outlast the procedures, so that Kafka still knows every service when it is back."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FLEETWAKE_SESSION_SECONDS", str(SESSION_S))
        yield from _kept(tmp_path_factory)


def _kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    rig = Rig.up(tmp_path_factory.mktemp("operations"), workers=1, bound_to=os.getpid())
    recorder = None
    try:
        api = Api(rig.endpoints().kubeconfig)
        recorder = Recorder(api)
        fleet = Fleet(rig, api, recorder)
        fleet.kubectl("create", "namespace", NAMESPACE)
        fleet.apply(*manifests.cluster(NAME, NAMESPACE, workers=2))
        fleet.settle(NAMESPACE, NAME)
        yield fleet
    finally:
        if recorder is not None:
            recorder.stop()
        rig.down()


def _machines(world: World) -> set[str]:
    return {machine["metadata"]["uid"] for machine in world.all("Machine", NAMESPACE)}


def _stop_services(fleet: Fleet) -> None:
    for name in SERVICES:
        fleet.rig.stop(name)


def _start_services(fleet: Fleet) -> None:
    for name in SERVICES:
        fleet.rig.start(name)
    for name in SERVICES:
        fleet.rig.wait_ready(name)


def _create_topics(fleet: Fleet) -> None:
    env = {**os.environ, **client_env(fleet.rig.endpoints(), "topics", "prepare")}
    done = subprocess.run([fleetwake_command(), "topics", "create"], env=env, check=False, capture_output=True, text=True, timeout=COMMAND_LIMIT_S)
    assert done.returncode == 0, done.stdout + done.stderr


def _check_that_it_goes_on(fleet: Fleet, before: set[str], workers: int) -> None:
    """The Machines are the same, a change adds what it should and nothing else, and the topics say what the API server says."""
    assert _machines(fleet.recorder.world) == before
    fleet.scale(NAMESPACE, f"machinedeployment/{NAME}-workers", workers)
    fleet.recorder.wait(lambda world: [] if len(_machines(world)) > len(before) else ["a new Machine"], EQUAL_LIMIT_S, "scaled")
    fleet.settle(NAMESPACE, NAME)
    after = _machines(fleet.recorder.world)
    assert before < after and len(after) == len(before) + 1
    deadline = time.monotonic() + EQUAL_LIMIT_S
    while (there := objects_on_topics(fleet.rig.endpoints().bootstrap_servers)) != (wanted := objects_on_server(fleet.api)) and time.monotonic() < deadline:
        continue
    assert there == wanted


def _partitions(fleet: Fleet, topic: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=fleet.rig.endpoints().bootstrap_servers.split(","))
    try:
        return len(consumer.partitions_for_topic(topic) or ())
    finally:
        consumer.close()


def test_another_number_of_partitions(kept: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _machines(kept.recorder.world)
    assert _partitions(kept, TOPICS.objects) == PARTITIONS_DEFAULT
    _stop_services(kept)
    admin = KafkaAdminClient(bootstrap_servers=kept.rig.endpoints().bootstrap_servers.split(","))
    admin.delete_topics([TOPICS.objects, TOPICS.results, TOPICS.deadletter])
    admin.close()
    # services take their environment from whoever starts them
    monkeypatch.setenv("FLEETWAKE_PARTITIONS", str(OTHER_PARTITIONS))
    _create_topics(kept)
    assert _partitions(kept, TOPICS.objects) == _partitions(kept, TOPICS.results) == OTHER_PARTITIONS
    _start_services(kept)
    try:
        _check_that_it_goes_on(kept, before, workers=3)
    finally:
        _stop_services(kept)


def test_a_kafka_that_is_lost_with_all_its_data(kept: Fleet) -> None:
    """Also back to the default number of partitions, which an empty Kafka does not mind."""
    rig, before = kept.rig, _machines(kept.recorder.world)
    rig.stop(BROKER)
    data = rig.state_dir / BROKER / "data"
    shutil.rmtree(data)
    shutil.copytree(programs(Progress()).kafka.formatted / "node-0", Path(data))
    rig.start(BROKER)
    rig.wait_ready(BROKER)
    _create_topics(kept)
    assert list(objects_on_topics(rig.endpoints().bootstrap_servers)) == []
    _start_services(kept)
    _check_that_it_goes_on(kept, before, workers=4)
