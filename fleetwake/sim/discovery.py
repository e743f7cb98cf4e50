"""What clients ask before they ask for objects: versions, groups, resources.

Source: Kubernetes API discovery (unaggregated), 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .apiserver import ResourceDefinition

JsonDict = dict[str, Any]
_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def version(git_version: str) -> JsonDict:
    """Return the body of ``/version`` for ``v1.36.0``-like text."""
    major, minor, *_ = git_version.lstrip("v").split(".")
    return {
        "major": major,
        "minor": minor,
        "gitVersion": git_version,
        "gitCommit": "0" * 40,
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.25",
        "compiler": "gc",
        "platform": "linux/amd64",
    }


def core_versions() -> JsonDict:
    """Return the body of ``/api``."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list(definitions: Iterable[ResourceDefinition]) -> JsonDict:
    """Return the body of ``/apis``."""
    served: dict[str, list[str]] = {}
    for definition in definitions:
        if definition.group:
            versions = served.setdefault(definition.group, [])
            versions.extend(name for name in definition.versions if name not in versions)
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [group(name, versions) for name, versions in sorted(served.items())]}


def group(name: str, versions: Iterable[str]) -> JsonDict:
    """Return one APIGroup; the first version is the preferred one."""
    entries = [{"groupVersion": f"{name}/{version_}", "version": version_} for version_ in versions]
    return {"kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": entries, "preferredVersion": entries[0]}


def resource_list(group_: str, version_: str, definitions: Iterable[ResourceDefinition]) -> JsonDict | None:
    """Return the APIResourceList of one group and version, None when nothing is served there."""
    resources: list[JsonDict] = []
    for definition in definitions:
        if definition.group == group_ and version_ in definition.versions:
            resources.extend(_resources(definition))
    if not resources:
        return None
    group_version = f"{group_}/{version_}" if group_ else version_
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def _resources(definition: ResourceDefinition) -> Iterable[JsonDict]:
    main: JsonDict = {
        "name": definition.plural,
        "singularName": definition.singular,
        "namespaced": definition.namespaced,
        "kind": definition.kind,
        "verbs": _VERBS,
    }
    if definition.short_names:
        main["shortNames"] = list(definition.short_names)
    if definition.categories:
        main["categories"] = list(definition.categories)
    yield main
    if definition.status:
        yield _subresource(definition, "status", {"kind": definition.kind, "verbs": ["get", "patch", "update"]})
    if definition.scale is not None:
        yield _subresource(definition, "scale", {"group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["get", "patch", "update"]})
    if definition.resource == "pods":
        yield _subresource(definition, "binding", {"kind": "Binding", "verbs": ["create"]})
        yield _subresource(definition, "eviction", {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]})
        yield _subresource(definition, "portforward", {"kind": "PodPortForwardOptions", "verbs": ["create", "get"]})


def _subresource(definition: ResourceDefinition, name: str, rest: JsonDict) -> JsonDict:
    return {"name": f"{definition.plural}/{name}", "singularName": "", "namespaced": definition.namespaced, **rest}


def _field(number: int, payload: bytes) -> bytes:
    """Return one length-delimited protobuf field; payloads here stay below 128 bytes."""
    return bytes([number << 3 | 2, len(payload)]) + payload


def open_api_v2_protobuf(git_version: str) -> bytes:
    """Return an OpenAPI v2 document without paths in the one encoding kubectl asks for, so that it skips client-side validation."""
    info = _field(1, b"Kubernetes") + _field(2, git_version.encode())
    return _field(1, b"2.0") + _field(2, info) + _field(8, b"")
