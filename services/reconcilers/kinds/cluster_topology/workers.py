"""MachineDeployments and MachinePools of a topology, each with its bootstrap and infrastructure objects, before patches.

Source: kinds.md §10.2, §0.4; Cluster API v1.14.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake import labels
from fleetwake.patches import owner_reference, pruned, wire
from fleetwake.topology.blueprint import Blueprint, Json, first_given, merged_annotations, merged_labels
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import MachineDeploymentClass, MachinePoolClass
from schemas.api.core.v1beta2.machine import MachineSpec
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.topology import MachineDeploymentTopology, MachinePoolTopology
from services.reconcilers.kinds.cluster_topology import health_checks
from services.reconcilers.kinds.cluster_topology.current import Current
from services.reconcilers.kinds.cluster_topology.objects import DEPLOYMENT_NAME, POOL_NAME, Made, named, object_from, prefixed, reference, suffix, template_from


@dataclass(slots=True)
class Workers:
    """Workers as they shall be: their object, what it refers to, and their health check. ``worker_class`` is the class they are of."""

    topology_name: str
    worker_class: str
    body: Json
    bootstrap: Json
    infrastructure: Json
    health_check: Json | None = None

    def refer(self) -> None:
        """Let the object refer to what it is made with, under the names they have now."""
        spec = self.body["spec"]["template"]["spec"]
        spec["bootstrap"] = {"configRef": reference(self.bootstrap)}
        spec["infrastructureRef"] = reference(self.infrastructure)


def _names_of_parts(stored: MachineSpec | None) -> dict[str, str]:
    """The names of the objects that stored workers are made with, by part; empty where there is none yet."""
    return {
        "bootstrap": stored.bootstrap.config_ref.name if stored is not None and stored.bootstrap.config_ref is not None else "",
        "infrastructure": stored.infrastructure_ref.name if stored is not None else "",
    }


def deployment(blueprint: Blueprint, current: Current, asked: MachineDeploymentTopology, version: str) -> Workers:
    """A MachineDeployment of the topology. Raises: TopologyError."""
    of_class, cluster, existing = blueprint.deployment_class(asked.class_), current.cluster, current.deployment(asked.name)
    own = {labels.CLUSTER_NAME: cluster.name, labels.TOPOLOGY_OWNED: "", labels.TOPOLOGY_DEPLOYMENT_NAME: asked.name}
    stored = existing.deployment.spec.template.spec if existing is not None else None
    bootstrap, infrastructure = (
        template_from(
            blueprint.template(getattr(of_class, part).template_ref),
            cluster,
            Made(name or prefixed(cluster, asked.name, suffix(cluster, "deployment", part, asked.name)), {labels.TOPOLOGY_DEPLOYMENT_NAME: asked.name}),
        )
        for part, name in _names_of_parts(stored).items()
    )
    going = current.leaving_uids.get(asked.name, ())
    values = {"machineDeployment": {"topologyName": asked.name}}
    name = named(of_class.naming.template or DEPLOYMENT_NAME, cluster, suffix(cluster, "deployment", asked.name, *going), values)
    found = Workers(asked.name, asked.class_, _object(MachineDeployment, existing.deployment.name if existing else name, cluster), bootstrap, infrastructure)
    found.body["spec"] = _deployment_spec(cluster, asked, of_class, own)
    _template(found.body, cluster, version, _machine_spec(asked, of_class) | pruned(_only_deployments(asked, of_class)))
    _label(found.body, {**merged_labels(asked.metadata, of_class.metadata), **own}, merged_annotations(asked.metadata, of_class.metadata))
    found.refer()
    checks = health_checks.chosen(asked.health_check, of_class.health_check)
    if checks is not None:
        found.health_check = health_checks.health_check(cluster, found.body["metadata"]["name"], health_checks.deployment_selector(asked.name), checks)
    return found


def pool(blueprint: Blueprint, current: Current, asked: MachinePoolTopology, version: str) -> Workers:
    """A MachinePool of the topology. Raises: TopologyError."""
    of_class, cluster, existing = blueprint.pool_class(asked.class_), current.cluster, current.pool(asked.name)
    own = {labels.CLUSTER_NAME: cluster.name, labels.TOPOLOGY_OWNED: "", labels.TOPOLOGY_POOL_NAME: asked.name}
    stored = existing.pool.spec.template.spec if existing is not None else None
    bootstrap, infrastructure = (
        object_from(
            blueprint.template(getattr(of_class, part).template_ref),
            cluster,
            Made(
                name or prefixed(cluster, asked.name, suffix(cluster, "pool", part, asked.name)),
                {labels.TOPOLOGY_POOL_NAME: asked.name},
                owner=owner_reference(cluster),
            ),
        )
        for part, name in _names_of_parts(stored).items()
    )
    going = current.leaving_uids.get(asked.name, ())
    values = {"machinePool": {"topologyName": asked.name}}
    name = named(of_class.naming.template or POOL_NAME, cluster, suffix(cluster, "pool", asked.name, *going), values)
    found = Workers(asked.name, asked.class_, _object(MachinePool, existing.pool.name if existing else name, cluster), bootstrap, infrastructure)
    spec: Json = {"clusterName": cluster.name, "replicas": asked.replicas, "failureDomains": list(asked.failure_domains or of_class.failure_domains)}
    found.body["spec"] = pruned(spec)
    _template(found.body, cluster, version, _machine_spec(asked, of_class))
    _label(found.body, {**merged_labels(asked.metadata, of_class.metadata), **own}, merged_annotations(asked.metadata, of_class.metadata))
    found.refer()
    return found


def _object(model: type[MachineDeployment] | type[MachinePool], name: str, cluster: Cluster) -> Json:
    return {"apiVersion": f"{model.GROUP}/{model.VERSION}", "kind": model.KIND, "metadata": {"name": name, "namespace": cluster.namespace}}


def _deployment_spec(cluster: Cluster, asked: MachineDeploymentTopology, of_class: MachineDeploymentClass, own: Mapping[str, str]) -> Json:
    """The spec but for its template: rollout and health check whole from one side, the rest field by field."""
    rollout = wire(asked.rollout) or wire(of_class.rollout)
    in_flight = first_given(asked.health_check.remediation.max_in_flight, of_class.health_check.remediation.max_in_flight)
    spec: Json = {
        "clusterName": cluster.name,
        "replicas": asked.replicas,
        "rollout": rollout,
        "deletion": {"order": first_given(asked.deletion.order, of_class.deletion.order)},
        "remediation": {"maxInFlight": in_flight},
    }
    return pruned(spec) | {"selector": {"matchLabels": dict(own)}}


def _machine_spec(asked: MachineDeploymentTopology | MachinePoolTopology, of_class: MachineDeploymentClass | MachinePoolClass) -> Json:
    """The fields of Machines that deployments and pools have in common."""
    timeouts = {name: value for name, value in (wire(of_class.deletion) | wire(asked.deletion)).items() if name != "order"}
    spec: Json = {
        "deletion": timeouts,
        "taints": [wire(one) for one in asked.taints or of_class.taints],
        "minReadySeconds": first_given(asked.min_ready_seconds, of_class.min_ready_seconds),
    }
    return pruned(spec)


def _only_deployments(asked: MachineDeploymentTopology, of_class: MachineDeploymentClass) -> Json:
    return {
        "failureDomain": first_given(asked.failure_domain, of_class.failure_domain),
        "readinessGates": [wire(one) for one in asked.readiness_gates or of_class.readiness_gates],
    }


def _template(body: Json, cluster: Cluster, version: str, said: Mapping[str, Any]) -> None:
    body["spec"]["template"] = {"spec": {"clusterName": cluster.name, "version": version, **said}}


def _label(body: Json, own: Mapping[str, str], annotations: Mapping[str, str]) -> None:
    """Labels and annotations go on the object and on its Machines."""
    for metadata in (body["metadata"], body["spec"]["template"].setdefault("metadata", {})):
        metadata["labels"] = dict(own)
        if annotations:
            metadata["annotations"] = dict(annotations)
