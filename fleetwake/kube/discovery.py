"""Which kinds an API server serves, under which plural and version: from its CustomResourceDefinitions, plus a table of the core kinds we use.

Contract resolution says which served version of a provider's kind to speak, and with it which field paths to read (contracts.md §1). It is a
pure function of a CRD's labels: a changed label takes effect with the CRD's watch event.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.keys import GroupKind

CONTRACT_LABEL_PREFIX = "cluster.x-k8s.io/"
CONTRACTS = ("v1beta2", "v1beta1")
"""Contracts we speak, newest first."""

CLUSTERCTL_LABEL = "clusterctl.cluster.x-k8s.io"
CLUSTERCTL_CORE_LABEL = "clusterctl.cluster.x-k8s.io/core"
CLUSTERCTL_GROUP = "clusterctl.cluster.x-k8s.io"
CORE_GROUP = "cluster.x-k8s.io"

_VERSION = re.compile(r"^v(\d+)(?:(alpha|beta)(\d+))?$")


@dataclass(frozen=True, slots=True)
class Resource:
    """How a kind is reached: ``version`` is the one to list, watch and write; ``contract`` which field paths its objects have (empty: our own)."""

    group: str
    kind: str
    plural: str
    version: str
    namespaced: bool = True
    contract: str = ""

    @property
    def api_version(self) -> str:
        """``group/version``, or the version alone for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def group_kind(self) -> GroupKind:
        """The (group, kind) pair."""
        return GroupKind(self.group, self.kind)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a CustomResourceDefinition says of its kind. ``served`` is ordered as the CRD lists it."""

    name: str
    group: str
    kind: str
    plural: str
    namespaced: bool
    served: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def group_kind(self) -> GroupKind:
        """The (group, kind) pair."""
        return GroupKind(self.group, self.kind)

    @classmethod
    def from_object(cls, crd: Mapping[str, Any]) -> Definition:
        """Read a CustomResourceDefinition object."""
        spec, metadata = crd["spec"], crd["metadata"]
        served = tuple(version["name"] for version in spec.get("versions") or () if version.get("served"))
        names = spec["names"]
        return cls(metadata["name"], spec["group"], names["kind"], names["plural"], spec.get("scope") == "Namespaced", served, metadata.get("labels") or {})

    def resource(self) -> Resource | None:
        """The resource to use, or None when no version is served (or none of the contract's)."""
        contract, version = resolve_contract(self.labels)
        if version and version not in self.served:
            version = ""
        if not contract:
            version = newest_version(self.served)
        return Resource(self.group, self.kind, self.plural, version, self.namespaced, contract) if version else None


CORE_RESOURCES = (
    Resource("", "Namespace", "namespaces", "v1", namespaced=False),
    Resource("", "Secret", "secrets", "v1"),
    Resource("", "ConfigMap", "configmaps", "v1"),
    Resource("", "Node", "nodes", "v1", namespaced=False),
    Resource("", "Pod", "pods", "v1"),
    Resource("", "Event", "events", "v1"),
    Resource("", "Service", "services", "v1"),
    Resource("", "ServiceAccount", "serviceaccounts", "v1"),
    Resource("", "PersistentVolumeClaim", "persistentvolumeclaims", "v1"),
    Resource("apps", "Deployment", "deployments", "v1"),
    Resource("apps", "DaemonSet", "daemonsets", "v1"),
    Resource("apps", "StatefulSet", "statefulsets", "v1"),
    Resource("apps", "ReplicaSet", "replicasets", "v1"),
    Resource("batch", "Job", "jobs", "v1"),
    Resource("batch", "CronJob", "cronjobs", "v1"),
    Resource("coordination.k8s.io", "Lease", "leases", "v1"),
    Resource("events.k8s.io", "Event", "events", "v1"),
    Resource("storage.k8s.io", "StorageClass", "storageclasses", "v1", namespaced=False),
    Resource("storage.k8s.io", "VolumeAttachment", "volumeattachments", "v1", namespaced=False),
    Resource("rbac.authorization.k8s.io", "Role", "roles", "v1"),
    Resource("rbac.authorization.k8s.io", "RoleBinding", "rolebindings", "v1"),
    Resource("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", "v1", namespaced=False),
    Resource("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", "v1", namespaced=False),
    Resource("policy", "PodDisruptionBudget", "poddisruptionbudgets", "v1"),
    Resource("networking.k8s.io", "NetworkPolicy", "networkpolicies", "v1"),
    Resource("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", "v1", namespaced=False),
    Resource("admissionregistration.k8s.io", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "v1", namespaced=False),
    Resource("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "v1", namespaced=False),
)
SECRETS = CORE_RESOURCES[1]
CONFIG_MAPS = CORE_RESOURCES[2]
DEFINITIONS = next(resource for resource in CORE_RESOURCES if resource.kind == "CustomResourceDefinition")


class Discovery:
    """The kinds known right now. Fed with CRD objects by whoever watches them."""

    def __init__(self) -> None:
        self._definitions: dict[str, Definition] = {}
        self._resources: dict[GroupKind, Resource] = {resource.group_kind: resource for resource in CORE_RESOURCES}

    def apply(self, crd: Mapping[str, Any]) -> Definition:
        """Take a CRD as it is now."""
        definition = Definition.from_object(crd)
        self._definitions[definition.name] = definition
        resource = definition.resource()
        if resource is None:
            self._resources.pop(definition.group_kind, None)
        else:
            self._resources[definition.group_kind] = resource
        return definition

    def forget(self, name: str) -> Definition | None:
        """A CRD is gone; returns what it was, if known."""
        definition = self._definitions.pop(name, None)
        if definition is not None:
            self._resources.pop(definition.group_kind, None)
        return definition

    def resource(self, group_kind: GroupKind) -> Resource | None:
        """How to reach the kind, or None when nothing serves it in a version we speak."""
        return self._resources.get(group_kind)

    def definition(self, group_kind: GroupKind) -> Definition | None:
        """The kind's CRD, or None."""
        return next((definition for definition in self._definitions.values() if definition.group_kind == group_kind), None)

    @property
    def definitions(self) -> Iterable[Definition]:
        """Every CRD known, ordered by name."""
        return tuple(self._definitions[name] for name in sorted(self._definitions))


def watched(definition: Definition) -> bool:
    """Whether the kind concerns Cluster API: it has a contract label, clusterctl installed it, or it is in a group of the project.

    cert-manager, which clusterctl installs too, and clusterctl's own inventory do not. Source: clusterctl v1.14 labels; contracts.md §1.
    """
    labels = definition.labels
    if definition.group == CLUSTERCTL_GROUP or CLUSTERCTL_CORE_LABEL in labels:
        return False
    if CLUSTERCTL_LABEL in labels or any(f"{CONTRACT_LABEL_PREFIX}{contract}" in labels for contract in CONTRACTS):
        return True
    return definition.group == CORE_GROUP or definition.group.endswith(f".{CORE_GROUP}")


def resolve_contract(labels: Mapping[str, str]) -> tuple[str, str]:
    """The (contract, version) of a provider's CRD: the newest contract we speak that has a label, and the highest version the label lists.

    ``("", "")`` when no label of a contract we speak is there.

    Source: contracts.md §1 (Cluster API v1.14, contract version resolution).
    """
    for contract in CONTRACTS:
        value = labels.get(f"{CONTRACT_LABEL_PREFIX}{contract}")
        if value:
            return contract, newest_version(value.split("_"))
    return "", ""


def newest_version(versions: Iterable[str]) -> str:
    """The highest version in Kubernetes' order (v2 > v1 > v1beta2 > v1beta1 > v1alpha1 > anything else); ``""`` of none."""
    return max(versions, key=_version_rank, default="")


def _version_rank(version: str) -> tuple[int, int, int, str]:
    match = _VERSION.match(version)
    if match is None:
        # names that are no versions come after all versions, in alphabetical order: the smallest name is the highest of them
        return (-1, 0, 0, "".join(chr(0x10FFFF - ord(letter)) for letter in version) + chr(0x10FFFF))
    major, stage, minor = match.groups()
    return ({"alpha": 0, "beta": 1, None: 2}[stage], int(major), int(minor or 0), "")
