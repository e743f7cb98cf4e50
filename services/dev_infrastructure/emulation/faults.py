"""What befalls emulated hosts and clusters that are told to fail, and how it ends again.

The decisions ask for faults (``services.dev_infrastructure.kinds.faults``); here they become what a real cluster would show: a Node that is not Ready or not
heard of, pods that crash, an alarm in etcd, connections that nobody answers. After a restart of the provider they are asked for again.

Source: workload.md §4; Kubernetes 1.36 (node lifecycle controller, kubelet, kubeadm), etcd 3.6 (alarms).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from fleetwake.sim.apiserver.store import Key
from services.dev_infrastructure.emulation import objects
from services.dev_infrastructure.emulation.bootstrap_data import SENTINEL
from services.dev_infrastructure.emulation.cluster import EmulatedCluster, Host
from services.dev_infrastructure.emulation.kubelet import AS_KUBELET
from services.dev_infrastructure.emulation.user_data import BootstrapError
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, NO_FAULTS, NODE, VM, ClusterState, Faults

TOLD = "the kubelet was told to fail by annotation"
FAILURES = {
    VM: "the host does not start",
    NODE: f"kubeadm failed: {SENTINEL} was not written",
    ETCD: "kubeadm failed: the etcd member does not start",
    API_SERVER: "kubeadm failed: the API server does not answer",
}
"""What a host says that gets no further than before a stage."""


def refuse(host: Host, stage: str, wanted: Faults) -> None:
    """Let a host get no further if it is told so.

    Raises:
        BootstrapError: it is.
    """
    if wanted.fail_bootstrap == stage:
        raise BootstrapError(f"{FAILURES[stage]} (told to fail by annotation)")


class Inflicted:
    """The faults that are in force. ``shown`` is what the decisions see of them, so that they ask only for what is not so yet."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._hosts: dict[str, Faults] = {}
        self._clusters: dict[str, Faults] = {}

    def shown(self, cluster: EmulatedCluster) -> ClusterState:
        """The cluster as decisions see it."""
        state = cluster.state()
        machines = {uid: replace(machine, faults=self._hosts.get(uid, NO_FAULTS)) for uid, machine in state.machines.items()}
        return replace(state, machines=machines, faults=self._clusters.get(cluster.uid, NO_FAULTS))

    def drop(self, cluster: EmulatedCluster) -> None:
        """The cluster is gone."""
        self._clusters.pop(cluster.uid, None)
        for uid in cluster.hosts:
            self._hosts.pop(uid, None)

    def forget(self, cluster: EmulatedCluster, uid: str) -> None:
        """The host is switched off."""
        self._hosts.pop(uid, None)
        cluster.afflictions.down.discard(uid)
        cluster.afflictions.lost.discard(uid)

    async def on_cluster(self, cluster: EmulatedCluster, wanted: Faults) -> None:
        """Let a cluster suffer exactly this."""
        self._clusters[cluster.uid] = wanted
        cluster.afflictions.cut, cluster.afflictions.slow_seconds = wanted.partition, wanted.slow_seconds
        await cluster.serve()

    async def on_host(self, cluster: EmulatedCluster, host: Host, wanted: Faults) -> None:
        """Let a host suffer exactly this, as far as it has come up; repeated when it has come further."""
        before = self._hosts.get(host.uid, NO_FAULTS)
        self._hosts[host.uid] = wanted
        afflictions = cluster.afflictions
        _in(afflictions.lost, host.uid, wanted.partition or wanted.node_not_ready == "Unknown")
        _in(afflictions.down, host.uid, wanted.partition or wanted.api_server_down)
        if NODE in host.done:
            self._node(cluster, host, wanted)
        if host.member_id in cluster.etcd.members:
            self._etcd(cluster, host, before, wanted)
        if API_SERVER in host.done:
            _pod(cluster, f"kube-apiserver-{host.name}", self._now(), runs=not wanted.api_server_down)
            await cluster.serve()

    def _node(self, cluster: EmulatedCluster, host: Host, wanted: Faults) -> None:
        if wanted.node_not_ready == "Unknown":
            cluster.tell_silent(host.name)
        elif wanted.partition:
            cluster.miss(host.name)
        elif wanted.node_not_ready:
            _tell_node(cluster, host.name, objects.node_conditions(self._now(), ready=TOLD))
        elif _afflicted(cluster, host.name):
            _tell_node(cluster, host.name, objects.node_conditions(self._now()))

    @staticmethod
    def _etcd(cluster: EmulatedCluster, host: Host, before: Faults, wanted: Faults) -> None:
        etcd = cluster.etcd
        if before.etcd_alarm and before.etcd_alarm != wanted.etcd_alarm:
            etcd.disarm(host.member_id, before.etcd_alarm)
        if wanted.etcd_alarm:
            etcd.raise_alarm(host.member_id, wanted.etcd_alarm)
        if etcd.members[host.member_id].running == wanted.partition:
            etcd.set_running(host.member_id, not wanted.partition)


def _in(members: set[str], uid: str, wanted: bool) -> None:
    (members.add if wanted else members.discard)(uid)


def _tell_node(cluster: EmulatedCluster, name: str, conditions: list[dict[str, Any]]) -> None:
    """Let a Node say this of itself and be reachable; nothing when it does already."""
    found = cluster.server.store.get(Key("nodes", "", name))
    if found is None or "deletionTimestamp" in found.obj["metadata"]:
        return
    node = found.obj
    taints = node.get("spec", {}).get("taints") or ()
    reachable = [one for one in taints if one.get("key") != objects.UNREACHABLE_TAINT]
    if len(reachable) != len(taints):
        cluster.server.update("nodes", {**node, "spec": {**node["spec"], "taints": reachable}})
        node = cluster.server.get("nodes", "", name)
    held = {one["type"]: one for one in node.get("status", {}).get("conditions") or ()}
    wanted = [_kept(held.get(one["type"]), one) for one in conditions]
    if wanted != node.get("status", {}).get("conditions"):
        cluster.server.update("nodes", {**node, "status": {**node.get("status", {}), "conditions": wanted}}, "", AS_KUBELET)


def _afflicted(cluster: EmulatedCluster, name: str) -> bool:
    """Whether the Node still shows a fault of ours; what others wrote into it stays."""
    found = cluster.server.store.get(Key("nodes", "", name))
    node = found.obj if found is not None else {}
    unreachable = any(one.get("key") == objects.UNREACHABLE_TAINT for one in node.get("spec", {}).get("taints") or ())
    return unreachable or any(one.get("message") == TOLD for one in node.get("status", {}).get("conditions") or ())


def _kept(held: dict[str, Any] | None, wanted: dict[str, Any]) -> dict[str, Any]:
    """The condition as held if it says the same already: its times stay."""
    same = held is not None and all(held.get(name) == wanted[name] for name in ("status", "reason", "message"))
    return held if held is not None and same else wanted


def _pod(cluster: EmulatedCluster, name: str, at: datetime, *, runs: bool) -> None:
    """Let the containers of a static pod run, or crash as often as they are started."""
    found = cluster.server.store.get(Key("pods", objects.SYSTEM, name))
    if found is None or "deletionTimestamp" in found.obj["metadata"]:
        return
    status = found.obj.get("status") or {}
    containers = status.get("containerStatuses") or ()
    if all(bool(one.get("ready")) == runs for one in containers):
        return
    if runs:
        told = objects.running(found.obj, str(status.get("podIP", "")), at)
    else:
        ended = {"ready": False, "started": False, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": {"exitCode": 1}}}
        flipped = {"status": "False", "lastTransitionTime": objects.timestamp(at)}
        conditions = [{**one, **flipped} if one["type"] in ("Ready", "ContainersReady") else one for one in status.get("conditions", ())]
        told = {**status, "conditions": conditions, "containerStatuses": [{**one, **ended} for one in containers]}
    cluster.server.update("pods", {**found.obj, "status": told}, objects.SYSTEM, AS_KUBELET)
