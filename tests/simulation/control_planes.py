"""What happens to control planes of three in simulations: a rollout, and the remediation of a Machine. Their etcd never loses a member that runs."""

from __future__ import annotations

import asyncio
from typing import Any

from fleetwake import yaml_text
from fleetwake.sim.apiserver import Change, PatchType, WriteOptions
from fleetwake.sim.oracle import CONTROL_PLANES, MACHINES, Oracle
from fleetwake.sim.workloads import SimWorkload
from tests.simulation.fleet import Fleet
from tests.simulation.manifests import cluster
from tests.simulation.scenarios import AVAILABLE_SECONDS, Scenario, patch, unfinished

Json = dict[str, Any]
AFTER_NEXT = "v1.34.2"
CONTROL_PLANE = "cluster.x-k8s.io/control-plane"
HEALTH_CHECK = WriteOptions(field_manager="capi-machinehealthcheck", force=True, subresource="status")
LONGEST_SECONDS = 60.0
"""How long faults may go on while Machines are replaced; a rollout of three takes about this long without any."""


def _planes(fleet: Fleet) -> list[Json]:
    return [one for one in fleet.objects("Machine") if CONTROL_PLANE in one["metadata"]["labels"]]


def _workload(fleet: Fleet) -> SimWorkload:
    return next(iter(fleet.provider.workloads.values()))


def _guard_members(fleet: Fleet, broken: set[str]) -> None:
    """A host whose etcd member is still listed may not be switched off, unless it had broken before: that is how a quorum is lost."""
    told = set(broken)

    def look(_: Change) -> None:
        for workload in fleet.provider.workloads.values():
            for member in workload.etcd.members.values():
                if not member.running and member.name not in broken | told:
                    told.add(member.name)
                    fleet.violation(f"the host of etcd member {member.name} was switched off while the member was listed")

    fleet.api.on_change(look)


async def _stand(fleet: Fleet) -> None:
    fleet.apply(cluster(control_planes=3, workers=0, startup_seconds=fleet.random.choice((0.0, 1.0))))
    await fleet.until("three control planes", lambda: not unfinished(fleet, workers=0, control_planes=3), AVAILABLE_SECONDS)


async def roll_out(fleet: Fleet, oracle: Oracle) -> None:
    """Change the control plane's version, with one Machine too many or one too few; now and then another setting on the way."""
    await _stand(fleet)
    _guard_members(fleet, set())
    surge = fleet.random.choice((0, 1))
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge}}
    patch(fleet, CONTROL_PLANES, "demo-cp", {"spec": {"version": AFTER_NEXT, "rollout": {"strategy": strategy}}})
    await asyncio.sleep(fleet.random.uniform(0, LONGEST_SECONDS))
    if fleet.random.random() < 0.3:
        patch(fleet, CONTROL_PLANES, "demo-cp", {"spec": {"kubeadmConfigSpec": {"preKubeadmCommands": ["date"]}}})
        await asyncio.sleep(fleet.random.uniform(0, LONGEST_SECONDS))


async def remediate(fleet: Fleet, oracle: Oracle) -> None:
    """A health check hands a Machine over; often its host is dead."""
    await _stand(fleet)
    victim = str(fleet.random.choice(_planes(fleet))["metadata"]["name"])
    broken: set[str] = set()
    _guard_members(fleet, broken)
    if fleet.random.random() < 0.6:
        broken.add(victim)
        _break(fleet, victim)
    _hand_over(fleet, victim)
    await asyncio.sleep(fleet.random.uniform(0, LONGEST_SECONDS))


def _break(fleet: Fleet, name: str) -> None:
    """A host dies: its etcd member is away, its Pods are seen not to be ready."""
    workload = _workload(fleet)
    member = workload.etcd.find(name)
    assert member is not None
    workload.etcd.set_running(member.id, False)
    for pod in workload.server.list("pods", "kube-system")["items"]:
        if pod["spec"].get("nodeName") == name:
            status = {"conditions": [{**one, "status": "False"} for one in pod["status"]["conditions"]]}
            told = WriteOptions(field_manager="kube-controller-manager", subresource="status")
            workload.server.patch("pods", ("kube-system", pod["metadata"]["name"]), {"status": status}, PatchType.MERGE, told)


def _hand_over(fleet: Fleet, name: str) -> None:
    stamp = fleet.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    verdicts = (("HealthCheckSucceeded", "NodeNotReady"), ("OwnerRemediated", "WaitingForRemediation"))
    conditions = [{"type": kind, "status": "False", "reason": reason, "message": "", "lastTransitionTime": stamp} for kind, reason in verdicts]
    body = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "status": {"conditions": conditions}}
    fleet.api.patch(MACHINES, ("default", name), body, PatchType.APPLY, HEALTH_CHECK)


# --- what must come true -----------------------------------------------------------------------------------------------------------------------


def whole(fleet: Fleet) -> str:
    """What keeps a control plane of three from being whole, etcd with it; "" when nothing does."""
    found = unfinished(fleet, workers=0, control_planes=3)
    if found:
        return found
    members = {member.name: member.running for member in _workload(fleet).etcd.members.values()}
    names = {one["metadata"]["name"] for one in _planes(fleet)}
    return "" if members == dict.fromkeys(names, True) else f"etcd has {members}, the Machines are {sorted(names)}"


def _rolled_out(fleet: Fleet) -> str:
    found = whole(fleet)
    if found:
        return found
    old = [one["metadata"]["name"] for one in _planes(fleet) if one["spec"]["version"] != AFTER_NEXT]
    if old:
        return f"{', '.join(old)} are not of {AFTER_NEXT}"
    server = _workload(fleet).server
    stored = yaml_text.load(server.get("configmaps", "kube-system", "kubeadm-config")["data"]["ClusterConfiguration"])
    image = server.get("daemonsets.apps", "kube-system", "kube-proxy")["spec"]["template"]["spec"]["containers"][0]["image"]
    return "" if stored["kubernetesVersion"] == AFTER_NEXT and image.endswith(f":{AFTER_NEXT}") else f"{stored['kubernetesVersion']} is stored, {image} runs"


def _remediated(fleet: Fleet) -> str:
    found = whole(fleet)
    if found:
        return found
    plane = fleet.api.get(CONTROL_PLANES, "default", "demo-cp")
    if "controlplane.cluster.x-k8s.io/remediation-in-progress" in plane["metadata"].get("annotations", {}):
        return "the remediation is still noted"
    made = [one for one in _planes(fleet) if "controlplane.cluster.x-k8s.io/remediation-for" in one["metadata"].get("annotations", {})]
    return "" if len(made) == 1 else f"{len(made)} Machines say that they replace another"


REPLACEMENTS: tuple[Scenario, ...] = (
    Scenario("control plane rollout", roll_out, _rolled_out),
    Scenario("control plane remediation", remediate, _remediated),
)
