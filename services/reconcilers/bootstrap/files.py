"""The files and users of a KubeadmConfig with everything resolved: contents from Secrets, templates, the discovery kubeconfig.

Source: kinds.md §9; Cluster API v1.14 (contentFrom, contentFormat Template: Go's text/template over the control plane's version, at most 1 MiB).
"""

from __future__ import annotations

from typing import Any

from fleetwake import yaml_text
from fleetwake.errors import InvalidError
from fleetwake.plan import SecretInputs
from fleetwake.templating import go_format, go_template
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap.host import HostFile, Json
from services.reconcilers.kubeadm.secrets import CertificateFile, secret_data

RENDERED_BYTES_MAX = 1 << 20


def secrets_of(spec: Json, namespace: str) -> tuple[ObjectKey, ...]:
    """The Secrets that a spec's files and users take their contents from, each once."""
    sources = [file["contentFrom"]["secret"] for file in spec.get("files") or () if file.get("contentFrom")]
    sources += [user["passwdFrom"]["secret"] for user in spec.get("users") or () if user.get("passwdFrom")]
    return tuple(dict.fromkeys(ObjectKey("", "Secret", namespace, source["name"]) for source in sources))


def user_files(spec: Json, namespace: str, inputs: SecretInputs, control_plane_version: str) -> tuple[HostFile, ...]:
    """The spec's files with their contents in place, in order.

    Raises:
        RetryableError: a Secret does not exist.
        InvalidError: a Secret lacks the key, or a template cannot be rendered.
    """
    found = []
    for file in spec.get("files") or ():
        content = file.get("content") or ""
        if file.get("contentFrom"):
            content = _from_secret(file["contentFrom"]["secret"], namespace, inputs, f"file {file['path']}")
        if file.get("contentFormat") == "Template":
            content = rendered(content, control_plane_version, file["path"])
        found.append(
            HostFile(file["path"], content, file.get("owner") or "", file.get("permissions") or "", file.get("encoding") or "", bool(file.get("append")))
        )
    return tuple(found)


def users(spec: Json, namespace: str, inputs: SecretInputs) -> tuple[Json, ...]:
    """The spec's users with passwords from Secrets in place. Raises: as ``user_files``."""
    found: list[Json] = []
    for user in spec.get("users") or ():
        if user.get("passwdFrom"):
            password = _from_secret(user["passwdFrom"]["secret"], namespace, inputs, f"user {user['name']}")
            user = {**user, "passwd": password}
        found.append(user)
    return tuple(found)


def _from_secret(source: Json, namespace: str, inputs: SecretInputs, what: str) -> str:
    data = secret_data(inputs, ObjectKey("", "Secret", namespace, source["name"]))
    if source["key"] not in data:
        raise InvalidError(f"{what}: Secret {namespace}/{source['name']} has no key {source['key']!r}")
    try:
        return data[source["key"]].decode()
    except UnicodeDecodeError:
        raise InvalidError(f"{what}: the value of key {source['key']!r} of Secret {namespace}/{source['name']} is not UTF-8 text") from None


def rendered(template: str, control_plane_version: str, path: str) -> str:
    """A file's Go template over ``{"controlPlane": {"version": ...}}``; without a known version there is no ``controlPlane``, and a template may ask for that.

    Raises:
        InvalidError: it cannot be read or executed, or its result is above 1 MiB.
    """
    data = {"controlPlane": {"version": control_plane_version}} if control_plane_version else {}
    try:
        out = go_template.render(template, data)
    except go_template.TemplateError as error:
        raise InvalidError(f"file {path}: its template cannot be rendered: {error}") from None
    if not control_plane_version and go_format.printed(None) in out:
        # Go would leave "<no value>" in the file, and the host would fail later and elsewhere
        raise InvalidError(f"file {path}: its template asks for the control plane's version, but the control plane reports none")
    if len(out.encode()) > RENDERED_BYTES_MAX:
        raise InvalidError(f"file {path}: the rendered template exceeds {RENDERED_BYTES_MAX} bytes")
    return out


def certificate_contents(files: tuple[CertificateFile, ...], secrets: tuple[ObjectKey, ...], inputs: SecretInputs) -> tuple[HostFile, ...]:
    """The certificates of a control plane node as files, root's own; ``secrets`` are their Secrets, in the same order. Raises: as ``secret_data``."""
    found = []
    for file, key in zip(files, secrets, strict=True):
        data = secret_data(inputs, key)
        if data.get("tls.crt"):
            found.append(HostFile(file.cert_path, data["tls.crt"].decode(), "root:root", "0640"))
        if data.get("tls.key") and file.key_path:
            found.append(HostFile(file.key_path, data["tls.key"].decode(), "root:root", "0600"))
    return tuple(found)


def discovery_kubeconfig(file: Json) -> HostFile:
    """The kubeconfig that discovery by file reads, from its description (``joinConfiguration.discovery.file``), server and CA filled in."""
    described: Json = file["kubeConfig"]
    cluster: Json = described.get("cluster") or {}
    user: Json = described.get("user") or {}
    keys = {
        "server": "server",
        "tlsServerName": "tls-server-name",
        "insecureSkipTLSVerify": "insecure-skip-tls-verify",
        "certificateAuthorityData": "certificate-authority-data",
        "proxyURL": "proxy-url",
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "preferences": {},
        "current-context": "default",
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
        "clusters": [{"name": "default", "cluster": {name: cluster[key] for key, name in keys.items() if cluster.get(key)}}],
        "users": [{"name": "default", "user": _auth(user)}],
    }
    return HostFile(file["kubeConfigPath"], yaml_text.dump(document, width=1 << 20), "root:root", "0640")


def _auth(user: Json) -> dict[str, Any]:
    auth: dict[str, Any] = {}
    if user.get("authProvider"):
        auth["auth-provider"] = {"name": user["authProvider"]["name"], "config": dict(user["authProvider"].get("config") or {})}
    if user.get("exec"):
        wanted: Json = user["exec"]
        auth["exec"] = {
            "apiVersion": wanted.get("apiVersion") or "client.authentication.k8s.io/v1",
            "command": wanted["command"],
            "args": list(wanted.get("args") or ()),
            "env": [dict(one) for one in wanted.get("env") or ()],
            "provideClusterInfo": bool(wanted.get("provideClusterInfo")),
            "interactiveMode": "Never",
        }
    return auth
