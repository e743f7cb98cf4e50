"""From an object as the API server sent it to the value and headers of its record: actor taken, managedFields and secret values gone."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.records import NOBODY, Actor
from schemas.sensitive import redact

DEFINITION_SPEC_FIELDS = ("group", "names", "scope")


def actor_of(metadata: dict[str, Any]) -> Actor:
    """Who wrote last: the newest managedFields entry (of equals the last)."""
    newest, newest_time = None, ""
    for entry in metadata.get("managedFields") or ():
        time = entry.get("time", "")
        if newest is None or time >= newest_time:
            newest, newest_time = entry, time
    if newest is None:
        return NOBODY
    return Actor(newest.get("manager", ""), newest.get("operation", ""), newest.get("subresource", ""), newest_time)


def value_of(value: dict[str, Any], redaction_key: bytes) -> tuple[bytes, Actor]:
    """The JSON of the record and its actor. Takes managedFields and secret values out of ``value`` itself."""
    metadata = value["metadata"]
    actor = actor_of(metadata)
    metadata.pop("managedFields", None)
    return orjson.dumps(redact(value, redaction_key)), actor


def definition_value(crd: dict[str, Any]) -> dict[str, Any]:
    """What of a CustomResourceDefinition is carried: metadata, names, scope and versions. Its schemas are megabytes nobody reads."""
    spec = crd["spec"]
    versions = [{name: version[name] for name in ("name", "served", "storage") if name in version} for version in spec.get("versions") or ()]
    metadata = {name: value for name, value in crd["metadata"].items() if name != "annotations"}
    return {
        "apiVersion": crd["apiVersion"],
        "kind": crd["kind"],
        "metadata": metadata,
        "spec": {**{name: spec[name] for name in DEFINITION_SPEC_FIELDS if name in spec}, "versions": versions},
    }
