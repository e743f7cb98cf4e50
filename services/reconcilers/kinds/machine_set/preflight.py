"""What must hold before a MachineSet may make Machines: a stable control plane, and versions that may meet.

Source: kinds.md §3 "Preflight"; Cluster API v1.14 MachineSet preflight checks (messages are shown in conditions); Kubernetes version skew policy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from fleetwake import labels
from fleetwake.contracts import ControlPlane
from fleetwake.kind import External
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine_set import MachineSet
from services.reconcilers.kinds.reference_conditions import absent

STABLE, KUBERNETES_SKEW, KUBEADM_SKEW, CONTROL_PLANE_SKEW = "ControlPlaneIsStable", "KubernetesVersionSkew", "KubeadmVersionSkew", "ControlPlaneVersionSkew"
ALL = "All"
MINOR_SKEW_MAX = 3
UPGRADE_STEP = "topology.internal.cluster.x-k8s.io/upgrade-step"
KUBEADM_TEMPLATE = ("bootstrap.cluster.x-k8s.io", "KubeadmConfigTemplate")

_VERSION = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?(.*)$")


class Version(NamedTuple):
    """A version as skew rules see it."""

    major: int
    minor: int
    text: str


def parse(text: str) -> Version | None:
    """Read a version; None when it is none."""
    found = _VERSION.match(text)
    return Version(int(found[1]), int(found[2]), f"{found[1]}.{found[2]}.{found[3] or '0'}{found[4]}") if found else None


@dataclass(frozen=True, slots=True)
class Scene:
    """What the checks read. ``control_plane`` is None when it does not exist (yet)."""

    machine_set: MachineSet
    cluster: Cluster
    control_plane: External | None
    bootstrap_template: External | None


def failures(scene: Scene) -> tuple[str, ...]:
    """The messages of the checks that fail; empty when Machines may be made.

    A Cluster without a control plane reference, and a control plane without a version, cannot be checked and pass.
    """
    skipped = _skipped(scene)
    reference = scene.cluster.spec.control_plane_ref
    if ALL in skipped or reference is None:
        return ()
    if scene.control_plane is None:
        return (absent(reference, scene.cluster.namespace, f"spec.controlPlaneRef of Cluster {scene.cluster.name}"),)
    control_plane = ControlPlane(scene.control_plane)
    if not control_plane.version:
        return ()
    failed = [] if STABLE in skipped else list(_unstable(scene, control_plane))
    failed += [f'{text} ("{check}" preflight check failed)' for check, text in _skews(scene, control_plane.version) if check not in skipped]
    return tuple(failed)


def _skipped(scene: Scene) -> frozenset[str]:
    text = scene.machine_set.metadata.annotations.get(labels.SKIP_PREFLIGHT_CHECKS, "")
    if not text and scene.bootstrap_template is not None:
        text = scene.bootstrap_template.metadata.annotations.get(labels.SKIP_PREFLIGHT_CHECKS, "")
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _unstable(scene: Scene, control_plane: ControlPlane) -> Iterator[str]:
    """At most one message: a pending upgrade of the topology, else provisioning, else upgrading."""
    named = f"{control_plane.obj.key.kind} {control_plane.obj.key.namespace}/{control_plane.obj.key.name}"
    suffix = f'("{STABLE}" preflight check failed)'
    topology = scene.cluster.spec.topology
    step = scene.cluster.metadata.annotations.get(UPGRADE_STEP, "")
    if topology is not None and control_plane.version not in (topology.version, step):
        yield f"{named} has a pending version upgrade to {step or topology.version} {suffix}"
    elif control_plane.provisioning:
        yield f"{named} is provisioning {suffix}"
    elif control_plane.upgrading:
        yield f"{named} is upgrading {suffix}"


def _skews(scene: Scene, control_plane_version: str) -> Iterator[tuple[str, str]]:
    spec = scene.machine_set.spec.template.spec
    mine, theirs = parse(spec.version or ""), parse(control_plane_version)
    if mine is None or theirs is None:
        return
    pair = f"MachineSet version ({mine.text}) and ControlPlane version ({theirs.text}) do not conform to"
    if mine.minor > theirs.minor:
        yield KUBERNETES_SKEW, f"{pair} the kubernetes version skew policy as MachineSet version is higher than ControlPlane version"
    elif mine.minor < theirs.minor - MINOR_SKEW_MAX:
        why = f"MachineSet version is more than {MINOR_SKEW_MAX} minor versions older than the ControlPlane version"
        yield KUBERNETES_SKEW, f"{pair} the kubernetes version skew policy as {why}"
    ref = spec.bootstrap.config_ref
    if ref is not None and (ref.api_group, ref.kind) == KUBEADM_TEMPLATE and mine.minor != theirs.minor:
        why = "kubeadm only supports joining with the same major+minor version as the control plane"
        yield KUBEADM_SKEW, f"{pair} kubeadm version skew policy as {why}"
    if scene.cluster.spec.topology is not None and spec.version != control_plane_version:
        why = "waiting for version to be propagated to the MachineSet"
        yield CONTROL_PLANE_SKEW, f"MachineSet version ({spec.version}) is not yet the same as the ControlPlane version ({control_plane_version}), {why}"
