"""kube-state-metrics' custom-resource configuration for every kind of ours, generated from ``schemas/``: the ``capi_<kind>_...`` families.

Names and labels are those of Cluster API's own configuration, so that its dashboards fill. Which families a kind has, and which phases, is
read from the kind's schema; a path that its schema does not have is refused here instead of being silently empty there.

Source: Cluster API v1.14 ``core/config/metrics/crd-metrics-config.yaml`` (names); kube-state-metrics v2.18 ``customresourcestate-metrics.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from fleetwake import labels
from schemas import crd
from schemas.api.meta import KubeObject
from schemas.api.registry import KINDS

Json = dict[str, Any]
Path = Sequence[str]

HEADER = "# Generated from the models in schemas/api by `make dashboards`. Do not edit.\n"
CLUSTER_NAME_LABEL = ("metadata", "labels", "cluster.x-k8s.io/cluster-name")
PAUSED_ANNOTATION = ("metadata", "annotations", "cluster.x-k8s.io/paused")
ERROR_VERBOSITY = 5
CONDITION_STATUSES = ("True", "False", "Unknown")

CLUSTER_NAME: Mapping[str, Path] = {"KubeadmControlPlane": ("metadata", "ownerReferences", "[kind=Cluster]", "name")}
"""Where a kind that does not say it in its spec has the name of its Cluster; others have the label."""
OF_NO_CLUSTER = frozenset({"Cluster", "ClusterClass", "ClusterResourceSet", "ExtensionConfig", "MachineDrainRule", "IPAddress"})


def _reference(label: str, *path: str) -> dict[str, Path]:
    return {f"{label}_kind": (*path, "kind"), f"{label}_name": (*path, "name")}


def _of_machine(prefix: Path, bootstrap: str = "bootstrap_reference") -> dict[str, Path]:
    return {
        **_reference(bootstrap, *prefix, "bootstrap", "configRef"),
        **_reference("infrastructure_reference", *prefix, "infrastructureRef"),
        "version": (*prefix, "version"),
    }


TEMPLATE = ("spec", "template", "spec")
INFO: Mapping[str, Mapping[str, Path]] = {
    "Cluster": {
        "control_plane_endpoint_host": ("spec", "controlPlaneEndpoint", "host"),
        "control_plane_endpoint_port": ("spec", "controlPlaneEndpoint", "port"),
        **_reference("control_plane_reference", "spec", "controlPlaneRef"),
        **_reference("infrastructure_reference", "spec", "infrastructureRef"),
        "topology_classref_name": ("spec", "topology", "classRef", "name"),
        "topology_classref_namespace": ("spec", "topology", "classRef", "namespace"),
        "topology_version": ("spec", "topology", "version"),
    },
    "Machine": {
        **_of_machine(("spec",)),
        "failure_domain": ("spec", "failureDomain"),
        "provider_id": ("spec", "providerID"),
        "control_plane_name": ("metadata", "labels", "cluster.x-k8s.io/control-plane-name"),
        "container_runtime_version": ("status", "nodeInfo", "containerRuntimeVersion"),
        "kernel_version": ("status", "nodeInfo", "kernelVersion"),
        "kube_proxy_version": ("status", "nodeInfo", "kubeProxyVersion"),
        "kubelet_version": ("status", "nodeInfo", "kubeletVersion"),
        "os_image": ("status", "nodeInfo", "osImage"),
    },
    "MachineDeployment": _of_machine(TEMPLATE),
    "MachineSet": _of_machine(TEMPLATE),
    "MachinePool": {**_of_machine(TEMPLATE, "bootstrap_configuration_reference"), "failure_domain": (*TEMPLATE, "failureDomain")},
    "MachineHealthCheck": {
        # without a label that every object has, those without a trigger would not show
        "cluster_name": ("spec", "clusterName"),
        "remediation_triggerif_unhealthyinrange": ("spec", "remediation", "triggerIf", "unhealthyInRange"),
        "remediation_triggerif_unhealthylessthanorequalto": ("spec", "remediation", "triggerIf", "unhealthyLessThanOrEqualTo"),
    },
    "KubeadmControlPlane": {"version": ("spec", "version")},
}
"""Labels of a kind's ``info`` beside its name; a kind without an entry has the name only."""

GAUGES: tuple[tuple[str, Path, bool, str], ...] = (
    ("spec_paused", ("spec", "paused"), True, "Whether the {kind} is paused"),
    ("spec_replicas", ("spec", "replicas"), False, "Machines that the {kind} is asked for"),
    ("spec_strategy_rollingupdate_max_surge", ("spec", "rollout", "strategy", "rollingUpdate", "maxSurge"), False, "Machines a rollout may have too many"),
    (
        "spec_strategy_rollingupdate_max_unavailable",
        ("spec", "rollout", "strategy", "rollingUpdate", "maxUnavailable"),
        False,
        "Machines a rollout may have too few",
    ),
    ("status_replicas", ("status", "replicas"), True, "Machines of the {kind}"),
    ("status_replicas_available", ("status", "availableReplicas"), True, "Available Machines of the {kind}"),
    ("status_replicas_ready", ("status", "readyReplicas"), True, "Ready Machines of the {kind}"),
    ("status_replicas_uptodate", ("status", "upToDateReplicas"), True, "Up-to-date Machines of the {kind}"),
    ("status_certificatesexpirydate", ("status", "certificatesExpiryDate"), True, "When the first certificate of the control plane expires, Unix time"),
    ("status_current_healthy", ("status", "currentHealthy"), True, "Healthy Machines that the {kind} looks after"),
    ("status_expected_machines", ("status", "expectedMachines"), True, "Machines that the {kind} looks after"),
    ("status_remediations_allowed", ("status", "remediationsAllowed"), True, "Machines that may be remediated now"),
)
"""Name, path, whether an absent value is 0, and meaning; a kind has those whose path its schema has."""

NODE_GROUPS = frozenset({"MachineDeployment", "MachineSet", "MachinePool"})
BOUNDS: Mapping[str, str] = {"min": labels.AUTOSCALER_MIN_SIZE, "max": labels.AUTOSCALER_MAX_SIZE}
"""Annotations of node groups; Cluster API's own configuration does not have them."""


def configuration() -> Json:
    """The CustomResourceStateMetrics document."""
    return {"kind": "CustomResourceStateMetrics", "spec": {"resources": [_resource(model) for model in KINDS]}}


def cluster_role() -> Json:
    """What kube-state-metrics may read for it: our kinds, and the definitions by which it finds them."""
    groups: dict[str, list[str]] = {}
    for model in KINDS:
        groups.setdefault(model.GROUP, []).append(model.PLURAL)
    groups["apiextensions.k8s.io"] = ["customresourcedefinitions"]
    rules = [{"apiGroups": [group], "resources": sorted(plurals), "verbs": ["get", "list", "watch"]} for group, plurals in sorted(groups.items())]
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "fleetwake-kube-state-metrics"}, "rules": rules}


def rendered() -> dict[str, str]:
    """The generated files, relative to the project's root."""
    folder = "deploy/k8s/kube-state-metrics"
    documents = {"custom-resource-state.yaml": configuration(), "cluster-role.yaml": cluster_role()}
    return {f"{folder}/{name}": HEADER + yaml.safe_dump(document, sort_keys=False, width=160) for name, document in documents.items()}


def families() -> Iterator[tuple[str, str, str]]:
    """Name, type and help of every family."""
    for resource in configuration()["spec"]["resources"]:
        for metric in resource["metrics"]:
            yield f"{resource['metricNamePrefix']}_{metric['name']}", metric["each"]["type"], metric["help"]


def _resource(model: type[KubeObject]) -> Json:
    of_object = {name: ["metadata", name] for name in ("name", "namespace", "uid")}
    schema = _schema(model)
    if _find(schema, ("spec", "clusterName")) is not None:
        of_object["cluster_name"] = ["spec", "clusterName"]
    elif model.KIND not in OF_NO_CLUSTER:
        of_object["cluster_name"] = list(CLUSTER_NAME.get(model.KIND, CLUSTER_NAME_LABEL))
    return {
        # a field that an object does not set is no error worth a line a scrape
        "errorLogV": ERROR_VERBOSITY,
        "groupVersionKind": {"group": model.GROUP, "version": model.VERSION, "kind": model.KIND},
        "labelsFromPath": dict(sorted(of_object.items())),
        "metricNamePrefix": f"capi_{model.KIND.lower()}",
        "metrics": list(_metrics(model, schema)),
    }


def _metrics(model: type[KubeObject], schema: Json) -> Iterator[Json]:
    kind = model.KIND
    info = dict(INFO.get(kind, {"name": ("metadata", "name")}))
    for label, path in info.items():
        if path[0] != "metadata" and _find(schema, path) is None:
            raise KeyError(f"{kind} has no {'.'.join(path)} for the label {label}")
    yield _info("info", f"What a {kind} is made of", None, info)
    yield _gauge("created", "When the object was created, Unix time", ("metadata", "creationTimestamp"), nil_is_zero=False)
    yield _info("annotation_paused", f"The {kind} is paused by an annotation", PAUSED_ANNOTATION, {"paused_value": ()})
    owner = {f"owner_{name}": (field,) for name, field in (("is_controller", "controller"), ("kind", "kind"), ("name", "name"), ("uid", "uid"))}
    yield _info("owner", f"The owners of a {kind}", ("metadata", "ownerReferences"), owner)
    for name, path, nil_is_zero, text in GAUGES:
        if _find(schema, path) is not None:
            yield _gauge(name, text.format(kind=kind), path, nil_is_zero=nil_is_zero)
    if kind in NODE_GROUPS:
        for bound, annotation in BOUNDS.items():
            text = f"The {bound}imum size of the node group that the {kind} is"
            yield _gauge(f"annotation_node_group_{bound}_size", text, ("metadata", "annotations", annotation), nil_is_zero=False)
    if _find(schema, ("status", "conditions")) is not None:
        yield from _conditions(kind)
    phase = _find(schema, ("status", "phase"))
    if phase is not None:
        yield _state_set("status_phase", f"The phase of a {kind}", ("status", "phase"), "phase", phase["enum"])
    if kind == "Machine":
        yield _info("status_noderef", "The Node of a Machine", ("status", "nodeRef"), {"node_name": ("name",)})
        yield _info("addresses", "The addresses of a Machine", ("status", "addresses"), {"address": ("address",), "type": ("type",)})


def _conditions(kind: str) -> Iterator[Json]:
    condition = _state_set("status_condition", f"A condition of a {kind}", ("status", "conditions"), "status", CONDITION_STATUSES)
    condition["each"]["stateSet"] |= {"labelsFromPath": {"type": ["type"]}, "valueFrom": ["status"]}
    yield condition
    changed = _gauge(
        "status_condition_last_transition_time", f"When a condition of a {kind} last changed its status, Unix time", ("status", "conditions"), nil_is_zero=False
    )
    changed["each"]["gauge"] |= {"labelsFromPath": {"type": ["type"], "status": ["status"]}, "valueFrom": ["lastTransitionTime"]}
    yield changed


def _info(name: str, text: str, path: Path | None, shown: Mapping[str, Path]) -> Json:
    info: Json = {"labelsFromPath": {label: list(found) for label, found in sorted(shown.items())}}
    if path is not None:
        info["path"] = list(path)
    return {"name": name, "help": text, "each": {"type": "Info", "info": info}}


def _gauge(name: str, text: str, path: Path, *, nil_is_zero: bool) -> Json:
    return {"name": name, "help": text, "each": {"type": "Gauge", "gauge": {"path": list(path), "nilIsZero": nil_is_zero}}}


def _state_set(name: str, text: str, path: Path, label: str, values: Sequence[str]) -> Json:
    return {"name": name, "help": text, "each": {"type": "StateSet", "stateSet": {"path": list(path), "labelName": label, "list": list(values)}}}


def _schema(model: type[KubeObject]) -> Json:
    """The structural schema of the version we serve."""
    found: Json = crd.definition(model)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def _find(schema: Json, path: Path) -> Json | None:
    """The part of a schema at a path; None when it has none."""
    for name in path:
        found = schema.get("properties", {}).get(name)
        if found is None:
            return None
        schema = found
    return schema
