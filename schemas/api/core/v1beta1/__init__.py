"""Kinds of cluster.x-k8s.io/v1beta1, of which conversion is the only reader."""

from schemas.api.core.v1beta1.cluster import Cluster
from schemas.api.core.v1beta1.cluster_class import ClusterClass
from schemas.api.core.v1beta1.health_and_drain import MachineDrainRule, MachineHealthCheck
from schemas.api.core.v1beta1.machine import Machine
from schemas.api.core.v1beta1.workers import MachineDeployment, MachinePool, MachineSet

__all__ = ["Cluster", "ClusterClass", "Machine", "MachineDeployment", "MachineDrainRule", "MachineHealthCheck", "MachinePool", "MachineSet"]
