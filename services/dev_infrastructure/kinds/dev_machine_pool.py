"""DevMachinePool: a group of emulated hosts, each of them a DevMachine.

The pool decides how many hosts there are and which go; a host goes by the deletion of its Machine, so that its Node is drained first. Hosts that are not what
the MachinePool asks for now are replaced: new ones are made beside them, and old ones go as far as enough others are available.

Source: kinds.md §14; contracts.md §3 (``status.capacity``, ``status.nodeInfo``), §4; Cluster API v1.14 development provider (order of deletion, status
fields), proposal 20220209 (dangling Machines); cluster-autoscaler 1.36 clusterapi provider (reads capacity from the object of a pool's infrastructureRef).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fleetwake import labels, names
from fleetwake.conditions import FALSE, TRUE, ConditionValue, Summary, merge, summary
from fleetwake.kind import Kind
from fleetwake.patches import (
    MetadataChange,
    api_version_of,
    key_of,
    metadata_patch,
    owner_reference,
    owner_wire,
    owners_with,
    status_apply,
    target,
    wire,
    without_finalizer,
)
from fleetwake.pausing import PAUSED, OwnedStatus, paused_condition, paused_plan
from fleetwake.plan import Apply, Create, Delete, Patch, Plan, Step, Together
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.infrastructure.v1beta2 import DevMachine, DevMachinePool
from schemas.api.infrastructure.v1beta2.dev_machine_pool import InMemoryMachinePoolBackend
from services.dev_infrastructure.kinds.birth import REVISION, Birth, birth_of, revision
from services.dev_infrastructure.kinds.dev_machine_template import RESOURCES
from services.dev_infrastructure.kinds.pool_hosts import Host, Observed, difference, observe, replicas, surplus, zones
from services.dev_infrastructure.kinds.pool_watches import WATCHES
from services.dev_infrastructure.kinds.told import READY, READY_REASONS

MANAGER = "capi-devmachinepool"
REPLICAS_READY = "ReplicasReady"
OWNED = OwnedStatus(
    MANAGER,
    ("ready", "replicas", "instances", "infrastructureMachineKind", "observedGeneration", "capacity", "nodeInfo"),
    (READY, REPLICAS_READY, PAUSED),
)
NODE_INFO: Mapping[str, str] = {"architecture": "amd64", "operatingSystem": "linux"}
"""What every host of a pool runs on."""
CREATES_MAX = 50
"""Hosts made by one run; the events of their making wake the next."""


def reconcile(observed: Observed) -> Plan:
    """Decide what a DevMachinePool does next."""
    found, pool, cluster = observed.found, observed.pool, observed.cluster
    if cluster is not None:
        paused = paused_condition(found, cluster)
        if paused.status == TRUE:
            return paused_plan(found, found.status.conditions, paused, OWNED, observed.at)
    if found.metadata.deleting:
        return _deleted(observed)
    if pool is None or cluster is None or labels.MANAGED_BY in found.metadata.annotations:
        return Plan()
    backend = found.spec.backend.in_memory
    if backend is None:
        return Plan(_steps(_told(observed, "only the inMemory backend is available here: set spec.backend.inMemory")))
    patch = _own_patch(observed)
    # a host is made once the pool can no longer go without it, and before the pool's own generation changes, from which its name comes
    made = _made(observed, pool, backend) if labels.DEV_MACHINE_POOL_FINALIZER in found.metadata.finalizers else ()
    going = (*_dangling(observed), *(_leave(host, _why(observed, pool, backend, host)) for host in _going(observed, pool, backend)))
    status = _told(observed, "", generation_more=patch is not None and "spec" in patch.body)
    steps = (*_together(made, "hosts are missing"), *_steps(patch), *_adopted(observed), *_together(_steps(*going), "hosts go"), *_steps(status))
    return Plan(steps, rests_on_absence=bool(_steps(*going)))


def _steps(*steps: Step | None) -> tuple[Step, ...]:
    return tuple(step for step in steps if step is not None)


def _together(steps: Sequence[Step], reason: str) -> tuple[Step, ...]:
    return (Together(tuple((step,) for step in steps), reason=reason),) if steps else ()


# --- hosts ---------------------------------------------------------------------------------------------------------------------------------------


def _made(observed: Observed, pool: MachinePool, backend: InMemoryMachinePoolBackend) -> tuple[Create, ...]:
    """Make the hosts that are missing to as many of the present kind as are wanted."""
    cluster = observed.cluster
    birth = Birth(pool.spec.template.spec.version or "", pool.spec.template.spec.bootstrap.data_secret_name or "", "")
    if cluster is None or not cluster.status.initialization.infrastructure_provisioned or not birth.secret:
        return ()
    kind = revision(pool, backend)
    short = replicas(observed, pool) - sum(host.revision == kind for host in observed.living)
    outdated = [host for host in observed.living if host.revision != kind]
    reason = f"{short} hosts are missing" + (f", {len(outdated)} are {difference(outdated[0], birth)}" if outdated else "")
    places = zones(observed, pool, kind)
    made: list[Create] = []
    for name in _names(observed, max(min(short, CREATES_MAX), 0)):
        body = _body(observed, pool, Birth(birth.version, birth.secret, next(places)), kind)
        body["metadata"]["name"] = name
        made.append(Create(body, reason, apply=True, manager=MANAGER))
    return tuple(made)


def _names(observed: Observed, number: int) -> list[str]:
    """Names for hosts to be made: derived from those there are, so that a repeated create collides; none that some host or Machine has."""
    found, uids = observed.found, [host.dev.metadata.uid for host in observed.hosts]
    tried = (names.with_suffix(f"{found.name}-", names.derived_suffix(found.metadata, uids, index)) for index in range(number + len(observed.taken)))
    return list(dict.fromkeys(name for name in tried if name not in observed.taken))[:number]


def _body(observed: Observed, pool: MachinePool, birth: Birth, kind: str) -> dict[str, Any]:
    found = observed.found
    return {
        "apiVersion": api_version_of(found),
        "kind": DevMachine.KIND,
        "metadata": {
            "namespace": found.namespace,
            "labels": {labels.CLUSTER_NAME: pool.spec.cluster_name, labels.POOL_NAME: names.label_value(pool.name)},
            "annotations": {**birth.annotations, REVISION: kind},
            "ownerReferences": [owner_wire(owner_reference(found))],
        },
        "spec": {"backend": {"inMemory": wire(found.spec.backend.in_memory) if found.spec.backend.in_memory else {}}},
    }


def _going(observed: Observed, pool: MachinePool, backend: InMemoryMachinePoolBackend) -> tuple[Host, ...]:
    return surplus(observed.living, revision(pool, backend), replicas(observed, pool), observed.at)


def _why(observed: Observed, pool: MachinePool, backend: InMemoryMachinePoolBackend, host: Host) -> str:
    """Why a host is asked to go."""
    if host.revision == revision(pool, backend):
        return f"{len(observed.living)} hosts exist, {replicas(observed, pool)} are wanted"
    return f"its host is {difference(host, Birth(pool.spec.template.spec.version or '', pool.spec.template.spec.bootstrap.data_secret_name or '', ''))}"


def _leave(host: Host, reason: str) -> Delete | None:
    """Ask a host to go, by its Machine. One whose Machine is still to come waits for it: else that would be left without a host."""
    machine = host.machine
    if machine is None or machine.metadata.deleting:
        return None
    return Delete(key_of(machine), api_version_of(machine), machine.metadata.uid, reason, machine.metadata.resource_version)


def _dangling(observed: Observed) -> tuple[Delete, ...]:
    """The Machines whose host somebody took away: nothing brings it back."""
    there = {host.name for host in observed.hosts if not host.dev.metadata.deleting}
    lost = [one for one in observed.machines if not one.metadata.deleting and one.spec.infrastructure_ref.name not in there]
    reason = "its host is gone"
    return tuple(Delete(key_of(one), api_version_of(one), one.metadata.uid, reason, one.metadata.resource_version) for one in lost)


def _adopted(observed: Observed) -> tuple[Patch, ...]:
    """Give hosts back the owner they lost (in a restore)."""
    patches = []
    for host in observed.living:
        change = MetadataChange(owners=owners_with(host.dev.metadata.owner_references, owner_reference(observed.found)))
        patch = metadata_patch(target(host.dev), change, "the host is the pool's")
        if patch is not None:
            patches.append(patch)
    return tuple(patches)


def _deleted(observed: Observed) -> Plan:
    """Let every host go, then the pool. Hosts without a Machine go at once: the MachinePool makes none for them any more."""
    if not observed.hosts:
        released = without_finalizer(target(observed.found), labels.DEV_MACHINE_POOL_FINALIZER, "all hosts of the pool are gone")
        return Plan(_steps(released), rests_on_absence=released is not None)
    reason = "the pool is being deleted"
    steps = [_leave(host, reason) if host.machine is not None else _removed(host.dev, reason) for host in observed.hosts]
    going = _together(_steps(*steps), reason)
    return Plan((*going, *_steps(_told(observed, ""))), rests_on_absence=bool(going))


def _removed(dev: DevMachine, reason: str) -> Delete | None:
    return None if dev.metadata.deleting else Delete(key_of(dev), api_version_of(dev), dev.metadata.uid, reason, dev.metadata.resource_version)


# --- what is told --------------------------------------------------------------------------------------------------------------------------------


def _provider_ids(observed: Observed) -> tuple[str, ...]:
    return tuple(sorted(host.dev.spec.provider_id for host in observed.hosts if host.dev.spec.provider_id))


def _own_patch(observed: Observed) -> Patch | None:
    """Finalizer, identity, and the identities of the hosts, those still going included: their Nodes are theirs until then."""
    found, pool = observed.found, observed.pool
    finalizers = found.metadata.finalizers
    if labels.DEV_MACHINE_POOL_FINALIZER not in finalizers:
        finalizers = (*finalizers, labels.DEV_MACHINE_POOL_FINALIZER)
    spec: dict[str, Any] = {}
    if not found.spec.provider_id and pool is not None:
        spec["providerID"] = f"in-memory:////{pool.spec.cluster_name}-dmp-{found.name}"
    identities = _provider_ids(observed)
    if identities != found.spec.provider_id_list:
        spec["providerIDList"] = list(identities) or None
    return metadata_patch(target(found), MetadataChange(finalizers=finalizers), "the hosts of the pool have changed", spec=spec)


def _told(observed: Observed, failure: str, *, generation_more: bool = False) -> Apply | None:
    found, pool = observed.found, observed.pool
    generation = found.metadata.generation + int(generation_more)
    wanted = replicas(observed, pool) if pool is not None else 0
    up = [host for host in observed.living if host.provisioned]
    whole = not failure and len(observed.hosts) == len(up) == wanted and not found.metadata.deleting
    message = failure or ("" if whole else f"{len(up)} hosts are provisioned, {wanted} are wanted")
    values = (ConditionValue(REPLICAS_READY, TRUE if whole else FALSE, "Ready" if whole else "NotReady", message),)
    ready = summary(Summary(READY, (REPLICAS_READY,), reasons=READY_REASONS), values)
    told = (*values, ready, ConditionValue(PAUSED, FALSE, "NotPaused"))
    status = {
        "ready": True if whole or found.status.ready else None,
        "replicas": wanted if observed.externally_managed else len(observed.hosts),
        "infrastructureMachineKind": DevMachine.KIND,
        "instances": [_instance(host) for host in observed.hosts] or None,
        # a pool tells of one host more what a DevMachineTemplate tells: its object is where cluster-autoscaler looks
        "capacity": None if failure else dict(RESOURCES),
        "nodeInfo": None if failure else dict(NODE_INFO),
        "observedGeneration": generation,
        "conditions": merge(found.status.conditions, told, generation, observed.at),
    }
    return status_apply(found, MANAGER, status)


def _instance(host: Host) -> dict[str, Any]:
    """What is told of a host; only what is known of it."""
    addresses = [one.model_dump(by_alias=True) for one in host.dev.status.addresses]
    told: dict[str, Any] = {"instanceName": host.name}
    for name, value in (("addresses", addresses), ("providerID", host.dev.spec.provider_id), ("version", birth_of(host.dev).version)):
        if value:
            told[name] = value
    return {**told, "ready": host.provisioned}


KIND: Kind[Observed] = Kind(model=DevMachinePool, observe=observe, reconcile=reconcile, manager=MANAGER, watches=WATCHES)
