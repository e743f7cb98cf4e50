"""The whole system on a rig of its own, and what tests do with it."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetwake.rig import Rig
from fleetwake.rig.services import fleetwake_command
from tests.e2e import manifests
from tests.e2e.api import PATHS, Api
from tests.e2e.invariants import violations
from tests.e2e.recorder import Object, Recorder, World, cluster_of, condition, controller, told

KUBECTL_LIMIT_S = 120
ASK_LIMIT_S = 60
CONVERGE_LIMIT_S = 120.0
SILENT_S = 5.0
SILENT_LIMIT_S = 60.0
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
ACCOUNTS = "system:serviceaccount:fleetwake-system:fleetwake-"
PREPARING = f"{ACCOUNTS}prepare"
"""Who installs: its writes are no service's, and no run stands behind them."""
NOT_COUNTED = frozenset({"leases", "events"})
SERVICES = ("watcher-0", "reconcilers-0", "reconcilers-1", "remediation-0", "autoscaler_bridge-0", "dev_infrastructure-0")


@dataclass
class Fleet:
    """One rig with all services and the recorder of its history."""

    rig: Rig
    api: Api
    recorder: Recorder
    namespaces: list[str] = field(default_factory=list)
    unseen: list[tuple[int, int]] = field(default_factory=list)

    # -- acting as a user -----------------------------------------------------------------------------------------------------------

    def kubectl(self, *arguments: str, stdin: str | None = None, kubeconfig: str = "") -> str:
        """Run kubectl as admin, or with another kubeconfig, and return what it prints; a failure fails the test."""
        endpoints = self.rig.endpoints()
        command = [endpoints.kubectl, "--kubeconfig", kubeconfig or endpoints.kubeconfig, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=KUBECTL_LIMIT_S, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def namespace(self, name: str) -> str:
        """Make a namespace whose name begins so and that no other test has."""
        unique = f"{name}-{secrets.token_hex(3)}"
        self.kubectl("create", "namespace", unique)
        self.namespaces.append(unique)
        return unique

    def apply(self, *documents: manifests.Document) -> None:
        """Apply documents as a user does."""
        self.kubectl("apply", "-f", "-", stdin=manifests.text(list(documents)))

    def patch(self, namespace: str, resource: str, patch: dict[str, Any]) -> None:
        """Merge a patch into ``<resource>/<name>``; the recorder has seen it then."""
        self._await_seen(self.kubectl("-n", namespace, "patch", resource, "--type=merge", "-p", json.dumps(patch), "-o", "json"))

    def scale(self, namespace: str, resource: str, replicas: int) -> None:
        """Scale ``<resource>/<name>`` through its scale subresource; the recorder has seen it then."""
        self.kubectl("-n", namespace, "scale", resource, f"--replicas={replicas}")
        self._await_seen(self.kubectl("-n", namespace, "get", resource, "-o", "json"))

    def _await_seen(self, text: str) -> None:
        """Wait until the recorder knows an object, as kubectl printed it, at least so far: before that, what was settled still looks settled."""
        wanted = json.loads(text)
        kind, meta = wanted["kind"], wanted["metadata"]

        def behind(world: World) -> list[str]:
            held = world.get(kind, meta["namespace"], meta["name"])
            seen = held is not None and int(held["metadata"]["resourceVersion"]) >= int(meta["resourceVersion"])
            return [] if seen else [f"{kind} {meta['name']} of version {meta['resourceVersion']}"]

        if kind in PATHS:
            self.recorder.wait(behind, SILENT_LIMIT_S, "the change seen")

    def restart(self, services: Iterable[str]) -> None:
        """Stop services and start them from this process, whose environment they so get, all at the same time."""

        def one(service: str) -> None:
            self.rig.stop(service)
            self.rig.start(service)
            self.rig.wait_ready(service)

        wanted = tuple(services)
        with ThreadPoolExecutor(max_workers=len(wanted)) as pool:
            list(pool.map(one, wanted))

    def ask(self, namespace: str, *arguments: str) -> str:
        """What ``fleetwake audit`` answers, run as a user runs it; a failure fails the test."""
        command = [fleetwake_command(), "audit", *arguments, "-n", namespace, "--state", str(self.rig.state_dir)]
        asked = subprocess.run(command, capture_output=True, text=True, timeout=ASK_LIMIT_S, check=False)
        assert asked.returncode == 0, asked.stderr
        return asked.stdout

    # -- waiting --------------------------------------------------------------------------------------------------------------------

    def settle(self, namespace: str, *names: str, limit_s: float = CONVERGE_LIMIT_S) -> float:
        """Wait until the clusters are as their specs say; returns the seconds that took."""
        return self.recorder.wait(
            lambda world: [lack for name in names for lack in unsettled(world, namespace, name)], limit_s, f"{namespace}: {', '.join(names)} settled"
        )

    def accept_blind_spot(self) -> None:
        """Leave unchecked what no watch was told: an API server that starts anew knows nothing of the moment before its cache was filled."""
        self.unseen += self.recorder.blind
        self.recorder.blind.clear()

    def check_history(self, namespace: str, *, statuses: bool = True) -> None:
        """Assert that no instant in the history of a namespace broke a rule; ``statuses``: nor anything that was told."""
        assert not self.recorder.blind, f"watches of the test lost sight: {self.recorder.blind}"
        found = violations(self.recorder.events(namespace), self.unseen, statuses=statuses)
        assert not found, "\n".join(found)

    # -- reading --------------------------------------------------------------------------------------------------------------------

    def may(self, service: str, verb: str, resource: str) -> bool:
        """Whether the API server's authorizer lets a service's account do something, in every namespace."""
        attributes = {"verb": verb, "group": resource.partition(".")[2], "resource": resource.partition(".")[0]}
        spec = {"user": f"{ACCOUNTS}{service}", "resourceAttributes": attributes}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return bool(self.api.post("/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"])

    def workload_kubeconfig(self, namespace: str, name: str, folder: Path) -> str:
        """Write the kubeconfig that the cluster's Secret holds to a file; returns its path."""
        secret = self.api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}-kubeconfig")
        path = folder / f"{namespace}-{name}.kubeconfig"
        path.write_bytes(base64.b64decode(secret["data"]["value"]))
        return str(path)

    def audit(self) -> list[dict[str, Any]]:
        """Every event of the audit log so far, oldest first; the last line may be half written."""
        lines = Path(self.rig.endpoints().audit_log).read_bytes().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith(b"\n") and line.startswith(b"{")]

    def our_requests(self, since: int = 0) -> list[dict[str, Any]]:
        """The requests of our accounts on objects, by the audit log, Leases and Events left out; ``since`` is a number of events to pass over."""
        return [event for event in self.audit()[since:] if _ours(event) and event.get("objectRef") and event["objectRef"].get("resource") not in NOT_COUNTED]

    def our_writes(self, since: int = 0) -> list[dict[str, Any]]:
        """The writes among them."""
        return [event for event in self.our_requests(since) if event["verb"] in WRITES]

    def fall_silent(self, limit_s: float = SILENT_LIMIT_S) -> int:
        """Wait until our accounts have made no request for ``SILENT_S``, as what only informs is told last; returns how many events the audit log has then."""
        end = time.monotonic() + limit_s
        while True:
            before = len(self.audit())
            time.sleep(SILENT_S)
            requests = [event["requestURI"] for event in self.our_requests(before) if event["verb"] != "watch"]
            if not requests:
                return before
            assert time.monotonic() < end, f"still asking after {limit_s} s: {requests}"

    def metric(self, service: str, name: str) -> float:
        """The sum of a metric of a service over all its labels."""
        state = self.rig.state()
        assert state is not None
        url = f"http://127.0.0.1:{state.process(service).ports['web']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def _ours(event: dict[str, Any]) -> bool:
    user = event["user"]["username"]
    return bool(user.startswith(ACCOUNTS) and user != PREPARING)


@contextmanager
def watched(rig: Rig, *, ends: bool = True) -> Iterator[Fleet]:
    """The system on a rig that is up, recorded while the context is open; ``ends``: the rig goes down with it."""
    recorder = None
    try:
        api = Api(rig.endpoints().kubeconfig)
        recorder = Recorder(api)
        yield Fleet(rig, api, recorder)
    finally:
        if recorder is not None:
            recorder.stop()
        if ends:
            rig.down()


def unsettled(world: World, namespace: str, name: str) -> list[str]:
    """What a cluster still lacks of what its specs ask for, as sentences."""
    cluster = world.get("Cluster", namespace, name)
    if cluster is None:
        return [f"Cluster {name} is not there"]
    lacking = []
    if "topology" in cluster["spec"]:
        lacking += _unlike_topology(cluster)
    if condition(cluster, "Available") != "True":
        lacking.append(f"Cluster {name} is not Available: {told(cluster, 'Available')}")
    machines = world.all("Machine", namespace, name)
    lacking += [
        f"Machine {machine['metadata']['name']} is being deleted: {told(machine, 'Deleting')}"
        for machine in machines
        if "deletionTimestamp" in machine["metadata"]
    ]
    lacking += [
        f"Machine {machine['metadata']['name']} is not Available: {told(machine, 'Available')}; {told(machine, 'Ready')}"
        for machine in machines
        if condition(machine, "Available") != "True"
    ]
    sets = world.all("MachineSet", namespace, name)
    for deployment in world.all("MachineDeployment", namespace, name):
        owned = {value["metadata"]["name"] for value in sets if controller(value) == ("MachineDeployment", deployment["metadata"]["name"])}
        version = deployment["spec"]["template"]["spec"].get("version")
        lacking += _short(deployment, [machine for machine in machines if controller(machine)[1] in owned], version)
    for pool in world.all("MachinePool", namespace, name):
        owned_machines = [machine for machine in machines if controller(machine) == ("MachinePool", pool["metadata"]["name"])]
        lacking += _short(pool, owned_machines, pool["spec"]["template"]["spec"].get("version"))
    for plane in world.all("KubeadmControlPlane", namespace):
        if plane["metadata"]["name"] == (cluster["spec"].get("controlPlaneRef") or {}).get("name"):
            owned_machines = [machine for machine in machines if controller(machine) == ("KubeadmControlPlane", plane["metadata"]["name"])]
            lacking += _short(plane, owned_machines, plane["spec"]["version"])
    return lacking + _unsummed(cluster, machines)


def _unlike_topology(cluster: Object) -> list[str]:
    name, generation = cluster["metadata"]["name"], cluster["metadata"]["generation"]
    found = next((one for one in (cluster.get("status") or {}).get("conditions") or () if one["type"] == "TopologyReconciled"), {})
    if found.get("status") == "True" and found.get("observedGeneration") == generation:
        return []
    return [f"Cluster {name} is not as its topology of generation {generation}: {told(cluster, 'TopologyReconciled')}"]


def _unsummed(cluster: Object, machines: list[Object]) -> list[str]:
    """What the Cluster's sums lack: they are told last, because nobody waits for them."""
    first = [machine for machine in machines if "cluster.x-k8s.io/control-plane" in machine["metadata"].get("labels", {})]
    lacking = []
    for part, wanted in (("controlPlane", len(first)), ("workers", len(machines) - len(first))):
        have = ((cluster.get("status") or {}).get(part) or {}).get("availableReplicas") or 0
        if have != wanted:
            lacking.append(f"Cluster {cluster['metadata']['name']} counts {have} available {part} of {wanted}")
    return lacking


def _short(owner: Object, machines: list[Object], version: str | None) -> list[str]:
    name, replicas, status = owner["metadata"]["name"], owner["spec"].get("replicas", 1), owner.get("status") or {}
    lacking = []
    if len(machines) != replicas:
        lacking.append(f"{name} has {len(machines)} Machines of {replicas}")
    if wrong := [machine["metadata"]["name"] for machine in machines if machine["spec"].get("version") != version]:
        lacking.append(f"{name}: {', '.join(wrong)} not of version {version}")
    counts = {field: status.get(field) for field in ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")}
    if any((count or 0) != replicas for count in counts.values()):
        lacking.append(f"{name} counts {counts} of {replicas}")
    if status.get("observedGeneration") != owner["metadata"]["generation"]:
        lacking.append(f"{name} has observed generation {status.get('observedGeneration')} of {owner['metadata']['generation']}")
    return lacking


def left_of(world: World, namespace: str, name: str) -> list[str]:
    """Everything in the world that belongs to a cluster, by label, reference or name."""
    return [
        f"{key.kind} {key.name}"
        for key, value in world.objects.items()
        if key.namespace == namespace and (cluster_of(value) == name or (key.kind in ("Cluster", "DevCluster") and key.name == name))
    ]
