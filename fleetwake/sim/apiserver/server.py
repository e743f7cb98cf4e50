"""An API server in memory with the semantics controllers rely on.

Pure and synchronous: no sockets, no tasks, no clock of its own, no randomness but what a seed and a counter give, so that a simulation
is repeatable. Objects come and go as JSON dicts; **what it returns is shared with its store and other readers and must not be changed**.
The HTTP front end is :mod:`fleetwake.sim.http`.

Source: Kubernetes API concepts and API conventions, 1.36; held to the real server by tests/conformance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import orjson

from . import objects, ownership, patches
from .builtin import WORKLOAD_KINDS
from .collector import Collector
from .definitions import ResourceDefinition, definition_of_crd
from .deletion import Deleter
from .initial import initial, with_encoded_data
from .listing import Lister
from .requests import DeleteOptions, ListOptions, PatchType, Settings, WatchOptions, WriteOptions
from .scale import scale_of, with_replicas
from .status import (
    ApiStatusError,
    already_exists,
    bad_request,
    cause,
    conflict,
    forbidden,
    invalid,
    method_not_allowed,
    no_such_resource,
    not_found,
    unsupported_media_type,
)
from .store import Change, Entry, Key, Sink, Store, Watch, WatchEvent

JsonDict = dict[str, Any]
Admission = Callable[[ResourceDefinition, JsonDict, JsonDict | None], JsonDict]

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NAME_SUFFIX_LENGTH = 5
_GENERATE_ATTEMPTS_MAX = 8
DEFAULT_MANAGER = "unknown"


class ApiServer:
    """One API server: kinds, objects, history, watches.

    ``now`` is the clock. ``admission`` sees every wanted object (definition, new, old or None) and returns it, possibly defaulted, or
    raises ApiStatusError: the place for structural validation.
    """

    def __init__(
        self,
        now: Callable[[], datetime],
        settings: Settings | None = None,
        definitions: Iterable[ResourceDefinition] = WORKLOAD_KINDS,
        admission: Admission | None = None,
    ) -> None:
        self.now = now
        self.settings = settings or Settings()
        self.store = Store(first_version=self.settings.first_version, step=self.settings.version_step, history_max=self.settings.history_max)
        self.definitions: dict[str, ResourceDefinition] = {}
        self.by_kind: dict[tuple[str, str], ResourceDefinition] = {}
        self._admission = admission
        self._drawn = 0
        self.deleter = Deleter(self)
        self._collector = Collector(self)
        self._lister = Lister(self.store)
        for definition in definitions:
            self.register(definition)

    # kinds

    def register(self, definition: ResourceDefinition) -> None:
        """Serve a kind; a later definition of the same resource replaces the earlier."""
        self.definitions[definition.resource] = definition
        self.by_kind[(definition.group, definition.kind)] = definition

    def unregister(self, resource: str) -> None:
        """Serve a kind no longer; its objects are gone with it."""
        definition = self.definitions.pop(resource)
        del self.by_kind[(definition.group, definition.kind)]
        for entry in [entry for entry in self.store if entry.key.resource == resource]:
            self.store.remove(entry)

    def definition(self, resource: str) -> ResourceDefinition:
        """Return the definition of a resource.

        Raises: ApiStatusError 404 when it is not served.
        """
        found = self.definitions.get(resource)
        if found is None:
            raise no_such_resource()
        return found

    # reads

    @property
    def version(self) -> int:
        """The resourceVersion of the newest change."""
        return self.store.version

    def get(self, resource: str, namespace: str, name: str, subresource: str = "") -> JsonDict:
        """Return one object, or its scale.

        Raises: ApiStatusError 404.
        """
        definition = self.definition(resource)
        entry = self.entry(definition, namespace, name)
        if subresource == "scale":
            return scale_of(entry.obj, self._scaled(definition))
        return entry.obj

    def entry(self, definition: ResourceDefinition, namespace: str, name: str) -> Entry:
        """Return the stored entry of one object.

        Raises: ApiStatusError 404.
        """
        entry = self.store.get(Key(definition.resource, namespace if definition.namespaced else "", name))
        if entry is None:
            raise not_found(definition.group, definition.plural, name)
        return entry

    def list(self, resource: str, namespace: str = "", options: ListOptions | None = None) -> JsonDict:
        """Return a list object, ordered by namespace and name; pages are consistent with the first one.

        Raises: ApiStatusError 400 for a selector that cannot be parsed, 410 for an expired token, 504 for a version of the future.
        """
        return self._lister.list(self.definition(resource), namespace, options or ListOptions())

    def watch(self, resource: str, namespace: str = "", options: WatchOptions | None = None, sink: Sink | None = None) -> Watch:
        """Open a watch. Without ``sink`` events wait in the watch until taken.

        A version older than the kept history yields one ERROR event with a 410 Status and nothing more.
        """
        return self._lister.watch(self.definition(resource), namespace, options or WatchOptions(), sink)

    def send_bookmarks(self) -> None:
        """Tell every watch that asked for bookmarks how far history has come."""
        self._lister.send_bookmarks(self.definitions)

    def bookmark(self, resource: str) -> WatchEvent:
        """Return a bookmark of a resource at the present version."""
        return self._lister.bookmark(self.definition(resource))

    # writes

    def create(self, resource: str, obj: JsonDict, namespace: str = "", options: WriteOptions | None = None) -> JsonDict:
        """Create an object and return it.

        Raises: ApiStatusError 409 AlreadyExists, 403 in a terminating namespace, 404 in an absent one, 422, 400.
        """
        definition = self.definition(resource)
        options = options or WriteOptions()
        wanted = objects.typed(objects.private_copy(obj), definition)
        created = self._create(definition, wanted, namespace, options, ())
        self._settle()
        return created.obj

    def update(self, resource: str, obj: JsonDict, namespace: str = "", options: WriteOptions | None = None) -> JsonDict:
        """Replace an object (or its status, or its scale) and return it. metadata.resourceVersion, when present, must match.

        Raises: ApiStatusError 404, 409 on a lost optimistic lock or another uid, 422.
        """
        definition = self.definition(resource)
        options = options or WriteOptions()
        wanted = objects.private_copy(obj)
        name = (wanted.get("metadata") or {}).get("name", "")
        stored = self.entry(definition, namespace, name)
        objects.check_uid_of_update(definition, {"metadata": wanted.get("metadata") or {}}, stored.obj)
        if options.subresource == "scale":
            wanted = with_replicas(stored.obj, wanted, self._scaled(definition))
        else:
            wanted = objects.typed(wanted, definition)
            self._check_place(definition, wanted, namespace)
            if not wanted["metadata"].get("resourceVersion") and not definition.unconditional_update:
                text = "Invalid value: 0: must be specified for an update"
                raise invalid(definition.group, definition.kind, name, [cause("FieldValueInvalid", text, "metadata.resourceVersion")])
        written = self._write(definition, stored, wanted, options)
        return scale_of(written, self._scaled(definition)) if options.subresource == "scale" else written

    def patch(self, resource: str, key: tuple[str, str], patch: Any, type_: PatchType, options: WriteOptions | None = None) -> JsonDict:
        """Patch the object at ``key`` (namespace, name) and return it. Apply creates it when absent, unless the patch names a uid.

        Raises: ApiStatusError 404, 409 (a named uid or resourceVersion differs; apply conflicts), 415, 422, 400.
        """
        definition = self.definition(resource)
        options = options or WriteOptions()
        namespace, name = key
        if type_ is PatchType.APPLY:
            return self._apply(definition, namespace, name, objects.private_copy(patch), options)
        if options.force:
            raise invalid("meta.k8s.io", "PatchOptions", "", [cause("FieldValueForbidden", "Forbidden: may not be specified for non-apply patch", "force")])
        if type_ is PatchType.STRATEGIC and definition.custom:
            raise _no_strategic_merge()
        stored = self.entry(definition, namespace, name)
        body: Any = orjson.loads(orjson.dumps(patch))
        base = stored.obj if options.subresource != "scale" else scale_of(stored.obj, self._scaled(definition))
        wanted = _patched(base, body, type_)
        if options.subresource == "scale":
            scaled = self._write(definition, stored, with_replicas(stored.obj, wanted, self._scaled(definition)), options)
            return scale_of(scaled, self._scaled(definition))
        wanted = objects.typed(wanted, definition)
        objects.check_uid_of_patch(definition, wanted, stored.obj, options.subresource)
        self._check_place(definition, wanted, namespace if definition.namespaced else "")
        if wanted["metadata"].get("name") != name:
            raise bad_request(f"the name of the object ({wanted['metadata'].get('name')}) does not match the name on the URL ({name})")
        return self._write(definition, stored, wanted, options)

    def delete(self, resource: str, namespace: str, name: str, options: DeleteOptions | None = None) -> JsonDict:
        """Delete an object: return a Status when it went at once, else the object that now waits for its finalizers or its grace.

        Raises: ApiStatusError 404, 409 when a precondition does not hold.
        """
        definition = self.definition(resource)
        answer = self.deleter.delete(definition, self.entry(definition, namespace, name), options or DeleteOptions())
        self._settle()
        return answer

    def delete_collection(self, resource: str, namespace: str, listing: ListOptions, options: DeleteOptions | None = None) -> JsonDict:
        """Delete every object of the list and return the list."""
        definition = self.definition(resource)
        found = self.list(resource, namespace, listing)
        for item in found["items"]:
            entry = self.store.get(Key(resource, item["metadata"].get("namespace", ""), item["metadata"]["name"]))
            if entry is not None:
                self.deleter.delete(definition, entry, options or DeleteOptions())
        self._settle()
        return found

    def collect_garbage(self) -> int:
        """Run owner-reference collection and namespace deletion until nothing is left to do; return the number of changes made."""
        return self._collector.run()

    # state

    def on_change(self, callback: Callable[[Change], None]) -> None:
        """Call back after every change, in order: ``change.entry.raw`` is the object to keep, ``change.type`` DELETED one to forget."""
        self.store.listeners.append(callback)

    def snapshot(self) -> bytes:
        """Return the whole state as JSON lines: a header, then one object a line."""
        header = orjson.dumps({"version": self.store.version, "drawn": self._drawn})
        return b"\n".join([header, *(b'{"resource":"' + e.key.resource.encode() + b'","object":' + e.raw + b"}" for e in self.store)])

    def restore(self, state: bytes) -> None:
        """Take over a snapshot in an empty server. History starts anew: watches from before get 410 and must list.

        Raises: ValueError when the server is not empty.
        """
        if len(self.store):
            raise ValueError("restore needs an empty server")
        head, *lines = state.split(b"\n")
        header = orjson.loads(head)
        self.store.version = self.store.compacted = header["version"]
        self._drawn = header["drawn"]
        for line in lines:
            row = orjson.loads(line)
            metadata = row["object"]["metadata"]
            entry = self.store.load(Key(row["resource"], metadata.get("namespace", ""), metadata["name"]), row["object"])
            self._learn(entry)
            self._collector.note(entry)

    def pack(self) -> None:
        """Shrink an idle server: forget history (watchers go on, old versions get 410) and hold objects as text until read."""
        self.store.compact()
        self.store.pack()

    # shared by the parts of the server

    def timestamp(self) -> str:
        """Return the present time as metadata spells it."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    def commit(self, key: Key, obj: JsonDict, before: Entry | None) -> Entry:
        """Store an object and do what its kind entails (registering a CRD, collector notes)."""
        entry = self.store.put(key, obj, before)
        if key.resource == "customresourcedefinitions.apiextensions.k8s.io":
            self._learn(entry)
        self._collector.note(entry)
        return entry

    def drop(self, entry: Entry) -> Entry:
        """Remove an object for good and do what its kind entails."""
        gone = self.store.remove(entry)
        if entry.key.resource == "customresourcedefinitions.apiextensions.k8s.io" and entry.key.name in self.definitions:
            self.unregister(entry.key.name)
        self._collector.note_gone(gone)
        return gone

    def _learn(self, entry: Entry) -> None:
        if entry.key.resource == "customresourcedefinitions.apiextensions.k8s.io" and "deletionTimestamp" not in entry.obj["metadata"]:
            self.register(definition_of_crd(entry.obj))

    def replace(self, stored: Entry, wanted: JsonDict, options: WriteOptions) -> None:
        """Write an object on behalf of the server's own controllers."""
        self._write(self.definitions[stored.key.resource], stored, wanted, options)

    def _settle(self) -> None:
        if self.settings.collect_automatically and not self._collector.running:
            self._collector.run()

    def _draw(self) -> bytes:
        self._drawn += 1
        return hashlib.blake2b(b"%d:%d" % (self.settings.seed, self._drawn), digest_size=16).digest()

    def _uid(self) -> str:
        digits = self._draw().hex()
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"

    def _scaled(self, definition: ResourceDefinition) -> ResourceDefinition:
        if definition.scale is None:
            raise no_such_resource()
        return definition

    def _writer(self, definition: ResourceDefinition, options: WriteOptions, operation: str) -> ownership.Writer:
        return ownership.Writer(options.field_manager or DEFAULT_MANAGER, operation, options.subresource, definition.api_version, self.timestamp())

    def _check_place(self, definition: ResourceDefinition, obj: JsonDict, namespace: str) -> None:
        given = obj["metadata"].get("namespace", "")
        if not definition.namespaced:
            if given:
                obj["metadata"] = {key: value for key, value in obj["metadata"].items() if key != "namespace"}
        elif given and given != namespace:
            raise bad_request(f"the namespace of the provided object does not match the namespace sent on the request ({given} != {namespace})")

    def _create(self, definition: ResourceDefinition, obj: JsonDict, namespace: str, options: WriteOptions, entries: ownership.Entries) -> Entry:
        if options.subresource:
            raise method_not_allowed()
        metadata = {key: value for key, value in obj["metadata"].items() if value not in (None, {}, [])}
        obj["metadata"] = metadata
        self._check_place(definition, obj, namespace)
        if metadata.get("resourceVersion"):
            # the real server answers a bare 500 here, without a reason
            raise ApiStatusError(500, "", "resourceVersion should not be set on objects to be created")
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = self._generated(definition, namespace, metadata["generateName"])
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "managedFields", "generation", "resourceVersion"):
            metadata.pop(field, None)
        objects.check_metadata(definition, obj)
        name = metadata["name"]
        if definition.namespaced:
            self._check_namespace(definition, namespace, name)
            metadata["namespace"] = namespace
        key = Key(definition.resource, namespace if definition.namespaced else "", name)
        metadata["uid"] = self._uid()
        metadata["creationTimestamp"] = self.timestamp()
        if definition.generation:
            metadata["generation"] = 1
        obj = initial(definition, obj, self.timestamp())
        if self._admission is not None:
            obj = self._admission(definition, obj, None)
        if self.store.get(key) is not None:
            raise already_exists(definition.group, definition.plural, name)
        if not entries:
            empty: JsonDict = {"metadata": {}} if definition.custom else {"metadata": {}, "spec": {}, "status": {}}
            entries = ownership.after_update((), (empty, obj), definition.structure, self._writer(definition, options, "Update"))
        if entries:
            obj["metadata"]["managedFields"] = list(entries)
        objects.check_size(obj, self.settings.object_bytes_max)
        if options.dry_run:
            return Entry(key, obj, 0)
        return self.commit(key, obj, None)

    def _generated(self, definition: ResourceDefinition, namespace: str, prefix: str) -> str:
        for _ in range(_GENERATE_ATTEMPTS_MAX):
            drawn = self._draw()
            suffix = "".join(_NAME_ALPHABET[byte % len(_NAME_ALPHABET)] for byte in drawn[:_NAME_SUFFIX_LENGTH])
            name = prefix[: objects.GENERATED_PREFIX_MAX] + suffix
            if self.store.get(Key(definition.resource, namespace if definition.namespaced else "", name)) is None:
                return name
        raise already_exists(definition.group, definition.plural, prefix)

    def _check_namespace(self, definition: ResourceDefinition, namespace: str, name: str) -> None:
        if not namespace:
            raise bad_request("an empty namespace may not be set during creation")
        if "namespaces" not in self.definitions:
            return
        found = self.store.get(Key("namespaces", "", namespace))
        if found is None:
            if not self.settings.create_namespaces:
                raise not_found("", "namespaces", namespace)
            self._create(self.definitions["namespaces"], {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}, "", WriteOptions(), ())
        elif "deletionTimestamp" in found.obj["metadata"]:
            why = f"unable to create new content in namespace {namespace} because it is being terminated"
            cause_ = cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")
            raise forbidden(definition.group, definition.plural, name, why, [cause_])

    def _write(
        self, definition: ResourceDefinition, stored: Entry, wanted: JsonDict, options: WriteOptions, entries: ownership.Entries | None = None
    ) -> JsonDict:
        """Carry out an update: checks, what the server sets, ownership, the no-op rule, removal behind the last finalizer."""
        before = stored.obj
        objects.check_version(definition, wanted, before)
        resets = wanted["metadata"].get("managedFields") == [{}]
        wanted = objects.for_subresource(wanted, before, definition, options.subresource)
        wanted = objects.with_system_metadata(wanted, before)
        if definition.resource == "secrets":
            wanted = with_encoded_data(wanted)
        if options.subresource == "status" and not definition.status_writes_metadata:
            wanted["metadata"] = dict(before["metadata"])
        objects.check_finalizers(definition, wanted, before)
        objects.check_metadata(definition, wanted)
        if self._admission is not None:
            wanted = self._admission(definition, wanted, before)
        metadata = wanted["metadata"]
        if definition.generation and objects.spec_changed(wanted, before, definition):
            metadata["generation"] = before["metadata"].get("generation", 0) + 1
        old_entries = [] if resets else before["metadata"].get("managedFields", [])
        if entries is None:
            writer = self._writer(definition, options, "Update")
            entries = ownership.after_update(tuple(old_entries), (before, wanted), definition.structure, writer)
        if list(entries) != before["metadata"].get("managedFields", []):
            metadata["managedFields"] = list(entries)
            if not entries:
                del metadata["managedFields"]
        if wanted == before:
            return before
        objects.check_size(wanted, self.settings.object_bytes_max)
        if options.dry_run:
            return wanted
        if self.deleter.is_released(definition, wanted):
            self.drop(stored)
            self._settle()
            return wanted
        written = self.commit(stored.key, wanted, stored)
        self._settle()
        return written.obj

    def _apply(self, definition: ResourceDefinition, namespace: str, name: str, config: JsonDict, options: WriteOptions) -> JsonDict:
        if not options.field_manager:
            text = "Required value: is required for apply patch"
            raise invalid("meta.k8s.io", "PatchOptions", "", [cause("FieldValueRequired", text, "fieldManager")])
        config = objects.typed(config, definition)
        metadata = config["metadata"]
        if metadata.get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        self._check_place(definition, config, namespace)
        if metadata.setdefault("name", name) != name:
            raise bad_request(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")
        stored = self.store.get(Key(definition.resource, namespace if definition.namespaced else "", name))
        writer = self._writer(definition, options, "Apply")
        if stored is None:
            return self._apply_new(definition, config, namespace, options)
        if "uid" in metadata:
            objects.check_uid_of_patch(definition, config, stored.obj, options.subresource)
        objects.check_version(definition, config, stored.obj)
        if options.subresource == "status":
            config = {"metadata": {}, **({"status": config["status"]} if "status" in config else {})}
        elif definition.status:
            config = {key: value for key, value in config.items() if key != "status"}
        live = {key: value for key, value in stored.obj.items() if key not in ("apiVersion", "kind")}
        config = {key: value for key, value in config.items() if key not in ("apiVersion", "kind")}
        entries = tuple(stored.obj["metadata"].get("managedFields", ()))
        applied = ownership.apply(live, entries, config, definition.structure, writer, force=options.force)
        wanted = {"apiVersion": definition.api_version, "kind": definition.kind, **applied.obj}
        return self._write(definition, stored, wanted, options, applied.entries)

    def _apply_new(self, definition: ResourceDefinition, config: JsonDict, namespace: str, options: WriteOptions) -> JsonDict:
        if options.subresource:
            raise not_found(definition.group, definition.plural, config["metadata"]["name"])
        config["metadata"].pop("resourceVersion", None)
        uid = config["metadata"].get("uid")
        if uid:
            why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            raise conflict(definition.group, definition.plural, config["metadata"]["name"], why)
        if definition.status:
            config.pop("status", None)
        entries = ownership.of_new(config, definition.structure, self._writer(definition, options, "Apply"))
        created = self._create(definition, config, namespace, options, entries)
        self._settle()
        return created.obj


def _patched(base: JsonDict, body: Any, type_: PatchType) -> JsonDict:
    if type_ is PatchType.JSON:
        return patches.json_patch(base, body)
    if not isinstance(body, dict):
        raise bad_request("error decoding patch: the patch is not an object")
    return patches.strategic_merge_patch(base, body) if type_ is PatchType.STRATEGIC else dict(patches.merge_patch(base, body))


def _no_strategic_merge() -> Exception:
    return unsupported_media_type(PatchType.STRATEGIC.value, [PatchType.JSON.value, PatchType.MERGE.value, PatchType.APPLY.value])
