"""The host's HTTP proxy: one file of environment variables, and who reads it.

containerd and the kubelet read it through their units. The shell that runs the commands reads it too, and so kubeadm: it hands the proxy variables of its
own environment to the static Pods it writes and to kube-proxy. Credentials come from a Secret and stand in this file (and, by kubeadm, in the manifests
of static Pods); they are in no KubeadmConfig and not in the ConfigMap kubeadm-config.

Source: roadmap row 21; kubeadm 1.36 (proxy variables of control-plane manifests); systemd.exec(5) EnvironmentFile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from urllib.parse import quote

from fleetwake.errors import InvalidError
from fleetwake.plan import SecretInputs
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap.host import Host, HostFile, Json, Layout
from services.reconcilers.bootstrap.request import settings
from services.reconcilers.kubeadm.documents import ClusterFacts
from services.reconcilers.kubeadm.secrets import secret_data

ENVIRONMENT = "/etc/kubernetes/http-proxy.env"
WINDOWS_ENVIRONMENT = r"C:\etc\kubernetes\http-proxy.env"
UNITS = ("containerd", "kubelet")
ALWAYS_DIRECT = ("localhost", "127.0.0.1", "::1", "169.254.169.254")
"""The host itself, and the metadata service of clouds: no proxy reaches them."""
LINUX_COMMANDS = (
    "systemctl daemon-reload && { systemctl try-restart containerd.service || true; }",
    f"set -a && . {ENVIRONMENT} && set +a",
)
_SERVICES = r"HKLM:\SYSTEM\CurrentControlSet\Services"
WINDOWS_COMMANDS = (
    f'for /f "usebackq tokens=1,* delims==" %%a in ("{WINDOWS_ENVIRONMENT}") do set "%%a=%%b"',
    "powershell -NoProfile -Command \"foreach ($name in 'containerd', 'kubelet') { if (Test-Path "
    + _SERVICES
    + "\\$name) { Set-ItemProperty -Path "
    + _SERVICES
    + "\\$name -Name Environment -Type MultiString -Value (Get-Content "
    + WINDOWS_ENVIRONMENT
    + ') } } ; Restart-Service -Force containerd"',
)


def secrets_of(spec: Json, namespace: str) -> tuple[ObjectKey, ...]:
    """The Secret with the proxy's credentials, if one is named."""
    found = (settings(spec).get("httpProxy") or {}).get("credentialsSecret")
    return (ObjectKey("", "Secret", namespace, found["name"]),) if found else ()


def with_proxy(host: Host, namespace: str, facts: ClusterFacts, layout: Layout, inputs: SecretInputs) -> Host:
    """The host with its proxy, if its spec has one.

    Raises:
        RetryableError: the Secret with the credentials does not exist.
        InvalidError: it has no username.
    """
    wanted: Json = settings(host.spec).get("httpProxy") or {}
    if not wanted:
        return host
    variables = dict(_variables(wanted, namespace, facts, inputs))
    if layout.windows:
        text = "".join(f"{name}={value}\n" for name, value in variables.items())
        return replace(host, files=(HostFile(WINDOWS_ENVIRONMENT, text), *host.files), first=(*WINDOWS_COMMANDS, *host.first))
    both = variables | {name.lower(): value for name, value in variables.items()}
    text = "".join(f'{name}="{value}"\n' for name, value in both.items())
    unit = f"[Service]\nEnvironmentFile={ENVIRONMENT}\n"
    units = (HostFile(f"/etc/systemd/system/{name}.service.d/http-proxy.conf", unit, "root:root", "0644") for name in UNITS)
    return replace(host, files=(HostFile(ENVIRONMENT, text, "root:root", "0600"), *units, *host.files), first=(*LINUX_COMMANDS, *host.first))


def _variables(wanted: Json, namespace: str, facts: ClusterFacts, inputs: SecretInputs) -> Iterable[tuple[str, str]]:
    identity = ""
    for key in secrets_of({"fleetwake": {"httpProxy": wanted}}, namespace):
        data = secret_data(inputs, key)
        if not data.get("username"):
            raise InvalidError(f"Secret {key.namespace}/{key.name} with the proxy's credentials has no key 'username'")
        password = data.get("password", b"")
        identity = quote(data["username"], safe="") + (":" + quote(password, safe="") if password else "") + "@"
    for name, field in (("HTTP_PROXY", "httpProxy"), ("HTTPS_PROXY", "httpsProxy")):
        if wanted.get(field):
            scheme, _, rest = wanted[field].partition("://")
            yield name, f"{scheme}://{identity}{rest}"
    yield "NO_PROXY", ",".join(no_proxy(wanted.get("noProxy") or (), facts))


def no_proxy(wanted: Iterable[str], facts: ClusterFacts) -> tuple[str, ...]:
    """What is reached directly: the user's entries, then the host itself and what is the cluster's own, each once."""
    endpoint = facts.endpoint.rpartition(":")[0].strip("[]")
    networks = [*facts.service_subnet.split(","), *facts.pod_subnet.split(",")]
    own = (*ALWAYS_DIRECT, *networks, ".svc", f".{facts.dns_domain or 'cluster.local'}", endpoint)
    return tuple(entry for entry in dict.fromkeys((*wanted, *own)) if entry)
