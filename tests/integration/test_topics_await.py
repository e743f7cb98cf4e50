"""``fleetwake topics await`` on a real broker: it waits for topics that somebody else makes, and says what it waits for."""

from __future__ import annotations

import os
import subprocess

import pytest

from fleetwake.connections.kafka import Kafka
from fleetwake.rig.records import Endpoints
from fleetwake.rig.services import fleetwake_command
from fleetwake.stream.topics import TopicAdmin
from schemas.topics import Topics

pytestmark = pytest.mark.kafka

LIMIT_S = 60
PARTITIONS = 2


def _await(endpoints: Endpoints, prefix: str, *arguments: str) -> subprocess.Popen[str]:
    env = {
        **os.environ,
        "FLEETWAKE_KAFKA_BOOTSTRAP": endpoints.bootstrap_servers,
        "FLEETWAKE_TOPIC_PREFIX": prefix,
        "FLEETWAKE_PARTITIONS": str(PARTITIONS),
    }
    command = [fleetwake_command(), "topics", "await", *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1)


def test_it_ends_when_the_topics_are_there(rig_endpoints: Endpoints, topic_prefix: str) -> None:
    with _await(rig_endpoints, topic_prefix, "objects", "objects.shared", "--limit", str(LIMIT_S)) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        assert f"waiting: topic {topic_prefix}.objects does not exist" in said, said
        assert process.poll() is None
        with TopicAdmin(Kafka(rig_endpoints.bootstrap_servers)) as admin:
            admin.create(Topics(topic_prefix).specs(PARTITIONS)[:2])
        assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize(("arguments", "code", "said"), [(("results", "--limit", "0"), 1, ".results does not exist"), (("nothing",), 2, "nothing: there are")])
def test_it_gives_up_with_a_reason(rig_endpoints: Endpoints, topic_prefix: str, arguments: tuple[str, ...], code: int, said: str) -> None:
    with _await(rig_endpoints, topic_prefix, *arguments) as process:
        _, errors = process.communicate(timeout=LIMIT_S)
        assert (process.returncode, said in errors) == (code, True), errors


def test_other_partitions_are_not_what_is_waited_for(rig_endpoints: Endpoints, topic_prefix: str) -> None:
    with TopicAdmin(Kafka(rig_endpoints.bootstrap_servers)) as admin:
        admin.create(Topics(topic_prefix).specs(PARTITIONS + 1)[:1])
    with _await(rig_endpoints, topic_prefix, "objects", "--limit", "0") as process:
        _, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1 and f"set FLEETWAKE_PARTITIONS={PARTITIONS + 1}" in errors
