"""The steps that make a node's bootstrap data: locks, certificates, token, discovery, Secret.

Source: kinds.md §9 (init, join, store, init lock); Cluster API v1.14 (names and keys of the objects).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fleetwake import labels
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owner_wire, owners_with, target
from fleetwake.plan import Computed, Create, Patch, Step, Together
from services.reconcilers.bootstrap import composition, discovery, transports
from services.reconcilers.bootstrap.host import Role
from services.reconcilers.bootstrap.request import Request, fetches
from services.reconcilers.kinds.kubeadm_config.observed import LOCK_KEY, Observed
from services.reconcilers.kubeadm import secrets


def take_lock(observed: Observed) -> Create:
    """Acquire the init lock: the API server lets one of several creates win. Nobody controls the lock, so a name taken is a conflict."""
    cluster = observed.cluster
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{cluster.name}-lock",
            "namespace": cluster.namespace,
            "labels": {labels.CLUSTER_NAME: cluster.name},
            "ownerReferences": [owner_wire(owner_reference(cluster))],
        },
        "data": {LOCK_KEY: json.dumps({"machineName": observed.owner.name}, separators=(",", ":"))},
    }
    return Create(body, reason="only one Machine may initialize the control plane", owner_uid=observed.config.metadata.uid)


def make_certificates(observed: Observed) -> tuple[Step, ...]:
    """Create the certificates that are ours to make and do not exist (a Cluster without control plane provider)."""
    configuration = observed.spec.get("clusterConfiguration") or {}
    owner = owner_wire(owner_reference(observed.config, controller=True))
    branches = []
    for file in secrets.certificate_files(configuration):
        if file.generated and file.purpose not in observed.certificates:
            key = secrets.secret_key(observed.cluster_key, file.purpose)
            body = secrets.secret_body(key, observed.cluster.name, owner, secrets.certificate_data(file.purpose, configuration))
            branches.append((Create(body, reason=f"certificate {file.purpose.value} of a cluster without control plane provider"),))
    return (Together(tuple(branches), reason="cluster certificates"),) if branches else ()


def init_steps(observed: Observed) -> tuple[Step, ...]:
    """Make the data of the first control plane node, which holds the lock (or takes it first)."""
    lock = () if observed.lock is not None else (take_lock(observed),)
    certificates = make_certificates(observed) if observed.cluster.spec.control_plane_ref is None else ()
    return (*lock, *certificates, store(observed, Role.INIT))


def join_steps(observed: Observed) -> tuple[Step, ...]:
    """Make the data of a node that joins: its token in the workload cluster, discovery in its spec, then the Secret."""
    token = (create_token(observed, observed.token_counter),) if needs_token(observed) else ()
    written = write_discovery(observed, observed.request)
    return (*token, *((written,) if written is not None else ()), store(observed, Role.JOIN_CONTROL_PLANE if observed.is_control_plane else Role.JOIN_WORKER))


def needs_token(observed: Observed) -> bool:
    """Whether discovery goes by a token of ours."""
    found = _discovery(observed)
    return not found.get("file") and not (found.get("bootstrapToken") or {}).get("token")


def create_token(observed: Observed, counter: int) -> Create:
    """Create the token's Secret in the workload cluster. Its name and bytes are derived: a repeat meets its own work."""
    body = secrets.token_body(observed.cluster_key, observed.config.metadata.uid, counter, observed.token_ttl)
    return Create(body, reason="a node joins with a bootstrap token", cluster=str(observed.cluster_key))


def write_discovery(observed: Observed, wanted: Request) -> Patch | None:
    """Store in the spec what the user left out of discovery; None when nothing was."""
    found = _discovery(observed)
    change: dict[str, Any] = {}
    annotations: dict[str, str | None] = {}
    if found.get("file"):
        change = _file_discovery(found["file"], wanted)
    else:
        given: Mapping[str, Any] = found.get("bootstrapToken") or {}
        token: dict[str, Any] = {}
        if not given.get("caCertHashes"):
            token["caCertHashes"] = Computed("pins of the cluster CA", lambda inputs: secrets.ca_hashes(inputs, wanted.ca), secrets=(wanted.ca,))
        if not given.get("apiServerEndpoint"):
            token["apiServerEndpoint"] = wanted.facts.endpoint
        if not given.get("token"):
            if not fetches(observed.spec):
                # a host that fetches gets it then: it is derived, and needs to stand nowhere
                token["token"] = token_value(wanted, wanted.token_counter)
            annotations[labels.BOOTSTRAP_TOKEN_ID] = secrets.token_id(wanted.config_uid, wanted.token_counter)
        if token:
            change = {"bootstrapToken": token}
    join: dict[str, Any] = {"discovery": change} if change else {}
    if observed.is_control_plane and (observed.spec.get("joinConfiguration") or {}).get("controlPlane") is None:
        join["controlPlane"] = {}
    spec = {"joinConfiguration": join} if join else None
    return metadata_patch(target(observed.config), MetadataChange(annotations=annotations), "complete the discovery of a joining node", spec=spec)


def token_value(wanted: Request, counter: int) -> Computed:
    """The whole token, as a spec holds it."""
    return Computed("bootstrap token", lambda inputs: secrets.token(inputs, wanted.ca, wanted.config_uid, counter), secrets=(wanted.ca,))


def _file_discovery(file: Mapping[str, Any], wanted: Request) -> dict[str, Any]:
    if not file.get("kubeConfig"):
        return {}
    given = file["kubeConfig"].get("cluster") or {}
    cluster: dict[str, Any] = {}
    if not given.get("server"):
        cluster["server"] = f"https://{wanted.facts.endpoint}"
    if not given.get("certificateAuthorityData"):
        cluster["certificateAuthorityData"] = Computed("cluster CA", lambda inputs: discovery.ca_data(inputs, wanted.ca), secrets=(wanted.ca,))
    return {"file": {"kubeConfig": {"cluster": cluster}}} if cluster else {}


def _discovery(observed: Observed) -> Mapping[str, Any]:
    return (observed.spec.get("joinConfiguration") or {}).get("discovery") or {}


def store(observed: Observed, role: Role) -> Create:
    """Create the bootstrap Secret, named as the config and owned by it."""
    owner, wanted = owner_wire(owner_reference(observed.config, controller=True)), observed.request
    key = secrets.secret_key(observed.cluster_key, secrets.Purpose.CA)._replace(name=observed.config.name)
    identity = observed.config.metadata.annotations.get(labels.BOOTSTRAP_TOKEN_ID, "")
    if role is not Role.INIT and needs_token(observed):
        identity = secrets.token_id(wanted.config_uid, wanted.token_counter)
    annotations = {**({labels.BOOTSTRAP_TOKEN_ID: identity} if identity else {}), **transports.notes(wanted, role)}
    body = secrets.secret_body(key, observed.cluster.name, owner, composition.data(wanted, role), annotations)
    return Create(body, reason="bootstrap data can be made now", owner_uid=observed.config.metadata.uid)


def adopt_data_secret(observed: Observed) -> Patch | None:
    """Make the bootstrap Secret ours again where its owner reference was lost or is outdated; somebody else's Secret is left alone."""
    found = observed.data_secret
    if found is None:
        return None
    wanted = owner_reference(observed.config, controller=True)
    controller = found.metadata.controller
    if controller is not None and (controller.kind != wanted.kind or controller.group != wanted.group):
        return None
    owners = owners_with(found.metadata.owner_references, wanted)
    return metadata_patch(Target(found.key, "v1", found.metadata), MetadataChange(owners=owners), "the KubeadmConfig owns its bootstrap data")
