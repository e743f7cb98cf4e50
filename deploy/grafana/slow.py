"""Slow reconciles: from a quantile over an example to the trace, and by search among the traces themselves."""

from __future__ import annotations

from typing import Any

from deploy.grafana.parts import RED, board, buckets, choice, graph, labels, lines, listing, logql, promql, quantile, row, spread, traceql

BY = 'controller=~"$controller"'
NAMED = 'name =~ "reconcile ($controller)"'
SLOW = f"{{ {NAMED} && duration > $threshold }}"
SLOW_WRITES = f"{{ {NAMED} }} >> {{ kind = client && duration > $threshold }}"
SLOW_DELIVERY = '{ name = "objects process" && duration > $threshold }'
FAILED = f"{{ {NAMED} && status = error }}"
COALESCED = f"{{ {NAMED} && span.fleetwake.causes > 5 }}"
LOGS = '{service_name=~"fleetwake-.+"} | json | level=~"WARNING|ERROR|CRITICAL" | kind=~"$controller"'


def dashboard() -> Any:
    """The dashboard."""
    about = "Which reconciles are slow, and why. Above by metrics with examples, below by search over traces; the threshold is a variable."
    made = board(
        "slow",
        "Slow reconciles",
        about,
        [
            labels("controller", "Controller", "label_values(controller_runtime_reconcile_total, controller)"),
            choice("threshold", "Slower than", ("100ms", "50ms", "250ms", "1s", "5s")),
        ],
    )
    return _said(_traces(_metrics(made)))


def _metrics(made: Any) -> Any:
    made = made.with_row(row("By metrics, with examples"))
    return (
        made.with_panel(
            spread(
                "Time of a reconcile",
                "Every run of the chosen controllers, its writes included. Points are examples: a click opens the trace.",
                buckets(f"sum by (le) (increase(controller_runtime_reconcile_time_seconds_bucket{{{BY}}}[$__rate_interval]))"),
            )
        )
        .with_panel(
            graph(
                "p99 by controller",
                "A controller that is slow alone waits for its own writes or its workload clusters.",
                [promql(quantile(0.99, "controller_runtime_reconcile_time_seconds", BY, "controller"), "{{controller}}", exemplars=True)],
                unit="s",
                limits=((1, RED),),
            )
        )
        .with_panel(
            graph(
                "p99 of writes by verb",
                "If these follow the p99 of reconciles, the API server is what is slow.",
                [promql(quantile(0.99, "fleetwake_write_seconds", by="verb"), "{{verb}}", exemplars=True)],
                unit="s",
            )
        )
    )


def _traces(made: Any) -> Any:
    made = made.with_row(row("By traces"))
    return (
        made.with_panel(
            listing(
                "Reconciles slower than $threshold",
                "Open one: children are requests, gaps between them are our own work or a busy worker; the parent says what woke it.",
                [traceql(SLOW)],
                width=12,
            )
        )
        .with_panel(
            listing(
                "Runs with a write slower than $threshold",
                "The request that was slow is marked in the trace. Its Audit-ID finds it in the API server's audit log.",
                [traceql(SLOW_WRITES)],
                width=12,
            )
        )
        .with_panel(
            listing(
                "Records that took longer than $threshold to be taken",
                "From the record produced to its being taken by a worker: a rebalance, a replay, a worker without CPU.",
                [traceql(SLOW_DELIVERY)],
                width=12,
            )
        )
        .with_panel(listing("Reconciles that failed", "The error is on the span of the run and of the request.", [traceql(FAILED)], width=12))
        .with_panel(
            listing(
                "Runs woken by more than 5 changes",
                "Many changes in one run are good for throughput; very many mean that the key had to wait.",
                [traceql(COALESCED)],
                width=24,
            )
        )
    )


def _said(made: Any) -> Any:
    made = made.with_row(row("By log lines"))
    return made.with_panel(
        lines(
            "Warnings and errors of the chosen controllers",
            "Each line has the trace id of its run.",
            logql(f'{LOGS} | line_format "{{{{.level}}}} {{{{.kind}}}} {{{{.namespace}}}}/{{{{.name}}}}: {{{{.message}}}}"'),
        )
    )
