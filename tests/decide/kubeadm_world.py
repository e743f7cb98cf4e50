"""A small fleet for tests of the kubeadm kinds: ``FakeView`` with Secrets that are really rendered, a workload cluster, etcd and looks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from fleetwake.errors import ConflictError
from fleetwake.kind import Failure, Kind, Looked, Workload
from fleetwake.kube.pki import KEY_ALGORITHMS, generate_key
from fleetwake.plan import (
    Apply,
    Computed,
    Create,
    Delete,
    EtcdMoveLeader,
    EtcdRemoveMember,
    Look,
    Patch,
    Plan,
    SecretInputs,
    Step,
    SyncMetadata,
    UidOf,
    flatten,
)
from schemas.keys import ObjectKey
from tests.decide.world import FakeView, Json, json_key, merge_patch

O = TypeVar("O")  # noqa: E741

KEYS = Path(__file__).parents[1] / "golden" / "bootstrap" / "secrets"


@cache
def private_key(algorithm: str) -> bytes:
    """A key of the algorithm, always the same one."""
    return generate_key(next(known for known in KEY_ALGORITHMS if known == algorithm))


CLUSTER = "default/demo"
CORE = "cluster.x-k8s.io/v1beta2"


def cluster(**status: Any) -> Json:
    """A Cluster with infrastructure, an endpoint and a KubeadmControlPlane."""
    return {
        "apiVersion": CORE,
        "kind": "Cluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": "uid-cluster"},
        "spec": {
            "controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443},
            "controlPlaneRef": {"apiGroup": "controlplane.cluster.x-k8s.io", "kind": "KubeadmControlPlane", "name": "demo-cp"},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevCluster", "name": "demo"},
            "clusterNetwork": {"pods": {"cidrBlocks": ["192.168.0.0/16"]}, "services": {"cidrBlocks": ["10.96.0.0/12"]}, "serviceDomain": "cluster.local"},
        },
        "status": {"initialization": {"infrastructureProvisioned": True}, **status},
    }


def condition(type_: str, status: str = "True", reason: str = "Test", since: str = "2026-01-01T00:00:00Z") -> Json:
    """A stored condition."""
    return {"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": since, "observedGeneration": 1}


def machine(name: str, *, control_plane: bool = False, version: str = "v1.34.2", **spec: Any) -> Json:
    """A Machine with a KubeadmConfig of the same name."""
    found: Json = {
        "apiVersion": CORE,
        "kind": "Machine",
        "metadata": {"name": name, "namespace": "default", "uid": f"uid-{name}", "labels": {"cluster.x-k8s.io/cluster-name": "demo"}},
        "spec": {
            "clusterName": "demo",
            "version": version,
            "bootstrap": {"configRef": {"apiGroup": "bootstrap.cluster.x-k8s.io", "kind": "KubeadmConfig", "name": name}},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": name},
            **spec,
        },
    }
    if control_plane:
        found["metadata"]["labels"]["cluster.x-k8s.io/control-plane"] = ""
    return found


def kubeadm_config(name: str, owner: str, spec: Mapping[str, Any] | None = None, kind: str = "Machine") -> Json:
    """A KubeadmConfig controlled by a Machine."""
    return {
        "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2",
        "kind": "KubeadmConfig",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-config-{name}",
            "labels": {"cluster.x-k8s.io/cluster-name": "demo"},
            "ownerReferences": [{"apiVersion": CORE, "kind": kind, "name": owner, "uid": f"uid-{owner}", "controller": True}],
        },
        "spec": dict(spec or {}),
    }


def certificates() -> list[Json]:
    """The four certificate Secrets, with the golden tests' keys."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"demo-{name}", "namespace": "default", "labels": {"cluster.x-k8s.io/cluster-name": "demo"}},
            "type": "cluster.x-k8s.io/secret",
            "data": {"tls.crt": (KEYS / f"{name}.crt").read_bytes(), "tls.key": (KEYS / f"{name}.key").read_bytes()},
        }
        for name in ("ca", "etcd", "proxy", "sa")
    ]


class KubeadmWorld(FakeView):
    """``FakeView`` that renders ``Computed`` from its Secrets, keeps objects of the workload cluster, and answers looks.

    ``members`` is etcd: name -> {"id", "name", "isLearner"}; ``leader`` the leading member's id. Workload nodes and pods are JSON.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self.members: list[Json] = []
        self.alarms: list[Json] = []
        self.leader = 0
        self.nodes: list[Json] = []
        self.pods: list[Json] = []
        self.others: dict[str, Json] = {}
        self.looks: dict[str, Looked] = {}
        self.connected = False
        self.asked: list[str] = []

    # --- the workload cluster

    def workload(self, cluster: Any) -> Workload:
        if not self.connected:
            return Workload()
        return Workload(
            connected=True,
            last_probe_success=self.at,
            first_connected=self.at,
            watch_synced=True,
            nodes=tuple(self.nodes),
            pods=tuple(self.pods),
            objects={
                **self.others,
                **{f"{key.kind}/{key.namespace}/{key.name}": obj for key, obj in self.store.items() if key.cluster and key.kind == "ConfigMap"},
            },
            looks=dict(self.looks),
        )

    def look(self, step: Look) -> None:
        """Answer a look the way the shell does."""
        self.asked.append(step.query)
        value: Any = None
        if step.query == "etcd":
            value = {"members": copy.deepcopy(self.members), "alarms": list(self.alarms), "leader": self.leader, "via": step.via[0] if step.via else ""}
        elif step.query.startswith("certificate/"):
            value = {"notAfter": "2027-01-02T03:04:05+00:00"}
        elif step.query.startswith("get/"):
            group, _version, kind, namespace, name = step.query.removeprefix("get/").split("/")
            found = self.store.get(ObjectKey(group, kind, namespace, name, str(step.cluster)))
            value = copy.deepcopy(found)
            if value is not None and kind == "Secret":
                value["data"] = dict.fromkeys(value["data"], "hmac-sha256:0")
        self.looks[step.query] = Looked(self.at, value)

    # --- carrying out

    def carry_out(self, steps: Iterable[Step], limit: int | None = None) -> list[Step]:
        done: list[Step] = []
        for step in flatten(steps):
            if isinstance(step, Look):
                self.look(step)
                continue
            if not isinstance(step, Create | Apply | Patch | SyncMetadata | Delete | EtcdRemoveMember | EtcdMoveLeader):
                continue
            if limit is not None and len(done) >= limit:
                break
            match step:
                case EtcdRemoveMember():
                    self.members = [one for one in self.members if one["id"] != step.member_id]
                case EtcdMoveLeader():
                    self.leader = step.to_member_id
                case _:
                    self.write(step)
            done.append(step)
        return done

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        if isinstance(step, Create):
            self._create(step)
        elif isinstance(step, Apply) and step.subresource == "status":
            found = self.store[step.key]
            assert found["metadata"]["uid"] == step.uid
            before = copy.deepcopy(found)
            self._apply_status(found, self._resolved(step.body)["status"])
            if found != before:
                found["metadata"]["resourceVersion"] = str(next(self._numbers))
        elif isinstance(step, Patch) and step.key.cluster:
            found = self.store[step.key]
            assert found["metadata"]["uid"] == step.uid
            assert step.resource_version in ("", found["metadata"]["resourceVersion"]), f"{step.key} has changed"
            (strategic_patch if step.strategic else merge_patch)(found, self._resolved(step.body))
            found["metadata"]["resourceVersion"] = str(next(self._numbers))
        elif isinstance(step, Delete) and step.key.cluster and step.key.kind != "Node":
            found = self.store.pop(step.key, None)
            assert found is None or found["metadata"]["uid"] == step.uid
        else:
            super().write(step)

    def _create(self, step: Create) -> None:
        held = self.store.get(step.key)
        if held is None:
            body = self._resolved(step.body)
            key = step.key
            meta = body.setdefault("metadata", {})
            number = next(self._numbers)
            meta |= {"uid": f"uid-{key.kind}-{key.name}-{number}", "resourceVersion": str(number), "generation": 1}
            meta["creationTimestamp"] = self.at.strftime("%Y-%m-%dT%H:%M:%SZ")
            self.store[key] = body
            return
        wanted = self._resolved(step.owner_uid)
        owners = held["metadata"].get("ownerReferences", ())
        if wanted and not any(ref.get("controller") and ref["uid"] == wanted for ref in owners):
            raise ConflictError(f"{step.key} is held by somebody else")

    @staticmethod
    def _apply_status(target: Json, status: Json) -> None:
        conditions = status.pop("conditions", [])
        stored = target.setdefault("status", {})
        merge_patch(stored, status)
        applied = {one["type"] for one in conditions}
        stored["conditions"] = [*(one for one in stored.get("conditions", ()) if one["type"] not in applied), *conditions]

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, UidOf):
            return self.store[value.key]["metadata"]["uid"]
        if isinstance(value, Computed):
            found = {key: dict(self.store[key]["data"]) for key in value.secrets if key in self.store and key.kind == "Secret"}
            keys = tuple(private_key(algorithm) for algorithm in value.private_keys)
            return value.render(SecretInputs(found, keys, self.at))
        if isinstance(value, Mapping):
            return {key: self._resolved(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._resolved(item) for item in value]
        return value

    def put_remote(self, obj: Json) -> None:
        """Store an object of the workload cluster."""
        found = self.put(obj)
        del self.store[json_key(found)]
        self.store[json_key(found, CLUSTER)] = found

    def later(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)

    def edit(self, kind: str, name: str, patch: Mapping[str, Any]) -> Json:
        """A change by somebody else."""
        (key,) = (key for key in self.store if key.kind == kind and key.name == name and not key.cluster)
        found = self.store[key]
        if "spec" in patch:
            found["metadata"]["generation"] += 1
        merge_patch(found, patch)
        found["metadata"]["resourceVersion"] = str(next(self._numbers))
        return found

    def remove(self, kind: str, name: str) -> None:
        """An object vanishes."""
        for key in [key for key in self.store if key.kind == kind and key.name == name and not key.cluster]:
            del self.store[key]

    def stored(self, kind: str, name: str, cluster: str = "") -> Json | None:
        """An object as stored."""
        return next((obj for key, obj in self.store.items() if key.kind == kind and key.name == name and key.cluster == cluster), None)

    def condition_of(self, kind: str, name: str, type_: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition."""
        found = self.stored(kind, name)
        assert found is not None
        (one,) = (one for one in found["status"]["conditions"] if one["type"] == type_)
        return one["status"], one["reason"], one["message"]

    def plan(self, kind: Kind[O], name: str) -> Plan:
        """Observe and decide, without carrying out."""
        observed = kind.observe(self, ObjectKey(kind.model.GROUP, kind.model.KIND, "default", name))
        return kind.reconcile(observed) if observed is not None else Plan()


def strategic_patch(target: Json, patch: Mapping[str, Any]) -> None:
    """A merge patch in which lists of named things are merged by name."""
    for name, value in patch.items():
        held = target.get(name)
        if isinstance(value, list) and isinstance(held, list) and all(isinstance(one, Mapping) and "name" in one for one in value):
            for one in value:
                known = next((item for item in held if item["name"] == one["name"]), None)
                if known is None:
                    held.append(copy.deepcopy(dict(one)))
                else:
                    strategic_patch(known, one)
        elif isinstance(value, Mapping) and isinstance(held, dict):
            strategic_patch(held, value)
        else:
            merge_patch(target, {name: value})


def failed(world: KubeadmWorld, message: str) -> None:
    """The shell remembers a terminal failure of the key."""
    world.terminal = Failure("create Secret", message)
