"""What kubeadm, or the kubelet alone, would do with the user data of a host.

Nothing is executed. What the emulation needs comes out (join or init, taints, labels, token, ClusterConfiguration); what a real host would choke on is a
``BootstrapError``. No content of the data appears in a message but names of fields, files and versions: the data holds keys.

Source: kubeadm 1.36 config API v1beta3, v1beta4 (fields per kind); Kubernetes 1.36 kubelet TLS bootstrapping; Cluster API v1.14 bootstrap contract (sentinel).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleetwake import yaml_text
from services.dev_infrastructure.emulation.user_data import BootstrapError, UserData, explain, mapping

JsonDict = dict[str, Any]
V1BETA3, V1BETA4 = "kubeadm.k8s.io/v1beta3", "kubeadm.k8s.io/v1beta4"
API_PORT = 6443
V1BETA4_SINCE = (1, 31)
KUBELET = "kubelet.config.k8s.io/v1beta1"
CONTROL_PLANE_TAINT = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
CONTROL_PLANE_FILES = ("/etc/kubernetes/pki/ca.crt", "/etc/kubernetes/pki/ca.key")
KUBELET_UNIT = "/etc/systemd/system/kubelet.service.d/20-fleetwake.conf"

SENTINEL = "/run/cluster-api/bootstrap-success.complete"
"""What a host writes once it has become a Node (C:\\run\\... on Windows): without it nobody would know."""

_SENTINEL = re.compile(r"echo success ?> ?\S*bootstrap-success\.complete")
_ENDS = re.compile(r"^\s*exit( /b)?( \d+)?\s*$")
_KUBEADM = re.compile(r"\bkubeadm (init|join)\b.*?--config[ =](\S+)")
_KUBELET = re.compile(r"\bsystemctl enable --now kubelet\b")
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


def parse(data: UserData) -> BootstrapData:
    """What the host would become by its user data.

    Raises:
        BootstrapError: it would become nothing.
    """
    found = [match for line in data.commands for match in _KUBEADM.finditer(line)]
    if not found and any(_KUBELET.search(line) for line in data.commands):
        _reach_the_end(data.commands, _KUBELET)
        return _kubelet(data)
    if len(found) != 1:
        raise BootstrapError(f"the commands must run kubeadm init or kubeadm join with --config once, they do {len(found)} times")
    _reach_the_end(data.commands, _KUBEADM)
    verb, path = found[0][1], found[0][2]
    if path not in data.files:
        raise BootstrapError(f"kubeadm {verb} reads {path}, which nothing writes")
    documents = [_document(one, path) for one in _load_all(data.text(path), path) if one is not None]
    made = _init(documents, path) if verb == "init" else _join(documents, path)
    if made.control_plane:
        for needed in CONTROL_PLANE_FILES:
            if not data.files.get(needed, b"").strip():
                raise BootstrapError(f"a control plane host needs {needed}, which nothing writes")
    return made


def _reach_the_end(commands: tuple[str, ...], makes_a_node: re.Pattern[str]) -> None:
    """Raises: BootstrapError where the commands end before the one that makes a Node, or none from there on says that it did."""
    place = next(index for index, line in enumerate(commands) if makes_a_node.search(line))
    ended = next((index for index, line in enumerate(commands[:place]) if _ENDS.match(line)), None)
    if ended is not None:
        raise BootstrapError(f"command {ended + 1} of {len(commands)} ends the host's script before it becomes a Node: {SENTINEL} was not written")
    if not any(_SENTINEL.search(line) for line in commands[place:]):
        raise BootstrapError(f"no command writes {SENTINEL}: whether the host became a Node would not be known")


def _load_all(text: str, what: str) -> list[Any]:
    try:
        return yaml_text.load_all(text)
    except yaml_text.YAMLError as error:
        raise BootstrapError(explain(error, what)) from None


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
    document = mapping(text, "kubeadm-config")
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
    labels = _labels(_arguments(wanted.get("kubeletExtraArgs"), document["apiVersion"], path).get("node-labels", ""), path)
    return tuple({name: str(value) for name, value in one.items() if value is not None} for one in taints), labels


def _labels(text: str, path: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for pair in filter(None, text.split(",")):
        key, equals, value = pair.partition("=")
        if not equals:
            raise BootstrapError(f"{path}: node-labels has an entry without =")
        labels[key.strip()] = value.strip()
    return labels


def _arguments(wanted: Any, version: str, path: str) -> dict[str, str]:
    """The kubelet's extra arguments: a map in v1beta3, a list of names and values in v1beta4."""
    if wanted is None:
        return {}
    if version == V1BETA3 and isinstance(wanted, dict):
        return {str(name): str(value) for name, value in wanted.items()}
    if version == V1BETA4 and isinstance(wanted, list) and all(isinstance(one, dict) and "name" in one for one in wanted):
        return {str(one["name"]): str(one.get("value", "")) for one in wanted}
    raise BootstrapError(f"{path}: kubeletExtraArgs has not the form of {version}")


# ---- the kubelet alone ----------------------------------------------------------------------------------------------------------------------


def _kubelet(data: UserData) -> BootstrapData:
    """A worker by TLS bootstrap: the unit's arguments lead to the kubelet's configuration and to the kubeconfig with the token."""
    arguments: dict[str, str] = {}
    for line in data.text(KUBELET_UNIT).splitlines():
        if line.startswith("ExecStart=/"):
            pairs = (word.partition("=") for word in shlex.split(line.replace("%%", "%"))[1:])
            arguments = {name.removeprefix("--"): value for name, _, value in pairs}
    config = _single(data, arguments.get("config", ""))
    if config.get("apiVersion") != KUBELET or config.get("kind") != "KubeletConfiguration":
        raise BootstrapError(f"the kubelet's configuration must be a KubeletConfiguration of {KUBELET}")
    kubeconfig = _single(data, arguments.get("bootstrap-kubeconfig", ""))
    try:
        token, authority = kubeconfig["users"][0]["user"]["token"], kubeconfig["clusters"][0]["cluster"]["certificate-authority"]
    except (KeyError, IndexError, TypeError):
        raise BootstrapError("the kubelet's bootstrap kubeconfig lacks a token or a certificate authority") from None
    match = _TOKEN.match(str(token))
    if match is None or not data.files.get(authority, b"").strip():
        raise BootstrapError("the kubelet's bootstrap kubeconfig has no token of the form id.secret, or names an authority that nothing writes")
    taints = tuple({name: str(value) for name, value in one.items()} for one in config.get("registerWithTaints") or ())
    return BootstrapData(True, False, KUBELET, taints, _labels(arguments.get("node-labels", ""), KUBELET_UNIT), (match[1], match[2]))


def _single(data: UserData, path: str) -> JsonDict:
    documents = _load_all(data.text(path), path)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise BootstrapError(f"{path} must hold one document")
    return documents[0]
