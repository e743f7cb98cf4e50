"""Prometheus watches a demo: every panel's query has data, kube-state-metrics tells the truth, examples lead to traces, log lines say whose they are.

Then one part after another is made to fail, and each alert fires. Durations of the rules are shortened (conftest ``SHORTENED``); nothing else of them differs.
The tests of this file build on each other: one rig, one history.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from grpclib.exceptions import GRPCError
from kafka import KafkaProducer

from deploy.prometheus.alerts import alerts
from fleetwake import labels
from fleetwake.rig.probes import wait_until
from tests.e2e import manifests
from tests.e2e.autoscaler import Autoscaler, certificates
from tests.e2e.fleet import Fleet
from tests.e2e.recorder import World, condition
from tests.e2e.topics import TOPICS
from tests.observability.conftest import SERVICES, Watched
from tests.observability.queries import Query, queries

pytestmark = [pytest.mark.history, pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAMESPACE, NAME = "watched", "demo"
MACHINES = 1 + 3 + 1
"""Of the control plane, of the MachineDeployment, of the MachinePool."""
LEAST, MOST = labels.AUTOSCALER_MIN_SIZE, labels.AUTOSCALER_MAX_SIZE
FIRES_LIMIT_S = 30.0
"""Of alerts that hold for an hour as installed: 10 s here, a scrape, an evaluation, and a busy machine."""
SCRAPES = 10
"""As many as a rate looks back over."""
STALL_S = 1.0
"""Ten times what a reconcile may be late by."""
FLOOD_LIMIT_S, FLOOD_BURST = 20.0, 2_000
AFTER_FAULTS = {
    "pipeline / Watches that broke, records produced again",
    "pipeline / Plans confirmed by live reads",
    "pipeline / Workload clusters not answering",
    "pipeline / Replay, p99",
    "pipeline / Requests that were refused or unanswered",
    "fleet / Changes of size asked for, by outcome",
    "fleet / Requests of cluster-autoscalers not answered with OK",
    "fleet / Time to answer a cluster-autoscaler, p99",
}
"""Panels of what a healthy fleet does not do: they must have data once it was made to."""
UNIT_TESTED = {"Drift", "PartitionsNotReady"}
"""Alerts whose fault cannot be made in bounded time here; promtool feeds their rules series instead (``rules_test.yaml``)."""


def variables(query: Query) -> dict[str, str]:
    """What a user would have chosen."""
    one = {"namespace": NAMESPACE, "cluster": NAME}
    return one if query.dashboard == "cluster" else {"namespace": ".*", "controller": ".*", "threshold": "100ms"}


@pytest.fixture(scope="module")
def demo(watched: Watched) -> Watched:
    """A cluster has been created, whose workers are a node group, with a pool beside them; and scaled."""
    fleet = watched.fleet
    fleet.kubectl("create", "namespace", NAMESPACE)
    documents = [*manifests.cluster(NAME, NAMESPACE, workers=2), *manifests.pool(NAME, NAMESPACE, replicas=1)]
    workers = next(document for document in documents if document["kind"] == "MachineDeployment")
    workers["metadata"]["annotations"] = {LEAST: "0", MOST: "10"}
    fleet.apply(*documents)
    fleet.settle(NAMESPACE, NAME)
    fleet.scale(NAMESPACE, f"machinedeployment/{NAME}-workers", 3)
    # settled is also what has not been seen to change yet
    fleet.recorder.wait(lambda world: [] if len(world.all("Machine", NAMESPACE, NAME)) == MACHINES else ["a Machine"], FIRES_LIMIT_S, "scaled")
    fleet.settle(NAMESPACE, NAME)
    available = f'capi_cluster_status_condition{{type="Available", status="True", namespace="{NAMESPACE}"}} == 1'
    wait_until(lambda: watched.prometheus.now(available) != [], FIRES_LIMIT_S, "what Prometheus has scraped of the demo")
    scraped = f"count_over_time(up[1m]) >= {SCRAPES}"
    wait_until(lambda: len(watched.prometheus.now(scraped)) == len(SERVICES) + 1, FIRES_LIMIT_S, "rates of every target")
    return watched


# ---- what is told of a healthy fleet ------------------------------------------------------------------------------------------------------------
def expected(world: World) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Series that kube-state-metrics must have of the demo's objects, and their values."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def add(metric: str, number: float, **labels: str) -> None:
        found[f"capi_{metric}", frozenset({"namespace": NAMESPACE, **labels}.items())] = number

    for kind in ("Cluster", "Machine", "MachineSet", "MachineDeployment", "MachinePool", "KubeadmControlPlane", "KubeadmConfig", "DevCluster", "DevMachine"):
        for item in world.all(kind, NAMESPACE):
            lower, of = kind.lower(), {"name": item["metadata"]["name"], "uid": item["metadata"]["uid"]}
            add(f"{lower}_info", 1, **of)
            add(f"{lower}_created", _unix(item["metadata"]["creationTimestamp"]), **of)
            for owner in item["metadata"].get("ownerReferences", ()):
                add(f"{lower}_owner", 1, owner_kind=owner["kind"], owner_name=owner["name"], owner_uid=owner["uid"], **of)
            for told in item["status"]["conditions"]:
                for status in ("True", "False", "Unknown"):
                    add(f"{lower}_status_condition", told["status"] == status, type=told["type"], status=status, **of)
                changed = _unix(told["lastTransitionTime"])
                add(f"{lower}_status_condition_last_transition_time", changed, type=told["type"], status=told["status"], **of)
    for machine in world.all("Machine", NAMESPACE):
        of = {"name": machine["metadata"]["name"], "cluster_name": NAME}
        add("machine_status_phase", 1, phase=machine["status"]["phase"], **of)
        add("machine_status_noderef", 1, node_name=machine["status"]["nodeRef"]["name"], **of)
    for kind, name in (("MachineDeployment", f"{NAME}-workers"), ("KubeadmControlPlane", f"{NAME}-control-plane")):
        owner = world.get(kind, NAMESPACE, name)
        assert owner is not None
        add(f"{kind.lower()}_spec_replicas", owner["spec"]["replicas"], name=name, cluster_name=NAME)
        if kind == "MachineDeployment":
            add("machinedeployment_annotation_node_group_min_size", 0, name=name)
            add("machinedeployment_annotation_node_group_max_size", 10, name=name)
        for metric, field in (("available", "availableReplicas"), ("ready", "readyReplicas"), ("uptodate", "upToDateReplicas")):
            add(f"{kind.lower()}_status_replicas_{metric}", owner["status"][field], name=name, cluster_name=NAME)
    add("cluster_spec_paused", 0, name=NAME)
    return found


def test_state_metrics_say_what_the_objects_say(demo: Watched) -> None:
    wanted = expected(demo.fleet.recorder.world)
    assert len(wanted) > 500

    def differing() -> list[str]:
        samples = demo.states.samples()
        return [
            f"{metric} {dict(labels)} is {found}, not {number}"
            for (metric, labels), number in wanted.items()
            if (found := [value for name, has, value in samples if name == metric and labels <= has.items()]) != [number]
        ]

    # its own watch may be a moment behind the test's
    deadline = time.monotonic() + FIRES_LIMIT_S
    while (different := differing()) and time.monotonic() < deadline:
        continue
    assert different == []
    assert not [line for line in demo.states.log.read_text().splitlines() if "forbidden" in line or line.startswith("E")]


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_every_query_has_data(demo: Watched) -> None:
    empty = [str(query) for query in queries("prometheus") if not demo.prometheus.values(query.filled(variables(query)))]
    assert {query.split(":")[0] for query in empty} <= AFTER_FAULTS, "\n".join(empty)


def test_every_rule_is_evaluated(demo: Watched) -> None:
    rules = {rule["name"]: rule for rule in demo.prometheus.rules()}
    assert rules.keys() == {alert.alert for alert in alerts()}
    assert {name: rule.get("lastError") for name, rule in rules.items() if rule["health"] == "err"} == {}


def test_a_healthy_fleet_wakes_nobody(demo: Watched) -> None:
    """Of the rules as installed; how late reconciles start is a matter of the machine that this runs on."""
    woken = {alert.name: found for alert in alerts() if not alert.name.startswith("Latency") and (found := demo.prometheus.now(alert.expr))}
    assert woken == {}


def test_examples_lead_to_traces(demo: Watched) -> None:
    traces = {span.trace for span in demo.receiver.spans}
    for metric in ("controller_runtime_reconcile_time_seconds_bucket", "fleetwake_event_to_reconcile_seconds_bucket", "fleetwake_write_seconds_bucket"):
        found = {exemplar["labels"]["trace_id"] for exemplar in demo.prometheus.exemplars(metric)}
        assert found and found <= traces, metric


def test_searches_for_traces_ask_for_what_spans_have(demo: Watched) -> None:
    """Tempo itself is not here: its queries' attributes and names are held against the spans that it would get."""
    spans = demo.receiver.spans
    attributes = {name for span in spans for name in span.attributes}
    for query in queries("tempo"):
        text = query.filled({**variables(query), "controller": "Machine|Cluster"})
        assert set(re.findall(r"span\.([\w.]+)", text)) <= attributes, str(query)
        for kind, pattern in re.findall(r'(?<![.\w])name (=~|=) "([^"]+)"', text):
            wanted = pattern if kind == "=~" else re.escape(pattern)
            assert any(re.fullmatch(wanted, span.name) for span in spans), f"{query}: {sorted({span.name for span in spans})}"
    assert any(span.attributes.get("capi.cluster.name") == NAME and span.name == f"intent {NAMESPACE}/{NAME}" for span in spans)


# ---- log lines --------------------------------------------------------------------------------------------------------------------------------------
def _lines(watched: Watched) -> list[dict[str, Any]]:
    found = []
    for name in SERVICES:
        for text in (watched.logs / f"{name}.log").read_text().splitlines():
            line = json.loads(text)
            assert isinstance(line, dict), text
            found.append(line)
    return found


def check_log_lines(watched: Watched) -> None:
    """Every line is one JSON object with the keys of all lines; what a run wrote says whose it is; no secret is in them."""
    lines = _lines(watched)
    for line in lines:
        assert {"time", "level", "logger", "message", "service", "instance"} <= line.keys(), line
    of_runs = [line for line in lines if line["message"].startswith("reconcile ")]
    for line in of_runs:
        assert {"kind", "namespace", "name", "cluster", "trace_id"} <= line.keys(), line
        assert len(line["trace_id"]) == 32 and line["cluster"].partition("/")[0] == line["namespace"], line
    assert of_runs, "no run wrote a line"
    text = "\n".join(json.dumps(line) for line in lines)
    secrets = [seen.object for seen in watched.fleet.recorder.history if seen.name.kind == "Secret" and seen.name.namespace == NAMESPACE]
    values = {value for secret in secrets for encoded in (secret.get("data") or {}).values() for value in (encoded, *_key_lines(encoded))}
    assert len(values) > 10
    assert not [value[:8] for value in values if len(value) >= 16 and value in text]


def _key_lines(encoded: str) -> list[str]:
    plain = base64.b64decode(encoded).decode(errors="replace")
    return [line for line in plain.splitlines() if re.fullmatch(r"[A-Za-z0-9+/=]{40,}", line)]


def test_searches_for_lines_ask_for_what_lines_have(demo: Watched) -> None:
    """Loki itself is not here: the labels that its queries compare are held against real lines."""
    keys = {key for line in _lines(demo) for key in line}
    for query in queries("loki"):
        stream, *stages = query.text.split("|")
        assert 'service_name=~"fleetwake-' in stream
        compared = {name for stage in stages for name in re.findall(r"^\s*(\w+)=~?\"", stage)}
        shown = set(re.findall(r"\{\{\.(\w+)\}\}", query.text))
        assert (compared | shown) and compared | shown <= keys | {"kind", "name", "namespace", "cluster"}, str(query)


# ---- faults -------------------------------------------------------------------------------------------------------------------------------------------
DENIED = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: %(name)s}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %(namespace)s}}
    resourceRules:
    - {apiGroups: [cluster.x-k8s.io], apiVersions: ["*"], operations: [CREATE], resources: [machines]}
  validations:
  - {expression: "false", message: not in this namespace, reason: %(reason)s}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: %(name)s}
spec: {policyName: %(name)s, validationActions: [Deny]}
"""


def _fires(watched: Watched, *names: str) -> None:
    """Wait until these fire, of what happened since ``forget``."""
    watched.alertmanager.wait_for(*map(_full, names), limit_s=FIRES_LIMIT_S)


def _full(alert: str) -> str:
    return f"Fleetwake{alert}"


def test_records_that_cannot_be_read_or_understood(demo: Watched) -> None:
    demo.alertmanager.forget()
    producer = KafkaProducer(bootstrap_servers=demo.fleet.rig.endpoints().bootstrap_servers.split(","))
    producer.send(TOPICS.objects, value=b"{not json", key=b"no key of ours", partition=0).get(timeout=10)
    # a Machine of a shape that no API server lets through: whom it concerns cannot be told
    odd = {"metadata": {"name": "odd", "namespace": NAMESPACE, "uid": "odd", "resourceVersion": "1", "ownerReferences": [{"uid": "odd", "controller": True}]}}
    partition = _partition(demo.fleet)
    headers = [("type", b"ADDED"), ("epoch", b"1"), ("rv", b"1"), ("cluster", f"{NAMESPACE}/{NAME}".encode()), ("received", b"0"), ("produced", b"0")]
    producer.send(TOPICS.objects, json.dumps(odd).encode(), f"cluster.x-k8s.io/Machine/{NAMESPACE}/odd".encode(), headers, partition).get(timeout=10)
    producer.close()
    _fires(demo, "DeadLetters", "ReconcilePanics")


def _partition(fleet: Fleet) -> int:
    from fleetwake.stream.partition import partition_of
    from schemas.topics import PARTITIONS_DEFAULT

    return partition_of(f"{NAMESPACE}/{NAME}", PARTITIONS_DEFAULT)


def test_writes_that_a_policy_refuses(demo: Watched) -> None:
    fleet = demo.fleet
    demo.alertmanager.forget()
    for name, reason in (("forbidden", "Forbidden"), ("invalid", "Invalid")):
        fleet.kubectl("create", "namespace", name)
        fleet.kubectl("apply", "-f", "-", stdin=DENIED % {"name": name, "namespace": name, "reason": reason})
    try:
        for name in ("forbidden", "invalid"):
            # an API server takes a moment to read its policies
            wait_until(partial(_refuses, fleet, name), FIRES_LIMIT_S, f"the policy of {name}")
            fleet.apply(*manifests.cluster("refused", name, workers=1))
        # their endpoints are promised, and no control plane comes up behind them
        _fires(demo, "WritesForbidden", "WritesInvalid", "ReconcileErrors", "ClusterNotAvailable", "WorkloadClusterNotConnected")
    finally:
        for name in ("forbidden", "invalid"):
            fleet.kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def _refuses(fleet: Fleet, namespace: str) -> bool:
    """Whether a Machine is refused there now."""
    machine = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Machine",
        "metadata": {"name": "tried", "namespace": namespace},
        "spec": {
            "clusterName": "tried",
            "bootstrap": {"dataSecretName": "none"},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": "tried"},
        },
    }
    try:
        fleet.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(machine))
    except AssertionError as error:
        return "not in this namespace" in str(error)
    return False


def test_a_machine_that_may_not_go_and_a_certificate_that_ends(demo: Watched) -> None:
    fleet, world = demo.fleet, demo.fleet.recorder.world
    demo.alertmanager.forget()
    workers = [machine for machine in world.all("Machine", NAMESPACE, NAME) if "cluster.x-k8s.io/control-plane" not in machine["metadata"]["labels"]]
    held = f"machine/{workers[0]['metadata']['name']}"
    fleet.kubectl("-n", NAMESPACE, "annotate", held, "pre-drain.delete.hook.machine.cluster.x-k8s.io/test=owner")
    fleet.kubectl("-n", NAMESPACE, "delete", held, "--wait=false")
    control_plane = next(machine for machine in world.all("Machine", NAMESPACE, NAME) if machine not in workers)
    config = control_plane["spec"]["bootstrap"]["configRef"]["name"]
    soon = (datetime.now(UTC) + timedelta(days=3)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fleet.kubectl("-n", NAMESPACE, "annotate", "--overwrite", f"kubeadmconfig/{config}", f"machine.cluster.x-k8s.io/certificates-expiry={soon}")
    _fires(demo, "MachineStuckDeleting", "CertificateExpiry")
    fleet.kubectl("-n", NAMESPACE, "annotate", held, "pre-drain.delete.hook.machine.cluster.x-k8s.io/test-")


def test_node_groups_that_are_refused_or_cannot_grow(demo: Watched, tmp_path: Path) -> None:
    fleet, workers = demo.fleet, f"machinedeployment/{NAME}-workers"
    demo.alertmanager.forget()
    autoscaler = Autoscaler(certificates(fleet, f"{NAMESPACE}/{NAME}", tmp_path / NAME))
    group = f"MachineDeployment/{NAMESPACE}/{NAME}-workers"
    autoscaler.until(lambda: group in autoscaler.groups())
    # a rate needs a sample from before
    wait_until(lambda: demo.prometheus.now('fleetwake_autoscaler_requests_total{method="NodeGroups"}') != [], FIRES_LIMIT_S, "the requests scraped")
    with pytest.raises(GRPCError):
        autoscaler.increase(group, 100)
    autoscaler.groups()
    asked = 'fleetwake_autoscaler_requests_total{method="NodeGroupIncreaseSize", code="OUT_OF_RANGE"}'
    wait_until(lambda: demo.prometheus.now(asked) != [], FIRES_LIMIT_S, "the refusal scraped")
    # the bridge decides from what it has been told, the API server knows better, and the next plan is confirmed by live reads
    fleet.rig.pause("watcher-0")
    try:
        fleet.kubectl("-n", NAMESPACE, "annotate", workers, "told=late")
        autoscaler.increase(group, 1)
    finally:
        fleet.rig.resume("watcher-0")
    stale = 'capi_reconcile_stale_cache_skips_total{controller="MachineDeployment"} > 0'
    wait_until(lambda: demo.prometheus.now(stale) != [], FIRES_LIMIT_S, "the plan that was made anew scraped")
    (pool,) = (document for document in manifests.pool(f"{NAME}-bare", NAMESPACE, replicas=0) if document["kind"] == "MachinePool")
    # of infrastructure that does not exist nothing is known
    pool["metadata"]["annotations"] = {LEAST: "0", MOST: "3"}
    pool["spec"]["clusterName"] = pool["spec"]["template"]["spec"]["clusterName"] = NAME
    fleet.apply(pool)
    fleet.kubectl("-n", NAMESPACE, "annotate", "--overwrite", workers, f"{MOST}=many")
    try:
        _fires(demo, "NodeGroupRefused", "NodeGroupWithoutCapacity")
    finally:
        fleet.kubectl("-n", NAMESPACE, "annotate", "--overwrite", workers, f"{MOST}=10")
        fleet.kubectl("-n", NAMESPACE, "delete", "machinepool", pool["metadata"]["name"], "--wait=false")


def test_a_collector_and_a_redis_that_are_gone(demo: Watched) -> None:
    demo.alertmanager.forget()
    demo.receiver.stop()
    demo.fleet.rig.stop("redis")
    try:
        demo.fleet.scale(NAMESPACE, f"machinedeployment/{NAME}-workers", 2)
        _fires(demo, "ReadModelFailures", "SpansDropped")
    finally:
        demo.fleet.rig.start("redis")
        demo.fleet.rig.wait_ready("redis")


def test_records_that_come_faster_than_they_are_taken(demo: Watched) -> None:
    demo.alertmanager.forget()

    async def flood() -> None:
        producer = AIOKafkaProducer(bootstrap_servers=demo.fleet.rig.endpoints().bootstrap_servers.split(","), linger_ms=5)
        await producer.start()
        try:
            deadline, number = time.monotonic() + FLOOD_LIMIT_S, 0
            while "FleetwakeConsumerLag" not in demo.alertmanager.fired and time.monotonic() < deadline:
                # the ends of objects that nobody has heard of: nothing comes of them
                for _ in range(FLOOD_BURST):
                    number += 1
                    key = f"cluster.x-k8s.io/Machine/{NAMESPACE}/flood-{number}".encode()
                    await producer.send(TOPICS.objects, key=key, value=None, partition=number % 4)
                await producer.flush()
        finally:
            await producer.stop()

    asyncio.run(flood())
    _fires(demo, "ConsumerLag")


def test_a_broker_that_is_frozen(demo: Watched) -> None:
    rig = demo.fleet.rig
    demo.alertmanager.forget()
    rig.pause("kafka-0")
    try:
        # the watcher reads these lines now and can produce them only afterwards
        demo.fleet.scale(NAMESPACE, f"machinedeployment/{NAME}-workers", 4)
        _fires(demo, "WorkerFenced")
    finally:
        rig.resume("kafka-0")
    # one late moment is too short for the slower alert where a scrape is missed: the broker stalls again and again
    late = ("LatencyBurnFast", "LatencyBurnSlow")
    deadline = time.monotonic() + 2 * FIRES_LIMIT_S
    for look in count():
        rig.pause("kafka-0")
        try:
            demo.fleet.kubectl("-n", NAMESPACE, "annotate", "--overwrite", "machines", "--all", f"look={look}")
            demo.alertmanager.have_fired(*map(_full, late), limit_s=STALL_S)
        finally:
            rig.resume("kafka-0")
        if demo.alertmanager.have_fired(*map(_full, late), limit_s=STALL_S):
            break
        assert time.monotonic() < deadline, f"{late} have not fired in {look + 1} stalls"


def test_an_api_server_that_is_dead_then_frozen(demo: Watched) -> None:
    fleet = demo.fleet
    wait_until(lambda: demo.prometheus.now('sum(fleetwake_watch_streams{synced="true"}) > 0') != [], FIRES_LIMIT_S, "a watcher that watches")
    demo.alertmanager.forget()
    fleet.rig.kill("apiserver")
    try:
        _fires(demo, "WatchNotSynced")
    finally:
        fleet.rig.start("apiserver")
        fleet.rig.wait_ready("apiserver")
    fleet.scale(NAMESPACE, f"machinedeployment/{NAME}-workers", 6)
    fleet.rig.pause("apiserver")
    try:
        _fires(demo, "WorkerStuck")
    finally:
        fleet.rig.resume("apiserver")


def test_services_that_are_gone(demo: Watched) -> None:
    rig, gone = demo.fleet.rig, ("dev_infrastructure-0", "watcher-0")
    demo.alertmanager.forget()
    try:
        for name in gone:
            rig.kill(name)
        _fires(demo, "ServiceDown", "NoWatcherLeads")
        # whoever takes its partitions replays them
        rig.kill("reconcilers-1")
        (replay,) = (query for query in queries("prometheus") if query.panel.startswith("Replay"))
        wait_until(lambda: demo.prometheus.values(replay.filled(variables(replay))) != [], FIRES_LIMIT_S, "the replay scraped")
    finally:
        for name in (*gone, "reconcilers-1"):
            rig.start(name)
        for name in (*gone, "reconcilers-1"):
            rig.wait_ready(name)


def test_every_alert_has_fired(demo: Watched) -> None:
    fired = {name.removeprefix("Fleetwake") for name in demo.alertmanager.seen | demo.alertmanager.fired.keys()}
    assert {alert.name for alert in alerts()} - fired <= UNIT_TESTED


def test_panels_of_faults_have_data_now(demo: Watched) -> None:
    empty = [str(query) for query in queries("prometheus") if not demo.prometheus.values(query.filled(variables(query)))]
    assert empty == []


def test_the_fleet_recovers_and_every_line_says_whose_it_is(demo: Watched) -> None:
    demo.fleet.accept_blind_spot()

    def lacking(world: World) -> list[str]:
        clusters = [(namespace, cluster) for namespace in ("forbidden", "invalid", NAMESPACE) for cluster in world.all("Cluster", namespace)]
        return [f"{namespace}/{cluster['metadata']['name']}" for namespace, cluster in clusters if condition(cluster, "Available") != "True"]

    # what was forbidden is tried again once a minute: a change of the user's is quicker
    for name in ("forbidden", "invalid"):
        demo.fleet.kubectl("-n", name, "annotate", "machineset", "--all", "look=again")
        demo.fleet.kubectl("-n", name, "annotate", "kubeadmcontrolplane", "--all", "look=again")
    demo.fleet.recorder.wait(lacking, 60.0, "all Available")
    check_log_lines(demo)
