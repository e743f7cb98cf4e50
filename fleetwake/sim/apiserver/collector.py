"""Garbage collection by owner references, and the emptying of deleted namespaces.

It keeps a work list of what may have become collectable, so a run costs what has changed, not what is stored. ``run`` goes to the
fixpoint; each change it makes is an ordinary change of the store.

Source: Kubernetes "Garbage Collection", "Owners and Dependents", controller ``garbagecollector`` and ``namespace``, 1.36.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .deletion import FOREGROUND, ORPHAN
from .requests import DeleteOptions, WriteOptions
from .status import ApiStatusError
from .store import Entry, Key, Scope

if TYPE_CHECKING:
    from .server import ApiServer

JsonDict = dict[str, Any]
MANAGER = "kube-controller-manager"


class Collector:
    """The garbage collector and namespace controller of one server."""

    def __init__(self, server: ApiServer) -> None:
        self._server = server
        self._due: dict[Key, None] = {}
        self.running = False

    def note(self, entry: Entry) -> None:
        """Remember an object that may have work: it has owners, or it is being deleted."""
        metadata = entry.obj["metadata"]
        if "deletionTimestamp" in metadata or metadata.get("ownerReferences"):
            self._due[entry.key] = None

    def note_gone(self, entry: Entry) -> None:
        """Remember whom the removal of an object concerns: its dependents, the owners that waited for it, its namespace."""
        self._due.pop(entry.key, None)
        for key in self._server.store.dependents.get(entry.uid, ()):
            self._due[key] = None
        for owner in entry.obj["metadata"].get("ownerReferences") or ():
            place = self._server.store.by_uid.get(owner["uid"])
            if place is not None:
                self._due[place] = None
        if entry.key.namespace:
            self._due[Key("namespaces", "", entry.key.namespace)] = None

    def run(self) -> int:
        """Work until nothing is due; return how many changes were made."""
        before = self._server.version
        self.running = True
        try:
            while self._due:
                key = next(iter(self._due))
                del self._due[key]
                entry = self._server.store.get(key)
                if entry is not None:
                    self._visit(entry)
        finally:
            self.running = False
        return (self._server.version - before) // self._server.settings.version_step

    def _visit(self, entry: Entry) -> None:
        metadata = entry.obj["metadata"]
        if "deletionTimestamp" in metadata:
            finalizers = metadata.get("finalizers", ())
            if entry.key.resource == "namespaces":
                self._empty_namespace(entry)
            if ORPHAN in finalizers:
                self._orphan(entry)
            elif FOREGROUND in finalizers:
                self._foreground(entry)
        elif metadata.get("ownerReferences"):
            self._collect(entry)

    def _collect(self, entry: Entry) -> None:
        """Delete a dependent whose owners are all gone; drop references to the gone ones when another is left."""
        solid, dangling, waiting = self._sorted_owners(entry)
        if solid:
            if dangling or waiting:
                keep = [owner for owner in entry.obj["metadata"]["ownerReferences"] if owner in solid]
                self._write(entry, {"ownerReferences": keep})
        elif waiting and entry.uid in self._server.store.dependents:
            self._delete(entry, "Foreground")
        elif waiting or dangling:
            self._delete(entry, "Background")

    def _sorted_owners(self, entry: Entry) -> tuple[list[JsonDict], list[JsonDict], list[JsonDict]]:
        solid: list[JsonDict] = []
        dangling: list[JsonDict] = []
        waiting: list[JsonDict] = []
        for owner in entry.obj["metadata"]["ownerReferences"]:
            found = self._owner(owner, entry)
            if found is None and self._is_unknown_kind(owner):
                solid.append(owner)
            elif found is None:
                dangling.append(owner)
            elif "deletionTimestamp" in found.obj["metadata"] and FOREGROUND in found.obj["metadata"].get("finalizers", ()):
                waiting.append(owner)
            else:
                solid.append(owner)
        return solid, dangling, waiting

    def _is_unknown_kind(self, owner: JsonDict) -> bool:
        group = owner["apiVersion"].rpartition("/")[0]
        return (group, owner["kind"]) not in self._server.by_kind

    def _owner(self, owner: JsonDict, dependent: Entry) -> Entry | None:
        key = self._server.store.by_uid.get(owner["uid"])
        entry = self._server.store.get(key) if key is not None else None
        if entry is None or (entry.key.namespace and entry.key.namespace != dependent.key.namespace):
            return None
        same = entry.obj["kind"] == owner["kind"] and entry.key.name == owner["name"]
        return entry if same else None

    def _orphan(self, entry: Entry) -> None:
        for key in tuple(self._server.store.dependents.get(entry.uid, ())):
            dependent = self._server.store.get(key)
            if dependent is not None:
                kept = [owner for owner in dependent.obj["metadata"]["ownerReferences"] if owner["uid"] != entry.uid]
                self._write(dependent, {"ownerReferences": kept})
        self._without_finalizer(entry, ORPHAN)

    def _foreground(self, entry: Entry) -> None:
        """Delete the dependents; let the owner go when none of them blocks it."""
        blocked = False
        for key in tuple(self._server.store.dependents.get(entry.uid, ())):
            dependent = self._server.store.get(key)
            if dependent is None:
                continue
            if "deletionTimestamp" not in dependent.obj["metadata"]:
                self._collect(dependent)
                dependent = self._server.store.get(key)
            if dependent is not None and any(
                o["uid"] == entry.uid and o.get("blockOwnerDeletion") for o in dependent.obj["metadata"].get("ownerReferences", ())
            ):
                blocked = True
        if not blocked:
            current = self._server.store.get(entry.key)
            if current is not None:
                self._without_finalizer(current, FOREGROUND)

    def _without_finalizer(self, entry: Entry, finalizer: str) -> None:
        kept = [name for name in entry.obj["metadata"].get("finalizers", ()) if name != finalizer]
        self._write(entry, {"finalizers": kept})

    def _empty_namespace(self, entry: Entry) -> None:
        """Delete what is in a deleted namespace; release it when empty."""
        left = False
        for resource, definition in self._server.definitions.items():
            if not definition.namespaced:
                continue
            for content in self._server.store.entries(Scope(resource, entry.key.name)):
                if "deletionTimestamp" not in content.obj["metadata"]:
                    self._delete(content, "Background", grace_seconds=None)
                left = left or self._server.store.get(content.key) is not None
        if left:
            return
        released = {**entry.obj, "spec": {key: value for key, value in entry.obj["spec"].items() if key != "finalizers"}}
        if not entry.obj["metadata"].get("finalizers"):
            self._server.drop(entry)
        elif released["spec"] != entry.obj["spec"]:
            self._server.commit(entry.key, {**released, "metadata": dict(entry.obj["metadata"])}, entry)

    def _delete(self, entry: Entry, propagation: str, grace_seconds: int | None = None) -> None:
        options = DeleteOptions(propagation=propagation, preconditions={"uid": entry.uid}, grace_seconds=grace_seconds)
        definition = self._server.definitions[entry.key.resource]
        self._server.deleter.delete(definition, entry, options)

    def _write(self, entry: Entry, changes: JsonDict) -> None:
        metadata = {**entry.obj["metadata"], **changes}
        try:
            self._server.replace(entry, {**entry.obj, "metadata": metadata}, WriteOptions(field_manager=MANAGER))
        except ApiStatusError as error:
            # admission refused the collector's write: as in the real one the object stays as it is
            if error.code not in (400, 403, 422):
                raise
