"""The bytes of requests: placeholders resolved, identities and preconditions added; and what changed between two states."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel

from fleetwake.errors import ConflictError
from fleetwake.plan import (
    Apply,
    Computed,
    Create,
    Delete,
    EtcdMoveLeader,
    EtcdRemoveMember,
    Event,
    Evict,
    Local,
    Look,
    Patch,
    SecretInputs,
    Step,
    SyncMetadata,
    Together,
    UidOf,
)
from fleetwake.shell.ports import Ports
from schemas.keys import ObjectKey
from schemas.sensitive import MARK, restore

REDACTED = MARK.encode()
ReadSecret = Callable[[ObjectKey], Awaitable[Mapping[str, bytes] | None]]
OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_OMIT_MICROSECONDS | orjson.OPT_PASSTHROUGH_DATACLASS
CHANGES_MAX = 64
"""Field paths listed in one outcome; more are only counted."""
TEXT_MAX = 512
"""Characters of a changed value kept in a result."""
_PLAIN = frozenset({str, bytes, int, float, bool, type(None)})


async def encode(body: Mapping[str, Any], uid_of: Callable[[ObjectKey], str], ports: Ports, read_secret: ReadSecret) -> bytes:
    """The JSON text of a body with every placeholder filled."""
    resolved: Any = body
    if _has_computed(body):
        resolved = await _resolve(body, ports, read_secret)
    return orjson.dumps(resolved, default=lambda value: _encode_leaf(value, uid_of), option=OPTIONS)


def _encode_leaf(value: Any, uid_of: Callable[[ObjectKey], str]) -> Any:
    match value:
        case UidOf(key=key):
            return uid_of(key)
        case bytes():
            return base64.b64encode(value).decode()
        case BaseModel():
            return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
        case Mapping():
            return dict(value)
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def _has_computed(value: Any) -> bool:
    if isinstance(value, Computed):
        return True
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    # most values are texts, and asking each whether it is a Mapping costs five times as much
    return any(type(item) not in _PLAIN and _has_computed(item) for item in items)


async def _resolve(value: Any, ports: Ports, read_secret: ReadSecret) -> Any:
    if isinstance(value, Computed):
        found = {key: await read_secret(key) for key in value.secrets}
        keys = tuple([await ports.keys.take(algorithm) for algorithm in value.private_keys])
        inputs = SecretInputs({key: data for key, data in found.items() if data is not None}, keys, ports.clock.now())
        return value.render(inputs)
    if isinstance(value, Mapping):
        return {name: await _resolve(item, ports, read_secret) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [await _resolve(item, ports, read_secret) for item in value]
    return value


def restored(data: bytes, known: Mapping[str, str]) -> bytes:
    """A body with the sensitive values put back that were only hashes in the cache.

    Raises:
        ConflictError: a value is not known any more: its object has changed, observe again.
    """
    try:
        return orjson.dumps(restore(orjson.loads(data), known))
    except KeyError as error:
        raise ConflictError("a sensitive value has changed since it was observed", operation="restore") from error


def apply_body(step: Apply) -> dict[str, Any]:
    """The whole apply configuration: identity and uid added to the fields."""
    meta: dict[str, Any] = {**step.body.get("metadata", {}), "name": step.key.name}
    if step.key.namespace:
        meta["namespace"] = step.key.namespace
    if step.uid:
        meta["uid"] = step.uid
    if step.resource_version:
        meta["resourceVersion"] = step.resource_version
    return {**step.body, "apiVersion": step.api_version, "kind": step.key.kind, "metadata": meta}


def patch_body(step: Patch) -> dict[str, Any]:
    """The merge patch with its preconditions: uid always, resourceVersion where the step asks for it."""
    meta: dict[str, Any] = {**step.body.get("metadata", {})}
    if step.uid:
        meta["uid"] = step.uid
    if step.resource_version:
        meta["resourceVersion"] = step.resource_version
    return {**step.body, "metadata": meta} if meta else dict(step.body)


def metadata_patch(step: SyncMetadata, state: Mapping[str, Any], manager: str) -> dict[str, Any] | None:
    """The merge patch that brings labels and annotations to what is wanted; None when nothing differs."""
    meta = state.get("metadata", {})
    changes: dict[str, Any] = {}
    for name, wanted in (("labels", step.labels), ("annotations", step.annotations)):
        held = meta.get(name) or {}
        owned = _owned(meta.get("managedFields") or (), manager, name)
        edit: dict[str, str | None] = {key: value for key, value in wanted.items() if held.get(key) != value}
        edit |= {key: None for key in sorted(owned - set(wanted)) if key in held}
        if edit:
            changes[name] = edit
    return {"metadata": {"uid": step.uid, **changes}} if changes else None


def _owned(managers: Any, manager: str, name: str) -> set[str]:
    keys: set[str] = set()
    for entry in managers:
        if entry.get("manager") == manager and not entry.get("subresource"):
            fields = ((entry.get("fieldsV1") or {}).get("f:metadata") or {}).get(f"f:{name}") or {}
            keys |= {key.removeprefix("f:") for key in fields if key != "."}
    return keys


def event_body(step: Event, now: datetime, manager: str) -> dict[str, Any]:
    """A core/v1 Event about the object; its name is derived, so that the same event within a second is one."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha256(f"{step.uid}/{step.reason}/{step.message}/{stamp}".encode()).hexdigest()[:16]
    namespace = step.key.namespace or "default"
    involved = {"apiVersion": step.api_version, "kind": step.key.kind, "namespace": step.key.namespace, "name": step.key.name, "uid": step.uid}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{step.key.name[:200]}.{digest}", "namespace": namespace},
        "involvedObject": involved,
        "reason": step.reason,
        "message": step.message[:1024],
        "type": step.type,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": manager},
        "reportingComponent": manager,
        "reportingInstance": manager,
    }


def decode_secret(state: Mapping[str, Any]) -> dict[str, bytes]:
    """The data of a Secret as bytes."""
    return {name: base64.b64decode(value) for name, value in (state.get("data") or {}).items()}


def describe(step: Step) -> tuple[str, str, str]:
    """(verb, target, reason) of a step, for records, spans and logs."""
    match step:
        case Create():
            return "create", str(step.key), step.reason
        case Apply():
            return ("apply status" if step.subresource == "status" else "apply"), str(step.key), step.reason
        case Patch():
            return "patch", str(step.key), step.reason
        case SyncMetadata():
            return "sync metadata", str(step.key), step.reason
        case Delete():
            return "delete", str(step.key), step.reason
        case Evict():
            return "evict", str(step.key), step.reason
        case EtcdRemoveMember():
            return "remove etcd member", f"{step.member_name}@{step.cluster}", step.reason
        case EtcdMoveLeader():
            return "move etcd leader", f"{step.to}@{step.cluster}", step.reason
        case Look():
            return "look", f"{step.query}@{step.cluster}", step.reason
        case Event():
            return "event", str(step.key), step.reason
        case Local():
            return ("local", step.action, step.reason) if step.about is None else (step.action, str(step.about), step.reason)
        case Together():
            return "together", f"{len(step.branches)} branches", step.reason


IGNORED = {("metadata", "resourceVersion"), ("metadata", "generation"), ("metadata", "managedFields")}


def difference(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Changed leaves as ``path -> (before, after)``; list-maps of conditions are compared by type. A new object gives one entry, ``""``."""
    if before is None:
        return {"": (None, "created")}
    changes: dict[str, tuple[Any, Any]] = {}
    _compare(before, after, (), changes)
    return changes


def _compare(before: Any, after: Any, path: tuple[str, ...], changes: dict[str, tuple[Any, Any]]) -> None:
    if before == after or path in IGNORED or len(changes) >= CHANGES_MAX:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            _compare(before.get(name), after.get(name), (*path, name), changes)
    elif _typed(before) and _typed(after) and isinstance(before or after, list):
        held, now = ({item["type"]: item for item in items or ()} for items in (before, after))
        for name in [*held, *(name for name in now if name not in held)]:
            _compare(held.get(name), now.get(name), (*path, f"[{name}]"), changes)
    else:
        changes[".".join(path)] = (_short(before), _short(after))


def _typed(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(isinstance(item, Mapping) and "type" in item for item in value))


def _short(value: Any) -> Any:
    if isinstance(value, str) and len(value) > TEXT_MAX:
        return value[:TEXT_MAX] + "…"
    return value
