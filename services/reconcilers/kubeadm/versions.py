"""Which kubeadm API a Kubernetes version understands.

Source: kinds.md §9; Cluster API v1.14 bootstrap/kubeadm/pkg/types: v1beta3 from 1.22, v1beta4 from 1.31, pre-release tags do not count.
"""

from __future__ import annotations

import re
from enum import StrEnum

from fleetwake.errors import InvalidError

Release = tuple[int, int, int]

OLDEST: Release = (1, 22, 0)
V1BETA4_SINCE: Release = (1, 31, 0)
KUBELET_LOCAL_MODE_SINCE: Release = (1, 31, 0)
KUBELET_LOCAL_MODE_UNTIL: Release = (1, 36, 0)
"""From here on the kubeadm feature ControlPlaneKubeletLocalMode is always on and its gate is unknown."""

_VERSION = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?(?:[-+].*)?$")


class KubeadmApi(StrEnum):
    """A version of kubeadm's configuration API; the value is what ``apiVersion`` says."""

    V1BETA3 = "kubeadm.k8s.io/v1beta3"
    V1BETA4 = "kubeadm.k8s.io/v1beta4"


def release(version: str) -> Release:
    """The (major, minor, patch) of a version, without pre-release and build tags; a missing patch is 0.

    Raises:
        InvalidError: the text is no version.
    """
    found = _VERSION.match(version)
    if found is None:
        raise InvalidError(f"{version!r} is not a Kubernetes version")
    major, minor, patch = found.groups()
    return int(major), int(minor), int(patch or 0)


def known_release(version: str) -> Release:
    """The release of a version, and one before all others for a text that is none."""
    try:
        return release(version)
    except InvalidError:
        return (0, 0, 0)


def kubeadm_api(version: str) -> KubeadmApi:
    """The configuration API that kubeadm of this Kubernetes version is given.

    Raises:
        InvalidError: the text is no version, or the version is older than 1.22.
    """
    found = release(version)
    if found < OLDEST:
        raise InvalidError(f"Kubernetes {version} is too old: bootstrapping with kubeadm needs v1.22.0 or newer")
    return KubeadmApi.V1BETA3 if found < V1BETA4_SINCE else KubeadmApi.V1BETA4


def normalized(version: str) -> str:
    """The version with a leading v and all three numbers, tags kept (``1.35`` gives ``v1.35.0``).

    Raises:
        InvalidError: the text is no version.
    """
    major, minor, patch = release(version)
    tags = re.sub(r"^v?\d+\.\d+(?:\.\d+)?", "", version)
    return f"v{major}.{minor}.{patch}{tags}"


def needs_kubelet_local_mode_gate(version: str) -> bool:
    """Whether the feature gate ControlPlaneKubeletLocalMode is to be set for the version (1.31 to 1.35)."""
    return KUBELET_LOCAL_MODE_SINCE <= known_release(version) < KUBELET_LOCAL_MODE_UNTIL
