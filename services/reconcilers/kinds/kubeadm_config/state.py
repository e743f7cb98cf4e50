"""The state machine of a KubeadmConfig: which of its states it is in, first match wins, and what that asks for.

The status tells what was observed, never what is planned: a run that creates the bootstrap Secret leaves the status alone, and the Secret's
appearance wakes the run that names it.

Source: kinds.md §9 (rows 1 to 8), §18 (token times); Cluster API v1.14 kubeadmconfig controller, observable behaviour.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fleetwake.errors import InvalidError
from fleetwake.plan import Delete, Look, Patch, Plan, Step
from services.reconcilers.kinds.kubeadm_config import data, status
from services.reconcilers.kinds.kubeadm_config.observed import Observed
from services.reconcilers.kinds.pausing import paused_condition, paused_plan
from services.reconcilers.kubeadm import secrets
from services.reconcilers.kubeadm.versions import kubeadm_api


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
        return _waiting(observed, refusal)
    return _join(observed) if observed.initialized else _init(observed)


def _steps(*steps: Step | None) -> tuple[Step, ...]:
    return tuple(step for step in steps if step is not None)


def _waiting(observed: Observed, message: str) -> Plan:
    return Plan(_steps(status.waiting(observed, message, control_plane=observed.is_control_plane)))


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
    if observed.spec.get("format") == "ignition":
        return "spec.format ignition is not supported yet"
    if not observed.version:
        return f"{observed.owner.KIND} {observed.owner.name} has no spec.version"
    joins_as_control_plane = (observed.spec.get("joinConfiguration") or {}).get("controlPlane") is not None
    if joins_as_control_plane and not observed.is_control_plane:
        return "the Machine is a worker, but spec.joinConfiguration.controlPlane is set"
    try:
        kubeadm_api(observed.version)
    except InvalidError as error:
        return error.message
    return ""


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
    return _steps(status.waiting(observed, message, control_plane=observed.is_control_plane))


# --- nodes that join -----------------------------------------------------------------------------------------------------------------------------


def _join(observed: Observed) -> Plan:
    if observed.missing(control_plane=observed.is_control_plane):
        return _waiting(observed, "Waiting for the cluster certificates")
    if not observed.endpoint:
        return _waiting(observed, "Waiting for Cluster spec.controlPlaneEndpoint to be set")
    if data.needs_token(observed) and not observed.workload.connected:
        return _waiting(observed, "Waiting for the connection to the workload cluster")
    return Plan((*_release(observed), *data.join_steps(observed), *_sources_status(observed)), requeue_after=secrets.TOKEN_CHECK_EVERY)


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
    refresh = _token_refresh(observed)
    return Plan((*_release(observed), *refresh.steps, *_steps(told)), requeue_after=refresh.requeue_after)


def _token_refresh(observed: Observed) -> Plan:
    """Keep the token of a node that has not joined yet alive: look at it every third of its life, prolong it when five sixths or less are left."""
    identity = observed.config.metadata.annotations.get(data.TOKEN_ID, "")
    if not identity or observed.has_joined:
        return Plan()
    first_look = _made_at(observed) + secrets.TOKEN_CHECK_EVERY
    if observed.at < first_look:
        return Plan(requeue_after=first_look - observed.at)
    if not observed.workload.connected:
        return Plan()
    key = secrets.token_key(observed.cluster_key, identity)
    query = f"get//v1/Secret/{key.namespace}/{key.name}"
    look = Look(observed.cluster_key, query, reason="a bootstrap token lives for a quarter of an hour")
    found = observed.workload.looks.get(query)
    if found is None or observed.at - found.at >= secrets.TOKEN_CHECK_EVERY:
        return Plan((look,), requeue_after=secrets.TOKEN_CHECK_EVERY)
    wait = found.at + secrets.TOKEN_CHECK_EVERY - observed.at
    if found.error:
        return Plan(requeue_after=wait)
    if found.value is None:
        return Plan((data.create_token(observed), look), requeue_after=secrets.TOKEN_CHECK_EVERY)
    # judged at the time of the look: a wake-up in between finds the same answer and asks for nothing
    if _expires(found.value) - found.at > secrets.TOKEN_REFRESH_WHEN_LEFT:
        return Plan(requeue_after=wait)
    uid = str(found.value.get("metadata", {}).get("uid", ""))
    prolong = Patch(key, "v1", uid, secrets.token_refresh(), reason="the node has not joined yet")
    return Plan((prolong, look), requeue_after=secrets.TOKEN_CHECK_EVERY)


def _made_at(observed: Observed) -> datetime:
    made = observed.data_secret.metadata.creation_timestamp if observed.data_secret is not None else None
    return made or observed.config.metadata.creation_timestamp or observed.at


def _expires(secret: Any) -> datetime:
    """When a token says it ends; long ago when it says nothing readable."""
    text = str(((secret.get("metadata") or {}).get("annotations") or {}).get(secrets.TOKEN_EXPIRES_AT, ""))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat("1970-01-01T00:00:00+00:00")
