"""An object said in another version of its kind, with the annotation that keeps what the other version cannot say.

Source: contracts.md §10; cluster-api util/conversion/conversion.go (the annotation: the hub object without its metadata, JSON, added on every way down and
taken off on every way up).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from schemas.conversion.catalog import HUB_VERSION, Conversion, conversion
from schemas.conversion.restoring import restored
from schemas.conversion.rules import Context, ConversionError, lowered, raised
from schemas.conversion.shape import Shape, fitted
from schemas.conversion.values import MISSING, owned
from schemas.sensitive import CONVERSION_DATA


def said_in(obj: Mapping[str, Any], api_version: str, context: Context) -> dict[str, Any]:
    """An object in any served version of its group, from any other.

    Raises:
        ConversionError: see ``to_hub`` and ``from_hub``; or the version is another group's.
    """
    group, _, version = api_version.rpartition("/")
    if group != _identity(obj)[0]:
        raise ConversionError(f"{obj.get('apiVersion')} has no version {api_version}")
    return from_hub(to_hub(obj, context), version, context)


def to_hub(obj: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """An object of an older version, as the hub says it. ``context.namespace`` is the object's own.

    Raises:
        ConversionError: the kind has no such version, a value has no form in the hub, or the annotation is none of ours.
    """
    group, kind, version = _identity(obj)
    if version == HUB_VERSION:
        return owned(obj)
    known, context = conversion(group, kind, version), _at(obj, context)
    new = _up(owned(obj), known, context)
    data = _annotation_off(new)
    if data is None:
        return new
    stored = _stored(data, known, context)
    # whoever referred to it then need not be there now: the way up asks nobody
    elsewhere = replace(context, api_version=lambda group, _: f"{group}/{HUB_VERSION}")
    named = {**owned(stored), "metadata": {"name": (new.get("metadata") or {}).get("name")}}
    baseline = _up(_down(named, known, version, elsewhere), known, elsewhere)
    metadata = new.pop("metadata", MISSING)
    merged: dict[str, Any] = restored(new, _without_metadata(baseline), stored, known.hub)
    return {"apiVersion": f"{group}/{HUB_VERSION}", "kind": kind} | ({"metadata": metadata} if metadata is not MISSING else {}) | merged


def from_hub(obj: Mapping[str, Any], version: str, context: Context) -> dict[str, Any]:
    """A hub object, as an older version says it, with the annotation that brings it back whole.

    Raises:
        ConversionError: the kind has no such version, or a value has no form in it.
    """
    group, kind, present = _identity(obj)
    if present != HUB_VERSION:
        raise ConversionError(f"{kind} is of {present}, not of the hub {HUB_VERSION}")
    if version == HUB_VERSION:
        return owned(obj)
    known, context = conversion(group, kind, version), _at(obj, context)
    old = _down(owned(obj), known, version, context)
    data = json.dumps(_without_metadata(obj), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    metadata = old.setdefault("metadata", {})
    metadata["annotations"] = {**(metadata.get("annotations") or {}), CONVERSION_DATA: data}
    return old


def _up(obj: dict[str, Any], known: Conversion, context: Context) -> dict[str, Any]:
    raised(obj, known.table, context)
    return _fitted(obj, known.hub, HUB_VERSION, older=False)


def _down(obj: dict[str, Any], known: Conversion, version: str, context: Context) -> dict[str, Any]:
    lowered(obj, known.table, context)
    return _fitted(obj, known.shapes[version], version, older=True)


def _fitted(obj: dict[str, Any], shape: Shape, version: str, *, older: bool) -> dict[str, Any]:
    group = str(obj["apiVersion"]).partition("/")[0]
    new = fitted(obj, shape, older=older)
    return {**new, "apiVersion": f"{group}/{version}"}


def _stored(data: str, known: Conversion, context: Context) -> dict[str, Any]:
    """The hub object of an annotation; one that was written when an older version was the hub is converted."""
    try:
        stored = json.loads(data)
    except ValueError as error:
        raise ConversionError(f"annotation {CONVERSION_DATA} is not JSON; remove it, and what only {HUB_VERSION} can say is lost") from error
    if not isinstance(stored, dict):
        raise ConversionError(f"annotation {CONVERSION_DATA} is not an object; remove it, and what only {HUB_VERSION} can say is lost")
    stored.pop("metadata", None)
    version = str(stored.get("apiVersion") or "").rpartition("/")[2]
    stored |= {"apiVersion": f"{known.group}/{version or HUB_VERSION}", "kind": known.kind}
    return _up(stored, known, context) if version in known.shapes else stored


def _identity(obj: Mapping[str, Any]) -> tuple[str, str, str]:
    group, _, version = str(obj.get("apiVersion") or "").rpartition("/")
    return group, str(obj.get("kind") or ""), version


def _at(obj: Mapping[str, Any], context: Context) -> Context:
    metadata = obj.get("metadata")
    return replace(context, namespace=str(metadata.get("namespace") or "") if isinstance(metadata, dict) else "")


def _without_metadata(obj: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in obj.items() if name != "metadata"}


def _annotation_off(obj: dict[str, Any]) -> str | None:
    metadata = obj.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    if not isinstance(annotations, dict) or CONVERSION_DATA not in annotations:
        return None
    data = annotations.pop(CONVERSION_DATA)
    if not annotations:
        del obj["metadata"]["annotations"]
    return str(data)
