"""Bootstrap data of one node: what its user data says, from a KubeadmConfig, its Machine and its Cluster.

The three ways a node comes to be: *init* of the first control plane node, *join* of a further one, *join* of a worker. Each renders to the data
of the bootstrap Secret. Pure: Secrets come in as ``SecretInputs``.

Source: kinds.md §9; roadmap rows 5 to 7 (API by Machine version, users insulated from kubeadm's API, sentinel file).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake import labels
from fleetwake.errors import InvalidError
from fleetwake.plan import Computed, SecretInputs
from schemas.keys import ClusterKey, ObjectKey
from schemas.sensitive import redacted
from services.reconcilers.kubeadm import cloud_config, documents, files, secrets
from services.reconcilers.kubeadm.documents import ClusterFacts, Json
from services.reconcilers.kubeadm.versions import kubeadm_api

WORKER_TAINT = {"key": labels.UNINITIALIZED_TAINT, "effect": "NoSchedule"}
CLOUD_CONFIG = "cloud-config"
OBJECT = "object"
"""The entry of a KubeadmConfig among ``SecretInputs.secrets``: its whole JSON as read live, sensitive values included."""


@dataclass(frozen=True, slots=True)
class Request:
    """Whose bootstrap data to render. ``spec`` is JSON as observed: sensitive values in it are only hashes (see ``live``).

    ``control_plane_version`` is what file templates see, normalised, ``""`` when not known.
    """

    cluster: ClusterKey
    config: ObjectKey
    config_uid: str
    spec: Json
    facts: ClusterFacts
    control_plane_version: str = ""

    @property
    def ca(self) -> ObjectKey:
        """The key of the cluster CA's Secret."""
        return secrets.secret_key(self.cluster, secrets.Purpose.CA)

    @property
    def live(self) -> tuple[ObjectKey, ...]:
        """The KubeadmConfig itself, where its spec holds sensitive values (contents, tokens, passwords): the rendering then needs the live object."""
        return (self.config,) if redacted(self.spec) else ()


def init_data(request: Request) -> Computed:
    """The bootstrap Secret's data of the first control plane node."""
    wanted = _certificates(request)

    def render(inputs: SecretInputs) -> dict[str, bytes]:
        spec, api = _spec(request, inputs), kubeadm_api(request.facts.kubernetes_version)
        config = "---\n" + documents.to_yaml(documents.cluster_configuration(spec, api, request.facts))
        config += "---\n" + documents.to_yaml(documents.init_configuration(spec, api))
        node_files = (
            *files.certificate_contents(secrets.certificate_files(spec.get("clusterConfiguration") or {}), wanted, inputs),
            *files.user_files(spec, request.cluster.namespace, inputs, request.control_plane_version),
            cloud_config.WriteFile(cloud_config.INIT_PATH, config, "root:root", "0640"),
        )
        return _rendered(request, spec, inputs, node_files, "init", cloud_config.INIT_PATH)

    return Computed("bootstrap data (init)", render, secrets=(*wanted, *files.secrets_of(request.spec, request.cluster.namespace), *request.live))


def join_data(request: Request, *, control_plane: bool) -> Computed:
    """The bootstrap Secret's data of a node that joins, as a control plane node or a worker."""
    wanted = _certificates(request) if control_plane else ()

    def render(inputs: SecretInputs) -> dict[str, bytes]:
        spec, api = _spec(request, inputs), kubeadm_api(request.facts.kubernetes_version)
        discovery = complete_discovery(request, spec, inputs)
        join = {**(spec.get("joinConfiguration") or {}), "discovery": discovery}
        if control_plane:
            join.setdefault("controlPlane", {})
        else:
            join = _worker_join(join)
        config = "---\n" + documents.to_yaml(documents.join_configuration({**spec, "joinConfiguration": join}, api))
        node_files = [
            *files.certificate_contents(secrets.certificate_files(spec.get("clusterConfiguration") or {}) if control_plane else (), wanted, inputs),
            *files.user_files(spec, request.cluster.namespace, inputs, request.control_plane_version),
        ]
        if (discovery.get("file") or {}).get("kubeConfig"):
            node_files.append(files.discovery_kubeconfig(discovery["file"]))
        node_files.append(cloud_config.WriteFile(cloud_config.JOIN_PATH, config, "root:root", "0640"))
        return _rendered(request, spec, inputs, tuple(node_files), "join", cloud_config.JOIN_PATH)

    needed = dict.fromkeys((*wanted, request.ca, *files.secrets_of(request.spec, request.cluster.namespace), *request.live))
    return Computed("bootstrap data (join)", render, secrets=tuple(needed))


def complete_discovery(request: Request, spec: Json, inputs: SecretInputs) -> dict[str, Any]:
    """``joinConfiguration.discovery`` with what the user left out: pins, endpoint and token, or the server and CA of a discovery file.

    Raises: as ``secrets.key_pair``.
    """
    discovery = dict((spec.get("joinConfiguration") or {}).get("discovery") or {})
    if discovery.get("file"):
        file = dict(discovery["file"])
        if file.get("kubeConfig"):
            cluster = dict(file["kubeConfig"].get("cluster") or {})
            cluster.setdefault("server", f"https://{request.facts.endpoint}")
            if not cluster.get("certificateAuthorityData"):
                cluster["certificateAuthorityData"] = ca_data(inputs, request.ca)
            file["kubeConfig"] = {**file["kubeConfig"], "cluster": cluster}
        return {**discovery, "file": file}
    token = dict(discovery.get("bootstrapToken") or {})
    if not token.get("caCertHashes"):
        token["caCertHashes"] = secrets.ca_hashes(inputs, request.ca)
    if not token.get("apiServerEndpoint"):
        token["apiServerEndpoint"] = request.facts.endpoint
    if not token.get("token"):
        token["token"] = secrets.token(inputs, request.ca, request.config_uid)
    return {**discovery, "bootstrapToken": token}


def _certificates(request: Request) -> tuple[ObjectKey, ...]:
    configuration: Json = request.spec.get("clusterConfiguration") or {}
    return tuple(secrets.secret_key(request.cluster, file.purpose) for file in secrets.certificate_files(configuration))


def _spec(request: Request, inputs: SecretInputs) -> Json:
    """The spec as it is on the API server where that was asked for, else as observed."""
    live = inputs.secrets.get(request.config, {}).get(OBJECT)
    if live is None:
        return request.spec
    found: Mapping[str, Any] = json.loads(live)
    return found.get("spec") or {}


def _worker_join(join: Json) -> dict[str, Any]:
    """The join of a worker: its Node stays tainted until Cluster API has labelled it. Raises: InvalidError if it asks for a control plane."""
    if join.get("controlPlane") is not None:
        raise InvalidError("the Machine is a worker, but its KubeadmConfig sets joinConfiguration.controlPlane")
    registration = dict(join.get("nodeRegistration") or {})
    taints = list(registration.get("taints") or ())
    if not any(taint.get("key") == WORKER_TAINT["key"] and taint.get("effect") == WORKER_TAINT["effect"] for taint in taints):
        taints.append(dict(WORKER_TAINT))
    return {**join, "nodeRegistration": {**registration, "taints": taints}}


def _rendered(request: Request, spec: Json, inputs: SecretInputs, node_files: tuple[cloud_config.WriteFile, ...], verb: str, path: str) -> dict[str, bytes]:
    if spec.get("format") == "ignition":
        raise InvalidError("format ignition is not supported yet")
    data = cloud_config.UserData(
        files=node_files,
        kubeadm_command=cloud_config.kubeadm_command(verb, path, spec.get("verbosity")),
        spec=spec,
        users=files.users(spec, request.cluster.namespace, inputs),
    )
    return {"value": cloud_config.render(data), "format": CLOUD_CONFIG.encode()}


def ca_data(inputs: SecretInputs, ca: ObjectKey) -> str:
    """The cluster CA's certificates in base64, as a kubeconfig embeds them. Raises: as ``secrets.secret_data``; InvalidError without any."""
    found = secrets.secret_data(inputs, ca).get("tls.crt")
    if not found:
        raise InvalidError(f"Secret {ca.namespace}/{ca.name} has no certificate in tls.crt")
    return base64.b64encode(found).decode("ascii")
