"""Bodies of writes: what to change of metadata, and whether a status differs from what is stored. An equal write is never made.

Stands between the decisions and their plans; pure. A merge patch replaces a list whole, so every patch built here that carries finalizers or owner
references is fenced by the resourceVersion it was computed from.

Source: architecture.md §4 (fenced writes, steady state); kinds.md §0.2, §0.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fleetwake.plan import Apply, Patch
from schemas.api.meta import Frozen, KubeObject, ObjectMeta, OwnerReference
from schemas.keys import GroupKind, ObjectKey

STATUS = "status"


@dataclass(frozen=True, slots=True)
class Target:
    """An object to write to: one we model or one of a provider's."""

    key: ObjectKey
    api_version: str
    metadata: ObjectMeta


def key_of(obj: KubeObject) -> ObjectKey:
    """The key of an object of the management API."""
    return ObjectKey(obj.GROUP, obj.KIND, obj.namespace, obj.name)


def api_version_of(obj: KubeObject) -> str:
    """The apiVersion that the object's model speaks."""
    return f"{obj.GROUP}/{obj.VERSION}" if obj.GROUP else obj.VERSION


def target(obj: KubeObject) -> Target:
    """The write target that stands for an object we model."""
    return Target(key_of(obj), api_version_of(obj), obj.metadata)


def owner_reference(owner: KubeObject, *, controller: bool = False) -> OwnerReference:
    """A reference to an owner; a controller reference also blocks the owner's foreground deletion."""
    return OwnerReference(
        api_version=api_version_of(owner), kind=owner.KIND, name=owner.name, uid=owner.metadata.uid, controller=controller, block_owner_deletion=controller
    )


def owner_wire(ref: OwnerReference) -> dict[str, Any]:
    """An owner reference as JSON; false flags are left out."""
    wire: dict[str, Any] = {"apiVersion": ref.api_version, "kind": ref.kind, "name": ref.name, "uid": ref.uid}
    if ref.controller:
        wire["controller"] = True
    if ref.block_owner_deletion:
        wire["blockOwnerDeletion"] = True
    return wire


def owners_with(owners: Sequence[OwnerReference], wanted: OwnerReference, *, drop: Iterable[GroupKind] = ()) -> tuple[OwnerReference, ...]:
    """The owners with ``wanted`` put in, and references to kinds in ``drop`` taken out; order is kept.

    A reference to the same uid, or to the same group, kind and name (an object that was moved or made anew), is replaced: the apiVersion is
    refreshed; a stored controller flag is never taken away here, and a stored blockOwnerDeletion stays. A controller of another uid
    keeps its place and the new reference then comes without the flag, because two controllers are invalid.
    """
    dropped = set(drop)
    kept: list[OwnerReference] = []
    placed = False
    taken = any(ref.controller and not _same_owner(ref, wanted) and _kind_of(ref) not in dropped for ref in owners)
    fitting = without_control(wanted) if taken else wanted
    for ref in owners:
        if _same_owner(ref, wanted):
            if not placed:
                kept.append(_refreshed(ref, fitting))
            placed = True
        elif _kind_of(ref) not in dropped:
            kept.append(ref)
    return tuple(kept) if placed else (*kept, fitting)


def _refreshed(stored: OwnerReference, wanted: OwnerReference) -> OwnerReference:
    """The stored reference as wanted now; what its maker said about blocking and (once ours) control stays, so that it is not worth a write."""
    flags = {"controller": wanted.controller or stored.controller, "block_owner_deletion": stored.block_owner_deletion}
    if wanted.controller and not stored.controller:
        flags["block_owner_deletion"] = wanted.block_owner_deletion
    return wanted.model_copy(update=flags)


def without_control(ref: OwnerReference) -> OwnerReference:
    """The same reference without the controller flag."""
    return ref.model_copy(update={"controller": False, "block_owner_deletion": False})


def _kind_of(ref: OwnerReference) -> GroupKind:
    return GroupKind(ref.group, ref.kind)


def _same_owner(one: OwnerReference, other: OwnerReference) -> bool:
    return one.uid == other.uid or (_kind_of(one), one.name) == (_kind_of(other), other.name)


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """What metadata shall be; None leaves a part alone. A label or annotation whose value is None is taken away.

    ``finalizers`` and ``owners`` are whole lists, in the order to store them.
    """

    finalizers: tuple[str, ...] | None = None
    owners: tuple[OwnerReference, ...] | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)


def metadata_body(metadata: ObjectMeta, change: MetadataChange) -> dict[str, Any]:
    """The ``metadata`` of a merge patch that makes the change, empty when nothing differs."""
    body: dict[str, Any] = {}
    if change.finalizers is not None and change.finalizers != metadata.finalizers:
        body["finalizers"] = list(change.finalizers) or None
    if change.owners is not None:
        wanted = [owner_wire(ref) for ref in change.owners]
        if wanted != [owner_wire(ref) for ref in metadata.owner_references]:
            body["ownerReferences"] = wanted or None
    for name, stored, desired in (("labels", metadata.labels, change.labels), ("annotations", metadata.annotations, change.annotations)):
        different = {key: value for key, value in desired.items() if stored.get(key) != value}
        if different:
            body[name] = different
    return body


def metadata_patch(obj: Target, change: MetadataChange, reason: str, *, spec: Mapping[str, Any] | None = None) -> Patch | None:
    """One merge patch for finalizers, owner references, labels, annotations and ``spec`` together; None when nothing differs.

    ``spec`` is sent as given (the caller knows that it differs). Lists and spec are fenced by resourceVersion.
    """
    metadata = metadata_body(obj.metadata, change)
    body: dict[str, Any] = {}
    if metadata:
        body["metadata"] = metadata
    if spec:
        body["spec"] = spec
    if not body:
        return None
    fenced = bool(spec) or "finalizers" in metadata or "ownerReferences" in metadata
    return Patch(
        key=obj.key,
        api_version=obj.api_version,
        uid=obj.metadata.uid,
        body=body,
        reason=reason,
        resource_version=obj.metadata.resource_version if fenced else "",
    )


def without_finalizer(obj: Target, finalizer: str, reason: str) -> Patch | None:
    """The merge patch that takes a finalizer away; None when it is not there."""
    if finalizer not in obj.metadata.finalizers:
        return None
    return metadata_patch(obj, MetadataChange(finalizers=tuple(one for one in obj.metadata.finalizers if one != finalizer)), reason)


# --- status ----------------------------------------------------------------------------------------------------------------------------------


def wire(model: Frozen) -> dict[str, Any]:
    """The fields that were read or set, as JSON; nothing that is merely a default."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


@dataclass(frozen=True, slots=True)
class Informing:
    """The part of a kind's status that nobody waits for: people read it, or decisions that follow it a moment later all the same.

    ``fields`` by their name on the wire; ``conditions`` are types whose status informs. Reasons and messages of every condition do. Whatever is not
    named here is waited for.
    """

    fields: frozenset[str] = frozenset()
    conditions: frozenset[str] = frozenset()

    def covers(self, have: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
        """Whether all that differs between the stored and the wanted status is of this part."""
        for name, wanted in want.items():
            if name == "conditions":
                before = {one["type"]: one["status"] for one in have.get("conditions") or ()}
                if any(self._awaited(before.get(one["type"], ""), one) for one in wanted):
                    return False
            elif name not in self.fields and differs(have, {name: wanted}):
                return False
        return True

    def _awaited(self, was: str, one: Mapping[str, Any]) -> bool:
        now = one["status"]
        return now != was and "True" in (now, was) and one["type"] not in self.conditions


def status_apply(
    obj: KubeObject, manager: str, status: Mapping[str, Any], *, absent_conditions: Iterable[str] = (), informing: Informing | None = None
) -> Apply | None:
    """The server-side apply of everything ``manager`` owns in the object's status; None when the object has it so already.

    ``status`` is JSON: every field this manager may ever own, with None for one that shall be absent now (nested objects likewise);
    ``conditions`` as ``fleetwake.conditions.merge`` gives them. ``absent_conditions`` are types this manager may have set and wants gone.
    ``informing``: what of it nobody waits for; without it every write is waited for.
    """
    stored = getattr(obj, STATUS)
    have = wire(stored)
    gone = set(absent_conditions) & {one["type"] for one in have.get("conditions", ())}
    if not gone and not differs(have, status):
        return None
    return Apply(
        key=key_of(obj),
        api_version=api_version_of(obj),
        uid=obj.metadata.uid,
        body={STATUS: pruned(status)},
        reason="status tells what was observed",
        manager=manager,
        subresource=STATUS,
        informs=informing is not None and not gone and informing.covers(have, status),
    )


def status_kept(obj: KubeObject, fields: Iterable[str], condition_types: Iterable[str]) -> dict[str, Any]:
    """The part of the stored status that a manager owns: named fields and condition types. What a partial change must repeat.

    Server-side apply takes away what its manager owned before and does not send again, so a write of one condition alone would drop the rest.
    """
    have = wire(getattr(obj, STATUS))
    kept = {name: have[name] for name in fields if name in have}
    own = set(condition_types)
    kept["conditions"] = [one for one in have.get("conditions", ()) if one["type"] in own]
    return kept


def pruned(value: Mapping[str, Any]) -> dict[str, Any]:
    """The value without None and without maps and lists that are (or become) empty: a minimum of properties is part of the schema."""
    out: dict[str, Any] = {}
    for name, item in value.items():
        kept = pruned(item) if isinstance(item, Mapping) else [_plain(one) for one in item] if isinstance(item, list | tuple) else item
        if kept is not None and not (isinstance(kept, dict | list) and not kept):
            out[name] = kept
    return out


def differs(have: Mapping[str, Any], want: Mapping[str, Any], *, by_type: bool = True) -> bool:
    """Whether a stored object lacks something wanted, or has something wanted absent (None); fields not named in ``want`` do not count.

    Lists are compared whole, except its ``conditions`` (not those of older contracts, further down): there only the wanted types count.
    """
    for name, wanted in want.items():
        stored = have.get(name)
        if by_type and name == "conditions" and isinstance(wanted, list | tuple):
            told = {one["type"]: one for one in stored or ()}
            if any(_condition(told.get(one["type"])) != _condition(one) for one in wanted):
                return True
        elif isinstance(wanted, Mapping):
            if differs(stored if isinstance(stored, Mapping) else {}, wanted, by_type=False):
                return True
        elif isinstance(wanted, list | tuple):
            if stored != list(wanted) and [_plain(one) for one in stored or ()] != [_plain(one) for one in wanted]:
                return True
        elif stored != wanted:
            return True
    return False


def _plain(value: Any) -> Any:
    """An item of a list, comparable: maps without empty parts."""
    return pruned(value) if isinstance(value, Mapping) else value


def _condition(value: Mapping[str, Any] | None) -> tuple[Any, ...] | None:
    if value is None:
        return None
    return (
        value["status"],
        value.get("reason"),
        value.get("message", ""),
        value.get("observedGeneration") or 0,
        value.get("lastTransitionTime"),
    )


def following(step: Apply | None, *, when: bool) -> Apply | None:
    """The same status, told only if the steps before it succeed, ``when`` it says what they bring about."""
    return replace(step, follows=True) if step is not None and when else step


def fenced(step: Apply, obj: KubeObject) -> Apply:
    """The same apply, sent only if the object has not changed since it was read."""
    return replace(step, resource_version=obj.metadata.resource_version)
