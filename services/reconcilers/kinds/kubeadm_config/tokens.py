"""Tokens that live on while a host needs them: the bootstrap token in the workload cluster, and the one a host fetches its data with.

A MachinePool's hosts come and go for as long as it lives. While it lacks Nodes its token is kept alive; once it has them all, the token is exchanged before it
ends, and the data of hosts to come is written anew.

Source: kinds.md §9 (rows 3 and 4), §18 (token times); Cluster API v1.14 kubeadmconfig controller, observable behaviour.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from fleetwake import labels
from fleetwake.patches import MetadataChange, metadata_patch, target
from fleetwake.plan import Create, Look, Patch, Plan, Step
from schemas.api.core.v1beta2 import MachinePool
from services.reconcilers.bootstrap import composition, transports
from services.reconcilers.bootstrap.host import Role
from services.reconcilers.bootstrap.request import fetches
from services.reconcilers.kinds.kubeadm_config import data
from services.reconcilers.kinds.kubeadm_config.observed import TOKEN_ROTATION, Observed
from services.reconcilers.kubeadm import secrets

LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def bootstrap(observed: Observed) -> Plan:
    """Look at the bootstrap token every third of its life, prolong it when five sixths or less are left, or exchange it."""
    identity = observed.config.metadata.annotations.get(labels.BOOTSTRAP_TOKEN_ID, "")
    if not identity or observed.has_joined:
        return Plan()
    if isinstance(observed.owner, MachinePool) and _data_is_behind(observed, identity):
        # a rotation was interrupted between the spec and the data
        return Plan(tuple(_rewritten(observed, observed.token_counter)))
    every = observed.token_check_every
    first_look = _made_at(observed) + every
    if observed.at < first_look:
        return Plan(requeue_after=first_look - observed.at)
    if not observed.workload.connected:
        return Plan()
    key = secrets.token_key(observed.cluster_key, identity)
    query = f"get//v1/Secret/{key.namespace}/{key.name}"
    look = Look(observed.cluster_key, query, reason="a bootstrap token lives for a quarter of an hour")
    found = observed.workload.looks.get(query)
    if found is None or observed.at - found.at >= every:
        return Plan((look,), requeue_after=every)
    wait = found.at + every - observed.at
    if found.error:
        return Plan(requeue_after=wait)
    if found.value is None:
        return Plan((data.create_token(observed, observed.token_counter), look), requeue_after=every)
    # judged at the time of the look: a wake-up in between finds the same answer and asks for nothing
    left = _expires(found.value) - found.at
    if observed.whole_pool:
        return Plan(_rotation(observed), requeue_after=every) if left < observed.token_ttl / 2 else Plan(requeue_after=wait)
    if left > observed.token_ttl * 5 / 6:
        return Plan(requeue_after=wait)
    uid = str(found.value.get("metadata", {}).get("uid", ""))
    prolong = Patch(key, "v1", uid, secrets.token_refresh(observed.token_ttl), reason="the node has not joined yet")
    return Plan((prolong, look), requeue_after=every)


def _rotation(observed: Observed) -> tuple[Step, ...]:
    """Exchange the token: the new one in the workload cluster, in the spec, and in the data of hosts to come."""
    counter, wanted = observed.token_counter + 1, observed.request
    identity = secrets.token_id(wanted.config_uid, counter)
    spec = {"joinConfiguration": {"discovery": {"bootstrapToken": {"token": data.token_value(wanted, counter)}}}}
    change = MetadataChange(annotations={labels.BOOTSTRAP_TOKEN_ID: identity, TOKEN_ROTATION: str(counter)})
    token: Create = data.create_token(observed, counter)
    written = metadata_patch(target(observed.config), change, "the token of the pool's next hosts", spec=spec)
    return (token, *((written,) if written is not None else ()), *_rewritten(observed, counter))


def _data_is_behind(observed: Observed, identity: str) -> bool:
    found = observed.data_secret
    return found is not None and labels.BOOTSTRAP_TOKEN_ID in found.metadata.annotations and found.metadata.annotations[labels.BOOTSTRAP_TOKEN_ID] != identity


def _rewritten(observed: Observed, counter: int) -> list[Patch]:
    """The bootstrap Secret with the token of that number."""
    found = observed.data_secret
    if found is None:
        return []
    wanted = composition.data(replace(observed.request, token_counter=counter), Role.JOIN_WORKER)
    annotations = {labels.BOOTSTRAP_TOKEN_ID: secrets.token_id(observed.config.metadata.uid, counter)}
    body = {"metadata": {"annotations": annotations}, "data": wanted}
    return [Patch(found.key, "v1", found.metadata.uid, body, reason="the pool's next hosts join with another token")]


def _made_at(observed: Observed) -> datetime:
    made = observed.data_secret.metadata.creation_timestamp if observed.data_secret is not None else None
    return made or observed.config.metadata.creation_timestamp or observed.at


def _expires(secret: Any) -> datetime:
    """When a token says it ends; long ago when it says nothing readable."""
    return _time(((secret.get("metadata") or {}).get("annotations") or {}).get(secrets.TOKEN_EXPIRES_AT))


def _time(text: Any) -> datetime:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return LONG_AGO
    return found if found.tzinfo is not None else LONG_AGO


def fetching(observed: Observed) -> Plan:
    """Prolong the token a host fetches its data with, at half its life, until it has done so or its Node is there."""
    found = observed.data_secret
    if found is None or not fetches(observed.spec) or observed.has_joined or transports.FETCHED_AT in found.metadata.annotations:
        return Plan()
    expires = _time(found.metadata.annotations.get(transports.TOKEN_EXPIRES_AT))
    half = transports.lifetime(observed.spec) / 2
    if expires - half > observed.at:
        return Plan(requeue_after=expires - half - observed.at)
    later = secrets.time_of_sending("end of the fetch token", transports.lifetime(observed.spec))
    body = {"metadata": {"annotations": {transports.TOKEN_EXPIRES_AT: later}}}
    prolong = Patch(found.key, "v1", found.metadata.uid, body, "the host has not fetched its data yet", found.metadata.resource_version)
    return Plan((prolong,), requeue_after=half)
