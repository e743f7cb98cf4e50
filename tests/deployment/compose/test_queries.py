"""Every TraceQL and LogQL query of the dashboards is one by the grammars of Grafana's editors. No backend has answered them: see fleetwake.rig.queries.

The grammars are narrower than the backends: of TraceQL they refuse ``.99`` for 0.99 and ``nestedSetParent``.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fleetwake.rig import Progress
from fleetwake.rig.queries import parse_queries
from tests.deployment.compose.queries import Query, filled, of_dashboard, of_folder

log = logging.getLogger(__name__)
TRACEQL = {
    '{ resource.service.name = "fleetwake-reconcilers" && span.capi.cluster.name = "demo" }': True,
    '{ name =~ "reconcile .*" && duration > 100ms } | select(span.k8s.object.name)': True,
    '{ kind = client && status = error } | rate() by (span.k8s.object.kind)': True,
    '{ name =~ "reconcile .*" } | quantile_over_time(duration, 0.99) by (span.k8s.object.kind)': True,
    '{ span.capi.cluster.name = "demo" ': False,
    '{ duration > }': False,
    'select service where x': False,
}  # fmt: skip
LOGQL = {
    '{service_name=~"fleetwake-.+"} | json | cluster = "default/demo"': True,
    '{service_name="fleetwake-watcher"} | trace_id = "abc" |= "term ended"': True,
    'sum by (level) (count_over_time({service_name=~"fleetwake-.+"} | json | level="ERROR" [5m]))': True,
    '{service_name=~"fleetwake-.+" | json': False,
    'sum by level) (rate({a="b"}[5m]))': False,
}  # fmt: skip
PANEL = {
    "panels": [
        {"title": "rows", "type": "row", "panels": [{"title": "folded", "datasource": {"uid": "tempo"}, "targets": [{"query": '{ name = "$kind" }'}]}]},
        {"title": "logs", "targets": [{"datasource": {"type": "loki", "uid": "${source}"}, "expr": "rate({a=~\"${names:regex}\"}[$__rate_interval])"}]},
        {"title": "graph", "datasource": "prometheus", "targets": [{"expr": "up"}, {"refId": "empty"}]},
        {"title": "text"},
    ],
    "templating": {"list": [{"name": "kind", "current": {"value": "reconcile Machine"}}, {"name": "names", "current": {"value": ["$__all"]}}]},
    "annotations": {"list": [{"name": "rollouts", "datasource": {"uid": "loki"}, "expr": '{a="b"}'}, {"name": "none", "datasource": {"uid": "-- Grafana --"}}]},
}  # fmt: skip


def test_queries_are_found_wherever_a_dashboard_has_them() -> None:
    found = {(query.panel, query.language, query.text) for query in of_dashboard("one", PANEL)}
    assert found == {
        ("folded", "traceql", '{ name = "reconcile Machine" }'),
        ("logs", "logql", 'rate({a=~".*"}[5m])'),
        ("graph", "promql", "up"),
        ("annotation rollouts", "logql", '{a="b"}'),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [("rate(x[$__rate_interval])", "rate(x[5m])"), ('{a="${cluster:regex}", b="[[kind]]"}', '{a="demo", b="demo"}'), ("no variable", "no variable")],
)
def test_variables_get_values(text: str, expected: str) -> None:
    assert filled(text) == expected


def test_what_a_query_names_is_read_from_it() -> None:
    query = Query(
        "d", "p", "traceql", '{ resource.service.name = "a.b" && .x > 1 && duration > 1.5s && span.k8s.object.kind =~ "q.r" } | by(span.k8s.object.name)'
    )
    assert query.attributes == {("resource", "service.name"), ("", "x"), ("span", "k8s.object.kind"), ("span", "k8s.object.name")}
    assert Query("d", "p", "logql", 'sum by (x) (rate({service_name="a", level!~"b"} | json | y = "z" [5m]))').labels == {"service_name", "level"}


@pytest.mark.e2e
@pytest.mark.parametrize(("language", "samples"), [("traceql", TRACEQL), ("logql", LOGQL)])
def test_the_grammars_tell_queries_from_what_is_none(language: str, samples: dict[str, bool]) -> None:
    found = parse_queries([(language, text) for text in samples], Progress())
    assert {text: not parsed.errors for text, parsed in zip(samples, found, strict=True)} == samples


@pytest.mark.e2e
def test_every_query_of_the_dashboards_parses() -> None:
    queries = [query for query in of_folder() if query.language != "promql"]
    parsed = parse_queries([(query.language, query.text) for query in queries], Progress())
    faults: list[Any] = [(query, one.errors) for query, one in zip(queries, parsed, strict=True) if one.errors]
    assert faults == []
    counts = {language: sum(query.language == language for query in queries) for language in ("traceql", "logql")}
    log.info("parsed by the grammars of Grafana's editors, answered by no backend: %s", counts)
