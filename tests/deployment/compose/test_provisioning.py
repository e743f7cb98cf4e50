"""The configuration files beside the compose file name each other's hosts, ports, uids and paths: what one says of another is so."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.deployment.compose.ground import PORTS
from tests.deployment.compose.project import CHECKOUT, COMPOSE

FOLDER = COMPOSE.parent
UIDS = {"prometheus", "tempo", "loki"}
PLACE = re.compile(r"(?:https?://)?([a-z][\w-]*):(\d{4,5})\b")


def read(name: str) -> Any:
    return yaml.safe_load((FOLDER / name).read_text())


@pytest.fixture(scope="module")
def sources() -> dict[str, dict[str, Any]]:
    found = read("grafana/provisioning/datasources/fleetwake.yaml")["datasources"]
    return {one["uid"]: one for one in found}


def _values(node: Any, key: str) -> list[Any]:
    """What stands under a key, at whatever depth."""
    children = list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []
    found = [node[key]] if isinstance(node, dict) and key in node else []
    return found + [value for child in children for value in _values(child, key)]


def test_the_data_sources_have_the_uids_that_dashboards_name(sources: dict[str, dict[str, Any]]) -> None:
    assert sources.keys() == UIDS
    assert all(uid == one["type"] for uid, one in sources.items())


def test_each_data_source_leads_to_the_others(sources: dict[str, dict[str, Any]]) -> None:
    leads = {uid: set(_values(one["jsonData"], "datasourceUid")) for uid, one in sources.items()}
    every = {uid: set() for uid in UIDS} | leads
    assert every["prometheus"] == {"tempo"}
    assert every["loki"] == {"tempo"}
    assert every["tempo"] == {"loki", "prometheus"}
    tempo = sources["tempo"]["jsonData"]
    assert tempo["nodeGraph"]["enabled"] and tempo["serviceMap"]["datasourceUid"] == "prometheus"


def test_grafana_leaves_its_own_variables_to_the_links(sources: dict[str, dict[str, Any]]) -> None:
    """Grafana replaces ``$NAME`` in provisioning files by environment variables: what is meant for a link is written with two dollar signs."""
    text = (FOLDER / "grafana/provisioning/datasources/fleetwake.yaml").read_text()
    assert re.findall(r"(?<!\$)\$(?!\$)[{\w]+", text) == []
    assert len(re.findall(r"\$\$", text)) >= 4


@pytest.mark.parametrize("name", ["otelcol.yaml", "tempo.yaml", "loki.yaml", "prometheus.yaml", "grafana/provisioning/datasources/fleetwake.yaml"])
def test_every_host_and_port_is_one_of_the_compose_file(name: str) -> None:
    text = "\n".join(line.partition(" #")[0] for line in (FOLDER / name).read_text().splitlines() if not line.lstrip().startswith("#"))
    places = {(host, int(port)) for host, port in PLACE.findall(text) if host not in ("localhost", "http", "https")}
    assert [place for place in places if place[1] not in PORTS.get(place[0], ())] == []


def test_tempo_derives_the_service_graph_and_sends_it_where_grafana_looks() -> None:
    tempo = read("tempo.yaml")
    assert set(tempo["overrides"]["defaults"]["metrics_generator"]["processors"]) == {"service-graphs", "span-metrics", "local-blocks"}
    (write,) = tempo["metrics_generator"]["storage"]["remote_write"]
    assert write == {"url": "http://prometheus:9090/api/v1/write", "send_exemplars": True}
    flags = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["prometheus"]["command"]
    assert {"--web.enable-remote-write-receiver", "--enable-feature=exemplar-storage"} <= set(flags)


def test_prometheus_asks_every_process_of_fleetwake() -> None:
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    wanted = {f"{name}:8080" for name, one in compose.items() if "FLEETWAKE_INSTANCE" in (one.get("environment") or {})}
    jobs = {job["job_name"]: job for job in read("prometheus.yaml")["scrape_configs"]}
    assert {target for group in jobs["fleetwake"]["static_configs"] for target in group["targets"]} == wanted


def test_the_workers_are_told_apart_by_their_names_not_by_a_port() -> None:
    labels = [group["labels"]["service"] for group in read("prometheus.yaml")["scrape_configs"][0]["static_configs"]]
    # the trail is a consumer that whoever wants one starts; it is no part of the stack
    folders = {path.parent.name for path in (CHECKOUT / "services").glob("*/app.py")} - {"audit_trail"}
    assert set(labels) == folders


def test_dashboards_ask_only_data_sources_that_are_provisioned() -> None:
    found = {
        (path.name, source["uid"])
        for path in (CHECKOUT / "deploy" / "grafana" / "dashboards").glob("*.json")
        for source in _values(json.loads(path.read_text()), "datasource")
        if isinstance(source, dict) and "uid" in source
    }
    assert {one for one in found if not one[1].startswith(("$", "-- ", "grafana")) and one[1] not in UIDS} == set()
