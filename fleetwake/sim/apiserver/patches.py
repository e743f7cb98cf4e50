"""The three patch formats, applied without copying what they do not touch.

Each function takes the stored object and the patch and returns the wanted object; the stored one is never changed. Server-side apply
is in :mod:`.ownership`.

Source: RFC 7386 (merge patch), RFC 6902 (JSON patch), Kubernetes "Update API Objects in Place" (strategic merge patch), 1.36.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .status import ApiStatusError

JsonDict = dict[str, Any]

# Merge keys of the core kinds by field name; "" marks a list of primitives that merges as a set. Fields with two meanings list both.
MERGE_KEYS: Mapping[str, tuple[str, ...]] = {
    "addresses": ("type",),
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "finalizers": ("",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "podIPs": ("ip",),
    "ports": ("containerPort", "port"),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_DIRECTIVE = "$patch"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_ORDER = "$setElementOrder/"
_RETAIN = "$retainKeys"


def merge_patch(target: Any, patch: Any) -> Any:
    """Return ``target`` after an RFC 7386 patch: null removes, objects merge, anything else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            out[key] = merge_patch(out.get(key), value)
        else:
            out[key] = value
    return out


def strategic_merge_patch(target: Any, patch: JsonDict) -> JsonDict:
    """Return ``target`` after a strategic merge patch with the core kinds' merge keys and its directives."""
    directive = patch.get(_DIRECTIVE)
    if directive == "delete":
        return {}
    if directive == "replace":
        return {key: value for key, value in patch.items() if key != _DIRECTIVE}
    out = dict(target) if isinstance(target, dict) else {}
    retained = patch.get(_RETAIN)
    if isinstance(retained, list):
        out = {key: value for key, value in out.items() if key in retained}
    for key, value in patch.items():
        if key.startswith(_DELETE_PRIMITIVES):
            field = key.removeprefix(_DELETE_PRIMITIVES)
            out[field] = [item for item in out.get(field, ()) if item not in value]
        elif key in (_DIRECTIVE, _RETAIN) or key.startswith(_ORDER):
            continue
        elif value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            out[key] = strategic_merge_patch(out.get(key), value)
        elif isinstance(value, list):
            out[key] = _merge_list(key, out.get(key), value, patch.get(_ORDER + key))
        else:
            out[key] = value
    return out


def _merge_list(field: str, before: Any, patch: list[Any], order: Any) -> list[Any]:
    keys = MERGE_KEYS.get(field)
    if keys is None:
        return patch
    current: list[Any] = list(before) if isinstance(before, list) else []
    if keys == ("",):
        return current + [item for item in patch if item not in current]
    if any(not isinstance(item, dict) for item in patch):
        return patch
    if any(item.get(_DIRECTIVE) == "replace" for item in patch):
        return [item for item in patch if item.get(_DIRECTIVE) != "replace"]
    key = next((key for key in keys if any(key in item for item in patch)), keys[0])
    for item in patch:
        at = next((index for index, old in enumerate(current) if old.get(key) == item.get(key)), None)
        if item.get(_DIRECTIVE) == "delete":
            if at is not None:
                del current[at]
        elif at is None:
            current.append(strategic_merge_patch({}, item))
        else:
            current[at] = strategic_merge_patch(current[at], item)
    if isinstance(order, list):
        rank = {item.get(key): index for index, item in enumerate(order) if isinstance(item, dict)}
        current.sort(key=lambda item: rank.get(item.get(key), len(rank)))
    return current


def json_patch(target: JsonDict, operations: Any) -> JsonDict:
    """Return ``target`` after RFC 6902 operations.

    Raises: ApiStatusError 422 when a test fails or a path does not exist, 400 when the patch is malformed.
    """
    if not isinstance(operations, list):
        raise ApiStatusError(400, "BadRequest", "error decoding patch: a JSON patch is a list of operations")
    out: Any = target
    for operation in operations:
        if not isinstance(operation, dict) or not isinstance(operation.get("path"), str):
            raise ApiStatusError(400, "BadRequest", "error decoding patch: an operation needs op and path")
        out = _apply_operation(out, operation)
    if not isinstance(out, dict):
        raise _refused("the result is not an object")
    return out


def _refused(why: str) -> ApiStatusError:
    return ApiStatusError(422, "Invalid", f"the server rejected our request due to an error in our request: {why}")


def _pointer(text: str) -> tuple[str, ...]:
    if text and not text.startswith("/"):
        raise _refused(f"invalid path {text}")
    return tuple(part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:])


def _apply_operation(target: Any, operation: JsonDict) -> Any:
    path = _pointer(operation["path"])
    match operation.get("op"):
        case "add":
            return _set(target, path, operation.get("value"), insert=True)
        case "replace":
            _lookup(target, path)
            return _set(target, path, operation.get("value"), insert=False)
        case "remove":
            return _remove(target, path)
        case "move":
            source = _pointer(operation.get("from", ""))
            value = _lookup(target, source)
            return _set(_remove(target, source), path, value, insert=True)
        case "copy":
            return _set(target, path, _lookup(target, _pointer(operation.get("from", ""))), insert=True)
        case "test":
            if _lookup(target, path, missing_is_none=True) != operation.get("value"):
                raise _refused(f"testing value {operation['path']} failed")
            return target
        case other:
            raise ApiStatusError(400, "BadRequest", f"error decoding patch: unexpected op {other!r}")


def _lookup(target: Any, path: Sequence[str], *, missing_is_none: bool = False) -> Any:
    for part in path:
        if isinstance(target, dict) and part in target:
            target = target[part]
        elif isinstance(target, list) and part.isdigit() and int(part) < len(target):
            target = target[int(part)]
        elif missing_is_none:
            return None
        else:
            raise _refused(f"path /{'/'.join(path)} does not exist")
    return target


def _set(target: Any, path: Sequence[str], value: Any, *, insert: bool) -> Any:
    if not path:
        return value
    part, rest = path[0], path[1:]
    if isinstance(target, dict):
        if rest and part not in target:
            raise _refused(f"path {part} does not exist")
        return {**target, part: _set(target.get(part), rest, value, insert=insert)}
    if not isinstance(target, list):
        raise _refused(f"path {part} does not exist")
    out = list(target)
    if part == "-" and not rest:
        out.append(value)
        return out
    if not part.isdigit() or int(part) > len(out) - (0 if insert and not rest else 1):
        raise _refused(f"index {part} out of bounds")
    index = int(part)
    if rest or not insert:
        out[index] = _set(out[index], rest, value, insert=insert)
    else:
        out.insert(index, value)
    return out


def _remove(target: Any, path: Sequence[str]) -> Any:
    if not path:
        raise _refused("cannot remove the whole object")
    part, rest = path[0], path[1:]
    if isinstance(target, dict) and part in target:
        if rest:
            return {**target, part: _remove(target[part], rest)}
        return {key: value for key, value in target.items() if key != part}
    if isinstance(target, list) and part.isdigit() and int(part) < len(target):
        index = int(part)
        middle = [_remove(target[index], rest)] if rest else []
        return [*target[:index], *middle, *target[index + 1 :]]
    raise _refused(f"path {part} does not exist")
