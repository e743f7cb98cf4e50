"""The end of a control plane: after the workers, all its Machines at once, without care for etcd.

Source: kinds.md §8.8, §18 (30 s); Cluster API v1.14 (reasons, messages).
"""

from __future__ import annotations

from fleetwake import labels
from fleetwake.patches import MetadataChange, api_version_of, key_of, metadata_patch, target, without_finalizer
from fleetwake.plan import Delete, Plan, Step, soonest
from services.reconcilers.kinds.kubeadm_control_plane import health, status
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import DELETING_RETRY
from services.reconcilers.kinds.machine_set.members import stale

NAMES_MAX = 5


def reconcile_delete(observed: Observed) -> Plan:
    """Decide for a KubeadmControlPlane that is being deleted."""
    if not observed.members:
        step = without_finalizer(target(observed.kcp), labels.KUBEADM_CONTROL_PLANE_FINALIZER, "no control plane Machine is left")
        return Plan((step,) if step is not None else (), rests_on_absence=True)
    judged = health.judge(observed)
    steps: list[Step] = []
    if observed.workers or observed.pools:
        progress = status.Progress(deleting=("WaitingForWorkersDeletion", _blockers(observed)))
    else:
        for member in observed.members:
            machine = member.machine
            hook = metadata_patch(target(machine), MetadataChange(annotations={labels.KCP_CLEANUP_HOOK: None}), "etcd ends with its control plane")
            if hook is not None and machine.annotated(labels.KCP_CLEANUP_HOOK):
                steps.append(hook)
            if not member.deleting:
                steps.append(Delete(key_of(machine), api_version_of(machine), machine.metadata.uid, "the control plane is deleted"))
        progress = status.Progress(deleting=("WaitingForMachineDeletion", _deleting(observed)))
    told, held = status.status_step(observed, judged, progress)
    wait = soonest(held, DELETING_RETRY if observed.workers or observed.pools else None)
    return Plan((*steps, *((told,) if told is not None else ())), requeue_after=wait, rests_on_absence=bool(steps))


def _blockers(observed: Observed) -> str:
    lines = [f"* MachinePools: {_listed(observed.pools)}"] if observed.pools else []
    lines += [f"* Machines: {_listed(observed.workers)}"] if observed.workers else []
    return "KubeadmControlPlane deletion blocked because following objects still exist:\n" + "\n".join(lines)


def _listed(names: tuple[str, ...]) -> str:
    more = f", ... ({len(names) - NAMES_MAX} more)" if len(names) > NAMES_MAX else ""
    return ", ".join(sorted(names)[:NAMES_MAX]) + more


def _deleting(observed: Observed) -> str:
    count = len(observed.members)
    late = stale([member.machine for member in observed.members], observed.at)
    return f"Deleting {count} Machine{'s' if count > 1 else ''}" + (f" and {late}" if late else "")
