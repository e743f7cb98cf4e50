"""Cluster API's own kinds, reconciled: Cluster, Machine, MachineSet, MachineDeployment, KubeadmConfig, KubeadmControlPlane."""
