"""The kubelet alone as a bootstrapper: a worker joins by TLS bootstrap, without kubeadm on the host.

It takes the token, CA and node registration of the same spec as kubeadm does. What the kubelet needs is its configuration, a kubeconfig with the token, and
the arguments of its unit; it asks for its certificate itself and writes its own kubeconfig.

Source: Kubernetes 1.36 kubelet TLS bootstrapping; KubeletConfiguration kubelet.config.k8s.io/v1beta1; kubeadm's defaults for a joining worker.
"""

from __future__ import annotations

import ipaddress
import shlex
from typing import Any

from fleetwake import yaml_text
from fleetwake.errors import InvalidError
from fleetwake.plan import SecretInputs
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap import discovery
from services.reconcilers.bootstrap.host import HostFile, Json, Layout, Made, Role
from services.reconcilers.bootstrap.request import Request, is_windows
from services.reconcilers.kubeadm import secrets
from services.reconcilers.kubeadm.bootstrapper import worker_taints

CA_PATH = "/etc/kubernetes/pki/ca.crt"
BOOTSTRAP_KUBECONFIG = "/etc/kubernetes/bootstrap-kubelet.conf"
KUBECONFIG = "/etc/kubernetes/kubelet.conf"
CONFIG = "/var/lib/kubelet/config.yaml"
DROP_IN = "/etc/systemd/system/kubelet.service.d/20-fleetwake.conf"
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
CERTIFICATE_WAIT_SECONDS = 300
COMMAND = (
    "systemctl daemon-reload && systemctl enable --now kubelet.service"
    f" && timeout {CERTIFICATE_WAIT_SECONDS} sh -c 'until [ -s {KUBECONFIG} ]; do sleep 2; done'"
)
"""The kubelet writes its kubeconfig once its certificate was issued: then the host is in the cluster."""


class Kubelet:
    """The bootstrapper ``kubelet``."""

    name = "kubelet"

    def refusal(self, request: Request, role: Role) -> str:
        """Why the kubelet cannot make this node alone, "" if it can."""
        if role.control_plane:
            return "spec.fleetwake.bootstrapper: kubelet makes workers only"
        if is_windows(request.spec):
            return "spec.fleetwake.bootstrapper: kubelet is for linux only"
        if ((request.spec.get("joinConfiguration") or {}).get("discovery") or {}).get("file"):
            return "spec.joinConfiguration.discovery.file: the kubelet joins with a token"
        return ""

    def secrets(self, request: Request, role: Role) -> tuple[ObjectKey, ...]:
        """The Secrets that ``make`` reads."""
        return (request.ca,)

    def make(self, request: Request, role: Role, layout: Layout, spec: Json, inputs: SecretInputs) -> Made:
        """Files and command.

        Raises:
            RetryableError: the CA does not exist.
            InvalidError: it holds no certificate.
        """
        ca = secrets.secret_data(inputs, request.ca).get("tls.crt")
        if not ca:
            raise InvalidError(f"Secret {request.ca.namespace}/{request.ca.name} has no certificate in tls.crt")
        token = discovery.completed(request, spec, inputs)["bootstrapToken"]
        registration: Json = (spec.get("joinConfiguration") or {}).get("nodeRegistration") or {}
        files = (
            HostFile(CA_PATH, ca.decode(), "root:root", "0644"),
            HostFile(BOOTSTRAP_KUBECONFIG, _yaml(_kubeconfig(token)), "root:root", "0600"),
            HostFile(CONFIG, _yaml(_configuration(request, registration)), "root:root", "0644"),
            HostFile(DROP_IN, _drop_in(registration), "root:root", "0644"),
        )
        return Made((), files, COMMAND, (BOOTSTRAP_KUBECONFIG,))


def _yaml(document: Json) -> str:
    return yaml_text.dump(dict(document), width=1 << 20)


def _kubeconfig(token: Json) -> dict[str, Any]:
    cluster = {"server": f"https://{token['apiServerEndpoint']}", "certificate-authority": CA_PATH}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default", "cluster": cluster}],
        "users": [{"name": "default", "user": {"token": token["token"]}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "current-context": "default",
    }


def _configuration(request: Request, registration: Json) -> dict[str, Any]:
    dns = _cluster_dns(request.facts.service_subnet)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": CA_PATH}},
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd",
        "clusterDomain": request.facts.dns_domain or "cluster.local",
        **({"clusterDNS": [dns]} if dns else {}),
        "containerRuntimeEndpoint": registration.get("criSocket") or CRI_SOCKET,
        "registerWithTaints": [{key: taint[key] for key in ("key", "value", "effect") if taint.get(key)} for taint in worker_taints(registration)],
        "rotateCertificates": True,
        "staticPodPath": "/etc/kubernetes/manifests",
    }


def _cluster_dns(service_subnet: str) -> str:
    """The tenth address of the first service network, as kubeadm gives it to the DNS Service; "" where there is none."""
    first = service_subnet.split(",", 1)[0]
    try:
        return str(ipaddress.ip_network(first)[10]) if first else "10.96.0.10"
    except (ValueError, IndexError):
        return ""


def _drop_in(registration: Json) -> str:
    arguments = {
        "bootstrap-kubeconfig": BOOTSTRAP_KUBECONFIG,
        "kubeconfig": KUBECONFIG,
        "config": CONFIG,
        **({"hostname-override": registration["name"]} if registration.get("name") else {}),
        **{one["name"]: one.get("value", "") for one in registration.get("kubeletExtraArgs") or ()},
    }
    # a percent sign begins a specifier of systemd, and is written twice to mean itself
    flags = " ".join(shlex.quote(f"--{name}={value}").replace("%", "%%") for name, value in arguments.items())
    return f"[Service]\nExecStart=\nExecStart=/usr/bin/kubelet {flags}\n"
