"""The judge of a simulation: it looks at the world, never at the calls, at every change and once more at the end.

It knows Cluster API's promises (domain tests.md, invariants), and nothing of how they are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from fleetwake.shell.ports import APPLY_PATCH, MERGE_PATCH, Request
from fleetwake.sim.apiserver import ApiServer, Change, Key
from fleetwake.sim.bus import Message, SimBus
from fleetwake.sim.kube import SimNetwork
from fleetwake.sim.loop import Process
from schemas.keys import ObjectKey
from schemas.records import DELETED, MOVED, ObjectRecord
from schemas.sensitive import hashes_of
from schemas.topics import Topics

Json = Mapping[str, Any]
MACHINES, SETS = "machines.cluster.x-k8s.io", "machinesets.cluster.x-k8s.io"
DEPLOYMENTS, CONTROL_PLANES = "machinedeployments.cluster.x-k8s.io", "kubeadmcontrolplanes.controlplane.cluster.x-k8s.io"
CLUSTERS = "clusters.cluster.x-k8s.io"
DEPLOYMENT_LABEL = "cluster.x-k8s.io/deployment-name"
WINDOW_SECONDS = 20.0
"""A write may follow a wish that is this old: what was wanted meanwhile bounds what may exist."""
NEEDLE_BYTES = (12, 48)
"""Shortest secret value searched for on the bus, and how much of a long one is."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a scenario allows. ``strict`` False: a process stopped between fence check and send may leave a surplus child for a while."""

    strict: bool = True
    available: bool = False


@dataclass
class Oracle:
    """See the module. ``violation`` hears every broken promise; ``chosen`` are names of Machines a user deletes."""

    api: ApiServer
    bus: SimBus
    network: SimNetwork
    topics: Topics
    violation: Callable[[str], None]
    bounds: Bounds = field(default_factory=Bounds)
    chosen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._planned: dict[str, float] = {}
        self._wanted: dict[str, list[tuple[float, int]]] = {}
        self._secrets: set[str] = set()
        self.audited = 0
        self.unplanned = 0
        self.api.on_change(self._changed)
        self.bus.listeners.append(self._recorded)
        self.network.sending.append(self._sending)

    # ---- the audit trail --------------------------------------------------------------------------------------------------------------
    def _recorded(self, message: Message) -> None:
        if message.topic == self.topics.results and dict(message.headers).get("ce_type", b"").endswith(b"planned"):
            for step in orjson.loads(message.value or b"{}").get("steps", ()):
                if step.get("auditId") or step.get("audit_id"):
                    self._planned[step.get("auditId") or step["audit_id"]] = message.at

    def _sending(self, process: Process, request: Request) -> None:
        if request.path.endswith("/events"):
            return
        self.audited += 1
        if request.audit_id not in self._planned:
            self.unplanned += 1
            self.violation(f"{process.name}: {request.method} {request.path} was sent before it was recorded as planned")
        self._fenced(process, request)

    def _fenced(self, process: Process, request: Request) -> None:
        """A write of an object that is there names its uid; one that replaces a list names its version too."""
        parts = request.path.split("/")
        if request.method == "POST" or request.cluster or "namespaces" not in parts:
            return
        place = parts.index("namespaces")
        resource = parts[place + 2] if parts[1] == "api" else f"{parts[place + 2]}.{parts[2]}"
        entry = self.api.store.get(Key(resource, parts[place + 1], parts[place + 3]))
        if entry is None:
            return
        body = orjson.loads(request.body or b"{}")
        meta = body.get("preconditions" if request.method == "DELETE" else "metadata") or {}
        owner, ours = controller({"metadata": meta}), controller(entry.obj)
        again = request.content_type == APPLY_PATCH and owner is not None and ours is not None and owner["uid"] == ours["uid"]
        if "uid" not in meta and not again:
            self.violation(f"{process.name}: {request.method} {request.path} names no uid")
        if request.content_type == MERGE_PATCH and {"finalizers", "ownerReferences"} & set(meta) and "resourceVersion" not in meta:
            self.violation(f"{process.name}: {request.method} {request.path} replaces a list and names no version")

    # ---- every change -----------------------------------------------------------------------------------------------------------------
    def _changed(self, change: Change) -> None:
        obj, resource = change.entry.obj, change.entry.key.resource
        if resource in (SETS, DEPLOYMENTS, CONTROL_PLANES):
            history = self._wanted.setdefault(change.entry.uid, [])
            replicas = int(obj.get("spec", {}).get("replicas") or 0)
            if not history or history[-1][1] != replicas:
                history.append((self.network.loop.time(), replicas))
        self._secrets.update(value for value in hashes_of(obj, b"-").values() if len(value) >= NEEDLE_BYTES[0])
        if resource != MACHINES:
            return
        if change.type == "ADDED":
            self._machine_added(obj)
        elif change.type == "MODIFIED" and change.before is not None and _leaving(obj) and not _leaving(change.before.obj):
            self._machine_leaves(change.before.obj)

    def _most(self, uid: str, pick: Callable[[Iterable[int]], int] = max) -> int:
        """The most (or least) replicas wanted within the window."""
        history = self._wanted.get(uid, [(0.0, 0)])
        since = self.network.loop.time() - WINDOW_SECONDS
        recent = [replicas for at, replicas in history if at >= since]
        older = [replicas for at, replicas in history if at < since]
        return pick([*recent, *older[-1:]])

    def _machines(self, keep: Callable[[Json], bool]) -> list[Json]:
        table = self.api.store.tables.get(MACHINES, {})
        return [entry.obj for rows in table.values() for entry in rows.values() if keep(entry.obj)]

    def _machine_added(self, machine: Json) -> None:
        name, owner = machine["metadata"]["name"], controller(machine)
        if owner is None:
            self.violation(f"Machine {name} was created without a controller")
            return
        siblings = self._machines(lambda other: (controller(other) or {}).get("uid") == owner["uid"] and not _leaving(other))
        wanted = self._most(owner["uid"])
        if owner["kind"] == "MachineSet":
            if len(siblings) > wanted and self.bounds.strict:
                self.violation(f"MachineSet {owner['name']} has {len(siblings)} Machines and never wanted more than {wanted}")
            self._deployment_bound(machine)
        elif owner["kind"] == "KubeadmControlPlane":
            if len(siblings) > wanted + 1:
                self.violation(f"{owner['name']} has {len(siblings)} control plane Machines for {wanted}")
            coming = [one["metadata"]["name"] for one in siblings if not one.get("status", {}).get("nodeRef") and one is not machine]
            coming = [one for one in coming if one != name]
            if coming and self.bounds.strict:
                self.violation(f"control plane Machine {name} was created while {', '.join(coming)} was still coming")

    def _deployment_bound(self, machine: Json) -> None:
        found = self._deployment(machine)
        if found is None:
            return
        label = machine["metadata"]["labels"][DEPLOYMENT_LABEL]
        total = len(self._machines(lambda other: _of(other, machine, label) and not _leaving(other)))
        limit = self._most(found["metadata"]["uid"]) + int(_rolling(found).get("maxSurge", 1))
        if total > limit and self.bounds.strict:
            self.violation(f"MachineDeployment {label} has {total} Machines, more than {limit}")

    def _deployment(self, machine: Json) -> Json | None:
        meta = machine["metadata"]
        name = (meta.get("labels") or {}).get(DEPLOYMENT_LABEL)
        entry = self.api.store.get(Key(DEPLOYMENTS, meta["namespace"], name)) if name else None
        return entry.obj if entry is not None else None

    def _machine_leaves(self, machine: Json) -> None:
        meta, owner = machine["metadata"], controller(machine)
        if meta["name"] in self.chosen or owner is None or self._all_leaves(machine, owner):
            return
        if owner["kind"] == "KubeadmControlPlane":
            leaving = self._machines(
                lambda one: (controller(one) or {}).get("uid") == owner["uid"] and _leaving(one) and one["metadata"]["name"] != meta["name"]
            )
            leaving = [one for one in leaving if one["metadata"]["name"] not in self.chosen]
            if leaving:
                self.violation(f"control plane Machine {meta['name']} was deleted while {leaving[0]['metadata']['name']} was still leaving")
        elif self.bounds.available and _available(machine):
            found = self._deployment(machine)
            if found is None:
                return
            label = meta["labels"][DEPLOYMENT_LABEL]
            left = [one for one in self._machines(lambda other: _of(other, machine, label)) if _available(one) and not _leaving(one)]
            least = self._most(found["metadata"]["uid"], min) - int(_rolling(found).get("maxUnavailable", 0))
            if len(left) < least:
                self.violation(f"MachineDeployment {label} was left with {len(left)} available Machines of at least {least} when {meta['name']} was deleted")

    def _all_leaves(self, machine: Json, owner: Json) -> bool:
        """Whether the owner or the cluster is being deleted anyway."""
        place = self.api.store.by_uid.get(owner["uid"])
        entry = self.api.store.get(place) if place is not None else None
        cluster = self.api.store.get(Key(CLUSTERS, machine["metadata"]["namespace"], machine["spec"]["clusterName"]))
        return entry is None or _leaving(entry.obj) or cluster is None or _leaving(cluster.obj)

    # ---- the end ----------------------------------------------------------------------------------------------------------------------
    def finish(self) -> None:
        """Judge the world at rest."""
        for entry in self.api.store:
            self._whole(entry.key, entry.obj)
        self._topics_equal()
        text = self.bus.text()
        for value in self._secrets:
            if _needle(value) in text:
                self.violation(f"a secret value of {len(value)} characters is on the bus")

    def _whole(self, key: Key, obj: Json) -> None:
        meta = obj["metadata"]
        if _leaving(obj):
            self.violation(f"{key} is still being deleted: {meta.get('finalizers')}")
        for owner in meta.get("ownerReferences") or ():
            place = self.api.store.by_uid.get(owner["uid"])
            if place is None:
                self.violation(f"{key} is owned by {owner['kind']} {owner['name']}, which is gone")
            elif place.namespace not in ("", meta.get("namespace", "")):
                self.violation(f"{key} is owned by an object of namespace {place.namespace}")
        if obj["kind"] in ("DevMachine", "KubeadmConfig"):
            owner = controller(obj)
            if owner is None or owner["kind"] != "Machine":
                self.violation(f"{key} belongs to no Machine")
            elif not self._refers(meta["namespace"], owner["name"], obj):
                self.violation(f"{key} is owned by Machine {owner['name']}, which refers to another")
        if obj["kind"] == "Machine" and controller(obj) is None:
            self.violation(f"{key} has no controller")

    def _refers(self, namespace: str, machine: str, obj: Json) -> bool:
        entry = self.api.store.get(Key(MACHINES, namespace, machine))
        spec = entry.obj["spec"] if entry is not None else {}
        refs = (spec.get("infrastructureRef"), (spec.get("bootstrap") or {}).get("configRef"))
        return any(ref and (ref["kind"], ref["name"]) == (obj["kind"], obj["metadata"]["name"]) for ref in refs)

    def last_records(self, workloads: bool = False) -> dict[ObjectKey, tuple[int, ObjectRecord]]:
        """The last record of every key in each partition of ``objects``, where it is live: of the management API, or of what is seen in workload clusters."""
        last: dict[tuple[int, bytes], Message] = {}
        for (topic, partition), log in self.bus.logs.items():
            if topic == self.topics.objects:
                last.update(((partition, message.key or b""), message) for message in log.messages)
        found: dict[ObjectKey, tuple[int, ObjectRecord]] = {}
        for (partition, _), message in last.items():
            record = ObjectRecord.decode(message.key, message.value, message.headers)
            if record.value is None or record.type in (DELETED, MOVED) or bool(record.key.cluster) != workloads:
                continue
            if record.key in found:
                self.violation(f"{record.key} is live in partitions {found[record.key][0]} and {partition}")
            found[record.key] = (partition, record)
        return found

    def _topics_equal(self) -> None:
        for key, (_, record) in self.last_records().items():
            definition = self.api.by_kind[(key.group, key.kind)]
            entry = self.api.store.get(Key(definition.resource, key.namespace, key.name))
            if entry is None:
                self.violation(f"objects says that {key} exists, and it does not")
            elif entry.version != record.version.resource_version:
                self.violation(f"objects has {key} at {record.version.resource_version}, the API server at {entry.version}")


def controller(obj: Json) -> Json | None:
    """The controller's owner reference."""
    return next((ref for ref in obj["metadata"].get("ownerReferences") or () if ref.get("controller")), None)


def condition(obj: Json, kind: str) -> str:
    """The status of a condition; "" when it is absent."""
    return next((str(one["status"]) for one in obj.get("status", {}).get("conditions") or () if one["type"] == kind), "")


def _leaving(obj: Json) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def _available(machine: Json) -> bool:
    return condition(machine, "Available") == "True"


def _of(other: Json, machine: Json, label: str) -> bool:
    meta = other["metadata"]
    return meta["namespace"] == machine["metadata"]["namespace"] and (meta.get("labels") or {}).get(DEPLOYMENT_LABEL) == label


def _rolling(deployment: Json) -> Json:
    found: Json = ((deployment["spec"].get("rollout") or {}).get("strategy") or {}).get("rollingUpdate") or {}
    return found


def _needle(value: str) -> bytes:
    """A part of the value that no encoding on the bus would break up."""
    line = max(value.split("\n"), key=len)
    return orjson.dumps(line[: NEEDLE_BYTES[1]])[1:-1]
