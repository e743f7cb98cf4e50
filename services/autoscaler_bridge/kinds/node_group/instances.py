"""The hosts of a node group as cluster-autoscaler counts them.

A Machine that has no Node yet, fails, or goes has no providerID that a Node has: it stands under an id of its own, of which the prefix tells what it is and
the rest which Machine. cluster-autoscaler sends such an id back when it gives the Machine up.

Source: kinds.md §15; cluster-autoscaler 1.36 clusterapi provider (placeholder ids, their order; states and codes of instances).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_pool import MachinePool
from services.autoscaler_bridge.kinds.node_group.observed import Observed, registered

PENDING, FAILED, DELETING = "pending-machine-", "failed-machine-", "deleting-machine-"
SEPARATOR = "_"
"""Between namespace and name: neither may contain it."""

State = Literal["running", "creating", "deleting"]


@dataclass(frozen=True, slots=True)
class Instance:
    """One host: its id, what it does, and what is wrong with it (a word for programs, and a message)."""

    id: str
    state: State
    error: str = ""
    message: str = ""


def instances(observed: Observed) -> tuple[Instance, ...]:
    """The hosts of the group. Of a pool whose provider makes no Machines, those that it lists."""
    if isinstance(observed.obj, MachinePool) and not observed.machines:
        return tuple(Instance(one, "running") for one in observed.obj.spec.provider_id_list)
    return tuple(one for machine in observed.machines if (one := instance(machine)) is not None)


def instance(machine: Machine) -> Instance | None:
    """The Machine as a host; None where it has a Node but nothing says which host that is."""
    failure = machine.status.deprecated.v1beta1.failure_message
    if failure and not registered(machine):
        error = "DeletingFailed" if machine.metadata.deleting else "ProvisioningFailed"
        return Instance(_placeholder(FAILED, machine), "deleting" if machine.metadata.deleting else "creating", error, failure)
    if machine.metadata.deleting:
        return Instance(_placeholder(DELETING, machine), "deleting")
    if not registered(machine):
        return Instance(_placeholder(PENDING, machine), "creating")
    return Instance(machine.spec.provider_id, "running") if machine.spec.provider_id else None


def _placeholder(prefix: str, machine: Machine) -> str:
    return f"{prefix}{machine.namespace}{SEPARATOR}{machine.name}"


def machine_of(provider_id: str, node: str, machines: Iterable[Machine]) -> Machine | None:
    """The Machine that a Node, known by its providerID or else by its name, stands on; or that a placeholder names."""
    candidates = tuple(machines)
    for prefix in (PENDING, FAILED, DELETING):
        if provider_id.startswith(prefix):
            namespace, _, name = provider_id.removeprefix(prefix).partition(SEPARATOR)
            return next((one for one in candidates if (one.namespace, one.name) == (namespace, name)), None)
    if provider_id:
        return next((one for one in candidates if one.spec.provider_id == provider_id), None)
    return next((one for one in candidates if one.status.node_ref is not None and one.status.node_ref.name == node), None) if node else None
