"""The Machines that stand for the hosts of a MachinePool.

The infrastructure makes the hosts and tells of each by an object of its own; here a Machine of the same name is made for it, so that a single host can be
drained, checked, remediated and deleted. Which hosts go is the infrastructure's choice: it deletes their Machines.

Source: kinds.md §6 step 5; contracts.md §4; Cluster API v1.14 MachinePool controller (fields of the Machines, UpToDate of a Machine being deleted).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, get, merge
from fleetwake.contracts import InfraMachine
from fleetwake.kind import External
from fleetwake.patches import Informing, api_version_of, key_of, owner_reference, owner_wire, pruned, wire
from fleetwake.plan import Apply, Create, Delete, Step, Together
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_pool import MachinePool
from services.reconcilers.kinds.machine_pool.observed import Node, Observed, pool_labels
from services.reconcilers.kinds.machine_set.members import to_be_remediated
from services.reconcilers.kinds.machine_set.remediate import forget

MANAGER = "machinepool-controller"
UP_TO_DATE = "UpToDate"
FOLLOWED = ("min_ready_seconds", "readiness_gates", "deletion")
"""The fields of a Machine's spec that follow the pool's template: how it is judged and deleted. Its version is what its host runs."""
INFORMING = Informing(conditions=frozenset((UP_TO_DATE,)))


def machine_labels(pool: MachinePool) -> dict[str, str]:
    """The labels that the pool's Machines carry."""
    return {**pool.spec.template.metadata.labels, **pool_labels(pool)}


def create(observed: Observed) -> tuple[Step, ...]:
    """Make a Machine for each host that has none; a name that somebody else's Machine has is passed over."""
    if observed.failure is not None:
        return ()
    held = {one.spec.infrastructure_ref.name for one in observed.machines} | {one.name for one in observed.machines} | observed.taken
    missing = [one for one in observed.infra_machines if one.key.name not in held and not one.metadata.deleting]
    reason = f"{len(missing)} hosts have no Machine"
    steps = [Create(_body(observed, one), reason, owner_uid=observed.pool.metadata.uid, apply=True, manager=MANAGER) for one in missing]
    return _together(steps, reason)


def _body(observed: Observed, infra: External) -> dict[str, Any]:
    pool = observed.pool
    spec = {
        "clusterName": pool.spec.cluster_name,
        "infrastructureRef": {"apiGroup": infra.key.group, "kind": infra.key.kind, "name": infra.key.name},
        **_followed(observed, _version(observed, InfraMachine(infra).provider_id)),
    }
    metadata = {"name": infra.key.name, "namespace": pool.namespace, **_metadata(pool)}
    return {"apiVersion": api_version_of(pool), "kind": Machine.KIND, "metadata": metadata, "spec": spec}


def _metadata(pool: MachinePool) -> dict[str, Any]:
    return {
        "labels": machine_labels(pool),
        "annotations": dict(pool.spec.template.metadata.annotations),
        "finalizers": [labels.MACHINE_FINALIZER],
        "ownerReferences": [owner_wire(owner_reference(pool, controller=True))],
    }


def _followed(observed: Observed, version: str) -> dict[str, Any]:
    """What of a Machine's spec is ours but its references. Bootstrap data is shared by all hosts: the Machine itself waits for none."""
    template = pruned(wire(observed.pool.spec.template.spec))
    kept: dict[str, Any] = {name: template[name] for name in ("minReadySeconds", "readinessGates", "deletion") if name in template}
    return {"bootstrap": {"dataSecretName": ""}, **kept, **({"version": version} if version else {})}


def _version(observed: Observed, provider_id: str) -> str:
    """The version the host's Node runs, "" while it is not seen."""
    return kubelet_version(observed.nodes.get(provider_id))


def kubelet_version(node: Node | None) -> str:
    """The kubelet's version by the Node's own report, "" without one."""
    info: Mapping[str, Any] = ((node or {}).get("status") or {}).get("nodeInfo") or {}
    return str(info.get("kubeletVersion") or "")


def follow(observed: Observed) -> tuple[Step, ...]:
    """Bring the Machines that are not being deleted to what pool and Node say now, by one apply each; none for those that are so already."""
    steps = [_follow(observed, one) for one in observed.machines if not one.metadata.deleting and (_differs(observed, one) or suspect(observed, one))]
    return _together(steps, "Machines follow their pool and their Nodes")


def _wanted_version(observed: Observed, machine: Machine) -> str:
    return _version(observed, machine.spec.provider_id or "") or machine.spec.version or ""


def _differs(observed: Observed, machine: Machine) -> bool:
    pool, metadata, template = observed.pool, machine.metadata, observed.pool.spec.template
    if not machine_labels(pool).items() <= metadata.labels.items() or not template.metadata.annotations.items() <= metadata.annotations.items():
        return True
    if metadata.controller is None or _wanted_version(observed, machine) != (machine.spec.version or ""):
        return True
    return any(getattr(machine.spec, name) != getattr(template.spec, name) for name in FOLLOWED)


def suspect(observed: Observed, machine: Machine) -> bool:
    """Whether the Machine has keys the template does not name, right after a change of the template: an apply takes away those that are ours."""
    if (observed.stored.status.observed_generation or 0) == observed.stored.metadata.generation:
        return False
    template = observed.pool.spec.template.metadata
    return bool(machine.metadata.labels.keys() - machine_labels(observed.pool).keys() or machine.metadata.annotations.keys() - template.annotations.keys())


def _follow(observed: Observed, machine: Machine) -> Apply:
    references = {"clusterName": machine.spec.cluster_name, "infrastructureRef": wire(machine.spec.infrastructure_ref)}
    return Apply(
        key=key_of(machine),
        api_version=api_version_of(machine),
        uid=machine.metadata.uid,
        body={"metadata": _metadata(observed.pool), "spec": {**references, **_followed(observed, _wanted_version(observed, machine))}},
        reason="the Machine follows its pool and its Node",
        manager=MANAGER,
    )


def up_to_date(observed: Observed, machine: Machine) -> ConditionValue:
    """Whether the host is what the pool asks for, as far as its version shows."""
    if machine.metadata.deleting:
        return ConditionValue(UP_TO_DATE, FALSE, "NotUpToDate", "Machine is being deleted")
    wanted, running = observed.pool.spec.template.spec.version or "", _wanted_version(observed, machine)
    if wanted and running and wanted != running:
        return ConditionValue(UP_TO_DATE, FALSE, "NotUpToDate", f"* Version {running}, {wanted} required")
    return ConditionValue(UP_TO_DATE, TRUE, UP_TO_DATE)


def tell(observed: Observed) -> tuple[Apply, ...]:
    """The UpToDate condition of each Machine on which it is another."""
    steps = []
    for machine in observed.machines:
        value, stored = up_to_date(observed, machine), get(machine.status.conditions, UP_TO_DATE)
        if machine.metadata.controller is None or (stored is not None and (stored.status, stored.reason, stored.message) == _words(value)):
            continue
        status = {"conditions": list(merge(machine.status.conditions, (value,), machine.metadata.generation, observed.at))}
        informs = INFORMING.covers(wire(machine.status), status)
        key, uid = key_of(machine), machine.metadata.uid
        steps.append(Apply(key, api_version_of(machine), uid, {"status": status}, "whether its host is up to date", MANAGER, "status", informs=informs))
    return tuple(steps)


def remediate(observed: Observed) -> tuple[Step, ...]:
    """Delete the Machines that a health check handed over: the infrastructure then makes other hosts. Upstream leaves them."""
    living = [one for one in observed.machines if one.metadata.controller is not None and not one.metadata.deleting]
    recovered = [step for one in living if (step := forget(one)) is not None]
    handed = [one for one in living if to_be_remediated(one)]
    reason = "a health check handed the Machine over"
    return (*recovered, *(Delete(key_of(one), api_version_of(one), one.metadata.uid, reason, one.metadata.resource_version) for one in handed))


def _words(value: ConditionValue) -> tuple[str, str, str]:
    return value.status, value.reason, value.message


def _together(steps: list[Any], reason: str) -> tuple[Step, ...]:
    return (Together(tuple((step,) for step in steps), reason=reason),) if steps else ()
