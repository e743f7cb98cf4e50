"""Bootstrap data, read as strictly as the tools on a real host would: cloud-config that runs kubeadm, and kubeadm's configuration documents.

Nothing is executed. What the emulation needs comes out (join or init, taints, labels, token, ClusterConfiguration); what a real host would choke on is a
``BootstrapError``. No content of the data appears in a message but names of fields, files and versions: the data holds keys.

Source: cloud-init 25 module reference; kubeadm 1.36 config API v1beta3, v1beta4 (fields per kind).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleetwake import yaml_text

JsonDict = dict[str, Any]
V1BETA3, V1BETA4 = "kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta4"
API_PORT = 6443
V1BETA4_SINCE = (1, 31)
CONTROL_PLANE_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
CONTROL_PLANE_FILES = ("/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/ca.key")

_KUBEADM = re.compile(r"\bkubeadm (init|join)\b.*?--config[ =](\S+)")
_HEADER = "#cloud-config"
_EXPRESSION = re.compile(r"\{\{\s*(?:ds\.meta_data|v1)\.(local_hostname|hostname|instance_id)\s*\}\}")
_TOKEN = re.compile(r"^([a-z0-9]{6})\.([a-z0-9]{16})$")

_SHARED = {
    "InitConfiguration": {"bootstrapTokens", "nodeRegistration", "localAPIEndpoint", "certificateKey", "skipPhases", "patches"},
    "JoinConfiguration": {"nodeRegistration", "caCertPath", "discovery", "controlPlane", "skipPhases", "patches"},
    "ClusterConfiguration": {
        *("etcd", "networking", "kubernetesVersion", "controlPlaneEndpoint", "apiServer", "controllerManager", "scheduler"),
        *("dns", "certificatesDir", "imageRepository", "featureGates", "clusterName"),
    },
    "nodeRegistration": {"name", "criSocket", "taints", "kubeletExtraArgs", "ignorePreflightErrors", "imagePullPolicy"},
}
_NEWER = {
    "InitConfiguration": {"timeouts", "dryRun"},
    "JoinConfiguration": {"timeouts", "dryRun"},
    "ClusterConfiguration": {"proxy", "encryptionAlgorithm", "certificateValidityPeriod", "caCertificateValidityPeriod"},
    "nodeRegistration": {"imagePullSerial"},
}
_FOREIGN = ("KubeletConfiguration", "KubeProxyConfiguration")


class BootstrapError(Exception):
    """Why a host would not become a Node. ``again``: it would try again by itself (a token or an API server may still come)."""

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


@dataclass(frozen=True, slots=True)
class BootstrapData:
    """What kubeadm would do. ``token`` is ``(id, secret)`` of a join; ``cluster_configuration`` belongs to an init."""

    join: bool
    control_plane: bool
    api_version: str
    taints: tuple[JsonDict, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    token: tuple[str, str] = field(default=("", ""), repr=False)
    cluster_configuration: JsonDict = field(default_factory=dict)
    api_port: int = API_PORT

    @property
    def external_etcd(self) -> bool:
        """Whether etcd runs outside the control plane hosts (known of an init only)."""
        return bool((self.cluster_configuration.get("etcd") or {}).get("external"))


def parse(secret: Mapping[str, bytes], node_name: str) -> BootstrapData:
    """Read the data of a bootstrap Secret for the host ``node_name``.

    Raises:
        BootstrapError: a host could not use it.
    """
    if "value" not in secret:
        raise BootstrapError("the bootstrap Secret has no key value")
    kind = secret.get("format", b"cloud-config").decode("utf-8", "replace")
    if kind != "cloud-config":
        raise BootstrapError(f"bootstrap data of format {kind!r} cannot be emulated; use cloud-config")
    try:
        text = secret["value"].decode()
    except UnicodeDecodeError:
        raise BootstrapError("the bootstrap data is no UTF-8 text") from None
    if _HEADER not in (line.strip() for line in text.split("\n", 2)[:2]):
        raise BootstrapError(f"the bootstrap data does not begin with {_HEADER}")
    config = _load(_EXPRESSION.sub(node_name, text), "the cloud-config")
    files = _files(config)
    verb, path = _command(config)
    if path not in files:
        raise BootstrapError(f"kubeadm {verb} reads {path}, which write_files does not write")
    documents = [_document(one, path) for one in _load_all(files[path], path) if one is not None]
    data = _init(documents, path) if verb == "init" else _join(documents, path)
    if data.control_plane:
        for needed in CONTROL_PLANE_FILES:
            if not files.get(needed, "").strip():
                raise BootstrapError(f"a control plane host needs {needed}, which write_files does not write")
    return data


def _load(text: str, what: str) -> JsonDict:
    try:
        found = yaml_text.load(text)
    except yaml_text.YAMLError as error:
        raise BootstrapError(_explain(error, what)) from None
    if not isinstance(found, dict):
        raise BootstrapError(f"{what} is no mapping")
    return found


def _load_all(text: str, what: str) -> list[Any]:
    try:
        return yaml_text.load_all(text)
    except yaml_text.YAMLError as error:
        raise BootstrapError(_explain(error, what)) from None


def _explain(error: yaml_text.YAMLError, what: str) -> str:
    """The place of a YAML error without its excerpt, which may show a key."""
    mark = getattr(error, "problem_mark", None)
    return f"{what} is no YAML: {getattr(error, 'problem', 'malformed')}" + (f" (line {mark.line + 1})" if mark is not None else "")


def _files(config: JsonDict) -> dict[str, str]:
    written = config.get("write_files", [])
    if not isinstance(written, list):
        raise BootstrapError("write_files is no list")
    files: dict[str, str] = {}
    for one in written:
        if not isinstance(one, dict) or not isinstance(one.get("path"), str):
            raise BootstrapError("write_files has an entry without a path")
        if "permissions" in one and not re.fullmatch(r"[0-7]{3,4}", str(one["permissions"])):
            raise BootstrapError(f"write_files: permissions of {one['path']} are no octal number")
        content = one.get("content", "")
        if not isinstance(content, str):
            raise BootstrapError(f"write_files: content of {one['path']} is no text")
        files[one["path"]] = files.get(one["path"], "") + content if one.get("append") else content
    return files


def _command(config: JsonDict) -> tuple[str, str]:
    """The verb and the configuration file of the one kubeadm command."""
    run = config.get("runcmd", [])
    lines = [" ".join(str(part) for part in one) if isinstance(one, list) else str(one) for one in run] if isinstance(run, list) else []
    found = [match for line in lines for match in _KUBEADM.finditer(line)]
    if len(found) != 1:
        raise BootstrapError(f"runcmd must run kubeadm init or kubeadm join with --config once, it does {len(found)} times")
    return found[0][1], found[0][2]


def _document(document: Any, path: str) -> JsonDict:
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise BootstrapError(f"{path} has a document without a kind")
    kind, version = document["kind"], document.get("apiVersion")
    if kind in _FOREIGN:
        return document
    if kind not in _SHARED or kind == "nodeRegistration":
        raise BootstrapError(f"{path}: kubeadm knows no kind {kind!r}")
    if version not in (V1BETA3, V1BETA4):
        raise BootstrapError(f"{path}: {kind} has apiVersion {version!r}; known are {V1BETA3} and {V1BETA4}")
    _known_fields(document, kind, version, path, extra={"apiVersion", "kind"})
    if isinstance(document.get("nodeRegistration"), dict):
        _known_fields(document["nodeRegistration"], "nodeRegistration", version, path)
    return document


def _known_fields(value: JsonDict, kind: str, version: str, path: str, extra: Iterable[str] = ()) -> None:
    known = _SHARED[kind] | (_NEWER[kind] if version == V1BETA4 else set()) | set(extra)
    unknown = sorted(str(name) for name in value if name not in known)
    if unknown:
        raise BootstrapError(f"{path}: {kind} of {version} has no field {', '.join(unknown)}")


def _one(documents: list[JsonDict], kind: str, path: str, *, needed: bool = True) -> JsonDict:
    found = [one for one in documents if one["kind"] == kind]
    if len(found) > 1 or (needed and not found):
        raise BootstrapError(f"{path} must hold one {kind}, it holds {len(found)}")
    return found[0] if found else {}


def _init(documents: list[JsonDict], path: str) -> BootstrapData:
    init = _one(documents, "InitConfiguration", path)
    cluster = _one(documents, "ClusterConfiguration", path)
    if init["apiVersion"] != cluster["apiVersion"]:
        raise BootstrapError(f"{path}: documents of different apiVersions cannot be mixed")
    taints, labels = _registration(init, path, control_plane=True)
    return BootstrapData(False, True, init["apiVersion"], taints, labels, cluster_configuration=cluster, api_port=_api_port(init))


def _join(documents: list[JsonDict], path: str) -> BootstrapData:
    join = _one(documents, "JoinConfiguration", path)
    control_plane = join.get("controlPlane") is not None
    discovery = join.get("discovery") or {}
    token = (discovery.get("bootstrapToken") or {}).get("token") or discovery.get("tlsBootstrapToken") or ""
    match = _TOKEN.match(token) if isinstance(token, str) else None
    if match is None and not discovery.get("file"):
        raise BootstrapError(f"{path}: JoinConfiguration has no discovery token of the form id.secret")
    taints, labels = _registration(join, path, control_plane=control_plane)
    port = _api_port(join.get("controlPlane") or {})
    return BootstrapData(True, control_plane, join["apiVersion"], taints, labels, (match[1], match[2]) if match else ("", ""), api_port=port)


def _api_port(document: JsonDict) -> int:
    return int((document.get("localAPIEndpoint") or {}).get("bindPort") or API_PORT)


def stored_configuration(text: str, version: str) -> JsonDict:
    """The ClusterConfiguration that a cluster keeps, as kubeadm of a version reads it.

    Raises:
        BootstrapError: it cannot: the API is too new for it, or the cluster too old.
    """
    document = _load(text, "kubeadm-config")
    api, kubeadm, cluster = str(document.get("apiVersion")), _minor(version), _minor(str(document.get("kubernetesVersion")))
    if api not in (V1BETA3, V1BETA4) or (api == V1BETA4 and () < kubeadm < V1BETA4_SINCE):
        raise BootstrapError(f"kubeadm join: kubeadm {version} cannot read a ClusterConfiguration of {api}", again=True)
    if cluster and kubeadm and cluster < (kubeadm[0], kubeadm[1] - 1):
        found = document.get("kubernetesVersion")
        raise BootstrapError(f"kubeadm join: kubeadm {version} is for control planes of one minor version before at most, not {found}", again=True)
    return document


def _minor(version: str) -> tuple[int, ...]:
    """Major and minor of a version; empty for a text that is none."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found is not None else ()


def _registration(document: JsonDict, path: str, *, control_plane: bool) -> tuple[tuple[JsonDict, ...], dict[str, str]]:
    wanted = document.get("nodeRegistration") or {}
    taints = wanted.get("taints")
    if taints is None:
        taints = [CONTROL_PLANE_TAINT] if control_plane else []
    if not isinstance(taints, list) or any(not isinstance(one, dict) or not one.get("key") or not one.get("effect") for one in taints):
        raise BootstrapError(f"{path}: nodeRegistration.taints need key and effect each")
    labels: dict[str, str] = {}
    text = _arguments(wanted.get("kubeletExtraArgs"), document["apiVersion"], path).get("node-labels", "")
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise BootstrapError(f"{path}: node-labels has an entry without =")
        labels[key.strip()] = value.strip()
    return tuple({name: str(value) for name, value in one.items() if value is not None} for one in taints), labels


def _arguments(wanted: Any, version: str, path: str) -> dict[str, str]:
    """The kubelet's extra arguments: a map in v1beta3, a list of names and values in v1beta4."""
    if wanted is None:
        return {}
    if version == V1BETA3 and isinstance(wanted, dict):
        return {str(name): str(value) for name, value in wanted.items()}
    if version == V1BETA4 and isinstance(wanted, list) and all(isinstance(one, dict) and "name" in one for one in wanted):
        return {str(one["name"]): str(one.get("value", "")) for one in wanted}
    raise BootstrapError(f"{path}: kubeletExtraArgs has not the form of {version}")
