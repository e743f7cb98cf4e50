"""From an object as the API server sent it to the value and headers of its record: actor taken, managedFields and secret values gone."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from schemas.records import NOBODY, Actor
from schemas.sensitive import redact

DEFINITION_SPEC_FIELDS = ("group", "names", "scope")


class Wish(NamedTuple):
    """How often what is wanted of an object has changed, and the newest time at which managedFields say so; 0 where that is not known."""

    generation: int = 0
    written: str = ""


NO_WISH = Wish()


def wish_of(metadata: dict[str, Any]) -> Wish:
    """The wish that an object's metadata tell of."""
    times = (entry.get("time", "") for entry in metadata.get("managedFields") or () if entry.get("subresource") != "status")
    return Wish(int(metadata.get("generation") or 0), max(times, default=""))


def actor_of(metadata: dict[str, Any], before: Wish = NO_WISH) -> Actor:
    """Who wrote last: the newest managedFields entry (of equals the last).

    A write through ``/scale`` of a custom kind leaves an entry without a time (kube-apiserver 1.36): it was the last one when the generation
    has grown since ``before`` and no entry with a time accounts for it.
    """
    newest, newest_time, timeless = None, "", None
    for entry in metadata.get("managedFields") or ():
        time = entry.get("time", "")
        if not time:
            timeless = entry
        if newest is None or time >= newest_time:
            newest, newest_time = entry, time
    if newest is None:
        return NOBODY
    wish = wish_of(metadata)
    if timeless is not None and 0 < before.generation < wish.generation and wish.written == before.written and "deletionTimestamp" not in metadata:
        newest, newest_time = timeless, ""
    return Actor(newest.get("manager", ""), newest.get("operation", ""), newest.get("subresource", ""), newest_time)


def value_of(value: dict[str, Any], redaction_key: bytes, before: Wish = NO_WISH) -> tuple[bytes, Actor]:
    """The JSON of the record and its actor. Takes managedFields and secret values out of ``value`` itself."""
    metadata = value["metadata"]
    actor = actor_of(metadata, before)
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
