"""DevMachine: an emulated host, from its request to its Node, its etcd member and its API server.

The emulation does the work and wakes the key; what it did is read back and told once. A stage that the status already tells but the emulation does not
know (its store was lost) is rebuilt at once; so is the host of a DevMachine that came with its identity (a cluster that was moved here): it ran elsewhere.

Source: kinds.md §14; contracts.md §3; Cluster API v1.14 in-memory backend (conditions, reasons, order of waits).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, Summary, is_true, merge, summary
from fleetwake.kind import Change, Kind, Lookup, View, Watch, members_of_cluster
from fleetwake.patches import MetadataChange, metadata_patch, status_apply, target, without_finalizer
from fleetwake.pausing import PAUSED, OwnedStatus, paused_condition, paused_plan
from fleetwake.plan import Apply, Local, Patch, Plan, Step
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.infrastructure.v1beta2 import DevCluster, DevMachine, InMemoryMachineBackend
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.dev_infrastructure.kinds.birth import Birth, birth_of, made_by_pool
from services.dev_infrastructure.kinds.dev_cluster import CLUSTER, ensure_cluster
from services.dev_infrastructure.kinds.faults import faults, slowed
from services.dev_infrastructure.kinds.startup import Startup, internal_address, startup
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, LOCAL, NODE, VM, ClusterState, Faults, MachineArguments, MachineState
from services.dev_infrastructure.kinds.told import READY, READY_REASONS

MANAGER = "capi-devmachine"
VM_PROVISIONED, NODE_PROVISIONED, ETCD_PROVISIONED, API_SERVER_PROVISIONED = "VMProvisioned", "NodeProvisioned", "EtcdProvisioned", "APIServerProvisioned"
CONDITIONS = {VM: VM_PROVISIONED, NODE: NODE_PROVISIONED, ETCD: ETCD_PROVISIONED, API_SERVER: API_SERVER_PROVISIONED}
WAITS_FOR = {NODE: "WaitingForVMProvisioned", ETCD: "WaitingForNodeProvisioned", API_SERVER: "WaitingForNodeProvisioned"}
OPERATING_SYSTEM = "dev.fleetwake.io/operating-system"
"""Annotation on a DevMachine (or in its template's metadata): ``windows`` for a host that runs Windows."""
OWNED = OwnedStatus(
    MANAGER,
    ("initialization", "addresses", "failureDomain"),
    (READY, *CONDITIONS.values(), PAUSED),
    conditional=(ETCD_PROVISIONED, API_SERVER_PROVISIONED),
)
OWNED_OF_CONTROL_PLANE = replace(OWNED, conditional=())
MACHINE = GroupKind(Machine.GROUP, Machine.KIND)
DEV_CLUSTER = GroupKind(DevCluster.GROUP, DevCluster.KIND)
WORTH_TELLING = timedelta(seconds=30)
"""A wait is told once it lasts this long: shorter ones are the normal course of a new cluster, and cost a write here and one on the Machine each."""
RETRY_AFTER = timedelta(seconds=30)
"""When a failure that may pass by itself is tried again."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A DevMachine with its surroundings. ``data`` names the bootstrap data by a hash, "" if it is not known."""

    at: datetime
    found: DevMachine
    machine: Machine | None
    cluster: Cluster | None
    dev_cluster: DevCluster | None
    state: ClusterState | None
    data: str

    @property
    def mine(self) -> MachineState | None:
        """The emulated machine behind the DevMachine."""
        return self.state.machines.get(self.found.metadata.uid) if self.state is not None else None

    @property
    def faults(self) -> Faults:
        """What the host is told to suffer."""
        return faults(self.found.metadata.annotations, self.machine.metadata.annotations if self.machine is not None else {})

    @property
    def birth(self) -> Birth:
        """What the host is started with: of a pool's host as it was when the host was made, else as its Machine says now."""
        machine = self.machine
        if made_by_pool(self.found) or machine is None:
            return birth_of(self.found)
        return Birth(machine.spec.version or "", machine.spec.bootstrap.data_secret_name or "", machine.spec.failure_domain or "")

    @property
    def control_plane(self) -> bool:
        """Whether the machine is a control plane's."""
        return self.machine is not None and labels.CONTROL_PLANE in self.machine.metadata.labels


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read what a DevMachine is decided from."""
    found = view.get(DevMachine, key.namespace, key.name)
    if found is None:
        return None
    owner = next((ref for ref in found.metadata.owner_references if GroupKind(ref.group, ref.kind) == MACHINE), None)
    machine = view.get(Machine, key.namespace, owner.name) if owner is not None else None
    if machine is None:
        return Observed(view.at, found, None, None, None, None, "")
    cluster = view.get(Cluster, key.namespace, machine.spec.cluster_name)
    ref = cluster.spec.infrastructure_ref if cluster is not None else None
    dev_cluster = view.get(DevCluster, key.namespace, ref.name) if ref is not None and (ref.api_group, ref.kind) == DEV_CLUSTER else None
    states: Mapping[str, ClusterState] = view.local(LOCAL) or {}
    state = states.get(str(ClusterKey(key.namespace, machine.spec.cluster_name)))
    if dev_cluster is None or (state is not None and state.uid != dev_cluster.metadata.uid):
        state = None
    observed = Observed(view.at, found, machine, cluster, dev_cluster, state, "")
    return replace(observed, data=_data(view, key.namespace, observed.birth.secret))


def _data(view: View, namespace: str, name: str) -> str:
    keys = view.secret_keys(namespace, name) if name else None
    return hashlib.sha256(repr(sorted(keys.items())).encode()).hexdigest()[:16] if keys else ""


def reconcile(observed: Observed) -> Plan:
    """Decide what a DevMachine does next."""
    found, cluster = observed.found, observed.cluster
    if cluster is not None:
        paused = paused_condition(found, cluster)
        if paused.status == TRUE:
            return paused_plan(found, found.status.conditions, paused, OWNED_OF_CONTROL_PLANE if observed.control_plane else OWNED, observed.at)
    if found.metadata.deleting:
        return _deleted(found)
    if observed.machine is None or cluster is None or labels.MANAGED_BY in found.metadata.annotations:
        return Plan()
    backend = found.spec.backend.in_memory
    if backend is None:
        return _stuck(observed, "NotSupported", "only the inMemory backend is available here: set spec.backend.inMemory")
    waits = _waits_for(observed, cluster)
    if waits and observed.mine is None and not found.status.initialization.provisioned:
        return _waiting(observed, waits)
    try:
        return _started(observed, backend, observed.machine)
    except ValueError as error:
        return _stuck(observed, "InternalError", str(error))


def _deleted(found: DevMachine) -> Plan:
    released = without_finalizer(target(found), labels.DEV_MACHINE_FINALIZER, "the emulated machine is gone")
    if released is None:
        return Plan()
    return Plan((Local("remove_machine", "the DevMachine is being deleted", {"uid": found.metadata.uid}), released))


def _waits_for(observed: Observed, cluster: Cluster) -> str:
    """The reason why the machine cannot be requested yet; "" when it can."""
    if not cluster.status.initialization.infrastructure_provisioned or observed.dev_cluster is None:
        return "WaitingForClusterInfrastructureReady"
    if not observed.birth.secret:
        if not observed.control_plane and not cluster.status.initialization.control_plane_initialized:
            return "WaitingForControlPlaneInitialized"
        return "WaitingForBootstrapData"
    return ""


def _waiting(observed: Observed, reason: str) -> Plan:
    created = observed.found.metadata.creation_timestamp
    if not observed.found.status.conditions and created is not None and observed.at - created < WORTH_TELLING:
        return Plan(requeue_after=created + WORTH_TELLING - observed.at)
    return _stuck(observed, reason, "")


def _stuck(observed: Observed, reason: str, message: str) -> Plan:
    values = [ConditionValue(VM_PROVISIONED, FALSE, reason, message)]
    values.extend(ConditionValue(CONDITIONS[stage], FALSE, "WaitingForVMProvisioned") for stage in _stages(observed)[1:])
    return Plan(_steps(_told(observed, values)))


def _stages(observed: Observed) -> tuple[str, ...]:
    return tuple(CONDITIONS) if observed.control_plane else (VM, NODE)


def _started(observed: Observed, backend: InMemoryMachineBackend, machine: Machine) -> Plan:
    found, mine = observed.found, observed.mine
    told = {stage for stage in _stages(observed) if is_true(found.status.conditions, CONDITIONS[stage])}
    if mine is None and not told and found.spec.provider_id:
        # clusterctl moves no status; what it moves are hosts that have become Nodes
        told = set(_stages(observed))
    done = dict(mine.done) if mine is not None else {}
    # what was told and is not there was lost: its time has passed already
    known = {**dict.fromkeys(told, observed.at), **done}
    wanted = observed.faults
    start = startup(
        slowed(backend, wanted.slow_seconds),
        found.metadata.uid,
        observed.control_plane,
        known,
        (mine.requested if mine is not None else observed.at, observed.at),
    )
    changed = mine is not None and mine.faults != wanted
    rest = None if changed else _rest_of_failure(observed, mine)
    failed = rest is not None
    missing = tuple(stage for stage in start.reached if stage not in done)
    patch = _patch(found, VM in start.reached and wanted.fail_bootstrap != VM)
    if (mine is None or missing or changed) and not failed:
        return Plan(_steps(patch, *_ensure(observed, machine, missing, again=bool(told - set(done)))), start.wait)
    status = _told(
        observed,
        _conditions(observed, start, done, mine.failure if mine is not None else ""),
        generation_more=patch is not None and bool(patch.body.get("spec")),
    )
    return Plan(_steps(patch, status), rest or None if failed else start.wait)


def _rest_of_failure(observed: Observed, mine: MachineState | None) -> timedelta | None:
    """How long the last failure still holds (0: until something changes); None when there is none, or its time has passed."""
    if mine is None or not mine.failure or mine.failed_data != observed.data:
        return None
    if mine.failed_at is None:
        return timedelta(0)
    rest = mine.failed_at + RETRY_AFTER - observed.at
    return rest if rest > timedelta(0) else None


def _patch(found: DevMachine, up: bool) -> Patch | None:
    finalizers = found.metadata.finalizers
    if labels.DEV_MACHINE_FINALIZER not in finalizers:
        finalizers = (*finalizers, labels.DEV_MACHINE_FINALIZER)
    spec = {"providerID": provider_id(found)} if up and not found.spec.provider_id else {}
    return metadata_patch(
        target(found), MetadataChange(finalizers=finalizers), "the machine is ours to clean up" + (" and has an identity" if spec else ""), spec=spec
    )


def provider_id(found: DevMachine) -> str:
    """The identity of the emulated host."""
    return found.spec.provider_id or f"in-memory://{found.name}"


def _ensure(observed: Observed, machine: Machine, stages: tuple[str, ...], *, again: bool) -> Iterable[Local]:
    if observed.state is None and observed.dev_cluster is not None and observed.cluster is not None:
        yield ensure_cluster(observed.dev_cluster, observed.cluster)
    found, birth = observed.found, observed.birth
    arguments = MachineArguments(
        cluster=str(ClusterKey(found.namespace, machine.spec.cluster_name)),
        name=found.name,
        uid=found.metadata.uid,
        stages=stages,
        machine=machine.name,
        control_plane=observed.control_plane,
        version=birth.version,
        provider_id=provider_id(found),
        address=internal_address(found.metadata.uid),
        zone=birth.zone,
        secret=birth.secret,
        data=observed.data,
        again=again,
        faults=observed.faults,
        windows=found.metadata.annotations.get(OPERATING_SYSTEM) == "windows",
    )
    yield Local("ensure_machine", f"start {', '.join(stages) or 'counting'}", arguments.model_dump(mode="json"))


def _conditions(observed: Observed, start: Startup, done: Mapping[str, datetime], failure: str) -> list[ConditionValue]:
    values: list[ConditionValue] = []
    for stage in _stages(observed):
        before = {VM: VM, NODE: VM}.get(stage, NODE)
        if stage in done:
            values.append(ConditionValue(CONDITIONS[stage], TRUE, "Provisioned"))
        elif stage != VM and before not in done:
            values.append(ConditionValue(CONDITIONS[stage], FALSE, "WaitingForVMProvisioned" if VM not in done else WAITS_FOR[stage]))
        elif failure and stage in start.reached:
            values.append(ConditionValue(CONDITIONS[stage], FALSE, "BootstrapFailed", failure))
        else:
            values.append(ConditionValue(CONDITIONS[stage], FALSE, "WaitingForStartupTimeout"))
    return values


def _told(observed: Observed, values: list[ConditionValue], *, generation_more: bool = False) -> Apply | None:
    found = observed.found
    types = tuple(value.type for value in values)
    ready = summary(Summary(READY, types, reasons=READY_REASONS), values)
    up = values[0].status == TRUE
    kept = found.status
    hosts = [{"type": "Hostname", "address": observed.machine.name if observed.machine is not None else found.name}]
    addresses = [*hosts, {"type": "InternalIP", "address": internal_address(found.metadata.uid)}]
    zone = observed.birth.zone or None
    status = {
        "initialization": {"provisioned": True if up or kept.initialization.provisioned else None},
        "addresses": addresses if up else [one.model_dump(by_alias=True) for one in kept.addresses] or None,
        "failureDomain": zone if up else kept.failure_domain,
        "conditions": merge(
            kept.conditions, (*values, ready, ConditionValue(PAUSED, FALSE, "NotPaused")), found.metadata.generation + int(generation_more), observed.at
        ),
    }
    return status_apply(found, MANAGER, status)


def _steps(*steps: Step | None) -> tuple[Step, ...]:
    return tuple(step for step in steps if step is not None)


def _of_machine(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The DevMachine that a Machine refers to."""
    ref = (change.state.get("spec") or {}).get("infrastructureRef") or {}
    if ref.get("kind") == DevMachine.KIND and ref.get("apiGroup") == DevMachine.GROUP:
        yield ObjectKey(DevMachine.GROUP, DevMachine.KIND, change.key.namespace, ref["name"])


def _machine_matters(change: Change) -> bool:
    if change.before is None or change.after is None or change.differs("spec", "bootstrap"):
        return True
    return change.differs("metadata", "labels") or change.differs("metadata", "annotations")


def _cluster_matters(change: Change) -> bool:
    if change.before is None or change.after is None:
        return True
    return change.differs("spec", "paused") or change.differs("spec", "infrastructureRef") or change.differs("status", "initialization")


def _dev_cluster_matters(change: Change) -> bool:
    return change.before is None or change.after is None or change.differs("spec", "controlPlaneEndpoint")


_MEMBERS = members_of_cluster(GroupKind(DevMachine.GROUP, DevMachine.KIND))
KIND: Kind[Observed] = Kind(
    model=DevMachine,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=(Watch(MACHINE, _of_machine, _machine_matters), Watch(CLUSTER, _MEMBERS, _cluster_matters), Watch(DEV_CLUSTER, _MEMBERS, _dev_cluster_matters)),
)
