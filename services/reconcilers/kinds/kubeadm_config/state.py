"""The state machine of a KubeadmConfig: which of its states it is in, first match wins, and what that asks for.

The status tells what was observed, never what is planned: a run that creates the bootstrap Secret leaves the status alone, and the Secret's
appearance wakes the run that names it.

Source: kinds.md §9 (rows 1 to 8); Cluster API v1.14 kubeadmconfig controller, observable behaviour.
"""

from __future__ import annotations

from fleetwake.plan import Delete, Plan, Step, soonest
from schemas.api.core.v1beta2 import MachinePool
from services.reconcilers.bootstrap import composition
from services.reconcilers.bootstrap.request import fetches
from services.reconcilers.kinds.kubeadm_config import data, removal, status, tokens
from services.reconcilers.kinds.kubeadm_config.observed import Observed
from services.reconcilers.kinds.pausing import paused_condition, paused_plan
from services.reconcilers.kubeadm import secrets


def reconcile(observed: Observed) -> Plan:
    """Decide for one KubeadmConfig."""
    config = observed.config
    if config.metadata.deleting:
        return Plan()
    paused = paused_condition(config, observed.cluster)
    if paused.status == "True":
        return paused_plan(config, config.status.conditions, paused, status.OWNED, observed.at)
    adoption = data.adopt_data_secret(observed)
    plan = _by_state(observed)
    return Plan((*((adoption,) if adoption else ()), *plan.steps), plan.requeue_after, plan.rests_on_absence)


def _by_state(observed: Observed) -> Plan:
    if not observed.cluster.status.initialization.infrastructure_provisioned:
        return _waiting(observed, "Waiting for Cluster status.initialization.infrastructureProvisioned to be true")
    if observed.owner_data_secret_name and not observed.created:
        # after a move or a restore the status is empty, but the owner knows its data
        return Plan(_steps(status.created(observed, observed.owner_data_secret_name)))
    if observed.created:
        return _done(observed, observed.config.status.data_secret_name or "")
    if _owns_data_secret(observed):
        return _done(observed, observed.config.name)
    refusal = _refusal(observed)
    if refusal:
        return _waiting(observed, refusal, failed=True)
    return _join(observed) if observed.initialized else _init(observed)


def _steps(*steps: Step | None) -> tuple[Step, ...]:
    return tuple(step for step in steps if step is not None)


def _waiting(observed: Observed, message: str, *, failed: bool = False) -> Plan:
    return Plan(_steps(status.waiting(observed, message, control_plane=observed.is_control_plane, failed=failed)))


def _owns_data_secret(observed: Observed) -> bool:
    """Whether the bootstrap Secret exists and is ours (or nobody's, as after a restore that lost owners)."""
    found = observed.data_secret
    if found is None or found.metadata.deleting:
        return False
    controller = found.metadata.controller
    return controller is None or controller.uid == observed.config.metadata.uid


def _refusal(observed: Observed) -> str:
    """Why data cannot be made whatever happens elsewhere, ``""`` if it can."""
    if observed.failure is not None:
        return f"Failed to generate bootstrap data: {observed.failure.message}"
    if not observed.version:
        return f"{observed.owner.KIND} {observed.owner.name} has no spec.version"
    if fetches(observed.spec) and isinstance(observed.owner, MachinePool):
        return "spec.fleetwake.secretTransport: the hosts of a MachinePool share their data, so a token for it cannot work once only"
    return composition.refusal(observed.request, observed.role)


# --- the first control plane node ----------------------------------------------------------------------------------------------------------------


def _init(observed: Observed) -> Plan:
    if not observed.is_control_plane:
        return _waiting(observed, "Waiting for Cluster control plane to be initialized")
    lock = observed.lock
    if lock is not None and lock.holder != observed.owner.name:
        if lock.holder_exists or lock.metadata.deleting:
            return _waiting(observed, f"Waiting for Machine {lock.holder} to initialize the control plane")
        # its holder is gone: the delete wakes all who wait, and one of them takes it
        release = Delete(lock.key, "v1", lock.metadata.uid, "the Machine that held the init lock is gone", lock.metadata.resource_version)
        return Plan((release,), rests_on_absence=True)
    missing = observed.missing(control_plane=True)
    if missing and observed.cluster.spec.control_plane_ref is not None:
        return _waiting(observed, "Waiting for the control plane provider to create the cluster certificates")
    brought = [purpose.value for purpose in missing if purpose not in _generated(observed)]
    if brought:
        return _waiting(observed, f"Waiting for the certificates that are to be provided: {', '.join(brought)}")
    return Plan((*data.init_steps(observed), *_sources_status(observed)))


def _generated(observed: Observed) -> set[secrets.Purpose]:
    return {file.purpose for file in secrets.certificate_files(observed.spec.get("clusterConfiguration") or {}) if file.generated}


def _sources_status(observed: Observed) -> tuple[Step, ...]:
    """Name Secrets that the cache does not know before they are tried: they may exist, but their appearance would wake nobody."""
    if not observed.missing_sources:
        return ()
    message = f"Failed to prepare spec.files or spec.users: Secrets {', '.join(observed.missing_sources)} are not known yet"
    return _steps(status.waiting(observed, message, control_plane=observed.is_control_plane, failed=True))


# --- nodes that join -----------------------------------------------------------------------------------------------------------------------------


def _join(observed: Observed) -> Plan:
    if observed.missing(control_plane=observed.is_control_plane):
        return _waiting(observed, "Waiting for the cluster certificates")
    if not observed.endpoint:
        return _waiting(observed, "Waiting for Cluster spec.controlPlaneEndpoint to be set")
    if data.needs_token(observed) and not observed.workload.connected:
        return _waiting(observed, "Waiting for the connection to the workload cluster")
    return Plan((*_release(observed), *data.join_steps(observed), *_sources_status(observed)), requeue_after=observed.token_check_every)


def _release(observed: Observed) -> tuple[Step, ...]:
    """Give the init lock back once the control plane is initialized: its holder does, or anybody when the holder is gone."""
    lock = observed.lock
    if lock is None or lock.metadata.deleting or not observed.initialized:
        return ()
    if lock.holder == observed.owner.name or not lock.holder_exists:
        return (Delete(lock.key, "v1", lock.metadata.uid, "the control plane is initialized", lock.metadata.resource_version),)
    return ()


# --- data that exists ----------------------------------------------------------------------------------------------------------------------------


def _done(observed: Observed, name: str) -> Plan:
    told = status.created(observed, name)
    kept = (tokens.bootstrap(observed), tokens.fetching(observed), removal.unneeded(observed))
    steps = [step for plan in kept for step in plan.steps]
    return Plan((*_release(observed), *steps, *_steps(told)), requeue_after=soonest(*(plan.requeue_after for plan in kept)))
