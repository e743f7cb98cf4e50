"""The compose file's services, run from the file as processes, do their whole work: clusters from ``examples/`` become Available, and what is to be seen of
that arrives as metrics, spans and log lines. The cluster's story is rebuilt from the file that the OpenTelemetry Collector wrote, and from that alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.rig.probes import wait_until
from services.dev_infrastructure.registry import KINDS as DEV_KINDS
from services.reconcilers.registry import KINDS as RECONCILERS_KINDS
from tests.deployment.compose.ground import LOOPBACK, NOT_RUN, Ground
from tests.deployment.compose.project import load
from tests.deployment.compose.queries import of_folder
from tests.deployment.compose.stack import Stack
from tests.deployment.compose.story import INTENT, PROCESS, RECONCILE, REQUEST, WATCH, Story, read
from tests.e2e.secret_needles import ALIGNMENTS, needles_of

log = logging.getLogger(__name__)
pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

CLUSTERS = ("demo", "pooled", "small")
SERVICES = {"fleetwake-watcher", "fleetwake-reconcilers", "fleetwake-remediation", "fleetwake-autoscaler-bridge", "fleetwake-dev-infrastructure"}
TELLING = SERVICES | {"fleetwake-admission"}
"""Those that log; the webhooks make no spans."""
INSTANCES = {"reconcilers-0", "reconcilers-1", "remediation-0", "autoscaler_bridge-0", "dev_infrastructure-0"}
ACCOUNTS = "system:serviceaccount:fleetwake-system:fleetwake-"
SPANS_MIN = 300
QUIET_S, QUIET_LIMIT_S = 3.0, 40.0
ARRIVE_LIMIT_S = 30.0
HTTP_LIMIT_S = 5.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything up; the collector also writes what it gets to files."""
    folder = tmp_path_factory.mktemp("compose")
    overlay = {
        "exporters": {f"file/{name}": {"path": str(folder / f"{name}.json"), "flush_interval": "200ms"} for name in ("spans", "logs")},
        "service": {"pipelines": {"traces": {"exporters": ["otlp_http/tempo", "file/spans"]}, "logs": {"exporters": ["otlp_http/loki", "file/logs"]}}},
    }
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay))
    with Stack(Ground(load(), folder), {"otelcol": [f"--config={folder / 'overlay.yaml'}"]}) as running:
        yield running


@dataclass(frozen=True)
class Demo:
    """What the examples came to, once all was settled."""

    story: Story
    spans: Path
    logs: Path
    audit: list[dict[str, Any]]
    secrets: set[bytes]


@pytest.fixture(scope="module")
def demo(stack: Stack) -> Demo:
    """What a user does: apply the folder of examples, and wait."""
    stack.run("kubectl", "apply", "-f", "/examples")
    stack.run("kubectl", "wait", "clusters", *CLUSTERS, "--for=condition=Available", "--timeout=90s")
    assert stack.tempo.wait_quiet(QUIET_S, QUIET_LIMIT_S)
    folder = stack.ground.folder
    audit = [json.loads(line) for line in (folder / "volumes" / "audit-log" / "audit.log").read_text().splitlines(keepends=True) if line.endswith("\n")]
    secrets = json.loads(stack.run("kubectl", "get", "secrets", "-o", "json"))["items"]
    values = {base64.b64decode(value) for secret in secrets for value in (secret.get("data") or {}).values()}
    return Demo(Story(read(folder / "spans.json")), folder / "spans.json", folder / "logs.json", audit, values)


def ask(stack: Stack, path: str) -> Any:
    """What Prometheus answers."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{stack.ground.ports['prometheus', 9090]}/api/v1/{path}", timeout=HTTP_LIMIT_S) as answer:
        return json.loads(answer.read())["data"]


def until(true: Callable[[], bool], what: str) -> None:
    """Wait for a state of another process that tells nobody when it is reached."""
    wait_until(true, ARRIVE_LIMIT_S, what)


# ---- the services ---------------------------------------------------------------------------------------------------------------------------


def test_each_health_check_says_no_before_its_service_is_there_and_yes_after(stack: Stack) -> None:
    checked = {name for name, one in stack.containers.items() if one.health and name not in NOT_RUN}
    assert {name for name, no in stack.unhealthy_before.items() if no} == checked
    assert {name: stack.check(name) for name in checked} == dict.fromkeys(checked, 0)
    log.info("run as processes: %s; not run: %s", ", ".join(sorted(checked)), ", ".join(sorted(NOT_RUN)))


def test_a_dead_service_is_seen_to_be_dead(stack: Stack) -> None:
    stack.kill("reconcilers-1")
    assert stack.check("reconcilers-1") != 0
    stack.start("reconcilers-1")
    stack.await_healthy("reconcilers-1")


def test_certificates_are_kept(stack: Stack) -> None:
    """A second ``up`` runs `certificates` again: whoever holds a kubeconfig must not lose it."""

    def digests() -> dict[str, str]:
        folder = stack.ground.folder / "volumes"
        return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("pki-*/*")}

    before = digests()
    assert len(before) > len(stack.containers)
    stack.start("certificates")
    assert stack.ended("certificates") == 0
    stack.ground.translate_kubeconfigs()
    assert digests() == before


def test_a_key_is_readable_by_its_owner_alone(stack: Stack) -> None:
    modes = {path: path.stat().st_mode & 0o777 for path in (stack.ground.folder / "volumes").glob("pki-*/*")}
    open_ones = {path.parent.name for path, mode in modes.items() if mode & 0o077}
    assert open_ones == {"pki-prometheus"}


@pytest.mark.usefixtures("demo")
def test_the_command_line_finds_everything(stack: Stack) -> None:
    assert "Cluster/demo" in stack.run("cli", "describe", "cluster", "demo")
    fleet = stack.run("cli", "describe", "--fleet")
    assert all(name in fleet for name in CLUSTERS)
    assert "reconcile" in stack.run("cli", "trace", "cluster/demo").lower()
    assert "requests of ours" in stack.run("cli", "audit", "cluster/demo")


# ---- metrics --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("demo")
def test_prometheus_reaches_every_process_that_runs(stack: Stack) -> None:
    def health() -> dict[str, str]:
        return {target["labels"]["instance"]: target["health"] for target in ask(stack, "targets?state=active")["activeTargets"]}

    wanted = {instance: "down" if job in NOT_RUN else "up" for job, instance in _targets(stack)}
    until(lambda: health() == wanted, f"targets {wanted}, not {health()}")


def _targets(stack: Stack) -> list[tuple[str, str]]:
    text = (stack.ground.folder / "binds" / "prometheus" / "compose" / "prometheus.yaml").read_text()
    jobs = yaml.safe_load(text)["scrape_configs"]
    return [(job["job_name"], target) for job in jobs for group in job["static_configs"] for target in group["targets"]]


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize(
    "query",
    [
        'sum by (service) (controller_runtime_reconcile_total{service="reconcilers"}) > 0',
        'sum(controller_runtime_reconcile_total{service="dev_infrastructure"}) > 0',
        'sum(apiserver_request_total{job="kube-apiserver", resource="machines"}) > 0',
        f'count(capi_cluster_status_condition{{type="Available", status="True"}} == 1) == {len(CLUSTERS)}',
        "sum(otelcol_receiver_accepted_spans_total or otelcol_receiver_accepted_spans) > 0",
    ],
)
def test_metrics_of_every_part_are_there(stack: Stack, query: str) -> None:
    until(lambda: bool(ask(stack, f"query?{urllib.parse.urlencode({'query': query})}")["result"]), query)


# ---- spans: the story from the collector's file ---------------------------------------------------------------------------------------------


def test_the_story_has_no_gap(demo: Demo) -> None:
    story = demo.story
    assert len(story.spans) > SPANS_MIN
    assert {name: getattr(story, name)()[:10] for name in ("doubled", "orphans", "dangling", "out_of_order")} == {
        "doubled": [],
        "orphans": [],
        "dangling": [],
        "out_of_order": [],
    }


def test_no_effect_is_older_than_its_cause(demo: Demo) -> None:
    assert demo.story.skewed() == []


def test_every_hop_of_every_kind_is_told(demo: Demo) -> None:
    story = demo.story
    reconciled = {kind.name for kind in (*RECONCILERS_KINDS, *DEV_KINDS)}
    assert story.of_hop(RECONCILE).keys() == reconciled
    # what a worker learns from its own request's answer it does not learn from Kafka: another service's record of the same object it does
    assert story.of_hop(WATCH).keys() >= reconciled
    assert story.of_hop(PROCESS).keys() == story.of_hop(WATCH).keys()
    assert story.of_hop(REQUEST).keys() >= reconciled | {"Secret"}


def test_every_audited_write_of_ours_is_told_once_and_leads_back_to_what_the_user_did(demo: Demo) -> None:
    requests = {
        span.attributes["fleetwake.audit_id"]: span
        for found in demo.story.of_hop(REQUEST).values()
        for span in found
        if "fleetwake.audit_id" in span.attributes
    }
    writes = [event for event in demo.audit if event["user"]["username"].startswith(ACCOUNTS) and (event.get("objectRef") or {}).get("namespace") == "default"]
    assert len(writes) > len(CLUSTERS) * 50
    assert [f"{event['verb']} {event['requestURI']}" for event in writes if event["auditID"] not in requests] == []
    ways = [demo.story.way(requests[event["auditID"]]) for event in writes]
    assert [way[0].name for way in ways if way[-1].hop != INTENT] == []
    # a template belongs to no cluster before a MachineDeployment or control plane takes it
    roots = {way[-1].name for way in ways if not way[-1].name.startswith("intent DevMachineTemplate ")}
    assert roots == {f"intent default/{name}" for name in CLUSTERS}


def test_one_apply_is_one_trace_for_each_cluster(demo: Demo) -> None:
    roots = [span for found in demo.story.of_hop(INTENT).values() for span in found if "capi.cluster.name" in span.attributes]
    assert sorted(root.name for root in roots) == [f"intent default/{name}" for name in CLUSTERS]
    for root in roots:
        name = root.attributes["capi.cluster.name"]
        traces = {span.trace for span in demo.story.spans if span.attributes.get("capi.cluster.name") == name}
        assert traces == {root.trace}


def test_resources_say_which_service_and_which_instance(demo: Demo) -> None:
    resources = [span.resource for span in demo.story.spans]
    assert {resource["service.name"] for resource in resources} == SERVICES
    assert {resource["service.instance.id"] for resource in resources if resource["service.name"] != "fleetwake-watcher"} <= INSTANCES
    assert all(resource["service.version"] for resource in resources)


def test_no_secret_value_is_in_a_span_or_a_log_line(demo: Demo) -> None:
    needles = {needle for value in demo.secrets for needle in needles_of(value)}
    assert len(needles) > 5 * (1 + ALIGNMENTS)
    for file in (demo.spans, demo.logs):
        text = file.read_bytes()
        assert text
        assert [needle for needle in needles if needle in text] == []


def test_the_queries_of_the_dashboards_name_what_spans_and_lines_have(stack: Stack, demo: Demo) -> None:
    """No Tempo nor Loki answers here; that a name is misspelt is found all the same."""
    spans = {("span", name) for span in demo.story.spans for name in span.attributes}
    spans |= {("resource", name) for span in demo.story.spans for name in span.resource}
    spans |= {("", name) for _, name in spans}
    # Loki makes labels of these of a resource's attributes, with underscores for dots
    labels = {name.replace(".", "_") for line in stack.loki.lines for name in line.resource}
    unknown = [(query, query.attributes - spans) for query in of_folder() if query.language == "traceql" and query.attributes - spans]
    unknown += [(query, {("", label) for label in query.labels - labels}) for query in of_folder() if query.language == "logql" and query.labels - labels]
    assert unknown == []


# ---- what reaches the backends --------------------------------------------------------------------------------------------------------------


def test_tempo_would_get_the_spans_that_the_file_has(stack: Stack, demo: Demo) -> None:
    wanted = {(span.trace, span.span) for span in demo.story.spans}
    assert stack.tempo.wait_for(lambda spans: wanted <= {(span.trace, span.span) for span in spans}, ARRIVE_LIMIT_S)


def test_loki_would_get_the_lines_of_every_service(stack: Stack, demo: Demo) -> None:
    wanted = TELLING | {"kube-apiserver-audit"}
    assert stack.loki.wait_for(lambda lines: wanted <= {line.resource.get("service.name") for line in lines}, ARRIVE_LIMIT_S)
    lines = stack.loki.lines
    assert {line.resource["service.name"] for line in lines} == wanted
    said = [json.loads(line.body) for line in lines if line.resource["service.name"] in TELLING]
    assert all({"time", "level", "logger", "message", "service", "instance"} <= line.keys() for line in said)
    assert {line["instance"] for line in said} == INSTANCES | {"watcher-0", "admission-0"}
    # the time and the severity are the line's own
    sample = next(line for line in lines if line.resource["service.name"] == "fleetwake-watcher")
    assert json.loads(sample.body)["level"] == sample.severity


def test_a_line_of_a_run_leads_to_its_trace(stack: Stack, demo: Demo) -> None:
    """The line is put into the folder of log files, where a worker would write it: in a demonstration nothing goes wrong that a run would have to tell of."""
    root = next(span for found in demo.story.of_hop(INTENT).values() for span in found)
    said = {
        "time": "2026-01-02T03:04:05.678+00:00",
        "level": "WARNING",
        "logger": "planted",
        "message": "it happened",
        "service": "dev_infrastructure",
        "instance": "x-0",
    }
    whose = {"kind": "Machine", "namespace": "default", "name": "one", "cluster": "default/demo"}
    line = json.dumps({**said, **whose, "trace_id": root.trace})
    (stack.ground.folder / "volumes" / "logs" / "planted.log").write_text(f"{line}\n")

    assert stack.loki.wait_for(lambda lines: any(one.body == line for one in lines), ARRIVE_LIMIT_S)

    (found,) = (one for one in stack.loki.lines if one.body == line)
    assert (found.trace, found.severity, found.at) == (root.trace, "WARNING", pytest.approx(1767323045.678))
    assert found.resource == {"service.name": "fleetwake-dev-infrastructure", "service.instance.id": "x-0"}
    assert found.attributes == whose
    known = {span.trace for span in demo.story.spans}
    assert [one.body for one in stack.loki.lines if one.trace and one.trace not in known] == []


def test_the_audit_log_says_who_applied_the_examples(stack: Stack, demo: Demo) -> None:
    lines = [line for line in stack.loki.lines if line.resource["service.name"] == "kube-apiserver-audit"]
    created = {(line.attributes.get("user_name"), json.loads(line.body)["objectRef"]["name"]) for line in lines if '"resource":"clusters"' in line.body}
    assert {("admin", name) for name in CLUSTERS} <= created
    assert {line.attributes["audit_id"] for line in lines} >= {event["auditID"] for event in demo.audit if event["verb"] == "create"}


# ---- last, because it ends what the others look at ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("demo")
def test_a_deleted_cluster_leaves_nothing(stack: Stack) -> None:
    """The garbage collector is the real one of kube-controller-manager, under accounts of its own."""
    stack.run("kubectl", "delete", "cluster", "small", "--timeout=60s")
    kinds = "clusters,machines,machinesets,machinedeployments,kubeadmcontrolplanes,kubeadmconfigs,devmachines,devclusters,secrets"
    until(lambda: "small" not in stack.run("kubectl", "get", kinds, "-o", "name"), "nothing of the cluster is left")


@pytest.mark.usefixtures("demo")
def test_a_deleted_namespace_goes(stack: Stack) -> None:
    stack.run("kubectl", "create", "namespace", "short")
    stack.run("kubectl", "delete", "namespace", "short", "--timeout=30s")
