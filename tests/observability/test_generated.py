"""What is committed is what its source says, and is whole: panels explain themselves, names are exported by somebody, alerts have their runbooks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploy import observability
from deploy.prometheus import state_metrics
from deploy.prometheus.alerts import alerts
from fleetwake.exposition import Families
from fleetwake.shell.metrics import Metrics
from schemas.api.registry import KINDS
from services.autoscaler_bridge.metrics import BridgeMetrics
from services.watcher.metrics import WatcherMetrics
from tests.observability.queries import VARIABLE, documents, panels, queries

ROOT = Path(__file__).parents[2]
DASHBOARDS = documents()
UIDS = {"prometheus", "tempo", "loki"}
BUILT_IN = {"__rate_interval", "__url_time_range", "__data", "__field", "__value"}
METRIC = re.compile(r"\b((?:capi|fleetwake|controller_runtime|workqueue|rest_client|process)_\w+|up|ALERTS)\b(?=[{\[\s)]|$)")
ELSEWHERE = {"up", "ALERTS", "process_cpu_seconds_total", "process_resident_memory_bytes"}
"""Of Prometheus itself, and of every process."""


def exported() -> set[str]:
    """Every name that a query may ask for."""
    found = {name for name, _, _ in state_metrics.families()} | ELSEWHERE
    bridge = Families()
    BridgeMetrics(bridge)
    for family in (*Metrics().families.list, *WatcherMetrics().families.list, *bridge.list):
        found |= {f"{family.name}{part}" for part in ("_bucket", "_count", "_sum")} if family.type == "histogram" else {family.name}
    return found


def test_committed_files_are_what_their_sources_say() -> None:
    assert observability.differing() == [], "run `make dashboards`"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    document = DASHBOARDS[name]
    assert document["uid"] == f"fleetwake-{name}"
    assert document["description"] and document["tags"] == ["fleetwake"]
    seen = [panel["id"] for panel in document["panels"]]
    assert seen == sorted(set(seen))
    for panel in panels(document):
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["targets"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= UIDS
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
        if panel["type"] in ("timeseries", "stat", "heatmap"):
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_panels_fill_the_grid_without_overlapping(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARDS[name]["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        for cell in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert cell not in taken, f"{panel['title']} lies on {taken[cell]}"
            taken[cell] = panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_one_of_grafanas_schema(name: str) -> None:
    """The library that writes it, generated from Grafana's own schemas, reads it back and knows every field."""
    register_default_plugins()
    read = Dashboard.from_json(DASHBOARDS[name])
    assert _told(json.loads(json.dumps(read, cls=JSONEncoder))) == _told(DASHBOARDS[name])


def _told(value: Any) -> Any:
    """Without what says nothing: null, and objects without a field."""
    if isinstance(value, dict):
        return {key: _told(part) for key, part in value.items() if part is not None and part != {}}
    return [_told(part) for part in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", DASHBOARDS)
def test_variables_that_are_used_are_there(name: str) -> None:
    document = DASHBOARDS[name]
    defined = {variable["name"] for variable in document["templating"]["list"]}
    used = {found.group(1) or found.group(2) for found in VARIABLE.finditer(str(document["panels"]))}
    assert used - BUILT_IN <= defined
    assert defined <= used | {"namespace"}, "a variable that changes nothing"


def test_links_lead_to_dashboards_that_are_there() -> None:
    uids = {document["uid"] for document in DASHBOARDS.values()}
    led = {uid for document in DASHBOARDS.values() for uid in re.findall(r"/d/([\w-]+)", str(document))}
    assert led and led <= uids


@pytest.mark.parametrize("query", queries("prometheus"), ids=str)
def test_a_query_asks_for_what_is_exported(query: Any) -> None:
    names = set(METRIC.findall(query.text))
    assert names, "it asks for nothing"
    assert names <= exported()


def test_rules_ask_for_what_is_exported() -> None:
    for alert in alerts():
        names = set(METRIC.findall(alert.expr))
        assert names and names <= exported(), alert.name


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    folder = ROOT / "docs/runbooks"
    assert {path.name for path in folder.glob("*.md")} == {alert.runbook for alert in alerts()}
    for alert in alerts():
        text = (folder / alert.runbook).read_text()
        assert text.startswith(f"# {alert.alert}\n"), alert.runbook
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert part in text, f"{alert.runbook} has no {part}"


def test_runbooks_and_dashboards_name_files_that_are_there() -> None:
    named = {name for document in DASHBOARDS.values() for name in re.findall(r"docs/runbooks/[\w-]+\.md", str(document))}
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    named |= {rule["annotations"]["runbook_url"] for group in rules["groups"] for rule in group["rules"]}
    assert all((ROOT / name).is_file() for name in named), named


def test_the_operators_rules_are_the_same_as_the_files() -> None:
    file = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())
    manifest = yaml.safe_load((ROOT / "deploy/k8s/monitoring/prometheus-rule.yaml").read_text())
    assert manifest["spec"]["groups"] == file["groups"]


def test_the_role_of_kube_state_metrics_covers_its_configuration() -> None:
    allowed = {(group, plural) for rule in state_metrics.cluster_role()["rules"] for group in rule["apiGroups"] for plural in rule["resources"]}
    assert {(model.GROUP, model.PLURAL) for model in KINDS} <= allowed
    assert {verb for rule in state_metrics.cluster_role()["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_every_kind_of_ours_has_state_metrics() -> None:
    described = {(entry["groupVersionKind"]["group"], entry["groupVersionKind"]["kind"]) for entry in state_metrics.configuration()["spec"]["resources"]}
    assert described == {(model.GROUP, model.KIND) for model in KINDS}
