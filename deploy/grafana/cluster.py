"""One cluster's life: its conditions over time, what was asked of it (intents, as traces), what came of that (runs and log lines)."""

from __future__ import annotations

from typing import Any

from deploy.grafana.parts import ORANGE, RED, Column, board, graph, labels, lines, listing, logql, now, number, promql, row, rows, timeline, traceql

SELF = 'namespace="$namespace", name="$cluster"'
OF = 'namespace="$namespace", cluster_name="$cluster"'
TRACED = 'span.k8s.namespace.name = "$namespace" && span.capi.cluster.name = "$cluster"'
INTENTS = f'{{ name =~ "intent .*" && {TRACED} }}'
FAILED = f'{{ name =~ "reconcile .*" && status = error && {TRACED} }}'
SLOW = f'{{ name =~ "reconcile .*" && duration > 100ms && {TRACED} }}'
WRITES = f'{{ name =~ "reconcile .*" && {TRACED} }} > {{ kind = client }}'
LOGS = '{service_name=~"fleetwake-.+"} |= "$namespace/$cluster" | json | cluster="$namespace/$cluster"'
"""The keys of our JSON lines: service_name is the stream's, cluster is in the line."""


def _states(metric: str, matchers: str, by: str = "type") -> str:
    """PromQL: 2 while a condition is True, 1 while it is Unknown, 0 while it is False."""
    true, unknown = (f'sum by ({by}) ({metric}{{status="{status}", {matchers}}})' for status in ("True", "Unknown"))
    return f"2 * {true} + {unknown}"


def dashboard() -> Any:
    """The dashboard."""
    about = "The life of one cluster. Read it from the top: is it well, since when not, what was asked of it then, what did the services do and say about it."
    made = board(
        "cluster",
        "One cluster's life",
        about,
        [
            labels("namespace", "Namespace", "label_values(capi_cluster_info, namespace)", all_values=False),
            labels("cluster", "Cluster", 'label_values(capi_cluster_info{namespace="$namespace"}, name)', all_values=False),
        ],
        since="now-3h",
    )
    return _said(_asked(_machines(_conditions(_numbers(made)))))


def _numbers(made: Any) -> Any:
    made = made.with_row(row("$namespace / $cluster"))
    for panel in (
        number(
            "Available for",
            "Seconds since the condition Available became True; '-' while it is not. What keeps it is in the timeline below.",
            now(f'time() - capi_cluster_status_condition_last_transition_time{{type="Available", status="True", {SELF}}}'),
            unit="s",
        ),
        number(
            "Conditions that are bad",
            "Conditions that should be True and are not (Available, RemoteConnectionProbe, ...Available, ...Ready), or should be False and are not (Paused).",
            now(
                f'(count(capi_cluster_status_condition{{type=~".*Available|.*Ready|RemoteConnectionProbe|.*Initialized", status="True", {SELF}}} == 0) '
                f'or vector(0)) + (sum(capi_cluster_status_condition{{type="Paused", status="True", {SELF}}}) or vector(0))'
            ),
            limits=((1, ORANGE), (3, RED)),
        ),
        number("Machines", "Machines of the cluster.", now(f"count(capi_machine_created{{{OF}}}) or vector(0)")),
        number(
            "Machines not Available",
            "Machines whose condition Available is not True: new ones, drained ones, and those in trouble. The table below names them.",
            now(f'count(capi_machine_status_condition{{type="Available", status="True", {OF}}} == 0) or vector(0)'),
            limits=((1, ORANGE),),
        ),
        number(
            "Connection",
            "1 while the reconcilers are connected to the workload cluster. At 0 nothing that rests on its Nodes goes on.",
            now('max(capi_cluster_cache_connection_up{cluster_namespace="$namespace", cluster_name="$cluster"})'),
        ),
        number(
            "Certificates expire in",
            "The first expiry of the control plane's certificates. Each new Machine gets new ones: roll the control plane out before they run out "
            "(docs/runbooks/certificate-expiry.md).",
            now(f"min(capi_machine_status_certificatesexpirydate{{{OF}}} > 0) - time()"),
            unit="s",
        ),
    ):
        made = made.with_panel(panel)
    return made


def _conditions(made: Any) -> Any:
    made = made.with_row(row("Conditions over time"))
    return made.with_panel(
        timeline(
            "Conditions of the Cluster",
            "Green True, red False, orange Unknown. Which colour is good depends on the condition: Available, ...Ready and ...Initialized should be green, "
            "Deleting, Paused, RollingOut, ScalingUp, ScalingDown and Remediating are red at rest.",
            [promql(_states("capi_cluster_status_condition", SELF), "{{type}}")],
        )
    ).with_panel(
        timeline(
            "Available, of each Machine",
            "A Machine that is orange or red for longer than a start or a drain is in trouble; its reason is in its conditions.",
            [promql(_states("capi_machine_status_condition", f'type="Available", {OF}', "name"), "{{name}}")],
        )
    )


def _machines(made: Any) -> Any:
    made = made.with_row(row("Machines"))
    return (
        made.with_panel(
            listing(
                "Machines",
                "The Machines of the cluster with their version, control plane or not, and infrastructure object.",
                [rows(f"capi_machine_info{{{OF}}}")],
                columns=(
                    Column("name", "Machine"),
                    Column("control_plane_name", "Control plane"),
                    Column("version", "Version"),
                    Column("kubelet_version", "Kubelet"),
                    Column("infrastructure_reference_kind", "Infrastructure"),
                    Column("provider_id", "Provider ID"),
                ),
                width=12,
            )
        )
        .with_panel(
            graph(
                "Replicas of the workers",
                "Asked for, there, available, up to date. Lines that part and do not meet again are a rollout or a scale that stands still.",
                [
                    promql(f"sum(capi_machinedeployment_spec_replicas{{{OF}}} or capi_machinepool_spec_replicas{{{OF}}})", "asked for"),
                    promql(f"sum(capi_machinedeployment_status_replicas{{{OF}}} or capi_machinepool_status_replicas{{{OF}}})", "there"),
                    promql(f"sum(capi_machinedeployment_status_replicas_available{{{OF}}} or capi_machinepool_status_replicas_available{{{OF}}})", "available"),
                    promql(f"sum(capi_machinedeployment_status_replicas_uptodate{{{OF}}} or capi_machinepool_status_replicas_uptodate{{{OF}}})", "up to date"),
                ],
                width=6,
            )
        )
        .with_panel(
            graph(
                "Replicas of the control plane",
                "The same of the control plane.",
                [
                    promql(f"sum(capi_kubeadmcontrolplane_spec_replicas{{{OF}}})", "asked for"),
                    promql(f"sum(capi_kubeadmcontrolplane_status_replicas{{{OF}}})", "there"),
                    promql(f"sum(capi_kubeadmcontrolplane_status_replicas_available{{{OF}}})", "available"),
                    promql(f"sum(capi_kubeadmcontrolplane_status_replicas_uptodate{{{OF}}})", "up to date"),
                ],
                width=6,
            )
        )
    )


def _asked(made: Any) -> Any:
    made = made.with_row(row("What was asked of it"))
    return (
        made.with_panel(
            listing(
                "Intents",
                "Each change that nobody of ours made (a user's apply, a provider's report, a Node that failed) and all that followed from it, one trace "
                "each. Open one: who changed what is on its first span, each run with its reason below, each write below its run.",
                [traceql(INTENTS)],
            )
        )
        .with_panel(
            listing(
                "Runs that failed",
                "Reconciles that ended with an error; the last span says which request was refused and why. They are repeated unless the error is "
                "for good: then a condition of the object says what to correct.",
                [traceql(FAILED)],
                width=12,
            )
        )
        .with_panel(
            listing(
                "Runs slower than 100 ms",
                "Where the time of a slow run went: its requests are its children, what is between them is ours.",
                [traceql(SLOW)],
                width=12,
            )
        )
        .with_panel(
            listing(
                "Writes",
                "What came of it: the runs that wrote, and each write below its run. `fleetwake audit` has the same from Kafka with every changed field.",
                [traceql(WRITES)],
            )
        )
    )


def _said(made: Any) -> Any:
    made = made.with_row(row("What was said about it"))
    return made.with_panel(
        lines(
            "Log lines",
            "What the services said about the cluster. The trace id of a line leads to the run it was written in.",
            logql(f'{LOGS} | line_format "{{{{.level}}}} {{{{.kind}}}}/{{{{.name}}}}: {{{{.message}}}}"'),
        )
    )
