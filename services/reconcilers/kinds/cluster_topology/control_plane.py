"""The infrastructure cluster and the control plane of a topology, with the template of its Machines, before patches.

Source: kinds.md §10.2; contracts.md (control plane contracts v1beta1, v1beta2); Cluster API v1.14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleetwake import contracts, labels
from fleetwake.kind import External
from fleetwake.patches import owner_reference, wire
from fleetwake.topology.blueprint import Blueprint, Json, first_given, merged_annotations, merged_labels
from schemas.api.core.v1beta2.cluster_class import ControlPlaneClass
from schemas.api.core.v1beta2.topology import ControlPlaneTopology, Topology
from services.reconcilers.kinds.cluster_topology.current import Current
from services.reconcilers.kinds.cluster_topology.objects import OBJECT_NAME, Made, named, object_from, prefixed, reference, suffix, template_from

_TIMEOUTS = ("nodeDrainTimeoutSeconds", "nodeVolumeDetachTimeoutSeconds", "nodeDeletionTimeoutSeconds")


def infrastructure_cluster(blueprint: Blueprint, current: Current) -> Json:
    """The infrastructure cluster."""
    infrastructure, cluster = blueprint.cluster_class.spec.infrastructure, current.cluster
    existing = cluster.spec.infrastructure_ref
    name = existing.name if existing else named(infrastructure.naming.template or OBJECT_NAME, cluster, suffix(cluster, "infrastructure"))
    return object_from(blueprint.template(infrastructure.template_ref), cluster, Made(name, owner=owner_reference(cluster, controller=True)))


def machine_template(blueprint: Blueprint, current: Current) -> Json | None:
    """The infrastructure template of the control plane's Machines; None for a control plane without Machines."""
    machines = blueprint.cluster_class.spec.control_plane.machine_infrastructure
    if machines is None:
        return None
    template, cluster = blueprint.template(machines.template_ref), current.cluster
    existing = machine_template_name(current.control_plane) if current.control_plane is not None else ""
    name = existing or prefixed(cluster, "", suffix(cluster, "control plane machines"))
    return template_from(template, cluster, Made(name))


def machine_template_name(control_plane: External) -> str:
    """The name of the template that a control plane makes its Machines from, empty when it names none."""
    return str(machine_template_reference(control_plane).get("name") or "")


def machine_template_reference(control_plane: External) -> Mapping[str, Any]:
    """How a control plane refers to the template that it makes its Machines from; empty when it does not."""
    found = contracts.field(control_plane, *paths(control_plane.contract)["infrastructureRef"])
    return found if isinstance(found, Mapping) else {}


def control_plane(blueprint: Blueprint, current: Current, topology: Topology, machines: Json | None, version: str) -> Json:
    """The control plane with everything the topology says about it."""
    of_class, asked, cluster = blueprint.cluster_class.spec.control_plane, topology.control_plane, current.cluster
    template = blueprint.template(of_class.template_ref)
    own = {**merged_labels(asked.metadata, of_class.metadata), labels.CLUSTER_NAME: cluster.name, labels.TOPOLOGY_OWNED: ""}
    annotations = merged_annotations(asked.metadata, of_class.metadata)
    existing = cluster.spec.control_plane_ref
    name = existing.name if existing else named(of_class.naming.template or OBJECT_NAME, cluster, suffix(cluster, "control plane"))
    body = object_from(template, cluster, Made(name, own, annotations, owner_reference(cluster, controller=True)))
    body.setdefault("spec", {})
    where = paths(template.contract)
    if machines is not None:
        stored = _at(body, where["metadata"]) or {}
        metadata = {"labels": {**(stored.get("labels") or {}), **own}, "annotations": {**(stored.get("annotations") or {}), **annotations}}
        _put(body, where["metadata"], {key: value for key, value in metadata.items() if value})
        _put(body, where["infrastructureRef"], machine_reference(machines, template.contract))
    for field, value in _said(asked, of_class, template.contract).items():
        _put(body, where[field], value)
    _put(body, where["version"], version)
    return body


def machine_reference(machines: Json, contract: str) -> Json:
    """How a control plane of the contract refers to the template of its Machines."""
    if contract != contracts.V1BETA1:
        return reference(machines)
    metadata = machines["metadata"]
    return {"apiVersion": machines["apiVersion"], "kind": machines["kind"], "name": metadata["name"], "namespace": metadata["namespace"]}


def _said(asked: ControlPlaneTopology, of_class: ControlPlaneClass, contract: str) -> Json:
    """The fields that topology or class set; what neither says is left to the template and the provider."""
    said: Json = {"replicas": asked.replicas}
    if asked.rollout.after is not None:
        said["rolloutAfter"] = wire(asked.rollout)["after"]
    said["readinessGates"] = _listed(asked.readiness_gates or of_class.readiness_gates)
    said["taints"] = _listed(asked.taints or of_class.taints)
    mine, theirs = wire(asked.deletion), wire(of_class.deletion)
    for name in _TIMEOUTS:
        seconds = first_given(mine.get(name), theirs.get(name))
        said[name] = seconds if contract != contracts.V1BETA1 or seconds is None else go_duration(seconds)
    return {name: value for name, value in said.items() if value is not None}


def _listed(models: Sequence[Any]) -> list[Json] | None:
    return [wire(one) for one in models] or None


def go_duration(seconds: int) -> str:
    """Seconds as Go writes a duration (``1h2m3s``)."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


def paths(contract: str) -> Mapping[str, tuple[str, ...]]:
    """Where a control plane of the contract keeps what the topology owns of it."""
    machines = ("spec", "machineTemplate")
    common: dict[str, tuple[str, ...]] = {"version": ("spec", "version"), "replicas": ("spec", "replicas"), "rolloutAfter": ("spec", "rollout", "after")}
    common["metadata"] = (*machines, "metadata")
    if contract == contracts.V1BETA1:
        timeouts = {name: (*machines, name.removesuffix("Seconds")) for name in _TIMEOUTS}
        return {**common, **timeouts, **{name: (*machines, name) for name in ("infrastructureRef", "readinessGates", "taints")}}
    longer = {name: (*machines, "spec", "deletion", name) for name in _TIMEOUTS}
    return {**common, **longer, **{name: (*machines, "spec", name) for name in ("infrastructureRef", "readinessGates", "taints")}}


def _at(body: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = body
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return value


def _put(body: Json, path: Sequence[str], value: Any) -> None:
    for name in path[:-1]:
        inner = body.get(name)
        if not isinstance(inner, dict):
            inner = body[name] = {}
        body = inner
    body[path[-1]] = value
