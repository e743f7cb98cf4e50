"""The rig keeps its promises: killed servers come back on their ports with their data, nothing outlives ``down``."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from fleetwake.rig import Progress, Rig, RigError
from fleetwake.rig.cache import artifact
from fleetwake.rig.commands import follow
from fleetwake.rig.ports import EMULATED_MAX, EMULATED_MIN, free_ports
from fleetwake.rig.probes import wait_until
from fleetwake.rig.processes import alive, identify, marked, send, spawn, stop, wait_gone, wait_stopped
from fleetwake.rig.records import AliveProbe, Endpoints, Options, Process, State, StateFile
from fleetwake.rig.services import service_processes

Kubectl = Callable[..., str]
AuditEvents = Callable[[], list[dict[str, Any]]]
LARGE_BYTES = 4 * 1024 * 1024 - 1024
STOP_LIMIT_S = 10.0
UNTIL_LIMIT_S = 20.0
OWNER = """
import os, pathlib, signal, sys
from fleetwake.rig import Rig

Rig.up(pathlib.Path(sys.argv[1]), only_servers=True, bound_to=os.getpid())
signal.pause()
"""


def until(true: Callable[[], bool], limit_s: float = UNTIL_LIMIT_S) -> None:
    """Wait for a state of another process that tells nobody when it is reached."""
    wait_until(true, limit_s, true.__name__)


@pytest.mark.apiserver
def test_a_killed_api_server_comes_back_on_its_port_with_its_objects(rig_servers: Rig, kubectl: Kubectl, kube_namespace: str) -> None:
    kept = ("get", "configmap", "kept", "-n", kube_namespace, "-o", "jsonpath={.metadata.uid} {.data.a}")
    kubectl("create", "configmap", "kept", "-n", kube_namespace, "--from-literal=a=1")
    stored, before = kubectl(*kept), rig_servers.pid("apiserver")

    rig_servers.kill("apiserver")
    assert rig_servers.pid("apiserver") is None
    rig_servers.restart("apiserver")

    assert rig_servers.pid("apiserver") not in (None, before)
    assert kubectl(*kept) == stored


@pytest.mark.apiserver
def test_the_api_server_ends_at_once_on_sigterm(rig_servers: Rig) -> None:
    identity = identify(rig_servers.pid("apiserver") or 0)
    assert identity is not None
    os.kill(identity.pid, signal.SIGTERM)
    assert wait_gone([identity], 5) == []
    rig_servers.restart("apiserver")


@pytest.mark.apiserver
@pytest.mark.parametrize("service", ["watcher", "reconcilers", "remediation", "autoscaler-bridge", "dev-infrastructure", "admission", "prepare"])
def test_every_service_has_an_account_that_the_audit_log_names(kubectl: Kubectl, audit_events: AuditEvents, service: str) -> None:
    username = f"system:serviceaccount:fleetwake-system:fleetwake-{service}"
    assert username in kubectl("auth", "whoami", account=service)

    mine = [event for event in audit_events() if event["user"]["username"] == username and event["objectRef"]["resource"] == "selfsubjectreviews"]
    assert mine
    assert mine[-1]["stage"] == "ResponseComplete" and mine[-1]["level"] == "Metadata"


@pytest.mark.apiserver
def test_no_service_is_an_admin(kubectl: Kubectl) -> None:
    """What each may do instead is in deploy/k8s and is held to it by tests/e2e/test_unprivileged.py."""
    for service in ("watcher", "reconcilers", "dev-infrastructure", "prepare"):
        with pytest.raises(AssertionError, match="forbidden"):
            kubectl("create", "serviceaccount", "x", "-n", "default", account=service)


@pytest.mark.apiserver
def test_the_audit_log_keeps_the_audit_id_of_a_request(rig_endpoints: Endpoints) -> None:
    """The join that proves that every write has a record rests on this."""
    config = yaml.safe_load(Path(f"{rig_endpoints.kubeconfig}-watcher").read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    audit_id = str(uuid.uuid4())
    headers = {"Authorization": f"Bearer {user['token']}", "Audit-ID": audit_id}
    request = urllib.request.Request(f"{cluster['server']}/api/v1/namespaces/kube-system", headers=headers)
    context = ssl.create_default_context(cafile=str(Path(rig_endpoints.kubeconfig).parent / "pki" / "ca.crt"))
    with urllib.request.urlopen(request, context=context, timeout=10) as answer:
        assert answer.headers["Audit-ID"] == audit_id

    until(lambda: audit_id in Path(rig_endpoints.audit_log).read_text())


@pytest.mark.apiserver
def test_the_garbage_collector_and_the_namespace_controller_work(kubectl: Kubectl, kube_namespace: str) -> None:
    in_namespace = ("-n", kube_namespace)
    kubectl("create", "configmap", "owner", *in_namespace)
    uid = kubectl("get", "configmap", "owner", *in_namespace, "-o", "jsonpath={.metadata.uid}")
    kubectl("create", "configmap", "owned", *in_namespace)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
    kubectl("patch", "configmap", "owned", *in_namespace, "--type=merge", "-p", json.dumps({"metadata": {"ownerReferences": [owner]}}))
    kubectl("delete", "configmap", "owner", *in_namespace)
    kubectl("wait", "--for=delete", "configmap/owned", *in_namespace, "--timeout=20s")

    other = f"{kube_namespace}-other"
    kubectl("create", "namespace", other)
    kubectl("delete", "namespace", other, "--timeout=20s")
    assert kubectl("get", "namespace", other, "--ignore-not-found") == ""


@pytest.mark.apiserver
def test_cluster_roles_are_aggregated(kubectl: Kubectl, topic_prefix: str) -> None:
    label = f"fleetwake.test/{topic_prefix}"
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"{topic_prefix}-sum"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "yes"}}]},
    }
    kubectl("create", "-f", "-", stdin=json.dumps(role))
    kubectl("create", "clusterrole", f"{topic_prefix}-part", "--verb=get", "--resource=pods")
    kubectl("label", "clusterrole", f"{topic_prefix}-part", f"{label}=yes")
    kubectl("wait", "--for=jsonpath={.rules[0].resources[0]}=pods", f"clusterrole/{topic_prefix}-sum", "--timeout=20s")
    kubectl("delete", "clusterrole", f"{topic_prefix}-sum", f"{topic_prefix}-part")


@pytest.mark.kafka
def test_a_killed_broker_comes_back_on_its_port_with_its_records(rig_servers: Rig, rig_endpoints: Endpoints, topic_prefix: str) -> None:
    servers = rig_endpoints.bootstrap_servers
    topic = TopicPartition(f"{topic_prefix}.kept", 0)
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.create_topics([NewTopic(topic.topic, 1, 1, topic_configs={"max.message.bytes": str(4 * 1024 * 1024)})])
    admin.close()
    values = [b"small", os.urandom(LARGE_BYTES)]
    producer = KafkaProducer(bootstrap_servers=servers, max_request_size=8 * 1024 * 1024, acks="all")
    for value in values:
        producer.send(topic.topic, value, partition=0).get(timeout=30)
    producer.close()

    rig_servers.kill("kafka-0")
    rig_servers.restart("kafka-0")

    consumer = KafkaConsumer(bootstrap_servers=servers, enable_auto_commit=False, max_partition_fetch_bytes=8 * 1024 * 1024)
    consumer.assign([topic])
    consumer.seek_to_beginning(topic)
    read: list[bytes] = []
    while len(read) < len(values):
        batch = consumer.poll(timeout_ms=10_000)
        assert batch, "the broker gave no more records"
        read += [record.value for record in batch[topic]]
    consumer.close()
    assert read == values


@pytest.mark.redis
def test_a_killed_redis_comes_back_on_its_port_empty(rig_servers: Rig, rig_endpoints: Endpoints, topic_prefix: str) -> None:
    client = redis.Redis.from_url(rig_endpoints.redis_url)
    client.set(topic_prefix, "lost")
    rig_servers.kill("redis")
    with pytest.raises(redis.ConnectionError):
        client.ping()
    rig_servers.restart("redis")
    assert client.get(topic_prefix) is None


@pytest.mark.redis
def test_a_paused_server_answers_again_when_it_goes_on(rig_servers: Rig, rig_endpoints: Endpoints) -> None:
    client = redis.Redis.from_url(rig_endpoints.redis_url, socket_timeout=0.5)
    rig_servers.pause("redis")
    with pytest.raises(redis.TimeoutError):
        client.ping()
    status = rig_servers.status()
    assert status is not None and not status.ready
    assert {process.name for process in status.processes if not process.ready} == {"redis"}
    rig_servers.resume("redis")
    assert client.ping()


@pytest.mark.kafka
def test_status_as_json_names_everything_a_client_needs(rig_servers: Rig) -> None:
    command = [sys.executable, "-m", "fleetwake.cli.dev", "status", "--json", "--state", str(rig_servers.state_dir)]
    status = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert status["ready"] is True
    for path in ("kubeconfig", "kubectl", "audit_log"):
        assert Path(status[path]).is_file()
    host, _, port = status["bootstrap_servers"].rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    assert redis.Redis.from_url(status["redis_url"]).ping()
    processes = {process["name"]: process for process in status["processes"]}
    assert {"apiserver", "kafka-0", "redis"} <= processes.keys()
    for process in processes.values():
        assert {"name", "pid", "log", "ready"} <= process.keys()
        assert Path(process["log"]).is_file() and identify(process["pid"]) is not None


@pytest.mark.redis
def test_a_second_rig_is_refused_in_the_folder_of_the_first(rig_servers: Rig) -> None:
    with pytest.raises(RigError, match="a rig runs in"):
        Rig.up(rig_servers.state_dir, only_servers=True)


@pytest.mark.kafka
@pytest.mark.apiserver
@pytest.mark.redis
def test_three_brokers_survive_the_loss_of_one_and_down_leaves_no_process(tmp_path: Path, topic_prefix: str) -> None:
    rig = Rig.up(tmp_path / "rig", brokers=3, only_servers=True, bound_to=os.getpid())
    try:
        servers = rig.endpoints().bootstrap_servers
        assert len(servers.split(",")) == 3
        admin = KafkaAdminClient(bootstrap_servers=servers)
        admin.create_topics([NewTopic(topic_prefix, 3, 3)])
        admin.close()
        rig.kill("kafka-1")
        producer = KafkaProducer(bootstrap_servers=servers, acks="all", delivery_timeout_ms=60_000, request_timeout_ms=20_000)
        for partition in range(3):
            producer.send(topic_prefix, b"x", partition=partition).get(timeout=60)
        producer.close()
        rig.restart("kafka-1")
        status = rig.status()
        assert status is not None and status.ready, status
        running = marked(str(rig.state_dir))
        assert len(running) == 6  # three brokers, API server, Redis, supervisor
    finally:
        rig.down()
    assert [process for process in running if alive(process)] == []
    assert marked(str(rig.state_dir)) == []
    assert rig.status() is None


@pytest.mark.redis
def test_a_rig_ends_with_the_process_it_is_bound_to(tmp_path: Path) -> None:
    """A test session that is killed leaves nothing behind."""
    folder = tmp_path / "rig"
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(folder)])
    rig = Rig(folder)
    try:
        until(lambda: (state := rig.state()) is not None and state.phase == "up", 60)
        running = marked(str(folder))
        assert len(running) == 4
        owner.kill()
        owner.wait()
        assert wait_gone(running, 30) == []
    finally:
        owner.kill()
        rig.down()


def sleeper_rig(folder: Path, *, restart: bool) -> Rig:
    """A rig whose one process sleeps: what holds for it holds for any server."""
    creator = identify(os.getpid())
    assert creator is not None
    folder.mkdir()
    sleeper = Process(
        name="sleeper", role="service", cmd=("sleep", "600"), log=str(folder / "logs" / "sleeper.log"), probe=AliveProbe(), start_limit_s=5, stop_limit_s=5
    )
    nowhere = Endpoints(kubeconfig="", kubectl="", bootstrap_servers="", redis_url="", audit_log="")
    options = Options(brokers=1, workers=0, only_servers=True, restart=restart)
    StateFile(folder).save(State(phase="up", creator=creator, bound_to=None, options=options, endpoints=nowhere, processes=(sleeper,)))
    rig = Rig(folder)
    rig.start("sleeper")
    return rig


def test_the_supervisor_restarts_what_dies_but_not_what_was_stopped(tmp_path: Path) -> None:
    rig = sleeper_rig(tmp_path / "rig", restart=True)
    supervisor = spawn((sys.executable, "-m", "fleetwake.rig.supervisor", str(rig.state_dir)), {}, tmp_path / "supervisor.log", str(rig.state_dir))
    assert supervisor is not None
    try:
        first = rig.pid("sleeper")
        rig.kill("sleeper")
        until(lambda: rig.pid("sleeper") not in (None, first))
        rig.stop("sleeper")
        rig.start("sleeper")
        assert rig.pid("sleeper") is not None
    finally:
        rig.down()
    assert wait_gone([supervisor], STOP_LIMIT_S) == []
    assert marked(str(rig.state_dir)) == []


def test_down_spares_a_process_that_has_the_pid_of_one_that_ended(tmp_path: Path) -> None:
    rig = sleeper_rig(tmp_path / "rig", restart=False)
    stranger = spawn(("sleep", "600"), {}, tmp_path / "stranger.log", "another rig")
    assert stranger is not None
    state = rig.state()
    assert state is not None
    sleeper = state.process("sleeper")
    assert sleeper.process is not None
    reused = stranger.model_copy(update={"start_ticks": stranger.start_ticks - 100})
    StateFile(rig.state_dir).save(state.with_process(sleeper.model_copy(update={"process": reused})))
    try:
        rig.down()
        assert alive(stranger)
        assert not alive(sleeper.process)  # found by its mark, though the record named another
    finally:
        stop({stranger: STOP_LIMIT_S})


def test_down_ends_a_frozen_process_and_the_children_of_a_killed_one(tmp_path: Path) -> None:
    rig = sleeper_rig(tmp_path / "rig", restart=False)
    parent = spawn(("sh", "-c", "sleep 600 & wait"), {}, tmp_path / "parent.log", str(rig.state_dir))
    assert parent is not None
    until(lambda: len(marked(str(rig.state_dir))) == 3)
    running = marked(str(rig.state_dir))
    os.kill(parent.pid, signal.SIGKILL)
    rig.pause("sleeper")
    rig.down()
    assert [process for process in running if alive(process)] == []


def test_nothing_of_a_frozen_process_goes_on(tmp_path: Path) -> None:
    count = "import threading\ndef run():\n  while True: open('counted', 'a').write('.')\nfor _ in range(20): threading.Thread(target=run).start()"
    counter = spawn((sys.executable, "-c", count), {}, tmp_path / "counter.log", "counter")
    assert counter is not None
    counted = tmp_path / "counted"
    try:
        for _ in range(20):
            before = counted.stat().st_size if counted.exists() else 0
            until(lambda before=before: counted.exists() and counted.stat().st_size > before)  # type: ignore[misc]
            send(counter, signal.SIGSTOP)
            assert wait_stopped(counter, STOP_LIMIT_S)
            frozen = counted.stat().st_size
            assert [counted.stat().st_size for _ in range(500)] == [frozen] * 500
            send(counter, signal.SIGCONT)
    finally:
        stop({counter: STOP_LIMIT_S})


def test_what_a_crashed_start_left_behind_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    rig = sleeper_rig(tmp_path / "rig", restart=False)
    crashed = subprocess.Popen(["sleep", "600"])
    creator = identify(crashed.pid)
    state = rig.state()
    assert state is not None and creator is not None
    StateFile(rig.state_dir).save(state.model_copy(update={"phase": "starting", "creator": creator}))
    with pytest.raises(RigError, match="is starting a rig"):
        rig._clean_up()
    crashed.kill()
    crashed.wait()
    rig._clean_up()
    assert marked(str(rig.state_dir)) == [] and rig.state() is None


def test_up_refuses_a_folder_that_is_not_a_rigs(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RigError, match="no rig's folder"):
        Rig(tmp_path)._check_folder()
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_ports_lie_below_those_the_kernel_gives_to_clients() -> None:
    low = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(1024 <= port < max(low, 32_768) for port in ports)
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_emulated_clusters_and_servers_do_not_take_each_others_ports(tmp_path: Path) -> None:
    endpoints = Endpoints(kubeconfig="k", kubectl="kubectl", bootstrap_servers="b", redis_url="r", audit_log="a")
    processes = service_processes(endpoints, tmp_path, Options(workers=2))
    firsts = [int(process.env["FLEETWAKE_DEV_PORT_FIRST"]) for process in processes if "FLEETWAKE_DEV_PORT_FIRST" in process.env]
    assert len(firsts) == 1 and EMULATED_MIN <= firsts[0] <= EMULATED_MAX - 1000
    assert all(port > EMULATED_MAX for port in free_ports(20))


def test_processes_that_want_the_same_artifact_build_it_once(tmp_path: Path) -> None:
    program = """
import os, pathlib, sys
from fleetwake.rig.cache import artifact
from fleetwake.rig.progress import Progress

def build(folder: pathlib.Path) -> None:
    (folder / "builder").write_text(str(os.getpid()))

print(artifact("thing", build, Progress()) / "builder")
"""
    env = {**os.environ, "FLEETWAKE_CACHE": str(tmp_path)}
    started = [subprocess.Popen([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=60)[0].strip() for process in started}
    assert answers == {str(tmp_path / "thing" / "builder")}
    assert int((tmp_path / "thing" / "builder").read_text()) in {process.pid for process in started}


def test_a_build_that_failed_leaves_nothing_that_is_taken_for_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETWAKE_CACHE", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise RigError("no more disk")

    with pytest.raises(RigError, match="no more disk"):
        artifact("thing", fail, Progress(io.StringIO()))
    whole = artifact("thing", lambda folder: (folder / "whole").touch(), Progress(io.StringIO()))
    assert [path.name for path in whole.iterdir()] == ["whole"]


def test_a_build_command_that_fails_shows_its_last_lines() -> None:
    with pytest.raises(RigError, match=r"ended with 3:\nline 1\nline 2"):
        follow(["sh", "-c", "echo line 1; echo line 2 >&2; exit 3"], Progress(io.StringIO()), lambda line: line)


def test_every_service_has_its_own_account_port_and_instance(tmp_path: Path) -> None:
    nowhere = Endpoints(kubeconfig="/k/kubeconfig", kubectl="", bootstrap_servers="127.0.0.1:1", redis_url="redis://127.0.0.1:2/0", audit_log="")
    services = {process.name: process for process in service_processes(nowhere, tmp_path, Options(workers=2))}
    assert services.keys() == {"watcher-0", "reconcilers-0", "reconcilers-1", "remediation-0", "admission-0", "autoscaler_bridge-0", "dev_infrastructure-0"}
    assert [process.cmd[1] for process in services.values()] == ["watch", "reconcile", "reconcile", "remediate", "admit", "bridge", "dev-infrastructure"]
    assert {name: process.env["FLEETWAKE_KUBECONFIG"] for name, process in services.items()} == {
        "watcher-0": "/k/kubeconfig-watcher",
        "reconcilers-0": "/k/kubeconfig-reconcilers",
        "reconcilers-1": "/k/kubeconfig-reconcilers",
        "remediation-0": "/k/kubeconfig-remediation",
        "admission-0": "/k/kubeconfig-admission",
        "autoscaler_bridge-0": "/k/kubeconfig-autoscaler-bridge",
        "dev_infrastructure-0": "/k/kubeconfig-dev-infrastructure",
    }
    assert all(process.env["FLEETWAKE_INSTANCE"] == name for name, process in services.items())
    assert len({process.env["FLEETWAKE_WEB_PORT"] for process in services.values()}) == len(services)
    assert len({process.env["FLEETWAKE_DATA_DIR"] for process in services.values()}) == len(services)
    assert len({process.env["FLEETWAKE_CONFIG_DIR"] for process in services.values()}) == 1
