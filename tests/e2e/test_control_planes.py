"""Control planes of several Machines as their operator sees them: upgraded by two minor versions, repaired when Machines fail, shared by kubeconfigs.

``FLEETWAKE_E2E_CONTROL_PLANES`` sets how many Machines they have (3).
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.errors import FleetwakeError
from fleetwake.labels import CERTIFICATES_EXPIRY
from services.reconcilers.kinds.kubeadm_control_plane.declared_kubeconfigs import KUBECONFIGS
from tests.e2e import manifests
from tests.e2e.fleet import Fleet, unsettled
from tests.e2e.recorder import Object, World, condition, controller, told
from tests.e2e.workload import COMPONENTS, Workload

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

REPLICAS = int(os.environ.get("FLEETWAKE_E2E_CONTROL_PLANES", "3"))
STEP_LIMIT_S = 120.0
STEPS_SEEN_MIN = 3
"""Sets of etcd members that a rollout shows at the least, however slow it is to look."""
REMEDIATION_FOR = "controlplane.cluster.x-k8s.io/remediation-for"
IN_PROGRESS = "controlplane.cluster.x-k8s.io/remediation-in-progress"
ENDS_DAYS = 7
RBAC = "kubeadm:apiserver-kubelet-client"


def planes(world: World, namespace: str, name: str) -> list[Object]:
    """The control plane's Machines, oldest first."""
    found = [one for one in world.all("Machine", namespace, name) if controller(one)[0] == "KubeadmControlPlane"]
    return sorted(found, key=lambda one: (one["metadata"]["creationTimestamp"], one["metadata"]["name"]))


def replaced(machine: Object) -> dict[str, Any]:
    """Which remediation a Machine says that it was made for."""
    return dict(json.loads(machine["metadata"].get("annotations", {}).get(REMEDIATION_FOR, "{}")))


# --- upgrade -----------------------------------------------------------------------------------------------------------------------------------


def test_a_control_plane_is_upgraded_by_two_minor_versions(fleet: Fleet, tmp_path: Path) -> None:
    namespace, name = fleet.namespace("upgrade"), "risen"
    plane, workload = f"kubeadmcontrolplane/{name}-control-plane", Workload(fleet, namespace, name, tmp_path)
    fleet.apply(*manifests.cluster(name, namespace, control_planes=REPLICAS, workers=0, version="v1.30.0"))
    fleet.settle(namespace, name)
    assert workload.configuration()["apiVersion"] == "kubeadm.k8s.io/v1beta3"
    before = {one["metadata"]["uid"] for one in planes(fleet.recorder.world, namespace, name)}

    fleet.patch(namespace, plane, {"spec": {"version": "v1.31.0"}})
    assert _follow_etcd(workload) >= STEPS_SEEN_MIN
    between = {one["metadata"]["uid"] for one in planes(fleet.recorder.world, namespace, name)}
    assert before.isdisjoint(between)
    _all_are_of(workload, "v1.31.0")
    assert workload.images("deployment", "coredns")["coredns"].endswith("/coredns:v1.11.3"), "nobody asked for another CoreDNS"

    dns = {"clusterConfiguration": {"dns": {"imageTag": "v1.12.4"}}}
    fleet.patch(namespace, plane, {"spec": {"version": "v1.32.0", "kubeadmConfigSpec": dns}})
    assert _follow_etcd(workload) >= STEPS_SEEN_MIN
    assert between.isdisjoint(one["metadata"]["uid"] for one in planes(fleet.recorder.world, namespace, name))
    _all_are_of(workload, "v1.32.0")
    assert workload.images("deployment", "coredns")["coredns"].endswith("/coredns:v1.12.4")
    fleet.check_history(namespace)


def _follow_etcd(workload: Workload) -> int:
    """Ask etcd for its members at every step until the cluster is settled; returns how many different sets of them were seen.

    Whatever the step, a member is that of a Machine, and a Machine with a healthy member has one.
    """
    fleet, seen = workload.fleet, set[frozenset[str]]()
    states: dict[str, str] = {}
    while unsettled(fleet.recorder.world, workload.namespace, workload.name):
        known = dict(states)
        fleet.recorder.wait(lambda world, known=known: _as_before(world, workload, known), STEP_LIMIT_S, "the next step")  # type: ignore[misc]
        states = _members_told(fleet.recorder.world, workload)
        try:
            members = workload.etcd_members(max(name for name, state in states.items() if state == "True"))
        except (FleetwakeError, ValueError):
            # the one that was asked is just leaving: what comes next tells more
            continue
        after = _members_told(fleet.recorder.world, workload)
        assert members <= states.keys() | after.keys(), "a member belongs to no Machine"
        assert {name for name, state in states.items() if state == "True" == after.get(name)} <= members, "a healthy member is not in etcd"
        seen.add(frozenset(members))
    return len(seen)


def _members_told(world: World, workload: Workload) -> dict[str, str]:
    """What each Machine says of its member: the status of EtcdMemberHealthy, "" while it is being deleted."""
    machines = planes(world, workload.namespace, workload.name)
    return {one["metadata"]["name"]: "" if "deletionTimestamp" in one["metadata"] else condition(one, "EtcdMemberHealthy") or "" for one in machines}


def _as_before(world: World, workload: Workload, known: dict[str, str]) -> list[str]:
    """Whether nothing has happened to a Machine or its member, and the cluster is not settled."""
    same = _members_told(world, workload) == known and unsettled(world, workload.namespace, workload.name)
    return [f"still {known}"] if same else []


def _all_are_of(workload: Workload, version: str) -> None:
    """Assert that every part of a workload cluster that follows its control plane's version does, and that etcd has the Machines for members."""
    fleet = workload.fleet
    names = {one["metadata"]["name"] for one in planes(fleet.recorder.world, workload.namespace, workload.name)}
    stored = workload.configuration()
    assert (stored["apiVersion"], stored["kubernetesVersion"]) == ("kubeadm.k8s.io/v1beta4", version)
    assert stored["apiServer"]["certSANs"] == ["localhost", "127.0.0.1"]
    pods = workload.images("pods")
    for node in names:
        for component in COMPONENTS:
            assert pods[f"{component}-{node}"].endswith(f"/{component}:{version}")
    assert workload.objects("clusterrolebinding", RBAC)[0]["subjects"][0]["name"] == "kube-apiserver-kubelet-client"
    assert workload.nodes() == names
    assert workload.etcd_members(min(names)) == names
    # kube-proxy is brought up last, when no Machine of the old version is left
    fleet.recorder.wait(lambda _: _lacks_proxy(workload, version), STEP_LIMIT_S, "kube-proxy")


def _lacks_proxy(workload: Workload, version: str) -> list[str]:
    image = workload.images("daemonset", "kube-proxy")["kube-proxy"]
    return [] if image.endswith(f"/kube-proxy:{version}") else [image]


# --- remediation -------------------------------------------------------------------------------------------------------------------------------


class Patient:
    """A control plane whose Machines fail, and a health check that says so."""

    def __init__(self, fleet: Fleet, namespace: str, name: str) -> None:
        self.fleet, self.namespace, self.name = fleet, namespace, name
        self.plane = f"kubeadmcontrolplane/{name}-control-plane"

    def machines(self, world: World | None = None) -> list[Object]:
        """The control plane's Machines, oldest first."""
        return planes(world or self.fleet.recorder.world, self.namespace, self.name)

    def hosts(self, template: str) -> None:
        """Make hosts of another template from now on."""
        ref = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachineTemplate", "name": template}
        self.fleet.patch(self.namespace, self.plane, {"spec": {"machineTemplate": {"spec": {"infrastructureRef": ref}}}})

    def fail(self, machine: str) -> None:
        """Say of a Machine what a health check says of one that is for its owner to remediate."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        verdicts = (("HealthCheckSucceeded", "UnhealthyNode"), ("OwnerRemediated", "WaitingForRemediation"))
        conditions = [{"type": kind, "status": "False", "reason": reason, "message": "", "lastTransitionTime": now} for kind, reason in verdicts]
        body = {
            "apiVersion": manifests.CORE,
            "kind": "Machine",
            "metadata": {"name": machine, "namespace": self.namespace},
            "status": {"conditions": conditions},
        }
        options = ("--server-side", "--force-conflicts", "--field-manager=capi-machinehealthcheck", "--subresource=status")
        self.fleet.kubectl("apply", *options, "-f", "-", stdin=json.dumps(body))

    def wait(self, lacking: Callable[[list[Object]], list[str]], what: str) -> None:
        """Wait until the Machines lack nothing."""
        self.fleet.recorder.wait(lambda world: lacking(self.machines(world)), STEP_LIMIT_S, what)

    def replacement(self, machine: str) -> Object:
        """Wait for the Machine that was made for another, which is gone then; returns it."""

        def lacking(machines: list[Object]) -> list[str]:
            names = [one["metadata"]["name"] for one in machines]
            made = [one for one in machines if replaced(one).get("machine") == machine]
            return [] if made and machine not in names else [f"{machine} is not replaced: {names}"]

        self.wait(lacking, f"a replacement of {machine}")
        return next(one for one in self.machines() if replaced(one).get("machine") == machine)

    def verdict(self, machine: str, reason: str) -> str:
        """Wait until a Machine is told that it is not remediated, for that reason; returns the whole of what it is told."""

        def lacking(machines: list[Object]) -> list[str]:
            texts = [told(one, "OwnerRemediated") for one in machines if one["metadata"]["name"] == machine]
            return [] if any(text.startswith(f"{reason}:") for text in texts) else [f"{machine} is told {texts}"]

        self.wait(lacking, f"{machine} told {reason}")
        return next(told(one, "OwnerRemediated") for one in self.machines() if one["metadata"]["name"] == machine)


def _stuck(count: int) -> Callable[[list[Object]], list[str]]:
    """Whether there are so many Machines, and the youngest has its host asked for and no Node."""

    def lacking(machines: list[Object]) -> list[str]:
        if len(machines) != count:
            return [f"{len(machines)} Machines of {count}"]
        return [] if told(machines[-1], "InfrastructureReady") and not machines[-1]["status"].get("nodeRef") else ["the youngest is not on its way"]

    return lacking


def test_failing_control_plane_machines_are_replaced_one_by_one(fleet: Fleet, tmp_path: Path) -> None:
    namespace, name = fleet.namespace("repair"), "ill"
    patient, single = Patient(fleet, namespace, name), Patient(fleet, namespace, "single")
    good, bad = f"{name}-control-plane", f"{name}-stuck"
    documents = manifests.cluster(name, namespace, control_planes=REPLICAS, workers=0)
    wanted = next(one for one in documents if one["kind"] == "KubeadmControlPlane")["spec"]
    wanted["machineTemplate"]["spec"]["infrastructureRef"]["name"] = bad
    wanted["remediation"] = {"maxRetry": 1, "retryPeriodSeconds": 0, "minHealthyPeriodSeconds": 3600}
    fleet.apply(*documents, manifests.stuck_hosts(bad, namespace), *manifests.cluster("single", namespace, control_planes=1, workers=0))

    # the first Machine never comes up: there is nothing yet that its end could harm
    patient.wait(_stuck(1), "the first Machine on its way")
    first = patient.machines()[0]["metadata"]["name"]
    patient.hosts(good)
    patient.fail(first)
    made = patient.replacement(first)
    assert replaced(made)["retryCount"] == 0
    fleet.settle(namespace, name, "single", limit_s=STEP_LIMIT_S)
    assert IN_PROGRESS not in fleet.api.get(_path(namespace, good))["metadata"].get("annotations", {})

    # one that joins gets stuck, as does its replacement; the others stay
    before = {one["metadata"]["uid"] for one in patient.machines()}
    patient.hosts(bad)
    patient.wait(_stuck(REPLICAS + 1), "one more Machine on its way")
    stuck = patient.machines()[-1]["metadata"]["name"]
    patient.fail(stuck)
    assert replaced(patient.replacement(stuck))["retryCount"] == 0
    patient.hosts(good)
    fleet.settle(namespace, name, limit_s=STEP_LIMIT_S)
    assert {one["metadata"]["uid"] for one in patient.machines()} == before

    # one that was up fails, and its replacement, and once more than may be
    failing = patient.machines()[-1]["metadata"]["name"]
    for count in (0, 1):
        patient.fail(failing)
        made = patient.replacement(failing)
        assert replaced(made)["retryCount"] == count
        failing = made["metadata"]["name"]
        fleet.settle(namespace, name, limit_s=STEP_LIMIT_S)
    patient.fail(failing)
    assert "(MaxRetry)" in patient.verdict(failing, "CannotBeRemediated")

    # the only Machine of a control plane is left alone
    only = single.machines()[0]["metadata"]["name"]
    single.fail(only)
    assert "less or equal to 1" in single.verdict(only, "CannotBeRemediated")
    assert condition(single.machines()[0], "HealthCheckSucceeded") == "False"

    workload = Workload(fleet, namespace, name, tmp_path)
    names = {one["metadata"]["name"] for one in patient.machines()}
    assert len(names) == REPLICAS
    assert workload.etcd_members(min(names)) == names
    fleet.check_history(namespace)
    # what stays unhealthy would keep the fleet from ever being settled
    fleet.kubectl("-n", namespace, "delete", "clusters", "--all", "--timeout=60s")


# --- adoption, certificates --------------------------------------------------------------------------------------------------------------------


def test_a_machine_without_owners_is_taken_back_and_one_whose_certificates_end_is_replaced(fleet: Fleet, tmp_path: Path) -> None:
    namespace, name = fleet.namespace("certificates"), "aged"
    plane, workload = f"kubeadmcontrolplane/{name}-control-plane", Workload(fleet, namespace, name, tmp_path)
    fleet.apply(*manifests.cluster(name, namespace, control_planes=REPLICAS, workers=0))
    fleet.settle(namespace, name)
    before = {one["metadata"]["name"]: one["metadata"]["uid"] for one in planes(fleet.recorder.world, namespace, name)}

    # as a restore from a backup leaves it
    lost, *_, ending = before
    fleet.patch(namespace, f"machine/{lost}", {"metadata": {"ownerReferences": None}})
    fleet.recorder.wait(lambda world: _not_those(planes(world, namespace, name), before), STEP_LIMIT_S, "the Machine's owner")
    fleet.settle(namespace, name)

    # as a host says whose certificates were made by somebody else
    end = (datetime.now(UTC) + timedelta(days=ENDS_DAYS)).strftime("%Y-%m-%dT%H:%M:%SZ")
    fleet.patch(namespace, f"kubeadmconfig/{ending}", {"metadata": {"annotations": {CERTIFICATES_EXPIRY: end}}})
    fleet.recorder.wait(lambda world: _other_end(world.get("Machine", namespace, ending), end), STEP_LIMIT_S, "the certificates' end in the Machine's status")
    fleet.patch(namespace, plane, {"spec": {"rollout": {"before": {"certificatesExpiryDays": ENDS_DAYS + 1}}}})
    fleet.recorder.wait(lambda world: _still(planes(world, namespace, name), before[ending]), STEP_LIMIT_S, "the Machine replaced")
    fleet.settle(namespace, name)
    after = {one["metadata"]["name"]: one["metadata"]["uid"] for one in planes(fleet.recorder.world, namespace, name)}
    assert len(after) == REPLICAS
    assert before.items() - after.items() == {(ending, before[ending])}, "only the one whose certificates end goes"
    assert workload.etcd_members(lost) == after.keys()
    fleet.check_history(namespace)


def _not_those(machines: list[Object], uids: dict[str, str]) -> list[str]:
    found = {one["metadata"]["name"]: one["metadata"]["uid"] for one in machines}
    return [] if found == uids else [f"{found} are the control plane's"]


def _other_end(machine: Object | None, end: str) -> list[str]:
    told_end = (machine or {}).get("status", {}).get("certificatesExpiryDate")
    return [] if told_end == end else [f"the Machine says {told_end}"]


def _still(machines: list[Object], uid: str) -> list[str]:
    return [one["metadata"]["name"] for one in machines if one["metadata"]["uid"] == uid]


# --- declared kubeconfigs ----------------------------------------------------------------------------------------------------------------------


def test_declared_kubeconfigs_are_made_and_revoked(fleet: Fleet, tmp_path: Path) -> None:
    namespace, name = fleet.namespace("kubeconfigs"), "shared"
    plane, access = f"kubeadmcontrolplane/{name}-control-plane", "fleetwake:kubeconfig:viewers"
    workload, secret = Workload(fleet, namespace, name, tmp_path), f"{name}-kubeconfig-viewers"
    documents = manifests.cluster(name, namespace, control_planes=1, workers=0)
    declared = yaml.safe_dump([{"name": "viewers", "user": "jane", "groups": ["viewers"], "lifetimeHours": 24}])
    next(one for one in documents if one["kind"] == "KubeadmControlPlane")["metadata"]["annotations"] = {KUBECONFIGS: declared}
    fleet.apply(*documents)
    fleet.settle(namespace, name)
    fleet.recorder.wait(lambda world: [] if world.get("Secret", namespace, secret) else [secret], STEP_LIMIT_S, "the kubeconfig")
    held = fleet.api.get(f"/api/v1/namespaces/{namespace}/secrets/{secret}")
    path = tmp_path / "jane"
    path.write_bytes(base64.b64decode(held["data"]["value"]))
    assert yaml.safe_load(path.read_bytes())["users"][0]["user"]["as"] == "jane"
    assert name in fleet.kubectl("get", "nodes", "-o", "name", kubeconfig=str(path))
    assert workload.objects("clusterrolebinding", access)[0]["subjects"][0]["name"] == f"{access}:1"
    own = Path(fleet.workload_kubeconfig(namespace, name, tmp_path))
    assert "as" not in yaml.safe_load(own.read_bytes())["users"][0]["user"], "the controllers' own is another"

    fleet.patch(namespace, plane, {"metadata": {"annotations": {KUBECONFIGS: None}}})
    fleet.recorder.wait(lambda world: [secret] if world.get("Secret", namespace, secret) else [], STEP_LIMIT_S, "the kubeconfig gone")
    assert access not in {one["metadata"]["name"] for one in workload.objects("clusterrolebindings")}
    assert access not in {one["metadata"]["name"] for one in workload.objects("clusterroles")}
    fleet.check_history(namespace)


def _path(namespace: str, plane: str) -> str:
    return f"/apis/{manifests.CONTROL_PLANE}/namespaces/{namespace}/kubeadmcontrolplanes/{plane}"
