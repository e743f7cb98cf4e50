"""The binding subresource of pods, by which a scheduler puts a pod on a Node.

Source: Kubernetes 1.36, ``pkg/registry/core/pod/storage`` (what is refused, and what a bound pod says).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .requests import WriteOptions
from .status import bad_request, conflict

if TYPE_CHECKING:
    from .server import ApiServer

JsonDict = dict[str, Any]
SCHEDULED = "PodScheduled"


def bind(server: ApiServer, namespace: str, name: str, binding: Mapping[str, Any]) -> JsonDict:
    """Put a pod on the Node that ``binding`` (a v1 Binding) names; whether there is such a Node is not asked, nor by the real one.

    Raises: ApiStatusError 400 for a binding that names no Node or another pod, 404, 409 for a pod that has a Node, goes, or waits for its gates.
    """
    target, meta = binding.get("target") or {}, binding.get("metadata") or {}
    if (meta.get("name") or name) != name:
        raise bad_request("name in URL does not match name in Binding object")
    node = target.get("name")
    if not node or target.get("kind", "Node") != "Node":
        raise bad_request("target.name: Required value" if not node else f'target.kind: Unsupported value: "{target["kind"]}": supported values: "Node"')
    pod = server.entry(server.definition("pods"), namespace, name)
    why = _refusal(pod.obj)
    if why:
        raise conflict("", "pods/binding", name, why)
    metadata = {**pod.obj["metadata"]}
    for field in ("annotations", "labels"):
        if meta.get(field):
            metadata[field] = {**metadata.get(field, {}), **meta[field]}
    conditions = [one for one in pod.obj["status"].get("conditions", ()) if one.get("type") != SCHEDULED]
    scheduled = {"type": SCHEDULED, "status": "True", "lastTransitionTime": server.timestamp()}
    status = {key: value for key, value in pod.obj["status"].items() if key != "nominatedNodeName"}
    wanted = {**pod.obj, "metadata": metadata, "spec": {**pod.obj["spec"], "nodeName": node}, "status": {**status, "conditions": [*conditions, scheduled]}}
    server.replace(pod, wanted, WriteOptions(field_manager="kube-scheduler", subresource="binding"))
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _refusal(pod: Mapping[str, Any]) -> str:
    name, spec = pod["metadata"]["name"], pod["spec"]
    if "deletionTimestamp" in pod["metadata"]:
        return f"pod {name} is being deleted, cannot be assigned to a host"
    if spec.get("nodeName"):
        return f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    return f"pod {name} has non-empty .spec.schedulingGates" if spec.get("schedulingGates") else ""
