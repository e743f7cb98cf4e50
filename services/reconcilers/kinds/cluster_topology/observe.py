"""What the decision about a topology reads, as one frozen snapshot.

Source: kinds.md §10.1 (1, 3), §16.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from fleetwake import labels
from fleetwake.kind import External, Failure, View
from fleetwake.topology.blueprint import Blueprint, TemplateKey, references
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.cluster_topology.control_plane import machine_template_reference
from services.reconcilers.kinds.cluster_topology.current import Current, CurrentDeployment, CurrentPool
from services.reconcilers.kinds.cluster_topology.versions import BEFORE_CLUSTER_UPGRADE


@dataclass(frozen=True, slots=True)
class Observed:
    """A Cluster with a topology, its class with the templates that exist (None: there is no such class), and what the topology owns."""

    at: datetime
    current: Current
    blueprint: Blueprint | None
    failure: Failure | None = None


def read(view: View, key: ObjectKey) -> Observed | None:
    """Read a Cluster with a topology and what it depends on; None when it is gone or has no topology."""
    cluster = view.get(Cluster, key.namespace, key.name)
    if cluster is None or cluster.spec.topology is None:
        return None
    return Observed(view.at, _current(view, cluster), _blueprint(view, cluster), view.failure())


def _blueprint(view: View, cluster: Cluster) -> Blueprint | None:
    topology = cluster.spec.topology
    assert topology is not None
    namespace = topology.class_ref.namespace or cluster.namespace
    found = view.get(ClusterClass, namespace, topology.class_ref.name)
    if found is None:
        return None
    templates = {
        TemplateKey(ref.api_version, ref.kind, ref.name): template
        for ref in references(found)
        if (template := view.external(GroupKind(ref.group, ref.kind), namespace, ref.name)) is not None
    }
    return Blueprint(found, templates)


def _current(view: View, cluster: Cluster) -> Current:
    spec, key = cluster.spec, ClusterKey(cluster.namespace, cluster.name)
    control_plane = _referenced(view, cluster, spec.control_plane_ref)
    machines = view.of_cluster(Machine, key)
    deployments = tuple(one for one in view.of_cluster(MachineDeployment, key) if labels.TOPOLOGY_DEPLOYMENT_NAME in one.metadata.labels)
    pools = tuple(one for one in view.of_cluster(MachinePool, key) if labels.TOPOLOGY_POOL_NAME in one.metadata.labels)
    leaving: defaultdict[str, tuple[str, ...]] = defaultdict(tuple)
    for label, found in ((labels.TOPOLOGY_DEPLOYMENT_NAME, deployments), (labels.TOPOLOGY_POOL_NAME, pools)):
        for one in found:
            if one.metadata.deleting:
                leaving[one.metadata.labels[label]] += (one.metadata.uid,)
    return Current(
        cluster=cluster,
        infrastructure_cluster=_referenced(view, cluster, spec.infrastructure_ref),
        control_plane=control_plane,
        control_plane_machine_template=_machine_template(view, cluster, control_plane),
        deployments=tuple(_deployment(view, cluster, one, machines) for one in deployments if not one.metadata.deleting),
        pools=tuple(_pool(view, cluster, one) for one in pools if not one.metadata.deleting),
        health_checks={one.name: one for one in view.of_cluster(MachineHealthCheck, key) if labels.TOPOLOGY_OWNED in one.metadata.labels},
        leaving_uids=dict(leaving),
        blocking=_blocking(cluster),
    )


def _referenced(view: View, cluster: Cluster, ref: ContractVersionedObjectReference | None) -> External | None:
    return view.external(GroupKind(ref.api_group, ref.kind), cluster.namespace, ref.name) if ref is not None else None


def _machine_template(view: View, cluster: Cluster, control_plane: External | None) -> External | None:
    """The template a control plane makes its Machines from, by the reference of its contract."""
    if control_plane is None:
        return None
    ref = machine_template_reference(control_plane)
    if not ref:
        return None
    group = str(ref.get("apiGroup") or str(ref.get("apiVersion", "")).rpartition("/")[0])
    return view.external(GroupKind(group, str(ref.get("kind"))), cluster.namespace, str(ref.get("name")))


def _deployment(view: View, cluster: Cluster, one: MachineDeployment, machines: tuple[Machine, ...]) -> CurrentDeployment:
    spec = one.spec.template.spec
    return CurrentDeployment(
        one,
        bootstrap=_referenced(view, cluster, spec.bootstrap.config_ref),
        infrastructure=_referenced(view, cluster, spec.infrastructure_ref),
        machines=tuple(each for each in machines if one.spec.selector.matches(each.metadata.labels)),
    )


def _pool(view: View, cluster: Cluster, one: MachinePool) -> CurrentPool:
    spec = one.spec.template.spec
    named = {ref.name for ref in one.status.node_refs}
    workload = view.workload(ClusterKey(cluster.namespace, cluster.name))
    kubelets = tuple(_kubelet(node) for node in workload.nodes if node["metadata"]["name"] in named)
    return CurrentPool(
        one,
        bootstrap=_referenced(view, cluster, spec.bootstrap.config_ref),
        infrastructure=_referenced(view, cluster, spec.infrastructure_ref),
        kubelets=tuple(filter(None, kubelets)),
    )


def _kubelet(node: Mapping[str, object]) -> str:
    status = node.get("status")
    info = status.get("nodeInfo") if isinstance(status, Mapping) else None
    return str(info.get("kubeletVersion") or "") if isinstance(info, Mapping) else ""


def _blocking(cluster: Cluster) -> dict[str, str]:
    """The hooks that annotations of the Cluster hold."""
    held = sorted(key for key in cluster.metadata.annotations if key.startswith(labels.BEFORE_UPGRADE_HOOK_PREFIX))
    return {BEFORE_CLUSTER_UPGRADE: f"annotation{'s' if len(held) > 1 else ''} {', '.join(held)} must be removed"} if held else {}
