"""How a kind is addressed: plural, scope and version, from our models, the CRDs in the cache and the core kinds.

Source: contracts.md §1 (contract version resolution), Cluster API v1.14 book "Provider contracts".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.api.meta import KubeObject
from schemas.keys import GroupKind, ObjectKey

CRD = GroupKind("apiextensions.k8s.io", "CustomResourceDefinition")
CONTRACTS = ("v1beta2", "v1beta1")
"""Contract versions we read, newest first."""


class Resource(NamedTuple):
    """Where a kind lives under the API: the version to use, the REST plural, whether it has namespaces."""

    api_version: str
    plural: str
    namespaced: bool = True
    contract: str = CONTRACTS[0]


CORE: Mapping[GroupKind, Resource] = {
    GroupKind("", "Secret"): Resource("v1", "secrets"),
    GroupKind("", "ConfigMap"): Resource("v1", "configmaps"),
    GroupKind("", "Namespace"): Resource("v1", "namespaces", False),
    GroupKind("", "Node"): Resource("v1", "nodes", False),
    GroupKind("", "Pod"): Resource("v1", "pods"),
    GroupKind("", "Event"): Resource("v1", "events"),
    GroupKind("", "Service"): Resource("v1", "services"),
    GroupKind("", "PersistentVolume"): Resource("v1", "persistentvolumes", False),
    GroupKind("", "PersistentVolumeClaim"): Resource("v1", "persistentvolumeclaims"),
    GroupKind("apps", "DaemonSet"): Resource("apps/v1", "daemonsets"),
    GroupKind("apps", "Deployment"): Resource("apps/v1", "deployments"),
    GroupKind("storage.k8s.io", "VolumeAttachment"): Resource("storage.k8s.io/v1", "volumeattachments", False),
    GroupKind("rbac.authorization.k8s.io", "Role"): Resource("rbac.authorization.k8s.io/v1", "roles"),
    GroupKind("rbac.authorization.k8s.io", "RoleBinding"): Resource("rbac.authorization.k8s.io/v1", "rolebindings"),
    GroupKind("rbac.authorization.k8s.io", "ClusterRole"): Resource("rbac.authorization.k8s.io/v1", "clusterroles", False),
    GroupKind("rbac.authorization.k8s.io", "ClusterRoleBinding"): Resource("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    CRD: Resource("apiextensions.k8s.io/v1", "customresourcedefinitions", False),
}


def version_rank(version: str) -> tuple[int, int, int]:
    """Kubernetes' ordering of API versions: GA over beta over alpha, then numbers. Unknown forms rank lowest."""
    text = version.removeprefix("v")
    for position, stage in enumerate(("alpha", "beta")):
        major, found, minor = text.partition(stage)
        if found and major.isdigit() and minor.isdigit():
            return (position + 1, int(major), int(minor))
    return (3, int(text), 0) if text.isdigit() else (0, 0, 0)


def contract_version(labels: Mapping[str, str]) -> tuple[str, str] | None:
    """(provider version, contract) from a CRD's contract labels: the newest contract present, of it the newest version. None without such a label."""
    for contract in CONTRACTS:
        versions = labels.get(f"cluster.x-k8s.io/{contract}")
        if versions:
            return max(versions.split("_"), key=version_rank), contract
    return None


class Resources:
    """Kinds by (group, kind). Fed with our models at start and with CRD states as they arrive."""

    def __init__(self, models: Iterable[type[KubeObject]]) -> None:
        self._ours = {
            GroupKind(model.GROUP, model.KIND): Resource(f"{model.GROUP}/{model.VERSION}", model.PLURAL, getattr(model, "SCOPE", "Namespaced") == "Namespaced")
            for model in models
        }
        self._found: dict[GroupKind, Resource] = {}

    def take_crd(self, state: Mapping[str, object] | None, key: ObjectKey) -> None:
        """Learn (or, with None, forget) what a CustomResourceDefinition says."""
        if state is None:
            plural, _, group = key.name.partition(".")
            for ref in [ref for ref, found in self._found.items() if ref.group == group and found.plural == plural]:
                del self._found[ref]
            return
        spec = state.get("spec")
        if not isinstance(spec, Mapping):
            return
        ref = GroupKind(str(spec["group"]), str(spec["names"]["kind"]))
        labels = state.get("metadata", {}).get("labels", {})  # type: ignore[attr-defined]
        served = [str(version["name"]) for version in spec.get("versions", ()) if version.get("served", True)]
        chosen = contract_version(labels) or (max(served, key=version_rank, default=""), CONTRACTS[0])
        self._found[ref] = Resource(f"{ref.group}/{chosen[0]}", str(spec["names"]["plural"]), spec.get("scope", "Namespaced") == "Namespaced", chosen[1])

    def find(self, ref: GroupKind) -> Resource | None:
        """The resource of a kind; None while its CRD has not been seen."""
        return self._ours.get(ref) or self._found.get(ref) or CORE.get(ref)

    def path(self, key: ObjectKey, api_version: str = "", subresource: str = "", collection: bool = False) -> str:
        """The REST path of an object (or of its collection).

        Raises:
            LookupError: the kind is not known.
        """
        resource = self.find(key.group_kind)
        if resource is None:
            raise LookupError(f"no CustomResourceDefinition seen for {key.group_kind}: install it, or wait for the watcher to deliver it")
        version = api_version or resource.api_version
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        place = f"/namespaces/{key.namespace}" if resource.namespaced and key.namespace else ""
        path = f"{root}{place}/{resource.plural}"
        if collection:
            return path
        return f"{path}/{key.name}" + (f"/{subresource}" if subresource else "")
