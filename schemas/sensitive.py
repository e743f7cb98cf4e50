"""Where kinds hold secret values, and how those leave an object before it enters Kafka, Redis, logs, spans or recordings.

A value is replaced by a hash keyed from the Secret ``fleetwake-redaction``: equal values stay equal, so decisions can compare; nothing
else can be learnt. ``restore`` puts values back at send time from a live read, so that an intent computed from redacted objects
never writes a hash into the world.

Source: the fields' descriptions in Cluster API v1.14 (KubeadmConfig, KubeadmControlPlane) and Kubernetes 1.36 (Secret).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from schemas.keys import GroupKind

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
CONVERSION_DATA = "cluster.x-k8s.io/conversion-data"
"""On objects of older versions; on one of the hub only if somebody copied it there."""

MARK = "hmac-sha256:"

SECRET = GroupKind("", "Secret")
BOOTSTRAP_GROUP = "bootstrap.cluster.x-k8s.io"
CONTROL_PLANE_GROUP = "controlplane.cluster.x-k8s.io"

KUBEADM_PATHS = (
    "initConfiguration.bootstrapTokens[].token",
    "joinConfiguration.discovery.bootstrapToken.token",
    "joinConfiguration.discovery.tlsBootstrapToken",
    "joinConfiguration.discovery.file.kubeConfig.user.exec.env[].value",
    "joinConfiguration.discovery.file.kubeConfig.user.authProvider.config{}",
    "users[].passwd",
    "files[].content",
)
"""Sensitive fields of a kubeadm configuration. ``[]`` goes through a list, ``{}`` through the values of a map. Whether a file's content
is secret cannot be known, so all of it is."""

SENSITIVE: Mapping[GroupKind, tuple[str, ...]] = {
    SECRET: ("data{}",),
    GroupKind(BOOTSTRAP_GROUP, "KubeadmConfig"): tuple(f"spec.{path}" for path in KUBEADM_PATHS),
    GroupKind(BOOTSTRAP_GROUP, "KubeadmConfigTemplate"): tuple(f"spec.template.spec.{path}" for path in KUBEADM_PATHS),
    GroupKind(CONTROL_PLANE_GROUP, "KubeadmControlPlane"): tuple(f"spec.kubeadmConfigSpec.{path}" for path in KUBEADM_PATHS),
    GroupKind(CONTROL_PLANE_GROUP, "KubeadmControlPlaneTemplate"): tuple(f"spec.template.spec.kubeadmConfigSpec.{path}" for path in KUBEADM_PATHS),
}

_STEPS: Mapping[GroupKind, tuple[tuple[str, ...], ...]] = {
    kind: tuple(tuple(path.replace("[]", ".[]").replace("{}", ".{}").split(".")) for path in paths) for kind, paths in SENSITIVE.items()
}


def keyed_hash(value: str, key: bytes) -> str:
    """What stands for ``value``: ``hmac-sha256:<hex>``. A value that is one already stays, so that redacting twice changes nothing."""
    if value.startswith(MARK):
        return value
    return MARK + hmac.new(key, value.encode(), hashlib.sha256).hexdigest()


def redact(value: dict[str, Any], key: bytes) -> dict[str, Any]:
    """Replace the sensitive values of an object (its kind is read from it), in place; returns the object.

    A Secret also loses ``stringData``; every kind with sensitive fields loses the annotations that repeat the object: what kubectl applied last, and what
    came with an older version's object.
    """
    group_kind = _group_kind(value)
    steps = _STEPS.get(group_kind)
    if steps is None:
        return value
    for holder, field in _found(value, steps):
        if isinstance(holder[field], str):
            holder[field] = keyed_hash(holder[field], key)
    if group_kind == SECRET:
        value.pop("stringData", None)
    annotations = value.get("metadata", {}).get("annotations")
    for repeats in (LAST_APPLIED, CONVERSION_DATA) if annotations else ():
        annotations.pop(repeats, None)
    return value


def hashes_of(live: Mapping[str, Any], key: bytes) -> dict[str, str]:
    """The hash of each sensitive value of a live (unredacted) object, and the value it stands for."""
    steps = _STEPS.get(_group_kind(live), ())
    values = (holder[field] for holder, field in _found(live, steps))
    return {keyed_hash(value, key): value for value in values if isinstance(value, str)}


def redacted(value: Any) -> bool:
    """Whether any string in a JSON value stands for a sensitive one: such a value must pass ``restore`` before it is sent."""
    if isinstance(value, str):
        return value.startswith(MARK)
    if isinstance(value, Mapping):
        return any(redacted(item) for item in value.values())
    return isinstance(value, list | tuple) and any(redacted(item) for item in value)


def restore(value: Any, known: Mapping[str, str]) -> Any:
    """A copy of a JSON value with every hash replaced by the value it stands for.

    Raises:
        KeyError: a hash is not in ``known`` (the live object has changed since; observe again).
    """
    if isinstance(value, str):
        return known[value] if value.startswith(MARK) else value
    if isinstance(value, Mapping):
        return {name: restore(item, known) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [restore(item, known) for item in value]
    return value


def _group_kind(value: Mapping[str, Any]) -> GroupKind:
    return GroupKind(str(value.get("apiVersion", "")).rpartition("/")[0], str(value.get("kind", "")))


def _found(value: Any, all_steps: tuple[tuple[str, ...], ...]) -> Iterator[tuple[Any, Any]]:
    for steps in all_steps:
        yield from _walk(value, steps)


def _walk(value: Any, steps: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
    head, rest = steps[0], steps[1:]
    if head == "[]":
        fields: Any = range(len(value)) if isinstance(value, list) else ()
    elif head == "{}":
        fields = tuple(value) if isinstance(value, MutableMapping) else ()
    else:
        fields = (head,) if isinstance(value, Mapping) and head in value else ()
    for field in fields:
        if rest:
            yield from _walk(value[field], rest)
        else:
            yield value, field
