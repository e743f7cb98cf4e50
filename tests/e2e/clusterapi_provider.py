"""What cluster-autoscaler's own provider (``--cloud-provider=clusterapi``) would make of the stored objects: nothing but the API server is asked.

Stated anew from what that provider reads, so that a field, a label or an annotation that it needs and that is not there shows. Its rules that matter here:
a group needs bounds, and at 0 cpu and memory of a host; hosts of a MachinePool are those in its providerIDList, hosts of the others its Machines by
``spec.selector``; a Node is found by what its providerID ends with; a MachineDeployment rolls out while a MachineSet of an older revision has replicas.

Source: kubernetes/autoscaler 55c37cd, cluster-autoscaler/cloudprovider/clusterapi (facts only).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.e2e.api import PATHS, Answer, Api

Object = dict[str, Any]
PREFIX = "cluster.x-k8s.io/"
LEAST, MOST = f"{PREFIX}cluster-api-autoscaler-node-group-min-size", f"{PREFIX}cluster-api-autoscaler-node-group-max-size"
CAPACITY = "capacity.cluster-autoscaler.kubernetes.io/"
RESOURCES = {"cpu": "cpu", "memory": "memory", "ephemeral-disk": "ephemeral-storage", "maxPods": "pods"}
REVISION = "machinedeployment.clusters.x-k8s.io/revision"
PODS = "110"
INFRASTRUCTURE = "/apis/infrastructure.cluster.x-k8s.io/v1beta2"


@dataclass(frozen=True)
class ClusterApiProvider:
    """The objects of one cluster of a namespace."""

    api: Api
    namespace: str
    cluster: str

    def _objects(self, kind: str) -> list[Object]:
        collection, _, plural = PATHS[kind].rpartition("/")
        found = self.api.get(f"{collection}/namespaces/{self.namespace}/{plural}")["items"]
        return [{"kind": kind, **one} for one in found if one["spec"]["clusterName"] == self.cluster]

    def _scalable(self) -> dict[str, Object]:
        kinds = ("MachineSet", "MachineDeployment", "MachinePool")
        found = {f"{kind}/{self.namespace}/{one['metadata']['name']}": one for kind in kinds for one in self._objects(kind)}
        return {name: one for name, one in found.items() if one["kind"] != "MachineSet" or not _owner(one, "MachineDeployment")}

    def groups(self) -> dict[str, tuple[int, int]]:
        """The bounds of every group by its id."""
        found = {}
        for name, one in self._scalable().items():
            annotations = one["metadata"].get("annotations", {})
            least, most = int(annotations.get(LEAST, "0")), int(annotations.get(MOST, "0"))
            paused = f"{PREFIX}paused" in annotations
            if most and not paused and (one["spec"]["replicas"] or {"cpu", "memory"} <= self.resources(name).keys()):
                found[name] = (least, most)
        return found

    def size(self, group: str) -> int:
        """The target size, by the scale subresource."""
        kind, namespace, name = group.split("/")
        collection, _, plural = PATHS[kind].rpartition("/")
        return int(self.api.get(f"{collection}/namespaces/{namespace}/{plural}/{name}/scale")["spec"].get("replicas", 0))

    def hosts(self, group: str) -> set[str]:
        """The ids of its hosts."""
        one = self._scalable()[group]
        if one["kind"] == "MachinePool":
            return set(one["spec"].get("providerIDList", ()))
        wanted = one["spec"]["selector"].get("matchLabels", {}).items()
        return {_host(machine) for machine in self._objects("Machine") if wanted <= machine["metadata"]["labels"].items()}

    def group_of(self, provider_id: str) -> str:
        """The id of a Node's group, empty where it has none."""
        short, groups = _ending(provider_id), self._scalable()
        for name, one in groups.items():
            if short in map(_ending, one["spec"].get("providerIDList", ())):
                return name
        (machine,) = [one for one in self._objects("Machine") if _ending(one["spec"].get("providerID", "")) == short]
        (machine_set,) = [one for one in self._objects("MachineSet") if one["metadata"]["name"] == _owner(machine, "MachineSet")]
        deployment = _owner(machine_set, "MachineDeployment")
        return next(name for name in groups if name.endswith(f"/{deployment or machine_set['metadata']['name']}"))

    def _infrastructure(self, group: str) -> Object:
        ref = self._scalable()[group]["spec"]["template"]["spec"]["infrastructureRef"]
        try:
            return self.api.get(f"{INFRASTRUCTURE}/namespaces/{self.namespace}/{ref['kind'].lower()}s/{ref['name']}")
        except Answer:
            return {}

    def resources(self, group: str) -> dict[str, str]:
        """What one host more would have: annotations before the infrastructure's own word."""
        by, told = self._annotations(group), self._infrastructure(group).get("status", {}).get("capacity", {})
        return {"pods": PODS, **told, **{resource: by[name] for name, resource in RESOURCES.items() if by.get(name)}}

    def labels(self, group: str) -> dict[str, str]:
        """The labels that the Node of one host more would have, its name's aside."""
        by, info = self._annotations(group), self._infrastructure(group).get("status", {}).get("nodeInfo", {})
        told = {"kubernetes.io/arch": info.get("architecture", ""), "kubernetes.io/os": info.get("operatingSystem", "")}
        pairs = (part.partition("=") for part in by.get("labels", "").split(",") if part)
        defaults = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}
        return {**defaults, **{key: value for key, value in told.items() if value}, **{key: value for key, _, value in pairs}}

    def _annotations(self, group: str) -> dict[str, str]:
        found = self._scalable()[group]["metadata"].get("annotations", {})
        return {name.removeprefix(CAPACITY): value for name, value in found.items() if name.startswith(CAPACITY)}

    def rolls_out(self, deployment: str) -> bool:
        """Whether a MachineDeployment's Nodes are left alone because it rolls out."""
        sets = [one for one in self._objects("MachineSet") if one["metadata"]["labels"].get(f"{PREFIX}deployment-name") == deployment]
        newest = max(int(one["metadata"]["annotations"][REVISION]) for one in sets)
        old = [one for one in sets if int(one["metadata"]["annotations"][REVISION]) != newest]
        return any(one["spec"].get("replicas") or one.get("status", {}).get("replicas") for one in old)


def _owner(one: Object, kind: str) -> str:
    return next((str(ref["name"]) for ref in one["metadata"].get("ownerReferences", ()) if ref["kind"] == kind), "")


def _ending(provider_id: str) -> str:
    return provider_id.rpartition("/")[2]


def _host(machine: Object) -> str:
    name = f"{machine['metadata']['namespace']}_{machine['metadata']['name']}"
    if "deletionTimestamp" in machine["metadata"]:
        return f"deleting-machine-{name}"
    return str(machine["spec"]["providerID"]) if "nodeRef" in machine.get("status", {}) else f"pending-machine-{name}"
