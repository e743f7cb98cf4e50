"""md-rollout, live: what follows in place and what replaces Machines, pause, rollout.after, who goes first; OnDelete; a strategy of somebody else's."""

from __future__ import annotations

import base64
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, self_signed_ca, sign_certificate
from fleetwake.rig.ports import free_ports
from tests.e2e import manifests
from tests.e2e.fleet import Fleet
from tests.e2e.recorder import Object, World, condition, controller, since, told
from tests.e2e.workload import Workload

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

ROLLED, DELETED = "roll", "ondelete"
DELETED_WORKERS = 2
LIMIT_S = 30.0
STRATEGY = "fleetwake.io/upgrade-strategy"
CANARY = Path(__file__).parents[2] / "examples" / "canary" / "canary.py"
HOLD_S = 6
MIN_READY_S = 1
TEMPLATE_LABEL, TEMPLATE_NOTE = "node.cluster.x-k8s.io/tier", "node.cluster.x-k8s.io/note"
TAINT = {"key": "example.com/dedicated", "value": "x", "effect": "NoSchedule"}


@dataclass
class Workers:
    """The workers of one cluster, and what a user does to their MachineDeployment."""

    fleet: Fleet
    namespace: str
    name: str
    folder: Path

    @property
    def resource(self) -> str:
        """The MachineDeployment."""
        return f"machinedeployment/{self.name}-workers"

    def deployment(self, world: World | None = None) -> Object:
        """Its object."""
        found = (world or self.fleet.recorder.world).get("MachineDeployment", self.namespace, f"{self.name}-workers")
        assert found is not None
        return found

    def sets(self, world: World | None = None) -> list[Object]:
        """Its MachineSets."""
        return (world or self.fleet.recorder.world).all("MachineSet", self.namespace, self.name)

    def machines(self, world: World | None = None) -> list[Object]:
        """Its Machines that nobody deletes."""
        found = (world or self.fleet.recorder.world).all("Machine", self.namespace, self.name)
        return [one for one in found if controller(one)[0] == "MachineSet" and "deletionTimestamp" not in one["metadata"]]

    def uids(self) -> set[str]:
        """Their uids."""
        return {one["metadata"]["uid"] for one in self.machines()}

    def of_version(self, version: str, world: World | None = None) -> list[Object]:
        """Its Machines of a version."""
        return [one for one in self.machines(world) if one["spec"]["version"] == version]

    def patch(self, **spec: Any) -> None:
        """Change its spec."""
        self.fleet.patch(self.namespace, self.resource, {"spec": spec})

    def template(self, metadata: Any = None, **spec: Any) -> None:
        """Change its Machine template."""
        self.patch(template={**({"metadata": metadata} if metadata else {}), "spec": spec})

    def settle(self) -> None:
        """Wait until the cluster is as asked."""
        self.fleet.settle(self.namespace, self.name)

    def wait(self, lacking: Any, what: str, limit_s: float = LIMIT_S) -> None:
        """Wait for what a function of the world finds nothing lacking of."""
        self.fleet.recorder.wait(lacking, limit_s, what)

    def decided(self) -> None:
        """Wait until the newest spec has been decided upon, and told of."""

        def behind(world: World) -> list[str]:
            found = self.deployment(world)
            return [] if found["status"].get("observedGeneration") == found["metadata"]["generation"] else ["not decided yet"]

        self.wait(behind, "the spec decided upon")

    def nodes(self) -> list[dict[str, Any]]:
        """The Nodes of its Machines."""
        named = {one["status"]["nodeRef"]["name"] for one in self.machines()}
        return [one for one in Workload(self.fleet, self.namespace, self.name, self.folder).objects("nodes") if one["metadata"]["name"] in named]


@pytest.fixture(scope="module")
def clusters(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Workers]:
    """Two clusters of one worker MachineDeployment each, Available."""
    folder = tmp_path_factory.mktemp("rollouts")
    found = {name: Workers(fleet, fleet.namespace(name), name, folder) for name in (ROLLED, DELETED)}
    sizes = {ROLLED: 3, DELETED: DELETED_WORKERS}
    fleet.apply(*(one for name, workers in found.items() for one in manifests.cluster(name, workers.namespace, workers=sizes[name])))
    for workers in found.values():
        workers.settle()
    return found


@pytest.fixture
def rolled(clusters: dict[str, Workers]) -> Workers:
    return clusters[ROLLED]


def test_what_a_machine_can_follow_replaces_none(rolled: Workers) -> None:
    before, sets = rolled.uids(), [one["metadata"]["uid"] for one in rolled.sets()]
    # who asks for a second of readiness makes unavailable what has been ready for less
    youngest = max(since(one, "Ready") for one in rolled.machines())
    time.sleep(max(0.0, (youngest + timedelta(seconds=MIN_READY_S + 1) - datetime.now(UTC)).total_seconds()))
    follow = {
        "taints": [{**TAINT, "propagation": "Always"}],
        "readinessGates": [{"conditionType": "NodeReady"}],
        "minReadySeconds": MIN_READY_S,
        "deletion": {"nodeDrainTimeoutSeconds": 40, "nodeVolumeDetachTimeoutSeconds": 50, "nodeDeletionTimeoutSeconds": 60},
    }
    rolled.template({"labels": {TEMPLATE_LABEL: "gold"}, "annotations": {TEMPLATE_NOTE: "kept"}}, **follow)

    def behind(world: World) -> list[str]:
        wrong = []
        for one in rolled.machines(world):
            meta, spec = one["metadata"], one["spec"]
            wrong += [f"{meta['name']}: {name}" for name, value in follow.items() if spec.get(name) != value]
            wrong += [f"{meta['name']} lacks its label"] * (meta["labels"].get(TEMPLATE_LABEL) != "gold")
            wrong += [f"{meta['name']} lacks its annotation"] * (meta.get("annotations", {}).get(TEMPLATE_NOTE) != "kept")
            for kind in ("DevMachine", "KubeadmConfig"):
                made = world.get(kind, rolled.namespace, meta["name"])
                wrong += [f"{kind} {meta['name']} lacks its label"] * (made is None or made["metadata"]["labels"].get(TEMPLATE_LABEL) != "gold")
        return wrong

    rolled.wait(behind, "Machines and their objects follow")
    rolled.settle()
    assert rolled.uids() == before
    assert [one["metadata"]["uid"] for one in rolled.sets()] == sets
    # a Node follows its Machine, and no watch of the test sees it
    end = time.monotonic() + LIMIT_S
    while late := [one["metadata"]["name"] for one in rolled.nodes() if one["metadata"]["labels"].get(TEMPLATE_LABEL) != "gold"]:
        assert time.monotonic() < end, late
    for node in rolled.nodes():
        assert node["metadata"]["annotations"][TEMPLATE_NOTE] == "kept"
        assert TAINT in node["spec"]["taints"]
    # what the template says no more goes from Machines and Nodes too
    rolled.template({"labels": {TEMPLATE_LABEL: None}, "annotations": {TEMPLATE_NOTE: None}}, taints=None, readinessGates=None)
    rolled.wait(lambda world: [one["metadata"]["name"] for one in rolled.machines(world) if TEMPLATE_LABEL in one["metadata"]["labels"]], "labels gone")
    end = time.monotonic() + LIMIT_S
    while left := [one for one in rolled.nodes() if TEMPLATE_LABEL in one["metadata"]["labels"] or one["spec"].get("taints")]:
        assert time.monotonic() < end, left
    assert all(TEMPLATE_NOTE not in one["metadata"]["annotations"] for one in rolled.nodes())
    assert rolled.uids() == before
    rolled.settle()
    rolled.fleet.check_history(rolled.namespace)


def test_a_paused_rollout_waits_and_every_machine_is_replaced_within_the_bounds(rolled: Workers) -> None:
    before = rolled.uids()
    rolled.patch(paused=True, template={"spec": {"version": "v1.34.1"}})
    rolled.decided()
    assert rolled.uids() == before
    assert len(rolled.sets()) == 1
    # scaling is followed while paused, with the revision there is
    rolled.fleet.scale(rolled.namespace, rolled.resource, 4)
    # available, not only there: of four the one that is on its way need not be the one that goes again
    rolled.wait(
        lambda world: [] if sum(condition(one, "Available") == "True" for one in rolled.machines(world)) == 4 else ["four Machines"], "scaled while paused"
    )
    assert {one["spec"]["version"] for one in rolled.machines()} == {manifests.VERSION}
    rolled.fleet.scale(rolled.namespace, rolled.resource, 3)
    rolled.patch(paused=None)
    rolled.settle()
    assert not before & rolled.uids()

    before = rolled.uids()
    rolled.template(failureDomain="b")
    rolled.settle()
    assert not before & rolled.uids()
    assert {one["status"]["failureDomain"] for one in rolled.machines()} == {"b"}
    assert {one["metadata"]["labels"]["topology.kubernetes.io/zone"] for one in rolled.nodes()} == {"b"}

    before = rolled.uids()
    after = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    rolled.patch(rollout={"after": f"{after:%Y-%m-%dT%H:%M:%SZ}"})
    rolled.wait(lambda world: [] if not before & {one["metadata"]["uid"] for one in rolled.machines(world)} else ["old Machines"], "rolled out")
    rolled.settle()
    born = [datetime.fromisoformat(one["metadata"]["creationTimestamp"].replace("Z", "+00:00")) for one in rolled.machines()]
    assert min(born) >= after
    rolled.fleet.check_history(rolled.namespace)


def test_who_is_marked_goes_first_and_then_the_order_counts(rolled: Workers) -> None:
    rolled.patch(deletion={"order": "Newest"})
    youngest = max(one["metadata"]["creationTimestamp"] for one in rolled.machines())
    while f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" <= youngest:
        # times of creation are whole seconds: the next Machine shall be newer
        time.sleep(0.1)
    rolled.fleet.scale(rolled.namespace, rolled.resource, 4)
    rolled.settle()
    before = {one["metadata"]["name"]: one["metadata"]["creationTimestamp"] for one in rolled.machines()}
    newest, marked = max(before, key=lambda name: before[name]), min(before, key=lambda name: before[name])
    rolled.fleet.kubectl("-n", rolled.namespace, "annotate", "machine", marked, "cluster.x-k8s.io/delete-machine=")
    rolled.fleet.scale(rolled.namespace, rolled.resource, 3)
    rolled.settle()
    assert set(before) - {one["metadata"]["name"] for one in rolled.machines()} == {marked}
    rolled.fleet.scale(rolled.namespace, rolled.resource, 2)
    rolled.settle()
    assert set(before) - {one["metadata"]["name"] for one in rolled.machines()} == {marked, newest}
    rolled.fleet.scale(rolled.namespace, rolled.resource, 3)
    rolled.settle()


def test_on_delete_replaces_what_a_user_deletes_and_nothing_else(clusters: dict[str, Workers]) -> None:
    workers = clusters[DELETED]
    before = {one["metadata"]["name"] for one in workers.machines()}
    workers.patch(rollout={"strategy": {"type": "OnDelete", "rollingUpdate": None}}, template={"spec": {"version": "v1.34.1"}})
    workers.decided()
    workers.wait(lambda world: [] if len(workers.sets(world)) == DELETED_WORKERS else ["the new MachineSet"], "a new revision")
    assert {one["metadata"]["name"] for one in workers.machines()} == before
    for number, victim in enumerate(sorted(before), 1):
        workers.fleet.kubectl("-n", workers.namespace, "delete", "machine", victim, "--wait=false")

        def replaced(world: World, wanted: int = number) -> list[str]:
            new = [one for one in workers.of_version("v1.34.1", world) if condition(one, "Available") == "True"]
            return [] if len(new) == wanted and len(workers.machines(world)) == DELETED_WORKERS else [f"{len(new)} of {wanted} replaced"]

        workers.wait(replaced, f"{victim} replaced")
        assert {one["metadata"]["name"] for one in workers.machines()} & before == set(sorted(before)[number:])
    workers.settle()
    workers.wait(lambda world: [] if len(workers.sets(world)) == 1 else ["the old MachineSet is still there"], "the old revision gone")


# --- a strategy of somebody else's


@dataclass
class Served:
    """The example's server, which may be stopped and started."""

    port: int
    files: tuple[str, str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Serve, and return once it listens."""
        command = [sys.executable, str(CANARY), "--bind", "127.0.0.1", "--port", str(self.port), "--certificate", self.files[0], "--key", self.files[1]]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        end = time.monotonic() + LIMIT_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert time.monotonic() < end and self.process.poll() is None, "the canary does not listen"
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(10)
            self.process = None


@contextmanager
def canary(folder: Path) -> Iterator[tuple[Served, KeyPair]]:
    """A running canary, and the authority that vouches for it."""
    now = datetime.now(UTC)
    authority = self_signed_ca("strategies", generate_key("ECDSA-P256"), now=now)
    signed = sign_certificate(authority, CertificateSpec("canary", sans=("127.0.0.1",), usages=("server",)), generate_key("ECDSA-P256"), now=now)
    for name, data in (("tls.crt", signed.cert_pem), ("tls.key", signed.key_pem)):
        (folder / name).write_bytes(data)
    served = Served(free_ports(1)[0], (str(folder / "tls.crt"), str(folder / "tls.key")))
    served.start()
    try:
        yield served, authority
    finally:
        served.stop()


def ready(workers: Workers, reason: str, text: str = "") -> Any:
    """What the condition of the strategy lacks."""

    def lacking(world: World) -> list[str]:
        found = told(workers.deployment(world), "UpgradeStrategyReady")
        return [] if found.startswith(f"{reason}:") and text in found else [found or "no condition"]

    return lacking


def test_a_canary_goes_first_holds_and_the_rest_follows(rolled: Workers, tmp_path: Path) -> None:
    fleet, version = rolled.fleet, "v1.34.2"
    with canary(tmp_path) as (server, authority):
        config = {
            "apiVersion": "runtime.cluster.x-k8s.io/v1beta2",
            "kind": "ExtensionConfig",
            "metadata": {"name": f"rollouts-{rolled.namespace}"},
            "spec": {
                "clientConfig": {"url": f"https://127.0.0.1:{server.port}", "caBundle": base64.b64encode(authority.cert_pem).decode()},
                "settings": {"machines": "1", "waitSeconds": str(HOLD_S)},
            },
        }
        fleet.apply(config)
        try:
            fleet.kubectl("-n", rolled.namespace, "annotate", rolled.resource, f"{STRATEGY}=canary.rollouts-{rolled.namespace}")
            rolled.template(version=version)
            rolled.wait(ready(rolled, "Answered", "the rest follows at"), "the canary holds")
            # one has gone first, one old Machine made room for it, and nothing else was touched
            [first] = rolled.of_version(version)
            assert condition(first, "Available") == "True"
            assert len(rolled.machines()) in (3, 4)
            held = next(one for one in first["status"]["conditions"] if one["type"] == "Available")["lastTransitionTime"]
            server.stop()
            rolled.wait(ready(rolled, "CallFailed", "call failed"), "the failed call is told")
            assert len(rolled.of_version(version)) == 1
            server.start()
            rolled.settle()
            later = [one["metadata"]["creationTimestamp"] for one in rolled.machines() if one["metadata"]["uid"] != first["metadata"]["uid"]]
            until = datetime.fromisoformat(held.replace("Z", "+00:00")) + timedelta(seconds=HOLD_S)
            assert min(datetime.fromisoformat(one.replace("Z", "+00:00")) for one in later) >= until
            rolled.wait(ready(rolled, "NotRollingOut"), "the end is told")
            # a strategy that is not there stops the next rollout, and taking the annotation away lets it go
            fleet.kubectl("delete", "extensionconfig", f"rollouts-{rolled.namespace}")
            rolled.template(version="v1.34.3")
            rolled.wait(ready(rolled, "StrategyNotFound"), "the missing strategy is told")
            assert not rolled.of_version("v1.34.3")
        finally:
            fleet.kubectl("delete", "extensionconfig", "--ignore-not-found", f"rollouts-{rolled.namespace}")
    fleet.kubectl("-n", rolled.namespace, "annotate", rolled.resource, f"{STRATEGY}-")
    rolled.settle()
    assert told(rolled.deployment(), "UpgradeStrategyReady") == ""
    fleet.check_history(rolled.namespace)
