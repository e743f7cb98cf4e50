"""The condition by which an object tells of a provider's object it refers to: mirrored, or why there is nothing to mirror. Likewise for older contracts.

Shared by Cluster and Machine; pure.

Source: kinds.md §0.3 (mirror), §1 and §2 (conditions); Cluster API v1.14 cluster and machine controllers, observable outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fleetwake import contracts, failing
from fleetwake.conditions import FALSE, NO_REASON_REPORTED, TRUE, UNKNOWN, ConditionValue, Judged, mirror
from fleetwake.kind import External
from fleetwake.legacy_conditions import ERROR, INFO, Legacy, bad, good, unknown
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference

INTERNAL_ERROR = failing.INTERNAL_ERROR
DELETED = "ObjectDeleted"
DOES_NOT_EXIST = "ObjectDoesNotExist"


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference, where it stands (``path``, in an object of ``namespace``) and what was found behind it.

    ``readable``: the kind's contract version is known. ``latched``: the referring object has recorded that the object once did its job; ``field``
    is the contract's field that says so. ``source``: the object's condition that is mirrored; its name and ``Not`` before it are the reasons too.
    ``missed``: what to add when a latched object is gone while its owner lives (``""``: nothing, and the
    reason is then ObjectDoesNotExist). ``awaited``: the referring object's maker is just making it, so that nobody needs a remedy yet.
    """

    ref: ContractVersionedObjectReference
    namespace: str
    path: str
    obj: External | None
    readable: bool
    latched: bool
    owner_deleting: bool
    field: str
    source: str
    missed: str = ""
    awaited: bool = False

    @property
    def kind(self) -> str:
        """The kind of the object referred to."""
        return self.ref.kind

    @property
    def name(self) -> str:
        """The object referred to as messages name it."""
        return f"{self.ref.kind} {self.namespace}/{self.ref.name}"


def absent(ref: ContractVersionedObjectReference, namespace: str, path: str) -> str:
    """That a referenced object does not exist, which field names it, and what to do; upstream's words stand first."""
    return f"{ref.kind} {namespace}/{ref.name} does not exist: create it or correct {path}"


def reference_condition(target: str, ref: Reference) -> ConditionValue:
    """Tell of the reference under the condition type ``target``."""
    if ref.obj is not None:
        fallback = ConditionValue(
            target, TRUE if ref.latched else FALSE, ref.source if ref.latched else f"Not{ref.source}", "" if ref.latched else f"{ref.kind} {ref.field} is false"
        )
        found = mirror(contracts.conditions(ref.obj), ref.source, target, fallback)
        if found.reason == NO_REASON_REPORTED and found.status == TRUE:
            return ConditionValue(target, TRUE, ref.source, found.message, found.last_transition_time)
        return found
    if not ref.readable:
        return ConditionValue(target, UNKNOWN, INTERNAL_ERROR, _unreadable(ref))
    if ref.latched and ref.owner_deleting:
        return ConditionValue(target, FALSE, DELETED, f"{ref.kind} has been deleted")
    if ref.latched and ref.missed:
        return ConditionValue(target, FALSE, DELETED, f"{ref.name} of {ref.path} has been deleted {ref.missed}")
    if ref.owner_deleting or ref.awaited:
        return ConditionValue(target, FALSE, DOES_NOT_EXIST, f"{ref.kind} does not exist")
    return ConditionValue(target, FALSE, DOES_NOT_EXIST, absent(ref.ref, ref.namespace, ref.path))


def legacy_reference(type_: str, told: Judged, obj: External | None, waiting: str, *, deleting: bool) -> Legacy:
    """The condition of the v1beta1 contract: the object's own, else by what was ``told`` of it.

    ``waiting``: the reason while the object is not ready. ``deleting``: its owner is being deleted.
    """
    mirrored = contracts.legacy_ready(obj) if obj is not None else None
    if mirrored is not None:
        return replace(mirrored, type=type_)
    if told.status == TRUE:
        return good(type_)
    if told.status == UNKNOWN:
        return unknown(type_, told.reason, told.message)
    if told.reason in (DELETED, DOES_NOT_EXIST):
        lost = told.reason == DELETED and not deleting
        return bad(type_, ERROR if lost else INFO, "Deleted" if deleting or lost else waiting, told.message)
    return bad(type_, INFO, "Deleting" if deleting else waiting, told.message)


def _unreadable(ref: Reference) -> str:
    return (
        f"No CustomResourceDefinition of {ref.kind}.{ref.ref.api_group} carries a label of a supported contract, so {ref.name} cannot be read: "
        f"install or upgrade its provider, or correct {ref.path}"
    )
