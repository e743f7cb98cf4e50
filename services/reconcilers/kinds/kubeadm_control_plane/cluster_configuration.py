"""kubeadm's ClusterConfiguration in the workload cluster: hosts that join read it, so it says what the new Machines shall be before the first is made.

What the spec of the control plane says replaces what is stored; everything else stays as it is, in the words of the kubeadm API that the version wanted
speaks. Whatever API the stored one speaks is understood.

Source: kinds.md §8.2 (before acting); kubeadm configuration API v1beta1 to v1beta4; Cluster API v1.14 (which fields follow).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake import yaml_text
from fleetwake.plan import Patch
from schemas.keys import ObjectKey
from services.reconcilers.kinds.kubeadm_control_plane.machines import config_spec
from services.reconcilers.kinds.kubeadm_control_plane.move import Move
from services.reconcilers.kinds.kubeadm_control_plane.observed import KUBEADM_CONFIG_MAP, Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import FAILED_RETRY, Preflight
from services.reconcilers.kubeadm.documents import ClusterFacts, cluster_configuration, to_yaml
from services.reconcilers.kubeadm.versions import KubeadmApi, kubeadm_api, normalized

DATA_KEY = "ClusterConfiguration"
KUBEADM_GROUP = "kubeadm.k8s.io/"
_LISTED = frozenset({KubeadmApi.V1BETA4.value})
"""The APIs in which arguments are lists of name and value; in the others they are maps."""
_FOLLOWED = ("apiServer", "controllerManager", "scheduler", "etcd", "certificateValidityPeriod", "encryptionAlgorithm")
_COMPONENTS = ("apiServer", "controllerManager", "scheduler")
_GONE = {"v1beta1": ("useHyperKubeImage",), "v1beta2": ("useHyperKubeImage",)}
_NOT_BEFORE_V1BETA4 = ("caCertificateValidityPeriod", "certificateValidityPeriod", "encryptionAlgorithm", "proxy")

Document = dict[str, Any]


class UnreadableError(ValueError):
    """What is stored is no ClusterConfiguration that anybody could update."""


def follow_configuration(observed: Observed) -> Move | None:
    """Update the stored configuration; None when it says what it should."""
    try:
        step = update(observed)
    except UnreadableError as error:
        return Move(wait=FAILED_RETRY, ends=True, preflight=Preflight((str(error),), retry=FAILED_RETRY))
    return Move((step,), ends=True, guarded=True) if step is not None else None


def update(observed: Observed, dns: Mapping[str, str | None] | None = None) -> Patch | None:
    """The patch that brings the stored configuration to the spec, and to these settings of DNS if they are given; None when nothing differs.

    Raises:
        UnreadableError: there is none, or it cannot be read.
    """
    held = observed.workload.objects.get(KUBEADM_CONFIG_MAP)
    text = ((held or {}).get("data") or {}).get(DATA_KEY)
    if held is None or not text:
        raise UnreadableError("ConfigMap kube-system/kubeadm-config of the workload cluster has no ClusterConfiguration")
    current = _read(str(text))
    wanted = wanted_configuration(observed, current)
    if dns is not None:
        wanted["dns"] = {**(wanted.get("dns") or {}), **dns}
    wanted = _pruned(wanted)
    if wanted == _pruned(current):
        return None
    metadata = held.get("metadata") or {}
    return Patch(
        ObjectKey("", "ConfigMap", "kube-system", "kubeadm-config", str(observed.cluster_key)),
        "v1",
        str(metadata.get("uid", "")),
        {"data": {DATA_KEY: to_yaml(wanted)}},
        f"hosts that join as {observed.version} read kubeadm's configuration",
        resource_version=str(metadata.get("resourceVersion", "")),
    )


def wanted_configuration(observed: Observed, current: Mapping[str, Any]) -> Document:
    """The stored configuration as it shall be. The version must be one that kubeadm is for."""
    api = kubeadm_api(observed.version)
    document = _converted(current, api)
    document["kubernetesVersion"] = normalized(observed.version)
    spec = config_spec(observed, join=False)
    rendered = cluster_configuration({"clusterConfiguration": spec.get("clusterConfiguration") or {}}, api, ClusterFacts("", ""))
    document["featureGates"] = rendered.get("featureGates")
    if observed.configuration:
        timeout = (document.get("apiServer") or {}).get("timeoutForControlPlane")
        for name in _FOLLOWED:
            document[name] = rendered.get(name)
        if timeout is not None and api is KubeadmApi.V1BETA3:
            document["apiServer"] = {**(document["apiServer"] or {}), "timeoutForControlPlane": timeout}
        if rendered.get("imageRepository"):
            document["imageRepository"] = rendered["imageRepository"]
    return document


def _read(text: str) -> Document:
    try:
        document = yaml_text.load(text)
    except yaml_text.YAMLError as error:
        raise UnreadableError(f"ConfigMap kube-system/kubeadm-config of the workload cluster holds no YAML: {error}") from error
    if not isinstance(document, dict) or not str(document.get("apiVersion", "")).startswith(KUBEADM_GROUP):
        raise UnreadableError("ConfigMap kube-system/kubeadm-config of the workload cluster holds no ClusterConfiguration of kubeadm")
    return document


def _converted(current: Mapping[str, Any], api: KubeadmApi) -> Document:
    """The same configuration in the words of another kubeadm API; fields that it does not have are left out."""
    spoken = str(current["apiVersion"])
    document: Document = {**current, "apiVersion": api.value, "kind": DATA_KEY}
    if spoken == api.value:
        return document
    for name in _GONE.get(spoken.removeprefix(KUBEADM_GROUP), ()):
        document.pop(name, None)
    if isinstance(document.get("dns"), Mapping):
        # its type was CoreDNS or a DNS that is gone
        document["dns"] = {key: value for key, value in document["dns"].items() if key != "type"}
    listed = api.value in _LISTED
    for name in _COMPONENTS:
        document[name] = _component(document.get(name) or {}, listed=listed)
    local = (document.get("etcd") or {}).get("local")
    if isinstance(local, Mapping):
        document["etcd"] = {**document["etcd"], "local": _component(local, listed=listed)}
    for name in () if listed else _NOT_BEFORE_V1BETA4:
        document.pop(name, None)
    return document


def _component(component: Mapping[str, Any], *, listed: bool) -> Document:
    document = dict(component)
    arguments = document.get("extraArgs")
    if listed and isinstance(arguments, Mapping):
        document["extraArgs"] = [{"name": name, "value": arguments[name]} for name in sorted(arguments)]
    if not listed and isinstance(arguments, list):
        document["extraArgs"] = {one["name"]: one.get("value", "") for one in arguments}
    document.pop("timeoutForControlPlane" if listed else "extraEnvs", None)
    return document


def _pruned(value: Any) -> Any:
    """Without what says nothing; an argument set to nothing says something."""
    if isinstance(value, Mapping):
        kept = {name: item if name == "extraArgs" else _pruned(item) for name, item in value.items()}
        return {name: item for name, item in kept.items() if item not in (None, {}, [], "")}
    return value
