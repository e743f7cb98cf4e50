"""What a scrape answers: names and labels as controller-runtime and Cluster API have them, exemplars for those who can read them, one count under many."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from fleetwake.exposition import Families, RequestCounter, exposed
from fleetwake.shell.metrics import Metrics, observe
from fleetwake.tracing.current import CURRENT, CurrentRun
from schemas.keys import ClusterKey, ObjectKey
from services.watcher.metrics import WatcherMetrics

OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
TRACE = "0af7651916cd43dd8448eb211c80319c"

C2 = {
    "controller_runtime_reconcile_total": {"controller", "result"},
    "controller_runtime_reconcile_errors_total": {"controller"},
    "controller_runtime_terminal_reconcile_errors_total": {"controller"},
    "controller_runtime_reconcile_panics_total": {"controller"},
    "controller_runtime_reconcile_timeouts_total": {"controller"},
    "controller_runtime_reconcile_time_seconds": {"controller"},
    "controller_runtime_max_concurrent_reconciles": {"controller"},
    "controller_runtime_active_workers": {"controller"},
    "workqueue_depth": {"name", "controller", "priority"},
    "workqueue_adds_total": {"name", "controller"},
    "workqueue_queue_duration_seconds": {"name", "controller"},
    "workqueue_work_duration_seconds": {"name", "controller"},
    "workqueue_unfinished_work_seconds": {"name", "controller"},
    "workqueue_longest_running_processor_seconds": {"name", "controller"},
    "workqueue_retries_total": {"name", "controller"},
    "capi_reconcile_total": {"controller", "result"},
    "capi_reconcile_time_seconds": {"controller"},
    "capi_reconcile_stale_cache_skips_total": {"controller", "cached_kind"},
    "capi_cluster_cache_healthcheck": {"cluster_name", "cluster_namespace"},
    "capi_cluster_cache_healthchecks_total": {"cluster_name", "cluster_namespace", "status"},
    "capi_cluster_cache_connection_up": {"cluster_name", "cluster_namespace"},
    "rest_client_requests_total": {"code", "method", "host"},
}
"""Names and labels of controller-runtime, Cluster API and client-go that have a meaning here. Source: anchors.md C2."""


def test_the_names_that_dashboards_know_are_there_with_their_labels() -> None:
    found = {family.name: set(family.labels) for family in Metrics().families.list}
    assert {name: found.get(name) for name in C2} == C2


def test_no_family_is_declared_twice_nor_without_a_meaning() -> None:
    for families in (Metrics().families, WatcherMetrics().families):
        names = [family.name for family in families.list]
        assert len(names) == len(set(names))
        assert all(family.help for family in families.list)
        assert all(family.name.endswith("_total") == (family.type == "counter") for family in families.list)


async def test_exemplars_go_to_those_who_can_read_them() -> None:
    metrics = Metrics()
    observe(metrics.of("Machine").seconds, 0.02, TRACE)
    body, content_type = await exposed(metrics.registry, OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(body.decode())}
    for name in ("controller_runtime_reconcile_time_seconds", "capi_reconcile_time_seconds", "workqueue_work_duration_seconds"):
        exemplars = [sample.exemplar for sample in families[name].samples if sample.exemplar]
        assert [(exemplar.labels, exemplar.value) for exemplar in exemplars] == [({"trace_id": TRACE}, 0.02)], name
    body, content_type = await exposed(metrics.registry, "*/*")
    assert content_type.startswith("text/plain") and TRACE.encode() not in body
    assert {family.name for family in plain(body.decode())} >= {"controller_runtime_reconcile_time_seconds"}


async def test_one_observation_has_three_names() -> None:
    metrics = Metrics()
    kind = metrics.of("Machine")
    for seconds in (0.002, 0.2, 7.0):
        observe(kind.seconds, seconds, "")
    kind.reconciles["success"].inc()
    body, _ = await exposed(metrics.registry, OPENMETRICS)
    families = {family.name: family for family in openmetrics(body.decode())}
    first, *others = (
        [(sample.name.rpartition("_")[2], sample.labels.get("le"), sample.value) for sample in families[name].samples]
        for name in ("controller_runtime_reconcile_time_seconds", "capi_reconcile_time_seconds", "workqueue_work_duration_seconds")
    )
    assert others == [first, first]
    assert {tuple(sample.labels.items()) for sample in families["workqueue_work_duration_seconds"].samples if sample.name.endswith("count")} == {
        (("controller", "Machine"), ("name", "Machine"))
    }
    totals = [{tuple(sample.labels.values()): sample.value for sample in families[name].samples} for name in ("controller_runtime_reconcile", "capi_reconcile")]
    assert totals[0] == totals[1] and totals[0]["Machine", "success"] == 1


async def test_a_kind_begins_at_zero_so_that_its_first_fault_is_an_increase() -> None:
    metrics = Metrics()
    metrics.of("Machine")
    body, _ = await exposed(metrics.registry, OPENMETRICS)
    zero = {
        sample.name for family in openmetrics(body.decode()) for sample in family.samples if sample.value == 0 and sample.labels.get("controller") == "Machine"
    }
    for name in ("reconcile_errors", "terminal_reconcile_errors", "reconcile_panics", "reconcile_timeouts"):
        assert f"controller_runtime_{name}_total" in zero
    assert zero >= {"workqueue_retries_total", "fleetwake_writes_refused_total"}


async def test_what_is_read_at_a_scrape_is_of_that_moment() -> None:
    families = Families()
    depth = families.read("gauge", "depth", "Depth", ("name",))
    held = {"a": 1}
    depth.source = lambda: [((name,), value) for name, value in held.items()]
    first, _ = await exposed(families.registry, "")
    held.update(a=5, b=2)
    second, _ = await exposed(families.registry, "")
    assert b'depth{name="a"} 1.0' in first
    assert b'depth{name="a"} 5.0' in second and b'depth{name="b"} 2.0' in second


def test_requests_are_counted_by_code_method_and_host() -> None:
    families = Families()
    requests = families.counter("rest_client_requests_total", "Requests", ("code", "method", "host"))
    answered = RequestCounter(requests, "https://10.0.0.1:6443/prefix")
    for status in (200, 200, 409, 0):
        answered("PATCH", status)
    assert {child: series._value.get() for child, series in requests._metrics.items()} == {
        ("200", "PATCH", "10.0.0.1:6443"): 2,
        ("409", "PATCH", "10.0.0.1:6443"): 1,
        ("<error>", "PATCH", "10.0.0.1:6443"): 1,
    }


@pytest.mark.parametrize("spanned", [True, False])
def test_only_a_run_with_a_span_is_an_example(spanned: bool) -> None:
    run = CurrentRun(ObjectKey("g", "K", "ns", "a"), ClusterKey("ns", "c"), lambda: TRACE)
    token = CURRENT.set(run)
    try:
        assert run.trace_id == TRACE
        if spanned:
            run.take_trace(TRACE)
        assert run.exemplar == (TRACE if spanned else "")
    finally:
        CURRENT.reset(token)
