"""A v1.Node in Kubernetes' protobuf form: what cluster-autoscaler decodes from the template of a group."""

from __future__ import annotations

from datetime import datetime

from services.autoscaler_bridge.externalgrpc_pb import node_pb2 as pb
from services.autoscaler_bridge.kinds.node_group.capacity import ARCHITECTURE_LABEL, SYSTEM_LABEL, HostTemplate

HOST_NAME_LABEL = "kubernetes.io/hostname"
ARCHITECTURE, SYSTEM = "amd64", "linux"
"""Of hosts of which nobody says it, as the clusterapi provider has it."""

CONDITIONS = (("Ready", "True"), ("NetworkUnavailable", "False"), ("MemoryPressure", "False"), ("DiskPressure", "False"), ("PIDPressure", "False"))
"""A Node that is ready for Pods."""


def node_bytes(name: str, host: HostTemplate, at: datetime) -> bytes:
    """The Node that a new host would be, as it is once it is ready; all it has can be allocated."""
    node = pb.Node()
    node.metadata.name = name
    for key, value in {ARCHITECTURE_LABEL: ARCHITECTURE, SYSTEM_LABEL: SYSTEM, HOST_NAME_LABEL: name, **host.labels}.items():
        node.metadata.labels[key] = value
    for taint in host.taints:
        node.spec.taints.add(key=taint.key, value=taint.value, effect=taint.effect)
    for resource, quantity in host.resources.items():
        node.status.capacity[resource].text = node.status.allocatable[resource].text = quantity
    for type_, status in CONDITIONS:
        condition = node.status.conditions.add(type=type_, status=status, reason="NewHost")
        condition.lastTransitionTime.seconds = int(at.timestamp())
    node.status.nodeInfo.operatingSystem = host.operating_system or host.labels.get(SYSTEM_LABEL, SYSTEM)
    node.status.nodeInfo.architecture = host.architecture or host.labels.get(ARCHITECTURE_LABEL, ARCHITECTURE)
    return bytes(node.SerializeToString(deterministic=True))
