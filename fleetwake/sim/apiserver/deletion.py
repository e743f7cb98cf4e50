"""Deletes: preconditions, finalizers, propagation, grace.

Source: apiserver ``registry/rest`` BeforeDelete and ``registry/generic`` Store.Delete, Kubernetes 1.36.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .definitions import ResourceDefinition
from .objects import check_preconditions
from .requests import DeleteOptions
from .status import success
from .store import Entry

if TYPE_CHECKING:
    from .server import ApiServer

JsonDict = dict[str, Any]
FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
_POD_GRACE_SECONDS = 30
_FINISHED_PHASES = ("Succeeded", "Failed")


class Deleter:
    """Carries out deletes on a server."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server

    def delete(self, definition: ResourceDefinition, entry: Entry, options: DeleteOptions) -> JsonDict:
        """Delete the object, or mark it deleted when finalizers or grace hold it."""
        check_preconditions(definition, entry.obj, dict(options.preconditions))
        metadata = entry.obj["metadata"]
        finalizers = _finalizers(metadata.get("finalizers", []), options.propagation)
        grace = self._grace(definition, entry.obj, options)
        if finalizers or grace or _namespace_holds(definition, entry.obj):
            return self._mark(definition, entry, finalizers, grace, dry_run=options.dry_run)
        if not options.dry_run:
            self._server.drop(entry)
        if definition.returns_deleted:
            return entry.obj
        return success(definition.group, definition.plural, metadata["name"], metadata["uid"])

    def _grace(self, definition: ResourceDefinition, obj: JsonDict, options: DeleteOptions) -> int:
        spec, status = obj.get("spec", {}), obj.get("status", {})
        if definition.resource != "pods" or not self._server.settings.graceful_pods:
            return 0
        if not spec.get("nodeName") or status.get("phase") in _FINISHED_PHASES:
            return 0
        grace = options.grace_seconds if options.grace_seconds is not None else int(spec.get("terminationGracePeriodSeconds", _POD_GRACE_SECONDS))
        given = obj["metadata"].get("deletionGracePeriodSeconds")
        return grace if given is None else min(grace, given)

    def _mark(self, definition: ResourceDefinition, entry: Entry, finalizers: list[str], grace: int, *, dry_run: bool) -> JsonDict:
        before = entry.obj["metadata"]
        metadata = {**before, "finalizers": finalizers}
        if not finalizers:
            del metadata["finalizers"]
        if before.get("deletionGracePeriodSeconds") != grace or "deletionTimestamp" not in before:
            moment = self._server.now() + timedelta(seconds=grace)
            metadata["deletionTimestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
            metadata["deletionGracePeriodSeconds"] = grace
            if before.get("generation") and "deletionTimestamp" not in before:
                metadata["generation"] = before["generation"] + 1
        obj = {**entry.obj, "metadata": metadata}
        if definition.resource == "namespaces":
            del metadata["deletionGracePeriodSeconds"]
            obj["status"] = {**obj.get("status", {}), "phase": "Terminating"}
        if obj == entry.obj or dry_run:
            return obj
        return self._server.commit(entry.key, obj, entry).obj

    def is_released(self, definition: ResourceDefinition, obj: JsonDict) -> bool:
        """Whether a deleted object has nothing left that holds it."""
        metadata = obj["metadata"]
        if "deletionTimestamp" not in metadata or metadata.get("finalizers"):
            return False
        return not metadata.get("deletionGracePeriodSeconds") and not _namespace_holds(definition, obj)


def _namespace_holds(definition: ResourceDefinition, obj: JsonDict) -> bool:
    return definition.resource == "namespaces" and bool(obj.get("spec", {}).get("finalizers"))


def _finalizers(present: list[str], propagation: str) -> list[str]:
    if not propagation:
        return list(present)
    kept = [name for name in present if name not in (FOREGROUND, ORPHAN)]
    if propagation == "Foreground":
        kept.append(FOREGROUND)
    elif propagation == "Orphan":
        kept.append(ORPHAN)
    return kept
