"""kubeadm as a bootstrapper: its documents, the certificates beside them, the command.

The three ways a node comes to be: *init* of the first control plane node, *join* of a further one, *join* of a worker. Pure: Secrets come in as
``SecretInputs``.

Source: kinds.md §9; roadmap rows 5 to 7 (API by Machine version, users insulated from kubeadm's API, sentinel file).
"""

from __future__ import annotations

from typing import Any

from fleetwake import labels
from fleetwake.errors import InvalidError
from fleetwake.plan import SecretInputs
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap import discovery, files
from services.reconcilers.bootstrap.host import HostFile, Json, Layout, Made, Role
from services.reconcilers.bootstrap.request import Request, is_windows
from services.reconcilers.kubeadm import documents, secrets
from services.reconcilers.kubeadm.versions import kubeadm_api

WORKER_TAINT = {"key": labels.UNINITIALIZED_TAINT, "effect": "NoSchedule"}


class Kubeadm:
    """The bootstrapper ``kubeadm``."""

    name = "kubeadm"

    def refusal(self, request: Request, role: Role) -> str:
        """Why kubeadm cannot make this node, "" if it can."""
        joins_as_control_plane = (request.spec.get("joinConfiguration") or {}).get("controlPlane") is not None
        if joins_as_control_plane and not role.control_plane:
            return "the Machine is a worker, but spec.joinConfiguration.controlPlane is set"
        if role.control_plane and is_windows(request.spec):
            return "spec.fleetwake.operatingSystem: a control plane runs on linux only"
        try:
            kubeadm_api(request.facts.kubernetes_version)
        except InvalidError as error:
            return error.message
        return ""

    def secrets(self, request: Request, role: Role) -> tuple[ObjectKey, ...]:
        """The Secrets that ``make`` reads."""
        certificates = _certificates(request) if role.control_plane else ()
        return certificates if role is Role.INIT else (*certificates, request.ca)

    def make(self, request: Request, role: Role, layout: Layout, spec: Json, inputs: SecretInputs) -> Made:
        """Files and command.

        Raises:
            RetryableError: a Secret does not exist.
            InvalidError: what is wanted cannot be made.
        """
        api = kubeadm_api(request.facts.kubernetes_version)
        configuration: Json = spec.get("clusterConfiguration") or {}
        before = files.certificate_contents(secrets.certificate_files(configuration), _certificates(request), inputs) if role.control_plane else ()
        if role is Role.INIT:
            config = "---\n" + documents.to_yaml(documents.cluster_configuration(spec, api, request.facts))
            config += "---\n" + documents.to_yaml(documents.init_configuration(spec, api))
            document = HostFile(layout.init_path, config, "root:root", "0640")
            return Made(before, (document,), kubeadm_command("init", layout.init_path, spec.get("verbosity")), (layout.init_path,))
        found = discovery.completed(request, spec, inputs)
        join = {**(spec.get("joinConfiguration") or {}), "discovery": found}
        join = {"controlPlane": {}, **join} if role.control_plane else _worker_join(join)
        config = "---\n" + documents.to_yaml(documents.join_configuration({**spec, "joinConfiguration": join}, api))
        after = [HostFile(layout.join_path, config, "root:root", "0640")]
        if (found.get("file") or {}).get("kubeConfig"):
            after.insert(0, files.discovery_kubeconfig(found["file"]))
        return Made(before, tuple(after), kubeadm_command("join", layout.join_path, spec.get("verbosity")), (layout.join_path,))


def kubeadm_command(verb: str, path: str, verbosity: int | None) -> str:
    """The command that bootstraps the node: ``kubeadm init --config ...``."""
    flag = "" if verbosity is None else f" --v {verbosity}"
    return f"kubeadm {verb} --config {path}{flag}"


def _certificates(request: Request) -> tuple[ObjectKey, ...]:
    configuration: Json = request.spec.get("clusterConfiguration") or {}
    return tuple(secrets.secret_key(request.cluster, file.purpose) for file in secrets.certificate_files(configuration))


def _worker_join(join: Json) -> dict[str, Any]:
    """The join of a worker: its Node stays tainted until Cluster API has labelled it. Raises: InvalidError if it asks for a control plane."""
    if join.get("controlPlane") is not None:
        raise InvalidError("the Machine is a worker, but its KubeadmConfig sets joinConfiguration.controlPlane")
    registration = dict(join.get("nodeRegistration") or {})
    return {**join, "nodeRegistration": {**registration, "taints": worker_taints(registration)}}


def worker_taints(registration: Json) -> list[dict[str, Any]]:
    """The taints a worker registers with: those wanted, and the one that Cluster API takes away."""
    taints = [dict(taint) for taint in registration.get("taints") or ()]
    if not any(taint.get("key") == WORKER_TAINT["key"] and taint.get("effect") == WORKER_TAINT["effect"] for taint in taints):
        taints.append(dict(WORKER_TAINT))
    return taints
