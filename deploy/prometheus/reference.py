"""docs/metrics.md: every family of every service and of kube-state-metrics' configuration, from the registries that count them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from deploy.prometheus import state_metrics
from deploy.prometheus.alerts import alerts
from fleetwake.exposition import Families, Family
from fleetwake.shell.metrics import Metrics
from services.admission.metrics import AdmissionMetrics
from services.autoscaler_bridge.metrics import BridgeMetrics
from services.dev_infrastructure.metrics import emulation_metrics
from services.watcher.metrics import WatcherMetrics

PATH = "docs/metrics.md"
ROOT = Path(__file__).parents[2]
WORKERS = ", ".join(sorted(path.parent.name.replace("_", "-") for path in ROOT.glob("services/*/registry.py")))
"""Every service that reconciles has these."""
HOLDER_OF_CONNECTIONS = "reconcilers"
HEAD = """# Metrics

Generated from the registries by `make dashboards`; do not edit.

Every service answers `GET /metrics` on its web port: OpenMetrics, with exemplars, when the Accept header asks for it (Prometheus does), else
Prometheus' text. Exemplars carry `trace_id`; they are on the histograms of runs and writes. `process_*` (CPU, memory, open files, start) come
beside what is listed here.

- **Names** of controller-runtime, its work queues, client-go and Cluster API are used for exactly what they mean there, so that dashboards made
  for them fill. `workqueue_work_duration_seconds`, `controller_runtime_reconcile_time_seconds` and `capi_reconcile_time_seconds` are one
  observation under three names: nothing of ours is rate limited, so they cannot differ. There are no native histograms: the Python client makes none.
- **Labels are bounded**: kinds, verbs, status codes, partitions. Only `capi_cluster_cache_*` has a series per cluster, as upstream; it goes with
  the cluster. All workload clusters are one `host` of `rest_client_requests_total`.
- **Targets** need a label `service` with the service's name (`watcher`, `reconcilers`, `dev-infrastructure`, ...): alerts and dashboards tell
  processes apart by `service` and `instance`. Prometheus keeps exemplars only with `--enable-feature=exemplar-storage`.
- **Cost** (`python -m bench.instruments`): {cost}
"""
COST = (
    "of one core of a small cloud machine, a run counts itself in 5 us, in 11 us with\n"
    "  exemplars (10 us before there were any, when labels were looked up each time), a write in 2 us; a scrape takes 11 ms, 3 ms of them in the event loop."
)


def rendered() -> dict[str, str]:
    """The generated file."""
    worker, watcher = Metrics().families.list, WatcherMetrics().families.list
    of = {family.name: family for family in (*worker, *watcher)}
    services = {name: _services(name, worker, watcher) for name in of}
    services["rest_client_requests_total"] += ", admission"
    parts = [HEAD.format(cost=COST)]
    for title, prefix in (
        ("Controllers", ("controller_runtime_", "capi_reconcile")),
        ("Queues", ("workqueue_",)),
        ("Workload clusters", ("capi_cluster_cache",)),
    ):
        parts.append(_section(title, [family for name, family in of.items() if name.startswith(prefix)], services))
    parts.append(_section("Requests to API servers", [family for name, family in of.items() if name.startswith("rest_client_")], services))
    parts.append(_section("Workers", [family for family in worker if family.name.startswith("fleetwake_")], services))
    names = {family.name for family in worker}
    parts.append(_section("Watcher", [family for family in watcher if family.name.startswith("fleetwake_") and family.name not in names], services))
    webhooks = [family for family in AdmissionMetrics().families.list if family.name not in of]
    parts.append(_section("Webhooks", webhooks, {family.name: "admission" for family in webhooks}))
    bridge = Families()
    BridgeMetrics(bridge)
    parts.append(_section("Autoscaler bridge", bridge.list, {family.name: "autoscaler-bridge" for family in bridge.list}))
    emulation = Families()
    emulation_metrics(emulation)
    parts.append(_section("Development provider", emulation.list, {family.name: "dev-infrastructure" for family in emulation.list}))
    parts += [_state_metrics(), _alerts()]
    return {PATH: "\n".join(parts)}


def _services(name: str, worker: Iterable[Family], watcher: Iterable[Family]) -> str:
    if name.startswith("capi_cluster_cache"):
        return HOLDER_OF_CONNECTIONS
    found = [WORKERS] if any(family.name == name for family in worker) else []
    return ", ".join([*found, "watcher"] if any(family.name == name for family in watcher) else found)


def _section(title: str, families: Iterable[Family], services: dict[str, str]) -> str:
    rows = [
        f"| `{family.name}` | {family.type} | {', '.join(f'`{label}`' for label in family.labels) or '-'} | {family.help} | {services[family.name]} |"
        for family in sorted(families, key=lambda family: family.name)
    ]
    return "\n".join([f"## {title}", "", "| name | type | labels | meaning | of |", "|---|---|---|---|---|", *rows, ""])


def _state_metrics() -> str:
    rows = [f"| `{name}` | {kind.lower()} | {text} |" for name, kind, text in state_metrics.families()]
    about = (
        "Of the objects themselves: `deploy/k8s/kube-state-metrics/custom-resource-state.yaml`, generated from `schemas/`, for kube-state-metrics' "
        "`--custom-resource-state-config-file`. Every series has `name`, `namespace`, `uid`, and `cluster_name` where the kind belongs to a cluster. "
        "Times are Unix seconds."
    )
    return "\n".join(["## kube-state-metrics", "", about, "", "| name | type | meaning |", "|---|---|---|", *rows, ""])


def _alerts() -> str:
    rows = [f"| [{alert.alert}](runbooks/{alert.runbook}) | {alert.severity} | {alert.hold} | {alert.summary} |" for alert in alerts()]
    return "\n".join(["## Alerts", "", "`deploy/prometheus/rules.yaml`.", "", "| alert | severity | for | says |", "|---|---|---|---|", *rows, ""])
