"""No private key, token or kubeconfig of any cluster is on a topic, in Redis or in a log. Last of the tier, so that what the others did counts."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
import redis

from tests.e2e import manifests
from tests.e2e.fleet import SERVICES, Fleet
from tests.e2e.secret_needles import ALIGNMENTS, PRIVATE_KEY, needles_of
from tests.e2e.topics import TOPICS, read

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAMESPACES_SEARCHED = 3


def _haystacks(fleet: Fleet) -> dict[str, bytes]:
    """Everything that must hold no secret, by name."""
    endpoints = fleet.rig.endpoints()
    stacks = {}
    for topic in (TOPICS.objects, TOPICS.shared, TOPICS.results, TOPICS.deadletter):
        parts: list[bytes] = []
        for record in read(endpoints.bootstrap_servers, topic):
            parts += [record.key or b"", record.value or b"", *(value for _, value in record.headers)]
        stacks[topic] = b"\n".join(parts)
    with redis.Redis.from_url(endpoints.redis_url) as client:
        stacks["redis"] = b"\n".join(client.dump(key) + repr(_value(client, key)).encode() for key in client.scan_iter(count=1000) if client.exists(key))
    for log in sorted((Path(endpoints.audit_log).parent / "logs").glob("*.log")):
        stacks[log.name] = log.read_bytes()
    return stacks


def _value(client: redis.Redis, key: bytes) -> object:
    """What a key holds, uncompressed, of whatever type."""
    match client.type(key):
        case b"hash":
            return client.hgetall(key)
        case b"string":
            return client.get(key)
        case b"stream":
            return client.xrange(key)
        case b"set":
            return client.smembers(key)
        case b"zset":
            return client.zrange(key, 0, -1)
        case b"list":
            return client.lrange(key, 0, -1)
        case other:
            raise AssertionError(f"{key!r} is of type {other!r}, which this test cannot read")


def test_no_secret_left_the_api_server(fleet: Fleet) -> None:
    namespace = fleet.namespace("secret")
    fleet.apply(*manifests.cluster("safe", namespace, control_planes=3, workers=2))
    fleet.settle(namespace, "safe")
    fleet.scale(namespace, "machinedeployment/safe-workers", 3)
    fleet.settle(namespace, "safe")
    # some of the tier's clusters, not all: every needle is sought in everything
    searched = {namespace, *fleet.namespaces[:NAMESPACES_SEARCHED]}
    values = {
        base64.b64decode(value)
        for seen in fleet.recorder.history
        if seen.name.kind == "Secret" and seen.name.namespace in searched
        for value in (seen.object.get("data") or {}).values()
    }
    needles = {needle for value in values for needle in needles_of(value)}
    # the authority, etcd's, the proxy's and the service accounts' keys, the kubeconfig's, in 4 spellings each; a token for each who joined
    assert len(needles) > 5 * (1 + ALIGNMENTS)
    stacks = _haystacks(fleet)
    assert all(stacks[name] for name in (TOPICS.objects, TOPICS.results, "redis", "reconcilers-0.log"))
    leaks = {name for name, stack in stacks.items() for needle in needles if needle in stack}
    assert not leaks
    # the search finds what it looks for where it is allowed to be
    sample = next(value for value in values if PRIVATE_KEY.search(value))
    assert any(needle in base64.b64encode(sample) for needle in needles_of(sample))


def test_no_run_ended_by_a_bug(fleet: Fleet) -> None:
    folder = Path(fleet.rig.endpoints().audit_log).parent / "logs"
    bugs = [line for name in SERVICES for line in (folder / f"{name}.log").read_text().splitlines() if "ended by a bug" in line]
    assert not bugs, "\n".join(bugs[:5])
