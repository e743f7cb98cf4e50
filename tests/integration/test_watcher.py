"""The watcher against a real Kafka and a real API server: what the topics say is what the API server says, whatever happened."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import orjson
import pytest

from fleetwake.cli import schemas as commands
from fleetwake.errors import TerminalError, UnavailableError
from fleetwake.kube import config, definitions
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.redaction import redaction_key
from fleetwake.kube.sealing import sealing_key
from fleetwake.rig import Rig
from fleetwake.rig.records import Endpoints
from fleetwake.settings import Settings
from fleetwake.stream.topics import TopicAdmin
from schemas.keys import ObjectKey
from schemas.records import ADDED, DELETED, MODIFIED, MOVED, ObjectRecord, Version
from services.watcher.app import Watcher
from tests.integration.watcher_world import LIMIT_SECONDS, PARTITIONS, World

pytestmark = [pytest.mark.kafka, pytest.mark.apiserver]

CORE = "cluster.x-k8s.io/v1beta2"
LABEL = "cluster.x-k8s.io/cluster-name"
FILTER = "blue"

Kubectl = Callable[..., str]
Start = Callable[..., Awaitable[Watcher]]
Stop = Callable[[Watcher], Awaitable[None]]


@pytest.fixture
async def world(rig_endpoints: Endpoints, kubectl: Kubectl, kube_namespace: str, topic_prefix: str) -> AsyncIterator[World]:
    settings = Settings(
        kafka_bootstrap=rig_endpoints.bootstrap_servers,
        topic_prefix=topic_prefix,
        partitions=PARTITIONS,
        namespace=kube_namespace,
        instance="test",
        web_bind="127.0.0.1",
        web_port=0,
        lease_seconds=2.0,
        lease_renew_deadline_seconds=1.2,
        lease_retry_seconds=0.3,
    )

    def prepare() -> None:
        with TopicAdmin(settings.kafka) as admin:
            admin.create(settings.topics.specs(PARTITIONS))
        # a watcher of other topics or another scope competes for a Lease of another name; its role names the one of an installation
        in_system = ("-n", settings.system_namespace)
        leases = [f"--resource-name={settings.model_copy(update={'watch_filter': chosen}).watcher_lease}" for chosen in ("", FILTER)]
        kubectl("create", "role", topic_prefix, "--verb=get,update", "--resource=leases.coordination.k8s.io", *leases, *in_system)
        kubectl("create", "rolebinding", topic_prefix, f"--role={topic_prefix}", f"--serviceaccount={settings.system_namespace}:fleetwake-watcher", *in_system)

    async with ApiClient(config.load(rig_endpoints.kubeconfig), service="test") as api, AsyncExitStack() as stack:
        await definitions.apply_definitions(api, commands.definitions())
        for key in (redaction_key, sealing_key):
            await key(api, settings.system_namespace, create=True)
        await asyncio.to_thread(prepare)
        found = World(api, rig_endpoints, settings, kube_namespace, stack)
        try:
            yield found
        finally:
            await found.stop_all()


def cluster(name: str, **metadata: Any) -> dict[str, Any]:
    reference = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevCluster", "name": f"{name}-infra"}
    return {"apiVersion": CORE, "kind": "Cluster", "metadata": {"name": name, **metadata}, "spec": {"infrastructureRef": reference}}


def machine(name: str, cluster_name: str, **metadata: Any) -> dict[str, Any]:
    reference = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": name}
    spec = {"clusterName": cluster_name, "bootstrap": {"dataSecretName": "none"}, "infrastructureRef": reference}
    return {"apiVersion": CORE, "kind": "Machine", "metadata": {"name": name, "labels": {LABEL: cluster_name}, **metadata}, "spec": spec}


def kubeadm_config(name: str, spec: Mapping[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfig", "metadata": {"name": name, **metadata}, "spec": spec}


def owner(document: Mapping[str, Any]) -> dict[str, Any]:
    return {"apiVersion": document["apiVersion"], "kind": document["kind"], "name": document["metadata"]["name"], "uid": document["metadata"]["uid"]}


async def test_each_change_is_a_record_in_the_partition_of_its_cluster(world: World) -> None:
    tail = await world.tail()
    await world.start()
    await world.create(cluster("demo"))
    created = await world.create(machine("m1", "demo"))
    await tail.until(lambda: bool(tail.of("m1")))
    await world.label(created, color="blue")
    await tail.until(lambda: len(tail.of("m1")) > 1)
    await world.delete(created)
    await tail.until(lambda: "-" in tail.types("m1"))

    assert tail.types("m1") == [ADDED, MODIFIED, DELETED, "-"]
    assert {(topic, partition) for topic, partition, _ in [*tail.of("m1"), *tail.of("demo")]} == {world.home("demo")}
    first, second, last, _ = (record for _, _, record in tail.of("m1"))
    assert first.version < second.version < last.version
    assert first.cluster == f"{world.namespace}/demo"
    assert first.actor.manager.startswith("fleetwake-test") and first.actor.operation == "Update"
    value = orjson.loads(second.value or b"")
    assert value["metadata"]["labels"]["color"] == "blue" and "managedFields" not in value["metadata"]
    assert orjson.loads(last.value or b"")["metadata"]["uid"] == created["metadata"]["uid"]


async def test_health_and_metrics_tell_who_leads_and_whether_it_is_synced(world: World) -> None:
    tail = await world.tail()
    leader = await world.start()
    await world.create(machine("m1", "demo"))
    await tail.until(lambda: bool(tail.of("m1")))
    async with ApiClient(config.ApiConfig(f"http://{leader.address[0]}:{leader.address[1]}")) as web:
        assert (await web.request("GET", "/healthz")).status == 200
        text = (await web.request("GET", "/metrics")).body.decode()
        ready = await web.request("GET", "/readyz")
    assert "fleetwake_watcher_leader 1.0" in text and 'fleetwake_drift_total{where="watcher"} 0.0' in text
    assert 'fleetwake_object_records_total{type="ADDED"}' in text and "fleetwake_watch_produce_seconds_bucket" in text
    assert ready.body.startswith(b"leader: ready") == (ready.status == 200)
    await world.stop(leader)
    async with ApiClient(config.ApiConfig(f"http://{leader.address[0]}:{leader.address[1]}")) as web:
        with pytest.raises(UnavailableError):
            await web.request("GET", "/healthz")


async def test_a_delete_missed_while_down_ends_in_a_tombstone(world: World) -> None:
    tail = await world.tail()
    watcher = await world.start()
    gone = await world.create(machine("gone", "demo"))
    await world.create(machine("kept", "demo"))
    await tail.until(lambda: bool(tail.of("gone") and tail.of("kept")))
    await world.stop(watcher)
    await world.delete(gone)
    await world.start()
    await tail.until(lambda: "-" in tail.types("gone"))
    assert tail.types("gone") == [ADDED, DELETED, "-"]
    assert tail.types("kept") == [ADDED], "what did not change is not written again"
    assert orjson.loads(tail.of("gone")[1][2].value or b"")["spec"] == gone["spec"]


async def test_an_object_of_1_4_megabytes_is_carried_whole(world: World) -> None:
    tail = await world.tail()
    await world.start()
    commands_ = [f"{number:04d}" + "x" * 9996 for number in range(140)]
    await world.create(kubeadm_config("large", {"preKubeadmCommands": commands_}, labels={LABEL: "demo"}))
    await tail.until(lambda: bool(tail.of("large")))
    assert orjson.loads(tail.of("large")[0][2].value or b"")["spec"]["preKubeadmCommands"] == commands_


async def test_other_namespaces_are_not_carried(world: World) -> None:
    tail = await world.tail()
    await world.start()
    outside = await world.create(machine("outside", "demo"), "default")
    try:
        await world.create(machine("inside", "demo"))
        await tail.until(lambda: bool(tail.of("inside")))
        assert not tail.of("outside")
    finally:
        await world.api.request("DELETE", resource_path(CORE, "machines", "default", outside["metadata"]["name"]))


async def test_the_watch_filter_selects_clusters_with_all_they_have(world: World) -> None:
    tail = await world.tail()
    await world.start(watch_filter=FILTER)
    label = {"cluster.x-k8s.io/watch-filter": FILTER}
    await world.create(machine("other-m", "other"))
    await world.create(cluster("other"))
    await world.create(cluster("chosen", labels=label))
    await tail.until(lambda: bool(tail.of("chosen")))
    await world.create(machine("chosen-m", "chosen"))
    await tail.until(lambda: bool(tail.of("chosen-m")))
    assert not tail.of("other") and not tail.of("other-m")
    await world.label(cluster("other"), **label)
    await tail.until(lambda: bool(tail.of("other") and tail.of("other-m")))


async def test_no_secret_value_reaches_the_topics(world: World) -> None:
    tail = await world.tail()
    await world.start()
    word = "s3cr3t-Word-of-this-test"
    encoded = base64.b64encode(word.encode()).decode()
    applied = {"kubectl.kubernetes.io/last-applied-configuration": f'{{"data":{{"value":"{encoded}"}},"x":"{word}"}}'}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "labels": {LABEL: "demo"}, "annotations": applied}, "data": {"value": encoded}}
    await world.create(secret)
    token = "abcdef.0123456789abcdef"
    spec = {
        "joinConfiguration": {"discovery": {"bootstrapToken": {"token": token, "apiServerEndpoint": "a:1", "unsafeSkipCAVerification": True}}},
        "users": [{"name": "u", "passwd": word}],
        "files": [{"path": "/etc/x", "content": word}],
    }
    await world.create(kubeadm_config("c", spec, labels={LABEL: "demo"}, annotations=applied))
    await tail.until(lambda: bool(tail.of("s") and tail.of("c")))
    for needle in (word, encoded, token):
        assert not [raw for raw in tail.raw if needle.encode() in raw], needle
    value = orjson.loads(tail.of("s")[0][2].value or b"")
    assert value["data"]["value"].startswith("hmac-sha256:")


async def test_a_late_record_of_a_frozen_predecessor_is_overwritten(world: World) -> None:
    tail = await world.tail()
    await world.start()
    created = await world.create(machine("m1", "demo"))
    await tail.until(lambda: bool(tail.of("m1")))
    current = tail.of("m1")[0][2]
    stale = ObjectRecord(current.key, MODIFIED, Version(current.version.epoch, 1), current.cluster, b'{"stale":true}')
    home, wrong = world.home("demo")[1], (world.home("demo")[1] + 1) % PARTITIONS

    await world.produce(stale, home)
    await tail.until(lambda: len(tail.of("m1")) == 3)
    assert tail.of("m1")[-1][2].version == current.version and tail.of("m1")[-1][2].value == current.value

    await world.produce(stale, wrong)
    await tail.until(lambda: len(tail.of("m1")) == 6)
    assert [partition for _, partition, _ in tail.of("m1")[3:]] == [wrong] * 3
    assert tail.types("m1")[3:] == [MODIFIED, MOVED, "-"]

    await world.delete(created)
    await tail.until(lambda: tail.types("m1")[-1] == "-" and DELETED in tail.types("m1"))
    before = len(tail.of("m1"))
    await world.produce(stale, home)
    await tail.until(lambda: len(tail.of("m1")) > before + 1 and tail.types("m1")[-1] == "-")


async def test_an_edited_label_moves_nothing(world: World) -> None:
    tail = await world.tail()
    await world.start()
    parent = await world.create(machine("m1", "demo"))
    reference = {**owner(parent), "controller": True}
    child = await world.create(kubeadm_config("m1-config", {"format": "cloud-config"}, labels={LABEL: "demo"}, ownerReferences=[reference]))
    await tail.until(lambda: bool(tail.of("m1") and tail.of("m1-config")))
    for document in (parent, child):
        await world.label(document, **{LABEL: "elsewhere"})
        await world.label(document, **{LABEL: None})
    await tail.until(lambda: len(tail.of("m1")) == 3 and len(tail.of("m1-config")) == 3)
    assert {(topic, partition) for topic, partition, _ in [*tail.of("m1"), *tail.of("m1-config")]} == {world.home("demo")}


async def test_an_object_moves_when_its_cluster_becomes_known(world: World) -> None:
    tail = await world.tail()
    await world.start()
    orphan = "lonely" if world.home("lonely") != world.home("demo") else "alone"
    created = await world.create(kubeadm_config(orphan, {"format": "cloud-config"}))
    await tail.until(lambda: bool(tail.of(orphan)))
    assert tail.of(orphan)[0][:2] == world.home(orphan)
    await world.label(created, **{LABEL: "demo"})
    await tail.until(lambda: tail.types(orphan)[-1] == "-")
    moved = [(topic, partition, record.type, record.value is None) for topic, partition, record in tail.of(orphan)[1:]]
    old, new = world.home(orphan), world.home("demo")
    assert moved == [(*new, MODIFIED, False), (*old, MOVED, False), (*old, MOVED, True)]


async def test_a_kind_of_a_third_party_is_carried_as_soon_as_it_exists(world: World) -> None:
    tail = await world.tail()
    await world.start()
    group = f"{world.settings.topic_prefix}.example.com"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}", "labels": {"cluster.x-k8s.io/v1beta2": "v1"}},
        "spec": {
            "group": group,
            "names": {"kind": "Widget", "plural": "widgets"},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }
    granted = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": group, "labels": {"cluster.x-k8s.io/aggregate-to-manager": "true"}},
        "rules": [{"apiGroups": [group], "resources": ["widgets"], "verbs": ["get", "list", "watch"]}],
    }
    path, roles = resource_path("apiextensions.k8s.io/v1", "customresourcedefinitions"), resource_path("rbac.authorization.k8s.io/v1", "clusterroles")
    raise_for(await world.api.request("POST", roles, body=orjson.dumps(granted)), "create ClusterRole")
    raise_for(await world.api.request("POST", path, body=orjson.dumps(definition)), "create CRD")
    try:
        await tail.until(lambda: bool(tail.of(f"widgets.{group}")))
        assert tail.of(f"widgets.{group}")[0][0] == "objects.shared"
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w", "labels": {LABEL: "demo"}}}
        async with asyncio.timeout(LIMIT_SECONDS):
            while (await world.api.request("GET", resource_path(f"{group}/v1", "widgets", world.namespace))).status == 404:
                await tail.next()  # its status changes until it is served
        await world.create(widget)
        await tail.until(lambda: bool(tail.of("w")))
        assert tail.of("w")[0][:2] == world.home("demo")
    finally:
        await world.api.request("DELETE", f"{path}/widgets.{group}")
        await world.api.request("DELETE", f"{roles}/{group}")
    await tail.until(lambda: "-" in tail.types("w") and "-" in tail.types(f"widgets.{group}"))


async def test_another_api_server_raises_the_epoch(world: World) -> None:
    tail = await world.tail()
    left = ObjectRecord(
        ObjectKey("cluster.x-k8s.io", "Machine", world.namespace, "left"), ADDED, Version(3, 900_000_000), f"{world.namespace}/demo", b'{"a":1}'
    )
    await world.produce(left, world.home("demo")[1])
    await world.create(machine("m1", "demo"))
    await world.start()
    await tail.until(lambda: "-" in tail.types("left") and bool(tail.of("m1")))
    assert tail.of("m1")[-1][2].version.epoch == 4
    assert tail.of("left")[-1][2].version.epoch == 4


async def test_a_standby_takes_over_from_a_frozen_leader_which_then_writes_nothing(world: World) -> None:
    tail = await world.tail()
    kubeconfig = f"{world.endpoints.kubeconfig}-watcher"
    environment = {f"FLEETWAKE_{name.upper()}": str(value) for name, value in world.settings.model_dump().items() if name != "kubeconfig"}
    program = "from fleetwake.settings import Settings; from services.watcher.app import main; raise SystemExit(main(Settings.from_env()))"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env={**os.environ, **environment, "FLEETWAKE_KUBECONFIG": kubeconfig, "FLEETWAKE_INSTANCE": "frozen"}
    )
    try:
        created = await world.create(machine("m1", "demo"))
        await tail.until(lambda: bool(tail.of("m1")))
        standby = await world.start(instance="standby")
        await asyncio.wait_for(standby.ledger.caught_up.wait(), LIMIT_SECONDS)
        assert not standby.led.is_set() and standby.ready

        process.send_signal(signal.SIGSTOP)
        await world.label(created, color="blue")
        await asyncio.wait_for(standby.led.wait(), LIMIT_SECONDS)
        await tail.until(lambda: len(tail.of("m1")) == 2)
        process.send_signal(signal.SIGCONT)
        await world.create(machine("m2", "demo"))
        await tail.until(lambda: bool(tail.of("m2")))
        assert standby.led.is_set()
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), LIMIT_SECONDS)
        assert tail.types("m1") == [ADDED, MODIFIED] and tail.types("m2") == [ADDED]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_restarted_api_server_interrupts_nothing(world: World, rig_servers: Rig) -> None:
    tail = await world.tail()
    await world.start()
    await world.create(machine("m1", "demo"))
    await tail.until(lambda: bool(tail.of("m1")))
    await asyncio.to_thread(rig_servers.kill, "apiserver")
    await asyncio.to_thread(rig_servers.restart, "apiserver")
    await world.create(machine("m2", "demo"))
    await tail.until(lambda: bool(tail.of("m2")))
    assert tail.types("m1") == [ADDED]
    assert {record.version.epoch for _, _, record in tail.records} == {1}


async def test_a_restarted_broker_loses_nothing(world: World, rig_servers: Rig) -> None:
    tail = await world.tail()
    watcher = await world.start()
    await world.create(machine("m1", "demo"))
    await tail.until(lambda: bool(tail.of("m1")))
    await asyncio.to_thread(rig_servers.kill, "kafka-0")
    created = await world.create(machine("m2", "demo"))
    await world.delete(created)
    await asyncio.to_thread(rig_servers.restart, "kafka-0")
    await tail.until(lambda: tail.types("m2")[-1:] == ["-"])
    await world.create(machine("m3", "demo"))
    await tail.until(lambda: bool(tail.of("m3")))
    assert watcher.led.is_set()
    assert tail.types("m1") == [ADDED] and tail.types("m2") == [ADDED, DELETED, "-"]


async def test_a_drift_check_finds_nothing_on_a_settled_world_and_repairs_what_it_finds(world: World) -> None:
    tail = await world.tail()
    watcher = await world.start()
    await world.create(machine("m1", "demo"))
    await tail.until(lambda: bool(tail.of("m1")))
    term = watcher.term
    assert term is not None and term.drift is not None and term.publisher is not None
    assert await term.drift.check(settle_seconds=0.2) == 0
    key = tail.of("m1")[0][2].key
    term.publisher.held[key].version = Version(1, 1)  # as if an event had been lost
    assert await term.drift.check(settle_seconds=0.2) == 1
    await tail.until(lambda: len(tail.of("m1")) == 2)
    assert await term.drift.check(settle_seconds=0.2) == 0


async def test_topics_that_differ_are_named_with_the_setting_and_the_remedy(world: World) -> None:
    def verify() -> None:
        with TopicAdmin(world.settings.kafka) as admin:
            admin.verify(world.settings.topics.specs(PARTITIONS + 1))

    with pytest.raises(
        TerminalError, match=rf"{world.settings.topics.objects}: partitions is {PARTITIONS}, must be {PARTITIONS + 1}; set FLEETWAKE_PARTITIONS"
    ):
        await asyncio.to_thread(verify)
