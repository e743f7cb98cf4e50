"""KubeadmConfig: each state of its machine, crashes between steps, the init lock, the bootstrap token, silence once settled."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from fleetwake.errors import ConflictError, RetryableError
from fleetwake.kind import Change
from fleetwake.plan import Apply, Create, Delete, Patch, flatten
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.reconcilers.kinds.kubeadm_config import KIND
from tests.decide.kubeadm_config_world import INITIALIZED, settle, world_of
from tests.decide.kubeadm_world import CLUSTER, KubeadmWorld, cluster, failed, kubeadm_config, machine


def test_first_control_plane_node() -> None:
    world = world_of(initialized=False, control_plane=True)
    assert settle(world) == ["Create ConfigMap", "Create Secret", "Apply KubeadmConfig"]
    secret = world.stored("Secret", "m1")
    assert secret is not None
    assert secret["type"] == "cluster.x-k8s.io/secret"
    assert secret["metadata"]["labels"] == {"cluster.x-k8s.io/cluster-name": "demo"}
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid-config-m1"
    assert secret["data"]["format"] == b"cloud-config"
    assert b"kubeadm init" in secret["data"]["value"]
    lock = world.stored("ConfigMap", "demo-lock")
    assert lock is not None
    assert lock["data"] == {"lock-information": '{"machineName":"m1"}'}
    config = world.stored("KubeadmConfig", "m1")
    assert config is not None
    assert config["status"]["dataSecretName"] == "m1"
    assert config["status"]["initialization"] == {"dataSecretCreated": True}
    assert {one["type"]: one["status"] for one in config["status"]["conditions"]} == {
        "DataSecretAvailable": "True",
        "CertificatesAvailable": "True",
        "Ready": "True",
        "Paused": "False",
    }
    assert config["spec"] == {}


@pytest.mark.parametrize("control_plane", [True, False])
def test_node_that_joins(control_plane: bool) -> None:
    world = world_of(initialized=True, control_plane=control_plane)
    assert settle(world) == ["Create Secret", "Patch KubeadmConfig", "Create Secret", "Apply KubeadmConfig"]
    config, secret = world.stored("KubeadmConfig", "m1"), world.stored("Secret", "m1")
    assert config is not None and secret is not None
    token = config["spec"]["joinConfiguration"]["discovery"]["bootstrapToken"]
    assert token["apiServerEndpoint"] == "10.0.0.1:6443"
    assert token["caCertHashes"][0].startswith("sha256:")
    identity = config["metadata"]["annotations"]["fleetwake.io/bootstrap-token-id"]
    assert token["token"].startswith(identity + ".")
    assert token["token"].encode() in secret["data"]["value"]
    stored = world.stored("Secret", f"bootstrap-token-{identity}", CLUSTER)
    assert stored is not None
    assert stored["metadata"]["namespace"] == "kube-system"
    assert stored["type"] == "bootstrap.kubernetes.io/token"
    assert stored["data"]["auth-extra-groups"] == b"system:bootstrappers:kubeadm:default-node-token"
    assert (config["spec"]["joinConfiguration"].get("controlPlane") == {}) is control_plane


@pytest.mark.parametrize("limit", [0, 1, 2, 3])
@pytest.mark.parametrize("initialized", [True, False])
def test_crash_after_each_write_loses_nothing(limit: int, initialized: bool) -> None:
    whole, crashed = (world_of(initialized=initialized, control_plane=True) for _ in range(2))
    settle(whole)
    crashed.run(KIND, "default", "m1", limit=limit)
    settle(crashed)
    for kind, name in (("Secret", "m1"), ("KubeadmConfig", "m1")):
        one, other = whole.stored(kind, name), crashed.stored(kind, name)
        assert one is not None and other is not None
        assert {part: one.get(part) for part in ("data", "spec")} == {part: other.get(part) for part in ("data", "spec")}
    assert sum(key.cluster != "" for key in crashed.store) == int(initialized)


WAITS = [
    pytest.param(lambda w: w.edit("Cluster", "demo", {"status": {"initialization": None}}), "infrastructureProvisioned", False, id="infrastructure"),
    pytest.param(lambda w: None, "control plane to be initialized", False, id="worker before init"),
    pytest.param(lambda w: [w.remove("Secret", f"demo-{n}") for n in ("ca", "sa")], "certificates", True, id="certificates"),
    pytest.param(lambda w: w.edit("Machine", "m1", {"spec": {"version": "v1.21.0"}}), "needs v1.22.0", True, id="too old"),
    pytest.param(lambda w: w.edit("Machine", "m1", {"spec": {"version": None}}), "no spec.version", True, id="no version"),
    pytest.param(lambda w: failed(w, "boom"), "Failed to generate bootstrap data: boom", True, id="failure"),
]


@pytest.mark.parametrize(("change", "message", "control_plane"), WAITS)
def test_waits_say_why_once(change: Any, message: str, control_plane: bool) -> None:
    world = world_of(initialized=False, control_plane=control_plane)
    change(world)
    assert settle(world) == ["Apply KubeadmConfig"]
    status, reason, text = world.condition_of("KubeadmConfig", "m1", "DataSecretAvailable")
    assert (status, reason) == ("False", "NotAvailable")
    assert message in text
    assert world.condition_of("KubeadmConfig", "m1", "Ready")[0] == "False"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: setattr(w, "connected", False), "connection to the workload cluster"),
        (lambda w: w.edit("Cluster", "demo", {"spec": {"controlPlaneEndpoint": None}}), "controlPlaneEndpoint"),
        (lambda w: w.remove("Secret", "demo-ca"), "certificates"),
        (lambda w: w.edit("KubeadmConfig", "m1", {"spec": {"joinConfiguration": {"controlPlane": {}}}}), "is a worker"),
    ],
)
def test_joining_worker_waits(change: Any, message: str) -> None:
    world = world_of(initialized=True, control_plane=False)
    change(world)
    assert settle(world) == ["Apply KubeadmConfig"]
    assert message in world.condition_of("KubeadmConfig", "m1", "DataSecretAvailable")[2]


def test_worker_goes_on_when_the_control_plane_is_initialized() -> None:
    world = world_of(initialized=False, control_plane=False)
    settle(world)
    world.edit("Cluster", "demo", {"status": INITIALIZED})
    world.connected = True
    settle(world)
    assert world.condition_of("KubeadmConfig", "m1", "Ready")[0] == "True"


def test_second_control_plane_node_waits_for_the_lock() -> None:
    world = world_of(initialized=False, control_plane=True)
    world.put(machine("m2", control_plane=True))
    world.put(kubeadm_config("m2", "m2"))
    settle(world)
    assert settle(world, "m2") == ["Apply KubeadmConfig"]
    assert "Waiting for Machine m1" in world.condition_of("KubeadmConfig", "m2", "DataSecretAvailable")[2]
    assert world.stored("Secret", "m2") is None


def test_lock_of_a_machine_that_is_gone_is_taken_over() -> None:
    world = world_of(initialized=False, control_plane=True)
    settle(world)
    world.put(machine("m2", control_plane=True))
    world.put(kubeadm_config("m2", "m2"))
    world.remove("Machine", "m1")
    plan = world.plan(KIND, "m2")
    assert plan.rests_on_absence
    assert settle(world, "m2") == ["Delete ConfigMap", "Create ConfigMap", "Create Secret", "Apply KubeadmConfig"]


def test_lock_taken_by_another_at_the_same_time_is_a_conflict() -> None:
    world = world_of(initialized=False, control_plane=True)
    plan = world.plan(KIND, "m1")
    world.put(machine("m2", control_plane=True))
    world.put(kubeadm_config("m2", "m2"))
    settle(world, "m2")
    with pytest.raises(ConflictError):
        world.carry_out(plan.steps)
    assert world.stored("Secret", "m1") is None


def test_lock_is_given_back_once() -> None:
    world = world_of(initialized=False, control_plane=True)
    settle(world)
    world.edit("Cluster", "demo", {"status": INITIALIZED})
    assert settle(world) == ["Delete ConfigMap"]
    assert world.stored("ConfigMap", "demo-lock") is None


def test_cluster_without_provider_gets_its_certificates_here() -> None:
    world = world_of(initialized=False, control_plane=True)
    world.edit("Cluster", "demo", {"spec": {"controlPlaneRef": None}})
    for name in ("ca", "etcd", "proxy"):
        world.remove("Secret", f"demo-{name}")
    assert settle(world) == ["Create ConfigMap", *["Create Secret"] * 4, "Apply KubeadmConfig"]
    ca, given = world.stored("Secret", "demo-ca"), world.stored("Secret", "demo-sa")
    assert ca is not None and given is not None
    assert ca["metadata"]["ownerReferences"][0]["kind"] == "KubeadmConfig"
    assert "ownerReferences" not in given["metadata"]
    secret = world.stored("Secret", "m1")
    assert secret is not None
    files = {one["path"]: one["content"] for one in yaml.safe_load(secret["data"]["value"])["write_files"]}
    assert files["/etc/kubernetes/pki/ca.crt"].encode() == ca["data"]["tls.crt"]


def test_status_is_refilled_after_a_move() -> None:
    world = world_of(initialized=True, control_plane=False)
    world.edit("Machine", "m1", {"spec": {"bootstrap": {"dataSecretName": "moved"}}})
    assert settle(world) == ["Apply KubeadmConfig"]
    config = world.stored("KubeadmConfig", "m1")
    assert config is not None
    assert config["status"]["dataSecretName"] == "moved"


def test_user_supplied_token_and_pins_are_respected() -> None:
    token = {"token": "abcdef.0123456789abcdef", "caCertHashes": ["sha256:00"], "apiServerEndpoint": "user.example.com:1234"}
    world = world_of(initialized=True, control_plane=False, spec={"joinConfiguration": {"discovery": {"bootstrapToken": token}}})
    world.connected = False
    assert settle(world) == ["Create Secret", "Apply KubeadmConfig"]
    secret = world.stored("Secret", "m1")
    assert secret is not None
    assert b"abcdef.0123456789abcdef" in secret["data"]["value"]
    world.later(3600)
    world.connected = True
    assert world.plan(KIND, "m1").steps == ()


def test_lost_owner_reference_of_the_data_secret_comes_back() -> None:
    world = world_of(initialized=False, control_plane=True)
    settle(world)
    world.edit("Secret", "m1", {"metadata": {"ownerReferences": None}})
    assert settle(world) == ["Patch Secret"]
    secret = world.stored("Secret", "m1")
    assert secret is not None
    assert secret["metadata"]["ownerReferences"][0]["uid"] == "uid-config-m1"


def test_data_secret_of_somebody_else_is_not_used() -> None:
    world = world_of(initialized=False, control_plane=True)
    foreign = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "uid-x", "controller": True}
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "m1", "namespace": "default", "ownerReferences": [foreign]}, "data": {}})
    with pytest.raises(ConflictError):
        world.run(KIND, "default", "m1")


def test_source_secret_that_nobody_knows_is_named() -> None:
    spec = {"files": [{"path": "/x", "contentFrom": {"secret": {"name": "extra", "key": "k"}}}]}
    world = world_of(initialized=True, control_plane=False, spec=spec)
    steps = list(flatten(world.plan(KIND, "m1").steps))
    assert isinstance(steps[-1], Apply)
    assert "extra are not known yet" in str(steps[-1].body)
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "extra", "namespace": "default"}, "data": {"k": b"v"}})
    assert not any(isinstance(step, Apply) for step in flatten(world.plan(KIND, "m1").steps))


def test_paused_touches_nothing() -> None:
    world = world_of(initialized=True, control_plane=False)
    world.edit("Cluster", "demo", {"spec": {"paused": True}})
    assert settle(world) == ["Apply KubeadmConfig"]
    assert world.condition_of("KubeadmConfig", "m1", "Paused")[:2] == ("True", "Paused")
    world.edit("Cluster", "demo", {"spec": {"paused": None}})
    settle(world)
    assert world.condition_of("KubeadmConfig", "m1", "Paused")[:2] == ("False", "NotPaused")


def test_deleting_or_ownerless_config_is_left_alone() -> None:
    world = world_of(initialized=True, control_plane=False)
    world.edit("KubeadmConfig", "m1", {"metadata": {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": ["x"]}})
    assert world.plan(KIND, "m1").steps == ()
    world.edit("KubeadmConfig", "m1", {"metadata": {"ownerReferences": None}})
    assert KIND.observe(world, ObjectKey(KIND.model.GROUP, KIND.model.KIND, "default", "m1")) is None


# --- the token of a node that takes its time -----------------------------------------------------------------------------------------------------


def joined(world: KubeadmWorld) -> str:
    settle(world)
    config = world.stored("KubeadmConfig", "m1")
    assert config is not None
    return str(config["metadata"]["annotations"]["fleetwake.io/bootstrap-token-id"])


def expiry(world: KubeadmWorld, identity: str) -> bytes:
    secret = world.stored("Secret", f"bootstrap-token-{identity}", CLUSTER)
    assert secret is not None
    return bytes(secret["data"]["expiration"])


def test_token_is_kept_alive_until_the_node_is_there() -> None:
    world = world_of(initialized=True, control_plane=False)
    identity = joined(world)
    first = world.plan(KIND, "m1")
    assert (first.steps, first.requeue_after.total_seconds() if first.requeue_after else 0) == ((), 300)
    assert expiry(world, identity) == b"2026-01-02T03:19:05Z"
    for minutes in (5, 10, 15, 20):
        world.later(300)
        writes = settle(world)
        assert writes == ["Patch Secret"]
        assert expiry(world, identity) == f"2026-01-02T03:{19 + minutes}:05Z".encode()
        assert world.plan(KIND, "m1").steps == ()
    world.edit("Machine", "m1", {"status": {"nodeRef": {"name": "m1"}}})
    world.later(3600)
    quiet = world.plan(KIND, "m1")
    assert (quiet.steps, quiet.requeue_after) == ((), None)


def test_token_that_was_collected_comes_back_the_same() -> None:
    world = world_of(initialized=True, control_plane=False)
    identity = joined(world)
    before = world.stored("Secret", f"bootstrap-token-{identity}", CLUSTER)
    assert before is not None
    world.store = {key: obj for key, obj in world.store.items() if not key.cluster}
    world.later(3600)
    settle(world)
    after = world.stored("Secret", f"bootstrap-token-{identity}", CLUSTER)
    assert after is not None
    assert after["data"]["token-secret"] == before["data"]["token-secret"]
    assert after["data"]["expiration"] != before["data"]["expiration"]


def test_token_is_not_asked_for_without_a_connection() -> None:
    world = world_of(initialized=True, control_plane=False)
    joined(world)
    world.later(3600)
    world.connected = False
    assert world.plan(KIND, "m1").steps == ()


# --- what wakes it -------------------------------------------------------------------------------------------------------------------------------


def woken(world: KubeadmWorld, source: tuple[str, str], name: str, before: dict[str, Any] | None, after: dict[str, Any] | None) -> list[str]:
    kind = GroupKind(*source)
    (watch,) = (watch for watch in KIND.watches if watch.source == kind)
    change = Change(ObjectKey(kind.group, kind.kind, "default", name), ClusterKey("default", "demo"), before, after)
    return sorted(key.name for key in watch.concerns(change, world)) if watch.matters(change) else []


def test_wakes() -> None:
    world = world_of(initialized=False, control_plane=True)
    world.put(machine("w1"))
    world.put(kubeadm_config("w1", "w1"))
    core, secret, lock = ("cluster.x-k8s.io", "Machine"), ("", "Secret"), ("", "ConfigMap")
    demo, m1 = cluster(), machine("m1", control_plane=True)
    assert woken(world, ("cluster.x-k8s.io", "Cluster"), "demo", demo, cluster(**INITIALIZED)) == ["m1", "w1"]
    assert woken(world, ("cluster.x-k8s.io", "Cluster"), "demo", demo, cluster(phase="Provisioned")) == []
    assert woken(world, core, "m1", m1, {**m1, "status": {"nodeRef": {"name": "m1"}}}) == ["m1"]
    assert woken(world, core, "m1", m1, {**m1, "status": {"phase": "Running"}}) == []
    assert woken(world, core, "m1", m1, None) == ["m1", "w1"]
    assert woken(world, lock, "demo-lock", {"metadata": {}}, None) == ["m1", "w1"]
    assert woken(world, lock, "other", {"metadata": {}}, None) == []
    assert woken(world, secret, "demo-ca", None, {"metadata": {}}) == ["m1", "w1"]
    owned = {"metadata": {"ownerReferences": [{"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfig", "name": "m1", "controller": True}]}}
    assert woken(world, secret, "m1", None, owned) == ["m1"]
    assert woken(world, ("fleetwake", "Connection"), "demo", {"connected": False}, {"connected": True}) == ["m1", "w1"]


def test_no_secret_stands_in_a_plan() -> None:
    world = world_of(initialized=True, control_plane=True)
    text = repr(world.plan(KIND, "m1"))
    assert "PRIVATE KEY" not in text
    assert all(isinstance(step, Create | Patch | Apply | Delete) for step in flatten(world.plan(KIND, "m1").steps))


REFUSED_SPECS = [
    ({"format": "ignition", "bootCommands": ["x"]}, True, "bootCommands"),
    ({"fleetwake": {"operatingSystem": "windows"}}, True, "runs on linux only"),
    ({"fleetwake": {"operatingSystem": "windows"}, "format": "ignition"}, False, "Windows reads no Ignition"),
    ({"fleetwake": {"operatingSystem": "windows"}, "mounts": [["a", "b"]]}, False, "spec.mounts"),
    ({"fleetwake": {"operatingSystem": "windows"}, "files": [{"path": "/etc/x"}]}, False, "no path of Windows"),
    ({"fleetwake": {"bootstrapper": "kubelet"}}, True, "workers only"),
    ({"fleetwake": {"bootstrapper": "kubelet"}, "joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/x"}}}}, False, "joins with a token"),
]


@pytest.mark.parametrize(("spec", "control_plane", "message"), REFUSED_SPECS)
def test_what_cannot_be_made_is_said(spec: dict[str, Any], control_plane: bool, message: str) -> None:
    world = world_of(initialized=not control_plane, control_plane=control_plane, spec=spec)
    assert settle(world) == ["Apply KubeadmConfig"]
    assert message in world.condition_of("KubeadmConfig", "m1", "DataSecretAvailable")[2]


def test_a_proxy_waits_for_its_credentials_by_name() -> None:
    proxy = {"httpProxy": "http://proxy:3128", "credentialsSecret": {"name": "login"}}
    world = world_of(initialized=False, control_plane=True, spec={"fleetwake": {"httpProxy": proxy}})
    with pytest.raises(RetryableError, match="default/login does not exist"):
        world.run(KIND, "default", "m1")
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "default"}, "data": {"username": b"u", "password": b"p@:/"}})
    settle(world)
    secret, config = world.stored("Secret", "m1"), world.stored("KubeadmConfig", "m1")
    assert secret is not None and config is not None
    assert b"http://u:p%40%3A%2F@proxy:3128" in secret["data"]["value"] and "p%40" not in str(config)
