"""The objects that kubelets and kubeadm bring into a cluster, as JSON.

Source: kubeadm 1.36 (phases kubelet-start, upload-config, addons; static pod manifests); workload.md §4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import yaml

from services.dev_infrastructure.kinds.dev_machine_template import RESOURCES

JsonDict = dict[str, Any]
SYSTEM = "kube-system"
NAMESPACES = ("default", SYSTEM, "kube-public", "kube-node-lease")
STATIC_PODS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
CONTROL_PLANE_LABELS = {"node-role.kubernetes.io/control-plane": "", "node.kubernetes.io/exclude-from-external-load-balancers": ""}
WINDOWS_BUILD = "node.kubernetes.io/windows-build"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
IMAGES = "registry.k8s.io"
COREDNS_TAGS = (((1, 33), "v1.12.4"), ((0, 0), "v1.11.3"))
"""The CoreDNS that kubeadm brings, by the first minor version it brings it with."""
DEFAULT_VERSION = "v1.36.0"
COREFILE = """.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
"""
_RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What makes one Node. ``uid`` is the host's: machine and system ids come from it."""

    name: str
    uid: str
    provider_id: str
    version: str
    address: str
    zone: str = ""
    control_plane: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[JsonDict, ...] = ()
    windows: bool = False


def timestamp(at: datetime) -> str:
    """A time as Kubernetes writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def namespace(name: str) -> JsonDict:
    """A Namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def kubernetes_service() -> JsonDict:
    """The Service ``default/kubernetes`` that every API server makes."""
    ports = [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}]
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": "10.96.0.1", "type": "ClusterIP", "ports": ports},
    }


def node(facts: NodeFacts, at: datetime) -> JsonDict:
    """A Node that is Ready, with the kubelet's own labels."""
    labels = {"kubernetes.io/hostname": facts.name, "kubernetes.io/os": _system(facts), "kubernetes.io/arch": "amd64"}
    labels |= {f"beta.{key}": labels[key] for key in ("kubernetes.io/os", "kubernetes.io/arch")}
    if facts.windows:
        labels[WINDOWS_BUILD] = "10.0.20348"
    if facts.zone:
        labels["topology.kubernetes.io/zone"] = facts.zone
    if facts.control_plane:
        labels |= CONTROL_PLANE_LABELS
    spec: JsonDict = {"providerID": facts.provider_id}
    if facts.taints:
        spec["taints"] = [dict(taint) for taint in facts.taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": facts.name, "labels": labels | dict(facts.labels), "annotations": {"node.alpha.kubernetes.io/ttl": "0"}},
        "spec": spec,
        "status": _node_status(facts, at),
    }


def _system(facts: NodeFacts) -> str:
    return "windows" if facts.windows else "linux"


def _node_status(facts: NodeFacts, at: datetime) -> JsonDict:
    digest = hashlib.sha256(facts.uid.encode()).hexdigest()
    resources = dict(RESOURCES)
    return {
        "capacity": resources,
        "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": facts.address}, {"type": "Hostname", "address": facts.name}],
        "conditions": node_conditions(at),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": digest[:32],
            "systemUUID": f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}",
            "bootID": f"{digest[32:40]}-{digest[40:44]}-{digest[44:48]}-{digest[48:52]}-{digest[52:64]}",
            "kernelVersion": "10.0.20348.3932" if facts.windows else "6.12.0",
            "osImage": "fleetwake emulated host",
            "containerRuntimeVersion": "containerd://2.1.0",
            "kubeletVersion": facts.version,
            "kubeProxyVersion": "",
            "operatingSystem": _system(facts),
            "architecture": "amd64",
        },
    }


def node_conditions(at: datetime, *, lost: bool = False, ready: str = "") -> list[JsonDict]:
    """The conditions of a Node whose kubelet reports, or (``lost``) has stopped to; ``ready``: why it reports that it is not."""
    reports = (
        ("MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ("DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ("PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
    )
    now = timestamp(at)
    conditions = []
    for type_, status, reason, message in reports:
        told = ("Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.") if lost else (status, reason, message)
        if ready and type_ == "Ready":
            told = ("False", "KubeletNotReady", ready)
        conditions.append({"type": type_, "status": told[0], "reason": told[1], "message": told[2], "lastHeartbeatTime": now, "lastTransitionTime": now})
    return conditions


def static_pod(component: str, on: JsonDict, version: str) -> JsonDict:
    """The mirror pod of a static control plane pod on the Node ``on``."""
    name, meta = f"{component}-{on['metadata']['name']}", on["metadata"]
    mirror = hashlib.sha256(f"{component}/{version}".encode()).hexdigest()[:32]
    image = f"{IMAGES}/etcd:3.6.5-0" if component == "etcd" else f"{IMAGES}/{component}:{version}"
    owner = {"apiVersion": "v1", "kind": "Node", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": SYSTEM,
            "labels": {"component": component, "tier": "control-plane"},
            "annotations": {"kubernetes.io/config.mirror": mirror, "kubernetes.io/config.source": "file"},
            "ownerReferences": [owner],
        },
        "spec": {
            "nodeName": meta["name"],
            "hostNetwork": True,
            "priorityClassName": "system-node-critical",
            "containers": [{"name": component, "image": image, "command": [component]}],
            "tolerations": [{"effect": "NoExecute", "operator": "Exists"}],
        },
    }


def running(pod: JsonDict, host_ip: str, at: datetime) -> JsonDict:
    """The status of a pod that a kubelet has started."""
    now = timestamp(at)
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    return {
        "phase": "Running",
        "hostIP": host_ip,
        "podIP": host_ip,
        "startTime": now,
        "conditions": [{"type": type_, "status": "True", "lastTransitionTime": now} for type_ in types],
        "containerStatuses": [
            {
                "name": one["name"],
                "image": one.get("image", ""),
                "imageID": "",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": now}},
            }
            for one in pod["spec"].get("containers", ())
        ],
    }


def crashed(status: JsonDict, at: datetime) -> JsonDict:
    """The status of a pod whose containers end as often as they are started."""
    now = timestamp(at)
    ended = {"ready": False, "started": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}
    conditions = [
        {**one, "status": "False", "lastTransitionTime": now} if one["type"] in ("Ready", "ContainersReady") else one for one in status.get("conditions", ())
    ]
    return {**status, "conditions": conditions, "containerStatuses": [{**one, **ended} for one in status.get("containerStatuses", ())]}


def kubeadm_config(configuration: JsonDict) -> JsonDict:
    """The ConfigMap in which kubeadm keeps its ClusterConfiguration."""
    text = yaml.safe_dump(configuration, sort_keys=True, width=1 << 20)
    return _config_map("kubeadm-config", {"ClusterConfiguration": text})


def minimal_configuration(cluster: str, endpoint: str, version: str) -> JsonDict:
    """A ClusterConfiguration for a cluster whose own was lost with its store."""
    return {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": cluster,
        "controlPlaneEndpoint": endpoint,
        "kubernetesVersion": version,
        "etcd": {"local": {"dataDir": "/var/lib/etcd"}},
    }


def _config_map(name: str, data: Mapping[str, str]) -> JsonDict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": SYSTEM}, "data": dict(data)}


def cluster_objects(configuration: JsonDict, version: str) -> list[tuple[str, JsonDict]]:
    """What kubeadm init leaves in a new cluster, by resource, in order of creation."""
    dns = configuration.get("dns") or {}
    images = configuration.get("imageRepository") or IMAGES
    dns_images = dns.get("imageRepository") or (f"{images}/coredns" if images == IMAGES else images)
    dns_image = f"{dns_images}/coredns:{dns.get('imageTag') or coredns_tag(version)}"
    rules: tuple[tuple[str, list[JsonDict]], ...] = (
        ("kubeadm:get-nodes", [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}]),
        ("system:coredns", [{"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]}]),
    )
    joiners = [{"apiGroup": _RBAC, "kind": "Group", "name": "system:bootstrappers:kubeadm:default-node-token"}]
    admins = [{"apiGroup": _RBAC, "kind": "Group", "name": "kubeadm:cluster-admins"}]
    roles = f"clusterroles.{_RBAC}", f"clusterrolebindings.{_RBAC}"
    made: list[tuple[str, JsonDict]] = [("configmaps", kubeadm_config(configuration))]
    made.extend((roles[0], {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rule}) for name, rule in rules)
    made.append((roles[1], _binding("kubeadm:get-nodes", "kubeadm:get-nodes", joiners)))
    made.append((roles[1], _binding("kubeadm:cluster-admins", "cluster-admin", admins)))
    made.append(("configmaps", _config_map("coredns", {"Corefile": COREFILE})))
    made.append(("deployments.apps", _workload("Deployment", "coredns", "kube-dns", dns_image)))
    made.append(("daemonsets.apps", _workload("DaemonSet", "kube-proxy", "kube-proxy", f"{images}/kube-proxy:{version}")))
    return made


def coredns_tag(version: str) -> str:
    """The tag of the CoreDNS that kubeadm of a version brings."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    minor = (int(found[1]), int(found[2])) if found is not None else COREDNS_TAGS[0][0]
    return next(tag for since, tag in COREDNS_TAGS if since <= minor)


def _binding(name: str, role: str, subjects: list[JsonDict]) -> JsonDict:
    ref = {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role}
    return {"apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name}, "roleRef": ref, "subjects": subjects}


def _workload(kind: str, name: str, app: str, image: str) -> JsonDict:
    spec: JsonDict = {
        "selector": {"matchLabels": {"k8s-app": app}},
        "template": {"metadata": {"labels": {"k8s-app": app}}, "spec": {"containers": [{"name": name, "image": image}], "serviceAccountName": name}},
    }
    if kind == "Deployment":
        spec["replicas"] = 2
        spec["template"]["spec"]["volumes"] = [{"name": "config-volume", "configMap": {"name": "coredns", "items": [{"key": "Corefile", "path": "Corefile"}]}}]
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": SYSTEM, "labels": {"k8s-app": app}}, "spec": spec}
