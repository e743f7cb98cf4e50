"""What admission fills in: the webhooks' own work, and the effective object of one that came in without them, with what of it must be stored.

Decisions read the effective object, so that they never meet an empty selector or an absent number; other programs (kubectl scale, the
autoscaler, clusterctl) read the stored one, so replicas, selector and the labels they need are patched in.

Source: contracts.md §11 (D column), kinds.md §4 and §15 (replicas rules); Cluster API v1.14.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake import labels, names
from fleetwake.patches import wire
from schemas.api.controlplane.v1beta2.kubeadm_control_plane import KubeadmControlPlane, KubeadmControlPlaneRolloutStrategy
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine, MachineSpec, MachineTemplateSpec
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import RolloutStrategy
from schemas.api.meta import LabelSelector

NODE_DELETION_TIMEOUT_SECONDS = 10
NODE_STARTUP_TIMEOUT_SECONDS = 600


def replicas(stored: int | None, annotations: Mapping[str, str], old: int | None) -> int:
    """The replicas wanted: as stored; else inside the autoscaler's bounds if both are annotated; else as before; else 1.

    ``old`` is what the object had before it lost its number (None for a new one).
    """
    if stored is not None:
        return stored
    least, most = _number(annotations.get(labels.AUTOSCALER_MIN_SIZE)), _number(annotations.get(labels.AUTOSCALER_MAX_SIZE))
    if least is not None and most is not None:
        return least if old is None else max(least, min(old, most))
    return 1 if old is None else old


def replicas_managed_elsewhere(annotations: Mapping[str, str]) -> bool:
    """Whether the number of replicas is somebody else's to decide, as a cloud's own autoscaler; only the value ``false`` says otherwise."""
    return annotations.get(labels.REPLICAS_MANAGED_BY, "false") != "false"


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None


def version(text: str | None) -> str | None:
    """A Kubernetes version with its leading v."""
    return f"v{text}" if text and not text.startswith("v") else text


def node_deletion_timeout(spec: MachineSpec) -> MachineSpec:
    """The spec with the default time to wait for a Node's deletion."""
    if spec.deletion.node_deletion_timeout_seconds is not None:
        return spec
    deletion = spec.deletion.model_copy(update={"node_deletion_timeout_seconds": NODE_DELETION_TIMEOUT_SECONDS})
    return spec.model_copy(update={"deletion": deletion})


def machine(obj: Machine) -> Machine:
    """The effective Machine: version with v, node deletion timeout, cluster-name label."""
    spec = node_deletion_timeout(obj.spec)
    return obj.model_copy(
        update={
            "metadata": obj.metadata.model_copy(update={"labels": {**obj.metadata.labels, labels.CLUSTER_NAME: obj.spec.cluster_name}}),
            "spec": spec.model_copy(update={"version": version(spec.version)}) if spec.version else spec,
        }
    )


def machine_set(obj: MachineSet) -> MachineSet:
    """The effective MachineSet: replicas, a selector that is not empty, cluster-name in selector and template, version with v."""
    own = {labels.SET_NAME: names.label_value(obj.name)} if obj.spec.selector.empty else {}
    return obj.model_copy(update={"spec": obj.spec.model_copy(update=_selected(obj, own))})


def machine_deployment(obj: MachineDeployment) -> MachineDeployment:
    """The effective MachineDeployment: as ``machine_set``, and the rollout strategy."""
    own = {labels.DEPLOYMENT_NAME: obj.name} if obj.spec.selector.empty else {}
    strategy = obj.spec.rollout.strategy or RolloutStrategy(type="RollingUpdate")
    if strategy.type == "RollingUpdate":
        bounds = {
            "max_surge": 1 if strategy.rolling_update.max_surge is None else strategy.rolling_update.max_surge,
            "max_unavailable": 0 if strategy.rolling_update.max_unavailable is None else strategy.rolling_update.max_unavailable,
        }
        strategy = strategy.model_copy(update={"rolling_update": strategy.rolling_update.model_copy(update=bounds)})
    update = {**_selected(obj, own), "rollout": obj.spec.rollout.model_copy(update={"strategy": strategy})}
    return obj.model_copy(update={"spec": obj.spec.model_copy(update=update)})


def machine_pool(obj: MachinePool) -> MachinePool:
    """The effective MachinePool: replicas, version with v, node deletion timeout."""
    spec = node_deletion_timeout(obj.spec.template.spec)
    if spec.version:
        spec = spec.model_copy(update={"version": version(spec.version)})
    amount = replicas(obj.spec.replicas, obj.metadata.annotations, obj.status.replicas)
    update = {"replicas": amount, "template": obj.spec.template.model_copy(update={"spec": spec})}
    return obj.model_copy(update={"spec": obj.spec.model_copy(update=update)})


def machine_health_check(obj: MachineHealthCheck) -> MachineHealthCheck:
    """The effective MachineHealthCheck: how long a Machine may take to get its Node."""
    checks = obj.spec.checks
    if checks.node_startup_timeout_seconds is not None:
        return obj
    checks = checks.model_copy(update={"node_startup_timeout_seconds": NODE_STARTUP_TIMEOUT_SECONDS})
    return obj.model_copy(update={"spec": obj.spec.model_copy(update={"checks": checks})})


def kubeadm_control_plane(obj: KubeadmControlPlane) -> KubeadmControlPlane:
    """The effective KubeadmControlPlane: version with v, rollout strategy. Its replicas are the definition's default."""
    strategy = obj.spec.rollout.strategy or KubeadmControlPlaneRolloutStrategy(type="RollingUpdate")
    if strategy.rolling_update.max_surge is None:
        strategy = strategy.model_copy(update={"rolling_update": strategy.rolling_update.model_copy(update={"max_surge": 1})})
    update = {"version": version(obj.spec.version), "rollout": obj.spec.rollout.model_copy(update={"strategy": strategy})}
    return obj.model_copy(update={"spec": obj.spec.model_copy(update=update)})


def cluster(obj: Cluster) -> Cluster:
    """The effective Cluster: the topology's version with v."""
    topology = obj.spec.topology
    if topology is None:
        return obj
    topology = topology.model_copy(update={"version": version(topology.version)})
    return obj.model_copy(update={"spec": obj.spec.model_copy(update={"topology": topology})})


def _selected(obj: MachineSet | MachineDeployment, own: Mapping[str, str]) -> dict[str, Any]:
    """The spec fields that both kinds default alike. ``own`` is the label that stands in for an empty selector."""
    spec = obj.spec
    must = {**own, labels.CLUSTER_NAME: spec.cluster_name}
    selector = spec.selector.model_copy(update={"match_labels": {**spec.selector.match_labels, **must}})
    return {
        "replicas": replicas(spec.replicas, obj.metadata.annotations, obj.status.replicas),
        "selector": selector,
        "template": _template(spec.template, must),
    }


def _template(template: MachineTemplateSpec, must: Mapping[str, str]) -> MachineTemplateSpec:
    update: dict[str, Any] = {}
    if any(template.metadata.labels.get(key) != value for key, value in must.items()):
        update["metadata"] = template.metadata.model_copy(update={"labels": {**template.metadata.labels, **must}})
    if version(template.spec.version) != template.spec.version:
        update["spec"] = template.spec.model_copy(update={"version": version(template.spec.version)})
    return template.model_copy(update=update) if update else template


def stored_spec(stored: MachineSet | MachineDeployment, effective: MachineSet | MachineDeployment) -> dict[str, Any]:
    """The ``spec`` of a merge patch that stores the defaults others read: replicas, selector, template labels. Empty when all are there."""
    spec: dict[str, Any] = {}
    if stored.spec.replicas is None:
        spec["replicas"] = effective.spec.replicas
    if _selector_wire(stored.spec.selector) != _selector_wire(effective.spec.selector):
        spec["selector"] = _selector_wire(effective.spec.selector)
    added = {key: value for key, value in effective.spec.template.metadata.labels.items() if stored.spec.template.metadata.labels.get(key) != value}
    if added:
        spec["template"] = {"metadata": {"labels": added}}
    return spec


def _selector_wire(selector: LabelSelector) -> dict[str, Any]:
    found = wire(selector)
    return {name: value for name, value in found.items() if value}
