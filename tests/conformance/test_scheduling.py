"""What schedulers and cluster-autoscaler read and write: every kind that their informers wait for, and the binding of a pod."""

from __future__ import annotations

from typing import Any

import pytest
from conformance_clients import Client, Resource, Write
from conformance_kinds import PODS, conditions

from fleetwake.sim.apiserver import ApiStatusError, PatchType

JsonDict = dict[str, Any]
TEMPLATE: JsonDict = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
POD_SPEC: JsonDict = {**TEMPLATE["spec"], "terminationGracePeriodSeconds": 0}
ONCE: JsonDict = {"template": {**TEMPLATE, "spec": {**TEMPLATE["spec"], "restartPolicy": "Never"}}}
ALIKE: JsonDict = {"selector": {"matchLabels": {"app": "a"}}, "template": TEMPLATE}
POOL: JsonDict = {"name": "p", "generation": 1, "resourceSliceCount": 1}

READ: dict[str, tuple[Resource, bool, str, JsonDict]] = {
    "Pod": (PODS, True, "v1", {"spec": POD_SPEC}),
    "Node": (Resource("", "v1", "nodes"), False, "v1", {}),
    "Namespace": (Resource("", "v1", "namespaces"), False, "v1", {}),
    "Service": (Resource("", "v1", "services"), True, "v1", {"spec": {"ports": [{"port": 80}], "clusterIP": "None"}}),
    "ReplicationController": (Resource("", "v1", "replicationcontrollers"), True, "v1", {"spec": {"selector": {"app": "a"}, "template": TEMPLATE}}),
    "PersistentVolumeClaim": (
        Resource("", "v1", "persistentvolumeclaims"),
        True,
        "v1",
        {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}},
    ),
    "PersistentVolume": (
        Resource("", "v1", "persistentvolumes"),
        False,
        "v1",
        {"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp"}}},
    ),
    "DaemonSet": (Resource("apps", "v1", "daemonsets"), True, "apps/v1", {"spec": ALIKE}),
    "ReplicaSet": (Resource("apps", "v1", "replicasets"), True, "apps/v1", {"spec": {**ALIKE, "replicas": 0}}),
    "StatefulSet": (Resource("apps", "v1", "statefulsets"), True, "apps/v1", {"spec": {**ALIKE, "replicas": 0, "serviceName": "s"}}),
    "Job": (Resource("batch", "v1", "jobs"), True, "batch/v1", {"spec": {**ONCE, "suspend": True}}),
    "PodDisruptionBudget": (Resource("policy", "v1", "poddisruptionbudgets"), True, "policy/v1", {"spec": {"minAvailable": 1}}),
    "StorageClass": (Resource("storage.k8s.io", "v1", "storageclasses"), False, "storage.k8s.io/v1", {"provisioner": "p.example.org"}),
    "CSINode": (Resource("storage.k8s.io", "v1", "csinodes"), False, "storage.k8s.io/v1", {"spec": {"drivers": []}}),
    "CSIDriver": (Resource("storage.k8s.io", "v1", "csidrivers"), False, "storage.k8s.io/v1", {"spec": {"attachRequired": False}}),
    "CSIStorageCapacity": (Resource("storage.k8s.io", "v1", "csistoragecapacities"), True, "storage.k8s.io/v1", {"storageClassName": "a"}),
    "VolumeAttachment": (
        Resource("storage.k8s.io", "v1", "volumeattachments"),
        False,
        "storage.k8s.io/v1",
        {"spec": {"attacher": "p.example.org", "nodeName": "n", "source": {"persistentVolumeName": "v"}}},
    ),
    "ResourceClaim": (
        Resource("resource.k8s.io", "v1", "resourceclaims"),
        True,
        "resource.k8s.io/v1",
        {"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}]}}},
    ),
    "ResourceSlice": (
        Resource("resource.k8s.io", "v1", "resourceslices"),
        False,
        "resource.k8s.io/v1",
        {"spec": {"driver": "d.example.org", "nodeName": "n", "pool": POOL, "devices": [{"name": "gpu-0"}]}},
    ),
    "DeviceClass": (Resource("resource.k8s.io", "v1", "deviceclasses"), False, "resource.k8s.io/v1", {"spec": {}}),
    "Lease": (Resource("coordination.k8s.io", "v1", "leases"), True, "coordination.k8s.io/v1", {"spec": {"holderIdentity": "me"}}),
}
"""By kind: the resource, whether it has a namespace, the apiVersion, and fields of an object that a real API server takes."""


@pytest.mark.parametrize("kind", READ)
def test_what_an_informer_of_a_scheduler_or_autoscaler_needs_is_served(client: Client, namespace: str, kind: str) -> None:
    """List, then watch with initial events: an informer that finds no such resource never syncs, and its process never begins."""
    resource, namespaced, api_version, fields = READ[kind]
    place, name = (namespace if namespaced else ""), f"{namespace}-{kind.lower()}"
    made = client.create(resource, {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **fields}, place)
    try:
        assert (made["apiVersion"], made["kind"]) == (api_version, kind)
        found = client.list(resource, place)
        assert (found["kind"], found["apiVersion"]) == (f"{kind}List", api_version)
        assert name in [one["metadata"]["name"] for one in found["items"]]
        options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
        with client.watch(resource, place, **options) as stream:
            seen = []
            while (event := stream.next()).type == "ADDED":
                seen.append(event.obj["metadata"]["name"])
        assert name in seen and event.type == "BOOKMARK" and event.obj["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true"
    finally:
        client.delete(resource, place, name)


def _pending(client: Client, namespace: str) -> JsonDict:
    """A pod that a scheduler found no Node for."""
    client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": POD_SPEC}, namespace)
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    status = {"conditions": [*conditions(("Initialized", "True")), unschedulable], "nominatedNodeName": "other"}
    return client.patch(PODS, (namespace, "a"), {"status": status}, PatchType.STRATEGIC, Write(subresource="status"))


def test_a_binding_puts_a_pod_on_a_node(client: Client, namespace: str) -> None:
    before = _pending(client, namespace)
    answer = client.bind(namespace, "a", "some-node")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    pod = client.get(PODS, namespace, "a")
    found = {one["type"]: one["status"] for one in pod["status"]["conditions"]}
    assert (pod["spec"]["nodeName"], found["PodScheduled"], found["Initialized"]) == ("some-node", "True", "True")
    assert "reason" not in next(one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")
    assert int(pod["metadata"]["resourceVersion"]) > int(before["metadata"]["resourceVersion"])
    with pytest.raises(ApiStatusError) as refused:
        client.bind(namespace, "a", "another")
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert refused.value.message == 'Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "some-node"'
    assert client.get(PODS, namespace, "a")["spec"]["nodeName"] == "some-node"
    client.delete(PODS, namespace, "a", {"gracePeriodSeconds": 0})


def test_a_binding_of_nothing_is_refused(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.bind(namespace, "a", "some-node")
    assert refused.value.code == 404
    _pending(client, namespace)
    with pytest.raises(ApiStatusError) as refused:
        client.bind(namespace, "a", "")
    assert refused.value.code in (400, 500)
    assert "nodeName" not in client.get(PODS, namespace, "a")["spec"]
    client.delete(PODS, namespace, "a", {"gracePeriodSeconds": 0})
