"""Kinds of bootstrap.cluster.x-k8s.io/v1beta1, of which conversion is the only reader."""

from schemas.api.bootstrap.v1beta1.kubeadm_config import KubeadmConfig, KubeadmConfigSpec, KubeadmConfigTemplate

__all__ = ["KubeadmConfig", "KubeadmConfigSpec", "KubeadmConfigTemplate"]
