"""The pipeline: from a change in the API server to the reconcile that it causes. How late, how full, what is repeated, put aside, or lost."""

from __future__ import annotations

from typing import Any

from deploy.grafana.parts import ORANGE, RED, board, buckets, graph, labels, link, now, number, promql, quantile, row, spread
from deploy.prometheus.alerts import SERVICES

BY = 'controller=~"$controller"'
HOPS = (
    ("fleetwake_watch_produce_seconds", "", "watch line -> record acknowledged"),
    ("fleetwake_record_to_intake_seconds", "", "record -> taken by a worker"),
    ("fleetwake_intake_to_reconcile_seconds", BY, "taken -> reconcile starts"),
    ("controller_runtime_reconcile_time_seconds", BY, "reconcile, writes included"),
    ("fleetwake_write_seconds", "", "one write"),
)
SLOW = [link("Slow reconciles", "/d/fleetwake-slow?${__url_time_range}")]


def dashboard() -> Any:
    """The dashboard."""
    about = (
        "A change goes API server -> watcher -> Kafka -> intake -> queue -> reconcile -> write. Each hop has its time and its backlog here. "
        "The goal: 99 % of reconciles start within 100 ms of the watch line."
    )
    made = board("pipeline", "Pipeline", about, [labels("controller", "Controller", "label_values(controller_runtime_reconcile_total, controller)")])
    return _processes(_faults(_backlog(_latency(_numbers(made)))))


def _numbers(made: Any) -> Any:
    made = made.with_row(row("Now"))
    for panel in (
        number(
            "Within 100 ms",
            "Share of the runs of the last 5 minutes that started within 100 ms of the watch line that woke them. The goal is 99 %. "
            "Below it: which hop is slow is in the row below; docs/runbooks/latency-burn-fast.md.",
            now('sum(rate(fleetwake_event_to_reconcile_seconds_bucket{le="0.1"}[5m])) / sum(rate(fleetwake_event_to_reconcile_seconds_count[5m]))'),
            unit="percentunit",
        ),
        number(
            "Lag",
            "Records that no worker has taken yet. It should fall to 0 within a second of each change; one that grows means too few workers or a stuck one "
            "(docs/runbooks/consumer-lag.md).",
            now("sum(fleetwake_consumer_lag) or vector(0)"),
            limits=((100, ORANGE), (1000, RED)),
        ),
        number(
            "Keys waiting",
            "Keys on the queues. A replay puts all of a partition there once, at low priority.",
            now("sum(workqueue_depth) or vector(0)"),
            limits=((500, ORANGE), (5000, RED)),
        ),
        number(
            "Watchers leading",
            "Must be 1: at 0 no change reaches Kafka (docs/runbooks/no-watcher-leads.md), above 1 only for the moment of a handover.",
            now("sum(fleetwake_watcher_leader) or vector(0)"),
            limits=(),
        ),
        number(
            "Partitions not ready",
            "Partitions that are being replayed or wait for the group: their clusters are not reconciled meanwhile. Seconds after a start; longer is trouble.",
            now('sum(fleetwake_partitions{state!="ready"}) or vector(0)'),
            limits=((1, ORANGE),),
        ),
        number(
            "Dead letters",
            "Records put aside in the last day because they cannot be decoded: somebody else writes to our topics (docs/runbooks/dead-letters.md).",
            now("sum(increase(fleetwake_dead_letters_total[1d])) or vector(0)"),
            limits=((1, RED),),
        ),
    ):
        made = made.with_panel(panel)
    return made


def _latency(made: Any) -> Any:
    made = made.with_row(row("How late"))
    return (
        made.with_panel(
            spread(
                "From watch line to reconcile start",
                "Every run that a change woke; points are examples, a click opens their trace. A second band above the first is one slow hop.",
                buckets("sum by (le) (increase(fleetwake_event_to_reconcile_seconds_bucket[$__rate_interval]))"),
            )
        )
        .with_panel(
            graph(
                "p99 of each hop",
                "Watch line: API server or Kafka's acknowledgement is slow. Record: the consumer is behind. Taken: the queue is long, or no run "
                "is free. Reconcile: look at its traces. Write: the API server.",
                [promql(quantile(0.99, metric, matchers), legend) for metric, matchers, legend in HOPS],
                unit="s",
                limits=((0.1, RED),),
            )
        )
        .with_panel(
            graph(
                "p50 of each hop",
                "The same for the usual case.",
                [promql(quantile(0.5, metric, matchers), legend) for metric, matchers, legend in HOPS],
                unit="s",
            )
        )
        .with_panel(
            graph(
                "Watch line to reconcile start, p99 by controller",
                "A single controller above the line has a long queue of its own; all above it share a cause.",
                [promql(quantile(0.99, "fleetwake_event_to_reconcile_seconds", BY, "controller"), "{{controller}}", exemplars=True)],
                unit="s",
                limits=((0.1, RED),),
                links=SLOW,
            )
        )
        .with_panel(
            graph(
                "Write, p99 by verb",
                "The API server's answer time as the services see it. If all verbs rise, it is short of CPU or its etcd is slow.",
                [promql(quantile(0.99, "fleetwake_write_seconds", by="verb"), "{{verb}}", exemplars=True)],
                unit="s",
                links=SLOW,
            )
        )
    )


def _backlog(made: Any) -> Any:
    made = made.with_row(row("How full"))
    return (
        made.with_panel(
            graph(
                "Lag by partition",
                "Offsets between the last record taken and the end. One partition alone: its worker is stuck or its clusters are busier than others. All of a "
                "worker: the worker.",
                [promql("topk(10, max by (topic, partition) (fleetwake_consumer_lag))", "{{topic}} {{partition}}")],
                limits=((1000, RED),),
            )
        )
        .with_panel(
            graph(
                "Records taken, runs not finished",
                "Their offsets are not committed yet; after a crash they come again. If it grows while the queues are empty, a run hangs.",
                [promql("sum by (service, instance) (fleetwake_records_unfinished)", "{{service}} {{instance}}")],
            )
        )
        .with_panel(
            graph(
                "Keys waiting, by controller",
                "Woken by changes. Long queues of one controller: its runs are slow. Of all: too few workers; partitions bound how many help.",
                [promql(f'sum by (controller) (workqueue_depth{{priority="0", {BY}}})', "{{controller}}")],
            )
        )
        .with_panel(
            graph(
                "Keys waiting from replays",
                "What a start or a rebalance puts on the queues; changes overtake it. It must fall steadily.",
                [promql(f'sum by (controller) (workqueue_depth{{priority="-100", {BY}}})', "{{controller}}")],
            )
        )
        .with_panel(
            graph(
                "Oldest key waiting, longest run",
                "A run is cut at 45 s; a key that waits for minutes while runs are free makes the process restart itself (docs/runbooks/worker-stuck.md).",
                [
                    promql(f"max by (controller) (fleetwake_queue_oldest_wait_seconds{{{BY}}})", "waiting: {{controller}}"),
                    promql(f"max by (controller) (workqueue_longest_running_processor_seconds{{{BY}}})", "running: {{controller}}"),
                ],
                unit="s",
                limits=((45, RED),),
            )
        )
        .with_panel(
            graph(
                "Runs under way",
                "Of at most 64 for all kinds of a worker. At the limit, runs wait for each other.",
                [promql(f"sum by (controller) (controller_runtime_active_workers{{{BY}}})", "{{controller}}")],
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Reconciles by result",
                "requeue_after: the run said when to look again.",
                [promql(f"sum by (result) (rate(controller_runtime_reconcile_total{{{BY}}}[$__rate_interval]))", "{{result}}")],
                unit="ops",
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Records by what they were",
                "new: unknown to the cache. known: echoes of our own writes, old ones. replayed: below the replay's end. misplaced: of a frozen watcher.",
                [promql("sum by (outcome) (rate(fleetwake_records_total[$__rate_interval]))", "{{outcome}}")],
                unit="ops",
                stacked=True,
            )
        )
    )


def _faults(made: Any) -> Any:
    made = made.with_row(row("What is repeated, put aside, lost"))
    return (
        made.with_panel(
            graph(
                "Failures and repetitions",
                "Repetitions back off per key, nobody else waits for them. For good: a condition of the object says why. By a bug: report the log line.",
                [
                    promql(f"sum by (controller) (rate(workqueue_retries_total{{{BY}}}[$__rate_interval]))", "put off: {{controller}}"),
                    promql(
                        f"sum by (controller) (rate(controller_runtime_terminal_reconcile_errors_total{{{BY}}}[$__rate_interval]))", "for good: {{controller}}"
                    ),
                    promql(f"sum by (controller) (rate(controller_runtime_reconcile_panics_total{{{BY}}}[$__rate_interval]))", "by a bug: {{controller}}"),
                    promql(f"sum by (controller) (rate(controller_runtime_reconcile_timeouts_total{{{BY}}}[$__rate_interval]))", "too long: {{controller}}"),
                ],
                unit="ops",
            )
        )
        .with_panel(
            graph(
                "Requests that were refused or unanswered",
                "409 is usual: somebody was quicker. 403: a role lacks a right. 422: an object is refused. 429: throttled. <error>: no answer.",
                [promql('sum by (code) (rate(rest_client_requests_total{code!~"2.."}[$__rate_interval]))', "{{code}}")],
                unit="reqps",
            )
        )
        .with_panel(
            graph(
                "Drift, dead letters, holes",
                "All must stay flat. Drift: topic and cache, or API server and topic, differed and were repaired. Holes: records that the consumer skipped and "
                "that were read directly.",
                [
                    promql("sum by (where) (fleetwake_drift_total)", "drift: {{where}}"),
                    promql("sum(fleetwake_dead_letters_total)", "dead letters"),
                    promql("sum(fleetwake_undecodable_records_total)", "undecodable, seen by the watcher"),
                    promql("sum(fleetwake_delivery_holes_total)", "holes"),
                ],
                limits=((1, RED),),
            )
        )
        .with_panel(
            graph(
                "Plans confirmed by live reads",
                "Before harm a plan is checked against the API server. differed: the cache was behind, the plan is made anew; usual after a rebalance.",
                [
                    promql("sum by (outcome) (rate(fleetwake_verify_total[$__rate_interval]))", "{{outcome}}"),
                    promql("sum by (cached_kind) (rate(capi_reconcile_stale_cache_skips_total[$__rate_interval]))", "behind: {{cached_kind}}"),
                ],
                unit="ops",
            )
        )
        .with_panel(
            graph(
                "Watches that broke, records produced again",
                "A burst when the API server restarts is usual. Steady repairs: two watchers write, or Kafka loses records.",
                [
                    promql("sum by (error) (rate(fleetwake_watch_interruptions_total[$__rate_interval]))", "broke: {{error}}"),
                    promql("sum by (reason) (rate(fleetwake_watch_repairs_total[$__rate_interval]))", "again: {{reason}}"),
                    promql("sum(rate(fleetwake_object_records_failed_total[$__rate_interval]))", "not taken by Kafka"),
                ],
                unit="ops",
            )
        )
        .with_panel(
            graph(
                "Spans and read model lost",
                "Neither costs correctness. Spans: the collector is away or too slow. Read model: Redis is (views say 'stale since').",
                [
                    promql("sum by (service) (rate(fleetwake_spans_dropped_total[$__rate_interval]))", "spans: {{service}}"),
                    promql("sum by (service) (rate(fleetwake_readmodel_failures_total[$__rate_interval]))", "read model: {{service}}"),
                ],
                unit="ops",
            )
        )
    )


def _processes(made: Any) -> Any:
    made = made.with_row(row("Processes"))
    return (
        made.with_panel(
            graph(
                "Group heartbeat, Lease",
                "Seconds since the group confirmed a worker, and since the leader renewed its Lease. Above half a session a worker writes nothing.",
                [
                    promql("max by (service, instance) (fleetwake_heartbeat_age_seconds)", "group: {{service}} {{instance}}"),
                    promql("max by (instance) (fleetwake_lease_age_seconds)", "Lease: {{instance}}"),
                ],
                unit="s",
                width=8,
            )
        )
        .with_panel(
            graph(
                "CPU",
                "Of one core each: a Python process has no more. At 1 a worker is full; add workers up to the number of partitions.",
                [
                    promql(
                        f'sum by (service, instance) (rate(process_cpu_seconds_total{{service=~"{SERVICES}"}}[$__rate_interval]))', "{{service}} {{instance}}"
                    )
                ],
                unit="percentunit",
                width=8,
                limits=((0.9, RED),),
            )
        )
        .with_panel(
            graph(
                "Memory",
                "Resident. It follows the number of objects in the cache.",
                [promql(f'max by (service, instance) (process_resident_memory_bytes{{service=~"{SERVICES}"}})', "{{service}} {{instance}}")],
                unit="bytes",
                width=8,
            )
        )
        .with_panel(
            graph(
                "Partitions by state",
                "ready: reconciled. replaying: the cache is being rebuilt. revoked: the group is being rebalanced.",
                [promql("sum by (state) (fleetwake_partitions)", "{{state}}")],
                stacked=True,
                width=8,
            )
        )
        .with_panel(
            graph(
                "Replay, p99",
                "Time to rebuild the cache of what was assigned.",
                [promql(quantile(0.99, "fleetwake_replay_seconds", by="service"), "{{service}}")],
                unit="s",
                width=8,
            )
        )
        .with_panel(
            graph(
                "Workload clusters not answering",
                "Probes of workload clusters that failed.",
                [
                    promql(
                        'sum by (cluster_namespace, cluster_name) (rate(capi_cluster_cache_healthchecks_total{status="error"}[$__rate_interval])) > 0',
                        "{{cluster_namespace}}/{{cluster_name}}",
                    )
                ],
                unit="ops",
                width=8,
            )
        )
    )
