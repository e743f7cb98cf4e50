"""Emulated infrastructure without sockets: what DevCluster and DevMachine ask for happens at once, in workload clusters kept in memory.

The kinds of the development provider decide; this carries their ``Local`` steps out in place of its emulator, whose listeners need a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fleetwake.errors import RetryableError
from fleetwake.shell.ports import Clock
from fleetwake.sim.apiserver import ApiStatusError, DeleteOptions, WriteOptions
from fleetwake.sim.etcd import EtcdRefusal
from fleetwake.sim.workloads import SimWorkload
from schemas.api.infrastructure.v1beta2 import DevCluster, DevMachine
from schemas.keys import ClusterKey, ObjectKey
from services.dev_infrastructure.emulation import objects
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, NODE, ClusterArguments, ClusterState, MachineArguments, MachineState

AS_KUBELET = WriteOptions(field_manager="kubelet")
FIRST_PORT = 20000
CONTROL_PLANE_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


class SimProvider:
    """See the module. ``states`` is what ``view.local("clusters")`` shows; it outlives every worker, as the real one's disk does."""

    def __init__(self, clock: Clock, wake: Callable[[ObjectKey], None]) -> None:
        self._clock, self._wake = clock, wake
        self.states: dict[str, ClusterState] = {}
        self.workloads: dict[ClusterKey, SimWorkload] = {}
        self.hosts: dict[str, MachineArguments] = {}
        self.actions: Mapping[str, Any] = {
            "ensure_cluster": self.ensure_cluster,
            "ensure_machine": self.ensure_machine,
            "remove_machine": self.remove_machine,
            "remove_cluster": self.remove_cluster,
        }

    async def ensure_cluster(self, arguments: Mapping[str, Any]) -> None:
        """Reserve an endpoint."""
        wanted = ClusterArguments(**arguments)
        held = self.states.get(wanted.cluster)
        if held is None or held.uid != wanted.uid:
            port = wanted.port or FIRST_PORT + len(self.states)
            self.states[wanted.cluster] = ClusterState(wanted.uid, wanted.host or "127.0.0.1", port)
            key = ClusterKey.parse(wanted.cluster)
            self.workloads[key] = SimWorkload(key, wanted.uid, self._clock)
        self.states[wanted.cluster] = replace(self.states[wanted.cluster], faults=wanted.faults)
        self._wake(ObjectKey(DevCluster.GROUP, DevCluster.KIND, ClusterKey.parse(wanted.cluster).namespace, wanted.name))

    async def remove_cluster(self, arguments: Mapping[str, Any]) -> None:
        """Take an emulated cluster away."""
        for name, state in list(self.states.items()):
            if state.uid == arguments["uid"]:
                del self.states[name]
                workload = self.workloads.pop(ClusterKey.parse(name), None)
                if workload is not None:
                    workload.sever()

    async def keep_only(self, uids: frozenset[str]) -> None:
        """Forget clusters and hosts whose DevCluster or DevMachine is not among these: they went while nobody looked."""
        for state in [state for state in self.states.values() if state.uid not in uids]:
            await self.remove_cluster({"uid": state.uid})
        for uid in [uid for state in self.states.values() for uid in state.machines if uid not in uids]:
            await self.remove_machine({"uid": uid})

    async def ensure_machine(self, arguments: Mapping[str, Any]) -> None:
        """Bring a host to the stages asked for."""
        wanted = MachineArguments(**arguments)
        state = self.states.get(wanted.cluster)
        if state is None:
            return
        mine = state.machines.get(wanted.uid) or MachineState(self._clock.now())
        done = dict(mine.done)
        for stage in wanted.stages:
            if stage not in done:
                self._reach(self.workloads[ClusterKey.parse(wanted.cluster)], stage, wanted)
                done[stage] = self._clock.now()
        self.hosts[wanted.uid] = wanted
        self.states[wanted.cluster] = replace(state, machines={**state.machines, wanted.uid: MachineState(mine.requested, done, faults=wanted.faults)})
        self._wake(ObjectKey(DevMachine.GROUP, DevMachine.KIND, ClusterKey.parse(wanted.cluster).namespace, wanted.name))

    def _reach(self, workload: SimWorkload, stage: str, wanted: MachineArguments) -> None:
        now = self._clock.now()
        if stage == NODE:
            taints = (CONTROL_PLANE_TAINT,) if wanted.control_plane else ()
            facts = objects.NodeFacts(
                wanted.machine, wanted.uid, wanted.provider_id, wanted.version, wanted.address, wanted.zone, wanted.control_plane, taints=taints
            )
            if wanted.control_plane and not self._has(workload, "configmaps", "kube-system", "kubeadm-config"):
                self._init(workload, wanted)
            self._create(workload, "nodes", objects.node(facts, now), "")
            if wanted.control_plane:
                for component in ("kube-controller-manager", "kube-scheduler"):
                    self._static_pod(workload, wanted, component)
        elif stage == ETCD:
            member = workload.etcd.find(wanted.machine)
            if member is None or not member.running:
                try:
                    workload.etcd.add(wanted.machine, (f"https://{wanted.address}:2380",))
                except EtcdRefusal as refusal:
                    raise RetryableError(refusal.message, operation="kubeadm join") from refusal
            self._static_pod(workload, wanted, "etcd")
        elif stage == API_SERVER:
            self._static_pod(workload, wanted, "kube-apiserver")
            workload.serving = True

    def _init(self, workload: SimWorkload, wanted: MachineArguments) -> None:
        state = self.states[wanted.cluster]
        configuration = objects.minimal_configuration(workload.cluster.name, f"{state.host}:{state.port}", wanted.version)
        for resource, body in objects.cluster_objects(configuration, wanted.version):
            self._create(workload, resource, body, str(body["metadata"].get("namespace", "")))

    def _static_pod(self, workload: SimWorkload, wanted: MachineArguments, component: str) -> None:
        node = workload.server.get("nodes", "", wanted.machine)
        pod = objects.static_pod(component, node, wanted.version)
        pod["status"] = objects.running(pod, wanted.address, self._clock.now())
        self._create(workload, "pods", pod, "kube-system")

    @staticmethod
    def _has(workload: SimWorkload, resource: str, namespace: str, name: str) -> bool:
        return name in workload.server.store.tables.get(resource, {}).get(namespace, {})

    @staticmethod
    def _create(workload: SimWorkload, resource: str, body: dict[str, Any], namespace: str) -> None:
        status = body.get("status")
        try:
            made = workload.server.create(resource, body, namespace, AS_KUBELET)
        except ApiStatusError as error:
            if error.code != 409:
                raise
            return
        if status is not None and made.get("status") != status:
            told = WriteOptions(field_manager="kubelet", subresource="status")
            workload.server.update(resource, {**made, "status": status}, namespace, told)

    async def remove_machine(self, arguments: Mapping[str, Any]) -> None:
        """Switch a host off: its static pods, its etcd member and its API server go; the Node stays."""
        wanted = self.hosts.pop(arguments["uid"], None)
        if wanted is None:
            return
        state = self.states.get(wanted.cluster)
        if state is not None:
            left = {uid: machine for uid, machine in state.machines.items() if uid != wanted.uid}
            self.states[wanted.cluster] = replace(state, machines=left)
        workload = self.workloads.get(ClusterKey.parse(wanted.cluster))
        if workload is None or not wanted.control_plane:
            return
        for component in objects.STATIC_PODS:
            name = f"{component}-{wanted.machine}"
            if self._has(workload, "pods", "kube-system", name):
                workload.server.delete("pods", "kube-system", name, DeleteOptions(grace_seconds=0))
        workload.serving = any(host.control_plane and host.cluster == wanted.cluster for host in self.hosts.values())
        member = workload.etcd.find(wanted.machine)
        if member is not None:
            workload.etcd.lose(member.id)
        if not workload.serving:
            # nothing is left of it: what comes next begins with nothing
            for left in tuple(workload.etcd.members):
                workload.etcd.forget(left)
