"""Fleet overview: how many clusters there are, which of them are not well, and where to look next."""

from __future__ import annotations

from typing import Any

from deploy.grafana.parts import (
    ORANGE,
    RED,
    Column,
    board,
    graph,
    labels,
    link,
    listing,
    now,
    number,
    promql,
    quantile,
    row,
    rows,
    to_cluster,
)

IN = 'namespace=~"$namespace"'
CLUSTER_LINK = to_cluster("${__data.fields.namespace}", "${__data.fields.name}")
AVAILABLE_AT = f'capi_cluster_status_condition_last_transition_time{{type="Available", status="True", {IN}}}'


def missing(kind: str) -> str:
    """PromQL: by cluster, the Machines that a kind is asked for and that are not available."""
    return f"sum by (cluster_name) (capi_{kind}_spec_replicas{{{IN}}} - capi_{kind}_status_replicas_available{{{IN}}}) > 0"


CHANGES_OF_SIZE = 'fleetwake_autoscaler_requests_total{method=~"NodeGroupIncreaseSize|NodeGroupDecreaseTargetSize|NodeGroupDeleteNodes"}'


def of_groups(form: str) -> str:
    """PromQL: an expression over every kind that can be a node group, written with ``%s`` for the kind; MachineSets of a MachineDeployment are none."""
    owned = f'unless on (namespace, name) capi_machineset_owner{{owner_kind="MachineDeployment", {IN}}}'
    return " or ".join(f"({form % (kind, kind)} {owned if kind == 'machineset' else ''})" for kind in ("machinedeployment", "machineset", "machinepool"))


def dashboard() -> Any:
    """The dashboard."""
    about = "Every cluster of the fleet from kube-state-metrics, and how the services that reconcile them are doing. Start here; click a cluster for its life."
    made = board("fleet", "Fleet overview", about, [labels("namespace", "Namespace", "label_values(capi_cluster_info, namespace)")], since="now-6h")
    return _node_groups(_machines(_clusters(_numbers(made))))


def _numbers(made: Any) -> Any:
    available = f'capi_cluster_status_condition{{type="Available", status="True", {IN}}}'
    pipeline = [link("Pipeline", "/d/fleetwake-pipeline?${__url_time_range}")]
    made = made.with_row(row("Now"))
    for panel in (
        number("Clusters", "Clusters there are, whatever their state.", now(f"count(capi_cluster_created{{{IN}}}) or vector(0)")),
        number(
            "Not Available",
            "Clusters whose condition Available is not True. New ones are for a minute or two; one that stays is in the table below with its reason in the "
            "Cluster's conditions: `kubectl describe cluster`, `fleetwake describe`.",
            now(f"count({available} == 0) or vector(0)"),
            limits=((1, ORANGE), (5, RED)),
        ),
        number(
            "Paused",
            "Clusters that nobody reconciles because they are paused, by spec or annotation. Paused for maintenance and forgotten is how a fleet rots.",
            now(f"(count((capi_cluster_spec_paused{{{IN}}} == 1) or capi_cluster_annotation_paused{{{IN}}})) or vector(0)"),
            limits=((1, ORANGE),),
        ),
        number("Machines", "Machines there are, of all clusters.", now(f"count(capi_machine_created{{{IN}}}) or vector(0)")),
        number(
            "Not connected",
            "Workload clusters whose API server the reconcilers cannot reach. Nodes, drains and control planes of these stand still. "
            "Look at the cluster's endpoint and its kubeconfig Secret.",
            now('count(max by (cluster_namespace, cluster_name) (capi_cluster_cache_connection_up{cluster_namespace=~"$namespace"}) == 0) or vector(0)'),
            limits=((1, ORANGE), (3, RED)),
        ),
        number(
            "Alerts firing",
            "Alerts of ours that fire now. Each has a runbook: docs/runbooks.",
            now('count(ALERTS{alertname=~"Fleetwake.*", alertstate="firing"}) or vector(0)'),
            limits=((1, RED),),
            links=pipeline,
        ),
    ):
        made = made.with_panel(panel)
    return made


def _clusters(made: Any) -> Any:
    not_available = f'(time() - capi_cluster_status_condition_last_transition_time{{type="Available", status!="True", {IN}}})'
    made = made.with_row(row("Clusters"))
    return (
        made.with_panel(
            listing(
                "Not Available, longest first",
                "Each cluster that is not Available and for how long. Click the name: its conditions over time, what was asked of it and what came of it. "
                "Empty is what you want.",
                [rows(f"sort_desc({not_available})")],
                columns=(
                    Column("namespace", "Namespace"),
                    Column("name", "Cluster", link=CLUSTER_LINK),
                    Column("status", "Available"),
                    Column("Value", "For", "s"),
                ),
                width=12,
            )
        )
        .with_panel(
            listing(
                "All clusters",
                "Endpoint and providers of each cluster. Click the name for its life.",
                [rows(f"capi_cluster_info{{{IN}}}")],
                columns=(
                    Column("namespace", "Namespace"),
                    Column("name", "Cluster", link=CLUSTER_LINK),
                    Column("infrastructure_reference_kind", "Infrastructure"),
                    Column("control_plane_reference_kind", "Control plane"),
                    Column("control_plane_endpoint_host", "Host"),
                    Column("control_plane_endpoint_port", "Port"),
                ),
                width=12,
            )
        )
        .with_panel(
            graph(
                "Clusters by phase",
                "Phases sum conditions up. A band of Provisioning that does not shrink means clusters wait for infrastructure or a control plane.",
                [promql(f"sum by (phase) (capi_cluster_status_phase{{{IN}}}) > 0", "{{phase}}")],
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Time from creation to Available",
                "Of the clusters that are Available: seconds between their creation and the last time they became it. A cluster that was lost and came back "
                "counts with its whole age.",
                [
                    promql(f"quantile({share}, {AVAILABLE_AT} - on (namespace, name) capi_cluster_created{{{IN}}})", f"p{int(share * 100)}")
                    for share in (0.5, 0.9, 0.99)
                ],
                unit="s",
            )
        )
    )


def _machines(made: Any) -> Any:
    made = made.with_row(row("Machines"))
    return (
        made.with_panel(
            graph(
                "Machines by phase",
                "Provisioning that does not become Running waits for infrastructure, bootstrap or a Node; Deleting that stays is a forbidden drain.",
                [promql(f"sum by (phase) (capi_machine_status_phase{{{IN}}}) > 0", "{{phase}}")],
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Machines by Kubernetes version",
                "How far a rollout of a version has come over the fleet.",
                [promql(f"count by (version) (capi_machine_info{{{IN}}})", "{{version}}")],
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Machines missing",
                "Machines that deployments, pools and control planes are asked for and that are not available. Rollouts make bumps; a plateau is trouble.",
                [
                    promql(missing("machinedeployment"), "workers of {{cluster_name}}"),
                    promql(missing("machinepool"), "pools of {{cluster_name}}"),
                    promql(missing("kubeadmcontrolplane"), "control plane of {{cluster_name}}"),
                ],
            )
        )
        .with_panel(
            graph(
                "Writes to API servers",
                "What the services write, by kind. A settled fleet writes nothing; a kind that goes on writing without a change of yours fights somebody: "
                "look at its traces in Slow reconciles.",
                [promql("sum by (kind) (rate(fleetwake_writes_total[$__rate_interval]))", "{{kind}}")],
                unit="wps",
            )
        )
    )


def _node_groups(made: Any) -> Any:
    replicas, most = f"capi_%s_spec_replicas{{{IN}}}", f"capi_%s_annotation_node_group_max_size{{{IN}}}"
    made = made.with_row(row("Node groups of cluster-autoscalers"))
    return (
        made.with_panel(
            graph(
                "Size of node groups",
                "Machines that each node group is asked for. What changed it and who asked: `fleetwake audit`, `fleetwake audit why machine/NAME`.",
                [promql(of_groups(f"{replicas} and on (namespace, name) {most}"), "{{namespace}}/{{name}}")],
            )
        )
        .with_panel(
            graph(
                "Share of the maximum",
                "At 100 % a group cannot grow: Pods that wait for it wait until somebody raises its maximum.",
                [promql(of_groups(f"{replicas} / on (namespace, name) group_left {most}"), "{{namespace}}/{{name}}")],
                unit="percentunit",
                limits=((1, ORANGE),),
            )
        )
        .with_panel(
            graph(
                "Node groups by standing",
                "By the reason of condition NodeGroupReady. Whatever is not Served is no group that the bridge scales: AnotherWriter is one that somebody "
                "else does, CapacityUnknown stands at 0 and cannot grow (docs/runbooks/node-group-without-capacity.md), others "
                "docs/runbooks/node-group-refused.md.",
                [promql("sum by (reason) (fleetwake_autoscaler_node_groups)", "{{reason}}")],
                stacked=True,
            )
        )
        .with_panel(
            graph(
                "Changes of size asked for, by outcome",
                "What cluster-autoscalers ask the bridge to change. OK has been written; OUT_OF_RANGE and FAILED_PRECONDITION are refused with a reason, "
                "which is in `fleetwake audit` of the group; DEADLINE_EXCEEDED was not done in time and is asked again.",
                [
                    promql(
                        f"sum by (method, code) (increase({CHANGES_OF_SIZE}[$__rate_interval]))",
                        "{{method}} {{code}}",
                    )
                ],
            )
        )
        .with_panel(
            graph(
                "Requests of cluster-autoscalers not answered with OK",
                "NOT_FOUND asks for a group that is not served, or of another cluster; UNAVAILABLE reached a bridge that does not own the cluster; "
                "PERMISSION_DENIED has a certificate that names none; UNIMPLEMENTED is what the protocol leaves open.",
                [promql('sum by (method, code) (rate(fleetwake_autoscaler_requests_total{code!="OK"}[$__rate_interval]))', "{{method}} {{code}}")],
                unit="reqps",
            )
        )
        .with_panel(
            graph(
                "Time to answer a cluster-autoscaler, p99",
                "A change of size waits for its writes, all else is read from memory. cluster-autoscaler gives up after 5 seconds.",
                [promql(quantile(0.99, "fleetwake_autoscaler_request_seconds", by="method"), "{{method}}")],
                unit="s",
                limits=((5, RED),),
            )
        )
    )
