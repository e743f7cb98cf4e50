"""kubeadm's own documents, rendered from a KubeadmConfig's spec for the API a Kubernetes version understands.

A spec comes as JSON in the shape of bootstrap.cluster.x-k8s.io/v1beta2, which follows kubeadm's v1beta4 word for word except where this
module says otherwise; what kubeadm does not know (discovery kubeconfigs) is dropped. Empty objects and lists are left out: kubeadm defaults
them alike. The one exception are taints: none wished (``[]``) is not the same as not said.

Source: kinds.md §9; kubeadm configuration API v1beta3 and v1beta4 (Kubernetes 1.22 to 1.36).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from fleetwake import yaml_text
from services.reconcilers.kubeadm.versions import KubeadmApi

Json: TypeAlias = Mapping[str, Any]
Document: TypeAlias = dict[str, Any]

SECONDS_A_DAY = 86400
_TIMEOUTS = {
    "controlPlaneComponentHealthCheckSeconds": "controlPlaneComponentHealthCheck",
    "kubeletHealthCheckSeconds": "kubeletHealthCheck",
    "kubernetesAPICallSeconds": "kubernetesAPICall",
    "etcdAPICallSeconds": "etcdAPICall",
    "tlsBootstrapSeconds": "tlsBootstrap",
    "discoverySeconds": "discovery",
}
_VERBATIM = frozenset({"extraArgs", "kubeletExtraArgs", "extraEnvs", "taints"})
"""Where an empty text is a value (an argument set to nothing)."""


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What of ClusterConfiguration other objects decide. Empty strings are not known and left out.

    ``service_subnet`` and ``pod_subnet`` are comma separated CIDRs. ``endpoint`` is host:port, used only where the spec names none.
    """

    cluster_name: str
    kubernetes_version: str
    endpoint: str = ""
    dns_domain: str = ""
    service_subnet: str = ""
    pod_subnet: str = ""


def duration(seconds: int) -> str:
    """Seconds as Go prints a duration: ``45s``, ``4m0s``, ``24h0m0s``."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{left}s"
    return f"{minutes}m{left}s" if minutes else f"{left}s"


def to_yaml(document: Json) -> str:
    """A document as YAML with sorted keys, one line for each scalar that has one, with a newline at its end."""
    return yaml_text.dump(dict(document), width=1 << 20)


def cluster_configuration(spec: Json, api: KubeadmApi, facts: ClusterFacts) -> Document:
    """ClusterConfiguration from a KubeadmConfig's spec and the facts of its cluster."""
    wanted: Json = spec.get("clusterConfiguration") or {}
    document: Document = {
        "etcd": _etcd(wanted.get("etcd") or {}, api),
        "networking": {"dnsDomain": facts.dns_domain, "podSubnet": facts.pod_subnet, "serviceSubnet": facts.service_subnet},
        "kubernetesVersion": facts.kubernetes_version,
        "controlPlaneEndpoint": wanted.get("controlPlaneEndpoint") or facts.endpoint,
        "apiServer": _component(wanted.get("apiServer") or {}, api),
        "controllerManager": _component(wanted.get("controllerManager") or {}, api),
        "scheduler": _component(wanted.get("scheduler") or {}, api),
        "dns": wanted.get("dns"),
        "certificatesDir": wanted.get("certificatesDir"),
        "imageRepository": wanted.get("imageRepository"),
        "featureGates": wanted.get("featureGates"),
        "clusterName": facts.cluster_name,
    }
    if api is KubeadmApi.V1BETA4:
        document["encryptionAlgorithm"] = wanted.get("encryptionAlgorithm")
        document["certificateValidityPeriod"] = _days(wanted.get("certificateValidityPeriodDays"))
        document["caCertificateValidityPeriod"] = _days(wanted.get("caCertificateValidityPeriodDays"))
    else:
        timeouts: Json = (spec.get("initConfiguration") or {}).get("timeouts") or {}
        limit = timeouts.get("controlPlaneComponentHealthCheckSeconds")
        document["apiServer"]["timeoutForControlPlane"] = None if limit is None else duration(limit)
    return _document("ClusterConfiguration", api, document)


def init_configuration(spec: Json, api: KubeadmApi) -> Document:
    """InitConfiguration from a KubeadmConfig's spec."""
    wanted: Json = spec.get("initConfiguration") or {}
    document: Document = {
        "bootstrapTokens": [_bootstrap_token(token) for token in wanted.get("bootstrapTokens") or ()],
        "nodeRegistration": _node_registration(wanted.get("nodeRegistration") or {}, api),
        "localAPIEndpoint": wanted.get("localAPIEndpoint"),
        "skipPhases": wanted.get("skipPhases"),
        "patches": wanted.get("patches"),
    }
    if api is KubeadmApi.V1BETA4:
        document["timeouts"] = _timeouts(wanted.get("timeouts") or {})
    return _document("InitConfiguration", api, document)


def join_configuration(spec: Json, api: KubeadmApi) -> Document:
    """JoinConfiguration from a KubeadmConfig's spec, whose discovery must be complete."""
    wanted: Json = spec.get("joinConfiguration") or {}
    timeouts: Json = wanted.get("timeouts") or {}
    discovery = dict(wanted.get("discovery") or {})
    if discovery.get("file"):
        discovery["file"] = {"kubeConfigPath": discovery["file"].get("kubeConfigPath")}
    document: Document = {
        "nodeRegistration": _node_registration(wanted.get("nodeRegistration") or {}, api),
        "caCertPath": wanted.get("caCertPath"),
        "discovery": discovery,
        "skipPhases": wanted.get("skipPhases"),
        "patches": wanted.get("patches"),
    }
    if api is KubeadmApi.V1BETA4:
        document["timeouts"] = _timeouts(timeouts)
    elif timeouts.get("tlsBootstrapSeconds") is not None:
        discovery["timeout"] = duration(timeouts["tlsBootstrapSeconds"])
    made = _document("JoinConfiguration", api, document)
    if wanted.get("controlPlane") is not None:
        # its presence, empty or not, is what makes the node a control plane node
        made["controlPlane"] = _pruned(wanted["controlPlane"])
    return made


def _document(kind: str, api: KubeadmApi, fields: Document) -> Document:
    return {"apiVersion": api.value, "kind": kind, **_pruned(fields)}


def _pruned(value: Any) -> Any:
    """The value without nulls and without empty texts, lists and objects inside; what stands under a key of ``_VERBATIM`` keeps its empty texts."""
    if isinstance(value, Mapping):
        pruned = {key: item if key in _VERBATIM else _pruned(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item not in (None, "", [], {}) or (key == "taints" and item is not None)}
    if isinstance(value, list | tuple):
        return [_pruned(item) for item in value]
    return value


def _days(days: int | None) -> str | None:
    return None if days is None else duration(days * SECONDS_A_DAY)


def _args(args: Any, api: KubeadmApi) -> Any:
    """Arguments as v1beta4 lists them, or as the map v1beta3 wants (of two with one name the last counts: v1beta3 cannot say both)."""
    if api is KubeadmApi.V1BETA4:
        return [dict(arg) for arg in args or ()]
    return {arg["name"]: arg.get("value", "") for arg in args or ()}


def _component(wanted: Json, api: KubeadmApi) -> Document:
    document: Document = {
        "extraArgs": _args(wanted.get("extraArgs"), api),
        "extraVolumes": wanted.get("extraVolumes"),
        "certSANs": wanted.get("certSANs"),
    }
    if api is KubeadmApi.V1BETA4:
        document["extraEnvs"] = wanted.get("extraEnvs")
    return document


def _etcd(wanted: Json, api: KubeadmApi) -> Document:
    if wanted.get("external"):
        return {"external": wanted["external"]}
    local = dict(wanted.get("local") or {})
    if not local:
        return {}
    local["extraArgs"] = _args(local.get("extraArgs"), api)
    if api is KubeadmApi.V1BETA3:
        local.pop("extraEnvs", None)
    return {"local": local}


def _node_registration(wanted: Json, api: KubeadmApi) -> Document:
    document = dict(wanted)
    document["kubeletExtraArgs"] = _args(wanted.get("kubeletExtraArgs"), api)
    if api is KubeadmApi.V1BETA3:
        document.pop("imagePullSerial", None)
    return document


def _timeouts(wanted: Json) -> Document:
    return {name: duration(wanted[key]) for key, name in _TIMEOUTS.items() if wanted.get(key) is not None}


def _bootstrap_token(token: Json) -> Document:
    document = {key: value for key, value in token.items() if key != "ttlSeconds"}
    if token.get("ttlSeconds") is not None:
        document["ttl"] = duration(token["ttlSeconds"])
    return document
