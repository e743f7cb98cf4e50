"""Rules for one object: identity, metadata that only the server sets, what a subresource may change.

Pure functions; each returns a new object that shares what it does not touch.
Source: apiserver ``registry/rest`` (BeforeCreate, BeforeUpdate) and ``registry/generic``, Kubernetes 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from .definitions import ResourceDefinition
from .status import ApiStatusError, bad_request, cause, conflict, invalid

JsonDict = dict[str, Any]
NAME_LENGTH_MAX = 253
GENERATED_PREFIX_MAX = 58
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_PATH_SEGMENT_KINDS = frozenset({"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"})
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character "
    "(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_NOT_SPEC = frozenset({"apiVersion", "kind", "metadata", "status"})
_NOT_SPEC_WITHOUT_STATUS = frozenset({"apiVersion", "kind", "metadata"})
_SERVER_SET = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink", "managedFields", "resourceVersion")


def private_copy(obj: Any) -> JsonDict:
    """Return a copy that shares nothing with the caller's object.

    Raises: ApiStatusError 400 when it is no JSON object.
    """
    try:
        copy = orjson.loads(orjson.dumps(obj))
    except (orjson.JSONEncodeError, TypeError, ValueError) as error:
        raise bad_request(f"the object is not JSON: {error}") from error
    if not isinstance(copy, dict):
        raise bad_request("the object is not a JSON object")
    return copy


def typed(obj: JsonDict, definition: ResourceDefinition) -> JsonDict:
    """Return the object with the stored apiVersion and kind.

    Raises: ApiStatusError 400 when it is of another kind or of a version not served.
    """
    api_version, kind = obj.get("apiVersion"), obj.get("kind")
    served = {f"{definition.group}/{version}" if definition.group else version for version in definition.versions}
    if (kind is not None and kind != definition.kind) or (api_version is not None and api_version not in served):
        raise bad_request(f"{kind} in version {api_version!r} cannot be handled as a {definition.kind}")
    metadata = obj.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise bad_request("metadata is not an object")
    if api_version == definition.api_version and kind == definition.kind and metadata is not None:
        return obj
    return {
        "apiVersion": definition.api_version,
        "kind": definition.kind,
        **{k: v for k, v in obj.items() if k not in ("apiVersion", "kind")},
        "metadata": metadata or {},
    }


def check_metadata(definition: ResourceDefinition, obj: JsonDict) -> None:
    """Check name, labels, annotations, finalizers and owner references.

    Raises: ApiStatusError 422 with a cause per broken rule, 400 for a label that is not a string.
    """
    metadata = obj["metadata"]
    name = metadata.get("name", "")
    causes: list[JsonDict] = []
    if not name:
        causes.append(cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name"))
    elif definition.kind in _PATH_SEGMENT_KINDS:
        if name in (".", "..") or "/" in name or "%" in name:
            causes.append(
                cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(name).decode()}: may not be '.', '..' or contain '/' or '%'", "metadata.name")
            )
    elif len(name) > NAME_LENGTH_MAX or not _SUBDOMAIN.fullmatch(name):
        causes.append(cause("FieldValueInvalid", f"Invalid value: {orjson.dumps(name).decode()}: {_SUBDOMAIN_RULE}", "metadata.name"))
    for part in ("labels", "annotations"):
        for key, value in (metadata.get(part) or {}).items():
            if not isinstance(value, str):
                raise bad_request(f"json: cannot unmarshal {type(value).__name__} into Go struct field ObjectMeta.metadata.{part} of type string ({key})")
    causes.extend(_owner_causes(metadata.get("ownerReferences") or ()))
    if causes:
        raise invalid(definition.group, definition.kind, name, causes)


def _owner_causes(owners: Sequence[JsonDict]) -> list[JsonDict]:
    causes = []
    for index, owner in enumerate(owners):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                causes.append(cause("FieldValueInvalid", f'Invalid value: "": {field} must not be empty', f"metadata.ownerReferences[{index}].{field}"))
    controllers = [owner for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        text = f"Only one reference can have Controller set to true. Found {len(controllers)}"
        causes.append(cause("FieldValueInvalid", f"Invalid value: {text}", "metadata.ownerReferences"))
    return causes


def check_uid_of_update(definition: ResourceDefinition, obj: JsonDict, stored: JsonDict) -> None:
    """Check the uid an update (PUT) names, as every PUT does on every subresource.

    Raises: ApiStatusError 409 when the stored object has another.
    """
    uid, current = obj["metadata"].get("uid"), stored["metadata"]
    if uid and uid != current["uid"]:
        why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['uid']}"
        raise conflict(definition.group, definition.plural, current["name"], f"StorageError: invalid object, Code: 4, AdditionalErrorMsg: {why}")


def check_uid_of_patch(definition: ResourceDefinition, obj: JsonDict, stored: JsonDict, subresource: str) -> None:
    """Check the uid a patch or apply names: it may not change the object's.

    A patch of a custom kind's status or scale is *not* checked, for the real server takes that metadata from the stored object first: who
    wants a fence there names the resourceVersion, or tests ``/metadata/uid`` in a JSON patch.

    Raises: ApiStatusError 422 (not 409) when it differs.
    """
    if subresource and not (subresource == "status" and definition.status_writes_metadata):
        return
    uid, current = obj["metadata"].get("uid"), stored["metadata"]
    if uid != current["uid"]:
        causes = [cause("FieldValueInvalid", f'Invalid value: "{uid}": field is immutable', "metadata.uid")]
        raise invalid(definition.group, definition.kind, current["name"], causes)


def check_version(definition: ResourceDefinition, obj: JsonDict, stored: JsonDict) -> None:
    """Check the resourceVersion a write names: the optimistic lock.

    Raises: ApiStatusError 409 when the stored object has another, 422 when it is no version.
    """
    name = stored["metadata"]["name"]
    version = obj["metadata"].get("resourceVersion")
    if version and version != stored["metadata"]["resourceVersion"]:
        if not str(version).isdigit():
            causes = [cause("FieldValueInvalid", f'Invalid value: "{version}": strconv.ParseUint', "metadata.resourceVersion")]
            raise invalid(definition.group, definition.kind, name, causes)
        why = "the object has been modified; please apply your changes to the latest version and try again"
        raise conflict(definition.group, definition.plural, name, why)


def check_preconditions(definition: ResourceDefinition, stored: JsonDict, preconditions: JsonDict) -> None:
    """Check the preconditions of a delete.

    Raises: ApiStatusError 409 when uid or resourceVersion differ.
    """
    metadata = stored["metadata"]
    uid, version = preconditions.get("uid"), preconditions.get("resourceVersion")
    if uid is not None and uid != metadata["uid"]:
        why = f"the UID in the precondition ({uid}) does not match the UID in record ({metadata['uid']}). The object might have been deleted and then recreated"
        raise conflict(definition.group, definition.kind, metadata["name"], why)
    if version is not None and version != metadata["resourceVersion"]:
        why = (
            f"the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({metadata['resourceVersion']}). "
            "The object might have been modified"
        )
        raise conflict(definition.group, definition.kind, metadata["name"], why)


def with_system_metadata(obj: JsonDict, stored: JsonDict) -> JsonDict:
    """Return ``obj`` with what only the server sets taken from the stored object; null and empty maps are dropped."""
    current = stored["metadata"]
    metadata = {key: value for key, value in obj["metadata"].items() if key not in _SERVER_SET and value not in (None, {}, [])}
    metadata["name"] = current["name"]
    for key in ("namespace", "generateName", *_SERVER_SET):
        if key in current:
            metadata[key] = current[key]
    return {**obj, "metadata": metadata}


def for_subresource(obj: JsonDict, stored: JsonDict, definition: ResourceDefinition, subresource: str) -> JsonDict:
    """Return the wanted object with everything the subresource may not change taken from the stored one.

    A main write leaves status alone where a status subresource exists; a status write leaves everything else alone. A binding writes both.
    """
    if not definition.status or subresource == "binding":
        return obj
    if subresource == "status":
        out = {key: value for key, value in stored.items() if key != "status"}
        if "status" in obj:
            out["status"] = obj["status"]
        if definition.status_writes_metadata:
            out["metadata"] = {**obj["metadata"]}
            owners = stored["metadata"].get("ownerReferences")
            if owners is not None:
                out["metadata"]["ownerReferences"] = owners
        return out
    if obj.get("status") == stored.get("status") and ("status" in obj) == ("status" in stored):
        return obj
    out = {key: value for key, value in obj.items() if key != "status"}
    if "status" in stored:
        out["status"] = stored["status"]
    return out


def check_finalizers(definition: ResourceDefinition, obj: JsonDict, stored: JsonDict) -> None:
    """Refuse new finalizers on an object that is being deleted.

    Raises: ApiStatusError 422.
    """
    if "deletionTimestamp" not in stored["metadata"]:
        return
    before = stored["metadata"].get("finalizers") or ()
    new = sorted(name for name in obj["metadata"].get("finalizers") or () if name not in before)
    if new:
        listed = ", ".join(f'"{name}"' for name in new)
        text = f"Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
        raise invalid(definition.group, definition.kind, stored["metadata"]["name"], [cause("FieldValueForbidden", text, "metadata.finalizers")])


def spec_changed(obj: JsonDict, stored: JsonDict, definition: ResourceDefinition) -> bool:
    """Whether a change of ``obj`` against ``stored`` counts for metadata.generation."""
    ignored = _NOT_SPEC if definition.status or not definition.custom else _NOT_SPEC_WITHOUT_STATUS
    return {k: v for k, v in obj.items() if k not in ignored} != {k: v for k, v in stored.items() if k not in ignored}


def check_size(obj: JsonDict, limit: int) -> bytes:
    """Return the object's text.

    Raises: ApiStatusError 413 when it exceeds ``limit`` bytes.
    """
    raw = orjson.dumps(obj)
    if len(raw) > limit:
        raise ApiStatusError(500, "InternalError", f"etcdserver: request is too large: {len(raw)} bytes, limit {limit}")
    return raw
