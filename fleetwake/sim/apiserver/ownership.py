"""Who owns which field: ``metadata.managedFields`` on plain writes and on server-side apply.

Pure functions over objects that are never changed in place. The server hands in the stored object and the wanted one and gets back
the manager entries (and, for apply, the merged object).

Source: Kubernetes "Server-Side Apply" and structured-merge-diff v6, 1.36; compared with the real server by tests/conformance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .fields import FieldSet, compare, difference, field_set, intersection, is_member, paths, union
from .status import ApiStatusError, apply_conflict
from .structure import Structure

JsonDict = dict[str, Any]
Entries = tuple[JsonDict, ...]

UPDATE_MANAGERS_MAX = 10
ANCIENT = "ancient-changes"
_SYSTEM_METADATA = (
    "f:name",
    "f:namespace",
    "f:uid",
    "f:resourceVersion",
    "f:generation",
    "f:creationTimestamp",
    "f:deletionTimestamp",
    "f:deletionGracePeriodSeconds",
    "f:selfLink",
    "f:managedFields",
    "f:generateName",
    ".",
)


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes: field manager, operation, through which subresource, in which API version, when (RFC 3339)."""

    manager: str
    operation: str
    subresource: str
    api_version: str
    time: str

    def entry(self, fields: FieldSet) -> JsonDict:
        """Return the managedFields entry of this writer."""
        out: JsonDict = {
            "manager": self.manager,
            "operation": self.operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        if self.subresource:
            out["subresource"] = self.subresource
        return out

    def is_author(self, entry: JsonDict) -> bool:
        """Whether the entry is this writer's own."""
        return (
            entry["manager"] == self.manager
            and entry["operation"] == self.operation
            and entry.get("subresource", "") == self.subresource
            and (entry["apiVersion"] == self.api_version or self.operation == "Apply")
        )


def strip_system(fields: FieldSet) -> FieldSet:
    """Return the set without fields that nobody can own (type, identity, what the server sets)."""
    out = {key: node for key, node in fields.items() if key not in ("f:apiVersion", "f:kind")}
    metadata = out.get("f:metadata")
    if metadata is not None:
        kept = {key: node for key, node in metadata.items() if key not in _SYSTEM_METADATA}
        if kept:
            out["f:metadata"] = kept
        else:
            del out["f:metadata"]
    return out


def after_update(entries: Entries, objects: tuple[JsonDict, JsonDict], structure: Structure, writer: Writer) -> Entries:
    """Return the entries after a plain write: the writer takes every field it changed, whoever owned it."""
    changed, removed = compare(objects[0], objects[1], structure)
    changed, removed = strip_system(changed), strip_system(removed)
    if not changed and not removed:
        return entries
    own: FieldSet = {}
    own_entry: JsonDict | None = None
    kept: list[JsonDict] = []
    gone = union(changed, removed)
    for entry in entries:
        if writer.is_author(entry):
            own_entry, own = entry, entry["fieldsV1"]
        else:
            _keep(kept, entry, difference(entry["fieldsV1"], gone))
    fields = union(difference(own, removed), changed)
    if own_entry is not None and fields == own:
        kept.append(own_entry)
    elif fields:
        kept.append(writer.entry(fields))
    return _ordered(_capped(kept, writer))


def _keep(kept: list[JsonDict], entry: JsonDict, fields: FieldSet) -> None:
    if fields is entry["fieldsV1"]:
        kept.append(entry)
    elif fields:
        kept.append({**entry, "fieldsV1": fields})


def _ordered(entries: Sequence[JsonDict]) -> Entries:
    return tuple(sorted(entries, key=lambda e: (e["operation"], e["time"], e["manager"])))


def _capped(entries: list[JsonDict], writer: Writer) -> list[JsonDict]:
    """Fold the oldest plain writers into one entry, so that the list stays bounded."""
    updates = sorted((e for e in entries if e["operation"] == "Update"), key=lambda e: (e["time"], e["manager"]))
    surplus = len(updates) - UPDATE_MANAGERS_MAX
    if surplus <= 0:
        return entries
    folded = updates[: surplus + 1]
    fields: FieldSet = {}
    for entry in folded:
        fields = union(fields, entry["fieldsV1"])
    ancient = {**Writer(ANCIENT, "Update", "", writer.api_version, folded[-1]["time"]).entry(fields)}
    return [entry for entry in entries if not any(entry is old for old in folded)] + [ancient]


def of_new(config: JsonDict, structure: Structure, writer: Writer) -> Entries:
    """Return the entries of an object that an apply of ``config`` creates."""
    fields = strip_system(field_set(config, structure))
    return (writer.entry(fields),) if fields else ()


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of an apply: the merged object and who owns what."""

    obj: JsonDict
    entries: Entries


def apply(live: JsonDict, entries: Entries, config: JsonDict, structure: Structure, writer: Writer, *, force: bool) -> Applied:
    """Merge ``config`` over ``live``, drop what the writer no longer applies, and settle ownership.

    Raises: ApiStatusError 409 with one cause per field when another manager owns a field whose value would change, unless ``force``.
    """
    wanted = strip_system(field_set(config, structure))
    last: FieldSet = {}
    own_entry: JsonDict | None = None
    others: list[JsonDict] = []
    for entry in entries:
        if writer.is_author(entry):
            own_entry, last = entry, entry["fieldsV1"]
        else:
            others.append(entry)
    merged = merge(live, config, structure)
    if last:
        managed = wanted
        for entry in others:
            managed = union(managed, entry["fieldsV1"])
        stale = difference(last, managed)
        if stale:
            merged = _prune_map(merged, stale, managed, structure) or {}
    changed, removed = compare(live, merged, structure)
    changed, removed = strip_system(changed), strip_system(removed)
    if changed and not force:
        error = _conflicts(others, changed)
        if error is not None:
            raise error
    gone = union(changed, removed)
    kept: list[JsonDict] = []
    for entry in others:
        _keep(kept, entry, difference(entry["fieldsV1"], gone))
    if own_entry is not None and own_entry["apiVersion"] == writer.api_version and last == wanted:
        kept.append(own_entry)
    elif wanted:
        kept.append(writer.entry(wanted))
    return Applied(merged, _ordered(kept))


def _conflicts(others: Sequence[JsonDict], changed: FieldSet) -> ApiStatusError | None:
    found: list[tuple[str, str]] = []
    for entry in others:
        both = intersection(entry["fieldsV1"], changed)
        if not both:
            continue
        name = f'"{entry["manager"]}"'
        if entry.get("subresource"):
            name += f' with subresource "{entry["subresource"]}"'
        if entry["operation"] == "Update":
            name += f" using {entry['apiVersion']}"
        found.extend((name, path) for path in sorted(paths(both)))
    return apply_conflict(found) if found else None


def merge(live: JsonDict, config: JsonDict, structure: Structure) -> JsonDict:
    """Return ``config`` merged over ``live``, sharing what is unchanged; ``live`` itself when nothing changes."""
    out: JsonDict | None = None
    for key, value in config.items():
        before = live.get(key)
        after = _merge_value(before, value, structure.child(key)) if key in live else value
        if key not in live or after is not before:
            out = dict(live) if out is None else out
            out[key] = after
    return live if out is None else out


def _merge_value(before: Any, value: Any, structure: Structure) -> Any:
    if before == value:
        return before
    if isinstance(before, dict) and isinstance(value, dict) and structure.relation != "atomic":
        return merge(before, value, structure)
    if isinstance(before, list) and isinstance(value, list) and structure.relation in ("map", "set"):
        return _merge_items(before, value, structure)
    return value


def _merge_items(before: list[Any], value: list[Any], structure: Structure) -> list[Any]:
    """Merge two keyed lists: what only ``before`` has keeps its place, what both have stands in the order of ``value``."""
    element = structure.item()
    live = {structure.item_key(item): item for item in before}
    wanted = {structure.item_key(item): item for item in value}
    live_keys, wanted_keys = list(live), list(wanted)
    out: list[Any] = []
    left = right = 0
    while left < len(live_keys) or right < len(wanted_keys):
        if left < len(live_keys):
            key = live_keys[left]
            if key not in wanted:
                out.append(live[key])
                left += 1
                continue
            if right == len(wanted_keys) or (key != wanted_keys[right] and wanted_keys[right] in live):
                left += 1
                continue
        key = wanted_keys[right]
        right += 1
        if key not in live:
            out.append(wanted[key])
            continue
        out.append(_merge_value(live[key], wanted[key], element))
        if left < len(live_keys) and live_keys[left] == key:
            left += 1
    same = len(out) == len(before) and all(new is old for new, old in zip(out, before, strict=True))
    return before if same else out


def _prune_map(value: JsonDict, stale: FieldSet, managed: FieldSet, structure: Structure) -> JsonDict | None:
    """Drop from an object the stale members; None when nothing is left that was not emptied by this."""
    out = dict(value)
    for path, node in stale.items():
        key = path[2:]
        if not path.startswith("f:") or key not in out:
            continue
        left = _prune_value(out[key], node, managed.get(path), structure.child(key))
        if left is None:
            del out[key]
        else:
            out[key] = left
    return out or None


def _prune_value(value: Any, stale: FieldSet, managed: FieldSet | None, structure: Structure) -> Any:
    """Return what remains of a value, None when it goes. ``managed`` is what anybody still owns at this place."""
    if managed is None and is_member(stale):
        return None
    if not stale:
        return value
    if isinstance(value, dict) and structure.relation != "atomic":
        left = _prune_map(value, stale, managed or {}, structure)
        return {} if left is None and is_member(managed) else left
    if isinstance(value, list) and structure.relation in ("map", "set"):
        element = structure.item()
        items: list[Any] = []
        for item in value:
            key = structure.item_key(item)
            left_item = _prune_value(item, stale[key], (managed or {}).get(key), element) if key in stale else item
            if left_item is not None:
                items.append(left_item)
        return items if items or is_member(managed) else None
    return value
