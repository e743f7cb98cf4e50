"""The steps that make a node's bootstrap data: locks, certificates, token, discovery, Secret.

Source: kinds.md §9 (init, join, store, init lock); Cluster API v1.14 (names and keys of the objects).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fleetwake import labels
from fleetwake.patches import MetadataChange, Target, key_of, metadata_patch, owner_reference, owner_wire, owners_with, target
from fleetwake.plan import Computed, Create, Patch, Step, Together
from services.reconcilers.kinds.kubeadm_config.observed import LOCK_KEY, Observed
from services.reconcilers.kubeadm import bootstrap_data, secrets

TOKEN_ID = "fleetwake.io/bootstrap-token-id"
"""Annotation on a KubeadmConfig: the public half of the token made for it. A token that a user brought has none and is left alone."""


def request(observed: Observed) -> bootstrap_data.Request:
    """Whose data to render."""
    return bootstrap_data.Request(
        cluster=observed.cluster_key,
        config=key_of(observed.config),
        config_uid=observed.config.metadata.uid,
        spec=observed.spec,
        facts=observed.facts,
        control_plane_version=observed.control_plane_version,
    )


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
    return (*lock, *certificates, store(observed, bootstrap_data.init_data(request(observed))))


def join_steps(observed: Observed) -> tuple[Step, ...]:
    """Make the data of a node that joins: its token in the workload cluster, discovery in its spec, then the Secret."""
    wanted = request(observed)
    token = (create_token(observed),) if needs_token(observed) else ()
    discovery = write_discovery(observed, wanted)
    data = bootstrap_data.join_data(wanted, control_plane=observed.is_control_plane)
    return (*token, *((discovery,) if discovery is not None else ()), store(observed, data))


def needs_token(observed: Observed) -> bool:
    """Whether discovery goes by a token of ours."""
    discovery = _discovery(observed)
    return not discovery.get("file") and not (discovery.get("bootstrapToken") or {}).get("token")


def create_token(observed: Observed) -> Create:
    """Create the token's Secret in the workload cluster. Its name and bytes are derived: a repeat meets its own work."""
    body = secrets.token_body(observed.cluster_key, observed.config.metadata.uid)
    return Create(body, reason="a node joins with a bootstrap token", cluster=str(observed.cluster_key))


def write_discovery(observed: Observed, wanted: bootstrap_data.Request) -> Patch | None:
    """Store in the spec what the user left out of discovery; None when nothing was."""
    discovery = _discovery(observed)
    change: dict[str, Any] = {}
    annotations: dict[str, str | None] = {}
    if discovery.get("file"):
        change = _file_discovery(discovery["file"], wanted)
    else:
        given: Mapping[str, Any] = discovery.get("bootstrapToken") or {}
        token: dict[str, Any] = {}
        if not given.get("caCertHashes"):
            token["caCertHashes"] = Computed("pins of the cluster CA", lambda inputs: secrets.ca_hashes(inputs, wanted.ca), secrets=(wanted.ca,))
        if not given.get("apiServerEndpoint"):
            token["apiServerEndpoint"] = wanted.facts.endpoint
        if not given.get("token"):
            token["token"] = Computed("bootstrap token", lambda inputs: secrets.token(inputs, wanted.ca, wanted.config_uid), secrets=(wanted.ca,))
            annotations[TOKEN_ID] = secrets.token_id(wanted.config_uid)
        if token:
            change = {"bootstrapToken": token}
    join: dict[str, Any] = {"discovery": change} if change else {}
    if observed.is_control_plane and (observed.spec.get("joinConfiguration") or {}).get("controlPlane") is None:
        join["controlPlane"] = {}
    spec = {"joinConfiguration": join} if join else None
    return metadata_patch(target(observed.config), MetadataChange(annotations=annotations), "complete the discovery of a joining node", spec=spec)


def _file_discovery(file: Mapping[str, Any], wanted: bootstrap_data.Request) -> dict[str, Any]:
    if not file.get("kubeConfig"):
        return {}
    given = file["kubeConfig"].get("cluster") or {}
    cluster: dict[str, Any] = {}
    if not given.get("server"):
        cluster["server"] = f"https://{wanted.facts.endpoint}"
    if not given.get("certificateAuthorityData"):
        cluster["certificateAuthorityData"] = Computed("cluster CA", lambda inputs: bootstrap_data.ca_data(inputs, wanted.ca), secrets=(wanted.ca,))
    return {"file": {"kubeConfig": {"cluster": cluster}}} if cluster else {}


def _discovery(observed: Observed) -> Mapping[str, Any]:
    return (observed.spec.get("joinConfiguration") or {}).get("discovery") or {}


def store(observed: Observed, data: Computed) -> Create:
    """Create the bootstrap Secret, named as the config and owned by it."""
    owner = owner_wire(owner_reference(observed.config, controller=True))
    key = secrets.secret_key(observed.cluster_key, secrets.Purpose.CA)._replace(name=observed.config.name)
    body = secrets.secret_body(key, observed.cluster.name, owner, data)
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
