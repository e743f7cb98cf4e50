"""A small world in memory for tests of decisions: ``FakeView`` reads plain objects, ``carry_out`` applies a plan's steps to them.

It is no API server: it knows just enough (uids, resourceVersions, generations, finalizers, merge patches, status applies) to show that a plan
converges and that a settled world asks for nothing. Objects are given as models, as ``External`` or as JSON.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from fleetwake.kind import External, Failure, Kind, Workload
from fleetwake.plan import Apply, Computed, Create, Delete, Patch, Plan, Step, SyncMetadata, UidOf, flatten
from schemas.api.meta import KubeObject, LabelSelector, ObjectMeta
from schemas.keys import ClusterKey, GroupKind, ObjectKey

K = TypeVar("K", bound=KubeObject)
O = TypeVar("O")  # noqa: E741

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CLUSTER_LABEL = "cluster.x-k8s.io/cluster-name"

Json = dict[str, Any]


def to_json(obj: KubeObject | External | Mapping[str, Any]) -> Json:
    """Any accepted form of an object as JSON with apiVersion and kind."""
    if isinstance(obj, KubeObject):
        found: Json = obj.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
        found["apiVersion"] = f"{obj.GROUP}/{obj.VERSION}" if obj.GROUP else obj.VERSION
        found["kind"] = obj.KIND
        return found
    if isinstance(obj, External):
        found = copy.deepcopy(dict(obj.fields))
        found["apiVersion"], found["kind"] = obj.api_version, obj.key.kind
        found["metadata"] = obj.metadata.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
        return found
    return copy.deepcopy(dict(obj))


def json_key(obj: Mapping[str, Any], cluster: str = "") -> ObjectKey:
    """The key of a JSON object."""
    meta = obj["metadata"]
    return ObjectKey(str(obj["apiVersion"]).rpartition("/")[0], obj["kind"], meta.get("namespace", ""), meta["name"], cluster)


def cluster_of(obj: Mapping[str, Any]) -> str:
    """The name of the Cluster an object belongs to, as the tests need it."""
    if obj["kind"] == "Cluster" and obj["apiVersion"].startswith("cluster.x-k8s.io/"):
        return str(obj["metadata"]["name"])
    spec = obj.get("spec")
    named = spec.get("clusterName") if isinstance(spec, Mapping) else None
    return str(named or obj["metadata"].get("labels", {}).get(CLUSTER_LABEL, ""))


@dataclass
class FakeView:
    """An in-memory ``View`` and ``Lookup``.

    ``workloads`` maps ``<namespace>/<name>`` of a cluster to its Workload. ``contracts`` maps a GroupKind to its contract (``v1beta2`` unless said
    otherwise); the api versions of externals are those of the stored objects, else ``<group>/v1beta2``.
    """

    objects: Iterable[KubeObject | External | Mapping[str, Any]] = ()
    at: datetime = NOW
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    contracts: Mapping[GroupKind, str] = field(default_factory=dict)
    unknown_kinds: frozenset[GroupKind] = frozenset()
    terminal: Failure | None = None
    locals: Mapping[str, Any] = field(default_factory=dict)
    store: dict[ObjectKey, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1000)
        for obj in self.objects:
            self.put(obj)

    def put(self, obj: KubeObject | External | Mapping[str, Any]) -> Json:
        """Store an object; uid, resourceVersion, generation and creationTimestamp are filled in where absent."""
        found = to_json(obj)
        meta = found.setdefault("metadata", {})
        meta.setdefault("uid", f"uid-{found['kind']}-{meta['name']}")
        meta.setdefault("resourceVersion", str(next(self._numbers)))
        meta.setdefault("generation", 1)
        meta.setdefault("creationTimestamp", "2026-01-01T00:00:00Z")
        self.store[json_key(found)] = found
        return found

    def sorted(self) -> list[tuple[ObjectKey, Json]]:
        """All objects by key."""
        return sorted(self.store.items())

    # --- View

    def get(self, model: type[K], namespace: str, name: str) -> K | None:
        found = self.store.get(ObjectKey(model.GROUP, model.KIND, namespace, name))
        return model.model_validate(found) if found is not None else None

    def external(self, ref: GroupKind, namespace: str, name: str) -> External | None:
        found = self.store.get(ObjectKey(ref.group, ref.kind, namespace, name))
        return self._external(found) if found is not None and ref not in self.unknown_kinds else None

    def _external(self, found: Json) -> External:
        key = json_key(found)
        fields = {name: value for name, value in found.items() if name not in ("apiVersion", "kind", "metadata")}
        meta = ObjectMeta.model_validate(found["metadata"])
        return External(key, found["apiVersion"], meta, copy.deepcopy(fields), self.contracts.get(key.group_kind, "v1beta2"))

    def _models(self, model: type[K], keep: Callable[[Json], bool]) -> tuple[K, ...]:
        wanted = GroupKind(model.GROUP, model.KIND)
        return tuple(model.model_validate(obj) for key, obj in self.sorted() if key.group_kind == wanted and keep(obj))

    def owned(self, model: type[K], owner_uid: str) -> tuple[K, ...]:
        return self._models(model, lambda obj: owned_by(obj, owner_uid))

    def of_cluster(self, model: type[K], cluster: ClusterKey) -> tuple[K, ...]:
        return self._models(model, lambda obj: obj["metadata"].get("namespace") == cluster.namespace and cluster_of(obj) == cluster.name)

    def externals_owned(self, owner_uid: str, ref: GroupKind | None = None) -> tuple[External, ...]:
        return tuple(self._external(obj) for key, obj in self.sorted() if owned_by(obj, owner_uid) and ref in (None, key.group_kind))

    def select(self, model: type[K], namespace: str, selector: LabelSelector) -> tuple[K, ...]:
        return self._models(model, lambda obj: obj["metadata"].get("namespace") == namespace and selector.matches(obj["metadata"].get("labels", {})))

    def exists(self, key: ObjectKey) -> bool:
        return key in self.store

    def meta(self, key: ObjectKey) -> ObjectMeta | None:
        found = self.store.get(key)
        return ObjectMeta.model_validate(found["metadata"]) if found is not None else None

    def secret_keys(self, namespace: str, name: str) -> Mapping[str, str] | None:
        found = self.store.get(ObjectKey("", "Secret", namespace, name))
        return {key: f"hash-of-{value!r}" for key, value in found.get("data", {}).items()} if found is not None else None

    def api_version(self, ref: GroupKind, contract: bool = True) -> str:
        if ref in self.unknown_kinds:
            return ""
        return next((obj["apiVersion"] for key, obj in self.store.items() if key.group_kind == ref), f"{ref.group}/v1beta2")

    def workload(self, cluster: ClusterKey) -> Workload:
        return self.workloads.get(str(cluster), Workload())

    def failure(self) -> Failure | None:
        return self.terminal

    def local(self, name: str) -> Any:
        return self.locals.get(name)

    # --- Lookup

    def owned_keys(self, ref: GroupKind, owner_uid: str) -> Iterator[ObjectKey]:
        return (key for key, obj in self.sorted() if key.group_kind == ref and owned_by(obj, owner_uid))

    def cluster_keys(self, ref: GroupKind, cluster: ClusterKey) -> Iterator[ObjectKey]:
        return (key for key, obj in self.sorted() if key.group_kind == ref and key.namespace == cluster.namespace and cluster_of(obj) == cluster.name)

    def namespace_keys(self, ref: GroupKind, namespace: str) -> Iterator[ObjectKey]:
        return (key for key, _ in self.sorted() if key.group_kind == ref and namespace in ("", key.namespace))

    def read(self, model: type[K], key: ObjectKey) -> K | None:
        return self.get(model, key.namespace, key.name)

    # --- carrying out

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)

    def carry_out(self, steps: Iterable[Step], limit: int | None = None) -> list[Step]:
        """Apply the writes of a plan to the store, at most ``limit`` of them (a crash); returns the writes made."""
        done: list[Step] = []
        for step in flatten(steps):
            if not isinstance(step, Create | Apply | Patch | SyncMetadata | Delete):
                continue
            if limit is not None and len(done) >= limit:
                break
            self.write(step)
            done.append(step)
        return done

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        """Apply one write; a step that names a uid other than the stored one is a conflict. Nodes of workload clusters live in ``workloads``."""
        if not isinstance(step, Create) and step.key.cluster:
            self.write_node(step)
            return
        if isinstance(step, Create):
            if step.key not in self.store:
                body = self._resolved(step.body)
                body["metadata"].pop("uid", None)
                self.put(body)
            return
        found = self.store.get(step.key)
        if found is None:
            assert isinstance(step, Delete), f"{step} names an object that is not there"
            return
        meta = found["metadata"]
        assert meta["uid"] == step.uid, f"{step.key}: uid {step.uid} is not {meta['uid']}"
        before = copy.deepcopy(found)
        match step:
            case Delete():
                meta.setdefault("deletionTimestamp", self.at.isoformat().replace("+00:00", "Z"))
            case Patch():
                merge_patch(found, self._resolved(step.body))
            case SyncMetadata():
                meta.setdefault("labels", {}).update(step.labels)
                meta.setdefault("annotations", {}).update(step.annotations)
            case Apply():
                apply(found, self._resolved(step.body), step.subresource)
        if before == found:
            return
        meta["resourceVersion"] = str(next(self._numbers))
        if before.get("spec") != found.get("spec") or ("deletionTimestamp" in meta) != ("deletionTimestamp" in before["metadata"]):
            meta["generation"] += 1
        if "deletionTimestamp" in meta and not meta.get("finalizers"):
            del self.store[step.key]

    def write_node(self, step: Apply | Patch | SyncMetadata | Delete) -> None:
        """Apply a patch or delete to a Node of a workload cluster."""
        workload = self.workloads[step.key.cluster]
        nodes = {node["metadata"]["name"]: to_json(node) for node in workload.nodes}
        assert step.key.name in nodes, f"{step} names a node that is not there"
        assert nodes[step.key.name]["metadata"].get("uid", "") == step.uid, f"{step.key}: {step.uid} is not its uid"
        if isinstance(step, Patch):
            merge_patch(nodes[step.key.name], step.body)
        elif isinstance(step, Delete):
            del nodes[step.key.name]
        self.workloads = {**self.workloads, step.key.cluster: replace(workload, nodes=tuple(nodes[name] for name in sorted(nodes)))}

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, UidOf):
            return self.store[value.key]["metadata"]["uid"]
        if isinstance(value, Computed):
            return f"<{value.what}>"
        if isinstance(value, Mapping):
            return {key: self._resolved(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._resolved(item) for item in value]
        return value

    def run(self, kind: Kind[O], namespace: str, name: str, limit: int | None = None) -> Plan:
        """One run of a kind on a key: observe, decide, carry out (up to ``limit`` writes). An absent object gives an empty plan."""
        observed = kind.observe(self, ObjectKey(kind.model.GROUP, kind.model.KIND, namespace, name))
        if observed is None:
            return Plan()
        plan = kind.reconcile(observed)
        self.carry_out(plan.steps, limit)
        return plan

    def settle(self, kind: Kind[O], namespace: str, name: str, runs: int = 10) -> list[Plan]:
        """Run until a plan writes nothing; fails if that takes more than ``runs``."""
        plans = []
        for _ in range(runs):
            plans.append(self.run(kind, namespace, name))
            if not plans[-1].writes:
                return plans
        raise AssertionError(f"{kind.name} {namespace}/{name} does not settle: {plans[-1].steps}")


def owned_by(obj: Mapping[str, Any], uid: str) -> bool:
    """Whether the object has an owner reference to the uid."""
    return any(ref["uid"] == uid for ref in obj["metadata"].get("ownerReferences", ()))


def merge_patch(target: Json, patch: Mapping[str, Any]) -> None:
    """RFC 7396, in place."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, Mapping):
            if not isinstance(target.get(name), dict):
                target[name] = {}
            merge_patch(target[name], value)
        else:
            target[name] = copy.deepcopy(value)


def apply(target: Json, body: Mapping[str, Any], subresource: str) -> None:
    """A forced server-side apply by the one manager there is: a status is replaced but for foreign conditions, other fields are merged."""
    if subresource != "status":
        merge_patch(target, body)
        return
    status = copy.deepcopy(dict(body["status"]))
    applied = {one["type"] for one in status.get("conditions", ())}
    foreign = [one for one in target.get("status", {}).get("conditions", ()) if one["type"] not in applied]
    if foreign or applied:
        status["conditions"] = [*foreign, *status.get("conditions", ())]
    target["status"] = status


def plan_writes(plan: Plan) -> list[Step]:
    """The writes of a plan, flat."""
    return [step for step in flatten(plan.steps) if isinstance(step, Create | Apply | Patch | SyncMetadata | Delete)]
