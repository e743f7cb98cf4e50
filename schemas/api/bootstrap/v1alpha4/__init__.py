"""Kinds of bootstrap.cluster.x-k8s.io/v1alpha4: those of v1beta1 without what was added since. Conversion is the only reader."""

from schemas.api.bootstrap.v1alpha4.kubeadm_config import KubeadmConfig, KubeadmConfigSpec, KubeadmConfigTemplate

__all__ = ["KubeadmConfig", "KubeadmConfigSpec", "KubeadmConfigTemplate"]
