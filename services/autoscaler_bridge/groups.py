"""The node groups of one workload cluster, read from the worker's cache: nobody is asked.

A cluster-autoscaler asks for the group of each of its Nodes in every loop, so the Machines' providerIDs are kept in an index that follows the events.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from fleetwake import labels
from fleetwake.errors import DecodeError
from fleetwake.kind import Change
from fleetwake.shell.view import CacheView, Surroundings
from fleetwake.shell.worker import Worker
from fleetwake.stream.partition import partition_of
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.autoscaler_bridge.kinds.node_group.bounds import Bounds
from services.autoscaler_bridge.kinds.node_group.instances import machine_of
from services.autoscaler_bridge.kinds.node_group.observed import MODELS, Observed, Scalable, observe
from services.autoscaler_bridge.kinds.node_group.reconcile import served

CLUSTER = GroupKind("cluster.x-k8s.io", "Cluster")
MACHINE = GroupKind(Machine.GROUP, Machine.KIND)
BY_KIND: Mapping[str, type[Scalable]] = {model.KIND: model for model in MODELS}


def id_of(key: ObjectKey) -> str:
    """How cluster-autoscaler names a group, its clusterapi provider included."""
    return f"{key.kind}/{key.namespace}/{key.name}"


def key_of_id(text: str) -> ObjectKey | None:
    """The object that a group's id names; None if it names none."""
    kind, _, rest = text.partition("/")
    namespace, _, name = rest.partition("/")
    model = BY_KIND.get(kind)
    return ObjectKey(model.GROUP, kind, namespace, name) if model is not None and namespace and name and "/" not in name else None


class Hosts:
    """Machines by the providerID of their host."""

    def __init__(self) -> None:
        self._machines: dict[tuple[str, str], set[ObjectKey]] = {}

    def changed(self, change: Change) -> None:
        """Follow a Machine."""
        if change.key.group_kind != MACHINE:
            return
        before, after = _provider_id(change.before), _provider_id(change.after)
        if before != after or change.before is None:
            if before and (held := self._machines.get((change.key.namespace, before))) is not None:
                held.discard(change.key)
                if not held:
                    del self._machines[change.key.namespace, before]
            if after:
                self._machines.setdefault((change.key.namespace, after), set()).add(change.key)

    def find(self, namespace: str, provider_id: str) -> Iterable[ObjectKey]:
        """The Machines of a namespace on a host: one, unless a provider has made a mistake."""
        return sorted(self._machines.get((namespace, provider_id), ()))


def _provider_id(state: Mapping[str, Any] | None) -> str:
    return str(((state or {}).get("spec") or {}).get("providerID") or "")


class Groups:
    """See the module."""

    def __init__(self, worker: Worker, hosts: Hosts) -> None:
        self._worker, self._hosts = worker, hosts

    def lacking(self, cluster: ClusterKey) -> str:
        """Why this process cannot speak for the cluster now; empty when it can."""
        number = partition_of(str(cluster), self._worker.options.partitions)
        partition = self._worker.partitions.get(number)
        if partition is None or not (partition.ready and partition.swept):
            return f"partition {number}, where {cluster} lives, is another worker's, or is being replayed"
        return ""

    def exists(self, cluster: ClusterKey) -> bool:
        """Whether there is such a Cluster."""
        return self._worker.cache.get(ObjectKey(CLUSTER.group, CLUSTER.kind, cluster.namespace, cluster.name)) is not None

    def read(self, cluster: ClusterKey, key: ObjectKey) -> Observed | None:
        """One object that may be a group, if it is the cluster's and can be read."""
        held, model = self._worker.cache.get(key), BY_KIND.get(key.kind)
        if held is None or held.cluster != str(cluster) or model is None:
            return None
        around = Surroundings(self._worker.workloads.state, None, self._worker.options.locals)
        view = CacheView(key, self._worker.cache, self._worker.resources, self._worker.ports.clock.now(), around)
        try:
            return observe(view, model, key)
        except (DecodeError, ValidationError):
            # its own run tells so, in a condition; the other groups go on
            return None

    def of_cluster(self, cluster: ClusterKey) -> Iterable[tuple[Observed, Bounds]]:
        """The groups that are served."""
        for model in MODELS:
            for entry in self._worker.cache.of_cluster(GroupKind(model.GROUP, model.KIND), str(cluster)):
                if labels.AUTOSCALER_MAX_SIZE not in ((entry.state.get("metadata") or {}).get("annotations") or {}):
                    continue
                found = self.read(cluster, entry.key)
                bounds = served(found) if found is not None else None
                if found is not None and bounds is not None:
                    yield found, bounds

    def machine(self, cluster: ClusterKey, provider_id: str, node: str) -> Machine | None:
        """The Machine of a Node, or of a placeholder of ours."""
        keys = self._hosts.find(cluster.namespace, provider_id) if provider_id else ()
        entries = [held for key in keys if (held := self._worker.cache.get(key)) is not None and held.cluster == str(cluster)]
        if not entries:
            entries = self._worker.cache.of_cluster(MACHINE, str(cluster))
        found = (self._worker.lookup.read(Machine, entry.key) for entry in entries)
        return machine_of(provider_id, node, (machine for machine in found if machine is not None))

    def of_machine(self, machine: Machine) -> ObjectKey | None:
        """The object that holds the Machine: its deployment's, set's or pool's key."""
        owner = machine.metadata.controller
        if owner is None or owner.kind not in BY_KIND:
            return None
        key = ObjectKey(owner.group, owner.kind, machine.namespace, owner.name)
        if owner.kind != MachineSet.KIND:
            return key
        found = self._worker.lookup.read(MachineSet, key)
        above = found.metadata.controller if found is not None else None
        return ObjectKey(above.group, above.kind, key.namespace, above.name) if above is not None and above.kind == MachineDeployment.KIND else key
