"""KubeadmControlPlanes: which fields may change at all, and how versions may move.

Everything that rolls out is allowed, and so is what only joins and new Machines read; the rest holds for the life of the cluster: kubeadm wrote it into
certificates, or nothing could bring it to the hosts.
Source: contracts.md §11; kinds.md §8; roadmap.md row 10; Cluster API v1.14, KubeadmControlPlane webhook.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleetwake import defaults, labels, versions
from schemas.api.controlplane.v1beta2.kubeadm_control_plane import KubeadmControlPlane
from services.admission.rules import fields
from services.admission.rules.changes import ANY, Path, allowed, changed, dotted
from services.admission.rules.rule import Admission, Asked, Default, Rule, Violation, forbidden

SOURCE = "contracts.md §11; Cluster API v1.14, KubeadmControlPlane webhook"
CONFIG: Path = ("spec", "kubeadmConfigSpec")
CLUSTER: Path = (*CONFIG, "clusterConfiguration")
INIT: Path = (*CONFIG, "initConfiguration")
JOIN: Path = (*CONFIG, "joinConfiguration")
DNS_TAG = dotted((*CLUSTER, "dns", "imageTag"))
_TAG_VERSION = re.compile(r"^v?(\d+)\.(\d+)\.(\d+)")


def _whole(base: Path, *fields_: str) -> tuple[Path, ...]:
    """Fields that may come, go, and change in any part."""
    return tuple(path for field in fields_ for path in ((*base, field), (*base, field, ANY)))


MUTABLE: tuple[Path, ...] = (
    *_whole(CLUSTER, "etcd", "dns", "featureGates", "apiServer", "controllerManager", "scheduler"),
    *_whole(CLUSTER, "imageRepository", "certificateValidityPeriodDays", "encryptionAlgorithm"),
    *_whole(INIT, "nodeRegistration", "patches", "skipPhases", "bootstrapTokens", "localAPIEndpoint", "timeouts"),
    *_whole(JOIN, "nodeRegistration", "patches", "skipPhases", "caCertPath", "controlPlane", "discovery", "timeouts"),
    *_whole(
        CONFIG,
        "bootCommands",
        "preKubeadmCommands",
        "postKubeadmCommands",
        "files",
        "verbosity",
        "users",
        "ntp",
        "ignition",
        "diskSetup",
        "format",
        "mounts",
        "fleetwake",
    ),
    *_whole(("spec", "machineTemplate"), "metadata", "spec"),
    *_whole(("spec",), "replicas", "version", "remediation", "machineNaming", "rollout"),
)
"""What may change in a control plane that exists. A switch between local and external etcd is another rule's, the definition's own."""


def _immutable(asked: Asked[KubeadmControlPlane]) -> Iterator[Violation]:
    if asked.old is None:
        return
    before, after = asked.old_raw.get("spec") or {}, asked.new_raw.get("spec") or {}
    for path in changed(before, after, ("spec",)):
        # of a parent that goes, each field that goes with it counts for itself
        for leaf in (path,) if _leaves(after, path) else _leaves(before, path):
            if not allowed(MUTABLE, leaf):
                yield forbidden(dotted(leaf), "cannot be modified")


def _leaves(spec: object, path: Path) -> list[Path]:
    """The fields at and below a path of the object, empty where there is nothing."""
    for part in path[1:]:
        if not isinstance(spec, dict) or part not in spec:
            return []
        spec = spec[part]
    return list(changed({}, spec, path)) if isinstance(spec, dict) else [path]


def _version(asked: Asked[KubeadmControlPlane]) -> Iterator[Violation]:
    old, new = asked.old, asked.new
    if old is None or old.spec.version == new.spec.version:
        return
    # what runs counts: a version that never came up can be taken back
    running = sorted((one.version for one in old.status.versions if versions.readable(one.version)), key=versions.version_key) or [old.spec.version]
    yield from fields.version_step("spec.version", new.spec.version, running[0], running[-1])


def _dns(asked: Asked[KubeadmControlPlane]) -> Iterator[Violation]:
    wanted = asked.new.spec.kubeadm_config_spec.cluster_configuration.dns.image_tag
    if wanted is None:
        return
    found = _TAG_VERSION.match(wanted)
    if found is None:
        yield Violation(DNS_TAG, "must begin with CoreDNS' version, as in v1.11.3")
        return
    before = asked.old.spec.kubeadm_config_spec.cluster_configuration.dns.image_tag if asked.old else None
    former = _TAG_VERSION.match(before) if before else None
    if former and not asked.new.annotated(labels.SKIP_COREDNS) and [int(part) for part in found.groups()] < [int(part) for part in former.groups()]:
        yield forbidden(DNS_TAG, f"cannot go back from {before} to {wanted}: its configuration is only migrated forward")


def _metadata(asked: Asked[KubeadmControlPlane]) -> Iterator[Violation]:
    yield from fields.metadata("spec.machineTemplate.metadata", asked.new.spec.machine_template.metadata)


def _naming(asked: Asked[KubeadmControlPlane]) -> Iterator[Violation]:
    yield from fields.naming("spec.machineNaming", asked.new.spec.machine_naming, "kubeadmControlPlane")


ADMISSION = Admission(
    KubeadmControlPlane,
    rules=(
        Rule("spec.**", "changes only in the fields of the table below", SOURCE, _immutable),
        Rule("spec.version", "is not older than what runs, and at most one minor version above it", f"{SOURCE}; kinds.md §8", _version),
        Rule(DNS_TAG, "begins with a version, and does not go back", SOURCE, _dns),
        Rule("spec.machineTemplate.metadata", "has valid labels and annotations", SOURCE, _metadata),
        Rule("spec.machineNaming.template", "makes names that objects can have", SOURCE, _naming),
    ),
    policy="Fail",
    why="a wrong change can cost the quorum of etcd, and no later write brings that back",
    default=Default(
        (("spec.version", "a leading v"), ("spec.rollout.strategy", "type RollingUpdate, maxSurge 1")),
        lambda new, old: defaults.kubeadm_control_plane(new),
    ),
    annotations=(),
)
