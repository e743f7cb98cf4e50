"""Kinds of cluster.x-k8s.io/v1alpha4: those of v1beta1 without what was added since. Conversion is the only reader."""

from schemas.api.core.v1alpha4.cluster import Cluster, ClusterClass
from schemas.api.core.v1alpha4.machines import Machine, MachineDeployment, MachineHealthCheck, MachinePool, MachineSet

__all__ = ["Cluster", "ClusterClass", "Machine", "MachineDeployment", "MachineHealthCheck", "MachinePool", "MachineSet"]
