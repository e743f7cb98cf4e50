"""Every alert, as data: what is asked of Prometheus, how long it must hold, what it tells the one who is woken. Each has a runbook of its name.

Only what a person must act on is here; what repairs itself is on the dashboards. Source of the burn rates: Site Reliability Workbook, chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from deploy.prometheus.durations import AS_INSTALLED, Durations

SERVICES = "watcher|reconcilers|remediation|autoscaler.bridge|admission|dev.infrastructure"
"""Values of the label ``service`` that every target of ours has; spelt with a dash in Kubernetes, as folders elsewhere."""
GOAL_SHARE = 0.99
"""Share of reconciles that shall start within 100 ms of the watch line that woke them."""
GOAL_BUCKET = "0.1"


@dataclass(frozen=True, slots=True)
class Alert:
    """``name`` without the prefix; ``expr`` PromQL; ``hold`` how long it must be true; the texts may use labels and the value of the series."""

    name: str
    severity: Literal["critical", "warning"]
    expr: str
    hold: str
    summary: str
    description: str

    @property
    def alert(self) -> str:
        """The name Prometheus shows."""
        return f"Fleetwake{self.name}"

    @property
    def runbook(self) -> str:
        """The runbook's file name: the alert's name in words."""
        words = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in self.name)
        return f"{words.lstrip('-')}.md"


def alerts(durations: Durations = AS_INSTALLED) -> tuple[Alert, ...]:
    """Every alert, with durations as installed or shortened."""
    return (*_processes(durations), *_delivery(durations), *_reconciles(durations), *_latency(durations), *_clusters(durations), *_node_groups(durations))


def _processes(d: Durations) -> Iterator[Alert]:
    yield Alert(
        "ServiceDown",
        "critical",
        f'up{{service=~"{SERVICES}"}} == 0',
        d.hold("5m"),
        "{{ $labels.service }} {{ $labels.instance }} does not answer",
        "Prometheus has had no answer from its /metrics: it is not running, frozen, or cut off. Its partitions move to others after a session.",
    )
    yield Alert(
        "NoWatcherLeads",
        "critical",
        "(sum(fleetwake_watcher_leader) or vector(0)) == 0",
        d.hold("1m"),
        "No watcher leads",
        "Nobody reads the API server's changes into Kafka: nothing that is applied now has any effect.",
    )
    yield Alert(
        "WorkerStuck",
        "critical",
        f"max by (service, instance) (fleetwake_queue_oldest_wait_seconds) > {d.seconds('2m')} "
        f"or max by (service, instance) (workqueue_longest_running_processor_seconds) > {d.seconds('1m')}",
        d.hold("2m"),
        "{{ $labels.service }} {{ $labels.instance }} does not get on",
        "A key has waited for minutes, or a run goes on beyond the limit at which it should be cut. The clusters of its partitions are not reconciled.",
    )
    yield Alert(
        "WorkerFenced",
        "critical",
        "fleetwake_fenced == 1",
        d.hold("1m"),
        "{{ $labels.service }} {{ $labels.instance }} may not write",
        "Its consumer group has not confirmed it for half a session, so it sends nothing: Kafka is away or too slow, or the worker has no CPU.",
    )
    yield Alert(
        "PartitionsNotReady",
        "warning",
        'sum by (service, instance) (fleetwake_partitions{state!="ready"}) > 0',
        d.hold("10m"),
        "{{ $value }} partitions of {{ $labels.service }} {{ $labels.instance }} are not ready",
        "Their cache is not rebuilt, or the group is not done rebalancing. Their clusters are not reconciled meanwhile.",
    )


def _delivery(d: Durations) -> Iterator[Alert]:
    yield Alert(
        "WatchNotSynced",
        "critical",
        'max by (service, instance) (fleetwake_watch_streams{synced="false"}) > 0',
        d.hold("5m"),
        "{{ $value }} kinds are not watched",
        "The leading watcher cannot list or watch them: changes of these kinds reach nobody. The API server is away, or refuses it.",
    )
    yield Alert(
        "ConsumerLag",
        "warning",
        f"sum by (service, instance) (fleetwake_consumer_lag) > 100 and sum by (service, instance) (delta(fleetwake_consumer_lag[{d.window('10m')}])) > 0",
        d.hold("10m"),
        "{{ $labels.service }} {{ $labels.instance }} is {{ $value }} records behind, and falls further behind",
        "Records come faster than they are taken, or Kafka hands them out too slowly. Changes take effect later and later.",
    )
    yield Alert(
        "DeadLetters",
        "warning",
        f"sum by (service, instance) (increase(fleetwake_dead_letters_total[{d.window('15m')}])) > 0",
        d.hold("0s"),
        "Records were put aside that cannot be decoded",
        "Somebody else writes to our topics, or two versions do not understand each other. The objects they were about may be stale.",
    )
    yield Alert(
        "Drift",
        "warning",
        f"sum by (where) (increase(fleetwake_drift_total[{d.window('1h')}])) > 0",
        d.hold("0s"),
        "Drift was found and repaired ({{ $labels.where }})",
        "Topic and cache, or API server and topic, differed for good. It was repaired, but it must not happen: a record was lost somewhere.",
    )
    yield Alert(
        "ReadModelFailures",
        "warning",
        f"sum by (service, instance) (increase(fleetwake_readmodel_failures_total[{d.window('10m')}])) > 0",
        d.hold("10m"),
        "Redis does not take the read model",
        "Views say 'stale since'; new traces may lose their beginning. No reconcile is affected.",
    )
    yield Alert(
        "SpansDropped",
        "warning",
        f"sum by (service, instance) (increase(fleetwake_spans_dropped_total[{d.window('10m')}])) > 0",
        d.hold("10m"),
        "Spans of {{ $labels.service }} {{ $labels.instance }} are lost",
        "The collector is away or does not keep up: traces have holes. No reconcile is affected.",
    )


def _reconciles(d: Durations) -> Iterator[Alert]:
    failed, all_ = (f"sum by (controller) (rate(controller_runtime_reconcile_{name}[{d.window('10m')}]))" for name in ("errors_total", "total"))
    yield Alert(
        "ReconcileErrors",
        "warning",
        f"{failed} / {all_} > 0.2",
        d.hold("15m"),
        "{{ $value | humanizePercentage }} of the reconciles of {{ $labels.controller }} fail",
        "They are repeated with growing pauses, so most of its objects are not reconciled.",
    )
    yield Alert(
        "ReconcilePanics",
        "critical",
        f"sum by (controller) (increase(controller_runtime_reconcile_panics_total[{d.window('15m')}])) > 0",
        d.hold("0s"),
        "{{ $labels.controller }} met something that its code does not expect",
        "A run, or the question whom a change concerns, ended by a bug. The object at fault is in the log line; it is not reconciled.",
    )
    yield Alert(
        "WritesForbidden",
        "critical",
        f'sum by (service, controller) (increase(fleetwake_writes_refused_total{{code="403"}}[{d.window("10m")}])) > 0',
        d.hold("5m"),
        "Writes of {{ $labels.controller }} are forbidden (403)",
        "A role, a quota or an admission policy forbids them. They are tried again after a second, then ever more slowly, once a minute in the end.",
    )
    yield Alert(
        "WritesInvalid",
        "warning",
        f'sum by (service, controller) (increase(fleetwake_writes_refused_total{{code="422"}}[{d.window("10m")}])) > 0',
        d.hold("1m"),
        "Writes of {{ $labels.controller }} are refused as invalid (422)",
        "What the objects ask for cannot be written: a template is wrong, an admission policy objects, or a definition is of another version. "
        "Not tried again until something changes.",
    )


def _latency(d: Durations) -> Iterator[Alert]:
    for name, severity, rate, windows, hold in (
        ("LatencyBurnFast", "critical", 14.4, ("5m", "1h"), "2m"),
        ("LatencyBurnSlow", "warning", 6.0, ("30m", "6h"), "15m"),
    ):
        short, long = (_slow_share(d.window(window)) for window in windows)
        limit = f"{rate * (1 - GOAL_SHARE):g}"
        yield Alert(
            name,
            "critical" if severity == "critical" else "warning",
            f"{short} > {limit} and {long} > {limit}",
            d.hold(hold),
            "{{ $value | humanizePercentage }} of the reconciles start later than 100 ms after their change",
            f"The goal is 1 %. At this rate ({rate:g} times the allowed one) a month's allowance is gone in {720 / rate:.0f} hours.",
        )


def _slow_share(window: str) -> str:
    metric = "fleetwake_event_to_reconcile_seconds"
    return f'(1 - sum(rate({metric}_bucket{{le="{GOAL_BUCKET}"}}[{window}])) / sum(rate({metric}_count[{window}])))'


def _clusters(d: Durations) -> Iterator[Alert]:
    # a cluster that is paused or on its way out owes nobody its availability
    excused = (
        "unless on (namespace, name) (capi_cluster_spec_paused == 1 or capi_cluster_annotation_paused "
        'or capi_cluster_status_condition{type="Deleting", status="True"} == 1)'
    )
    yield Alert(
        "ClusterNotAvailable",
        "warning",
        f'capi_cluster_status_condition{{type="Available", status="True"}} == 0 {excused}',
        d.hold("30m"),
        "Cluster {{ $labels.namespace }}/{{ $labels.name }} is not Available",
        "Longer than a creation or a rollout should take. Its conditions say what is missing.",
    )
    yield Alert(
        "WorkloadClusterNotConnected",
        "warning",
        "max by (cluster_namespace, cluster_name) (capi_cluster_cache_connection_up) == 0",
        d.hold("15m"),
        "No connection to workload cluster {{ $labels.cluster_namespace }}/{{ $labels.cluster_name }}",
        "Its Nodes, drains and control plane stand still. Its endpoint does not answer, or its kubeconfig is refused.",
    )
    yield Alert(
        "MachineStuckDeleting",
        "warning",
        'capi_machine_status_condition{type="Deleting", status="True"} == 1',
        d.hold("1h"),
        "Machine {{ $labels.namespace }}/{{ $labels.name }} of {{ $labels.cluster_name }} has been deleting for an hour",
        "Usually a drain that a PodDisruptionBudget forbids, or an infrastructure object that does not go.",
    )
    yield Alert(
        "CertificateExpiry",
        "warning",
        "min by (namespace, cluster_name) (capi_machine_status_certificatesexpirydate > 0) - time() < 30 * 86400",
        d.hold("1h"),
        "Certificates of {{ $labels.namespace }}/{{ $labels.cluster_name }} expire in {{ $value | humanizeDuration }}",
        "When they do, its API server answers nobody. Machines that are made anew get new ones.",
    )


def _node_groups(d: Durations) -> Iterator[Alert]:
    # AnotherWriter is missing here: groups that cluster-autoscaler scales by itself (clusterapi provider) stand so for good, and rightly
    yield Alert(
        "NodeGroupRefused",
        "warning",
        'sum by (reason) (fleetwake_autoscaler_node_groups{reason=~"InvalidSize|ReplicasUnset|InternalError"}) > 0',
        d.hold("15m"),
        "{{ $value }} node groups are not served: {{ $labels.reason }}",
        "They ask to be scaled, and cluster-autoscaler does not see them: they keep the size they have. Their condition NodeGroupReady says what is wrong.",
    )
    yield Alert(
        "NodeGroupWithoutCapacity",
        "warning",
        'sum(fleetwake_autoscaler_node_groups{reason="CapacityUnknown"}) > 0',
        d.hold("15m"),
        "{{ $value }} node groups at 0 cannot grow",
        "Nothing tells what a host of theirs would be, so that cluster-autoscaler cannot know which Pods would fit: pending Pods stay pending.",
    )
