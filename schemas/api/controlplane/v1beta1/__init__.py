"""Kinds of controlplane.cluster.x-k8s.io/v1beta1, of which conversion is the only reader."""

from schemas.api.controlplane.v1beta1.kubeadm_control_plane import KubeadmControlPlane, KubeadmControlPlaneTemplate

__all__ = ["KubeadmControlPlane", "KubeadmControlPlaneTemplate"]
