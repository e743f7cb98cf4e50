"""Specs, Secrets and requests from which tests make bootstrap data of every bootstrapper, format and transport."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetwake.plan import SecretInputs
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.bootstrap import composition
from services.reconcilers.bootstrap.host import Role
from services.reconcilers.bootstrap.request import FetchPoint, Request
from services.reconcilers.kubeadm.documents import ClusterFacts

GOLDEN = Path(__file__).parents[1] / "golden" / "bootstrap"
CLUSTER = ClusterKey("default", "demo")
CONFIG = ObjectKey("bootstrap.cluster.x-k8s.io", "KubeadmConfig", "default", "demo-abcde")
CA = ObjectKey("", "Secret", "default", "demo-ca")
AUTHORITY = ObjectKey("", "Secret", "fleetwake-system", "fleetwake-bootstrap-data-tls")
POINT = FetchPoint("https://bootstrap.example.com:9443", AUTHORITY)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

SPEC: dict[str, Any] = {
    "clusterConfiguration": {
        "apiServer": {"extraArgs": [{"name": "authorization-mode", "value": "Node,RBAC"}, {"name": "v", "value": "2"}], "certSANs": ["api.example.com"]},
        "controllerManager": {"extraArgs": [{"name": "cloud-provider", "value": "external"}], "extraEnvs": [{"name": "EMPTY", "value": ""}]},
        "etcd": {"local": {"dataDir": "/var/lib/etcddisk/etcd", "extraArgs": [{"name": "quota-backend-bytes", "value": "8589934592"}]}},
        "certificateValidityPeriodDays": 365,
        "caCertificateValidityPeriodDays": 3650,
        "encryptionAlgorithm": "ECDSA-P256",
        "featureGates": {"ControlPlaneKubeletLocalMode": True, "NodeLocalCRISocket": False},
    },
    "initConfiguration": {
        "nodeRegistration": {
            "name": "{{ ds.meta_data.local_hostname }}",
            "kubeletExtraArgs": [{"name": "cloud-provider", "value": "external"}, {"name": "node-labels", "value": ""}],
            "imagePullSerial": False,
            "taints": [],
        },
        "localAPIEndpoint": {"bindPort": 6443},
        "timeouts": {"controlPlaneComponentHealthCheckSeconds": 240, "kubernetesAPICallSeconds": 60},
    },
    "joinConfiguration": {
        "nodeRegistration": {
            "name": "{{ ds.meta_data.local_hostname }}",
            "kubeletExtraArgs": [{"name": "cloud-provider", "value": "external"}],
            "taints": [{"key": "dedicated", "value": "db", "effect": "NoSchedule"}],
        },
        "timeouts": {"tlsBootstrapSeconds": 300, "discoverySeconds": 3661},
        "patches": {"directory": "/etc/kubernetes/patches"},
    },
    "files": [
        {"path": "/etc/indented.conf", "content": "  starts indented\nand:\n  - goes\n\t- on\n\n", "owner": "root:root", "permissions": "0644"},
        {"path": "/etc/token", "contentFrom": {"secret": {"name": "extra", "key": "token"}}, "permissions": "0600", "append": True},
        {"path": "/etc/version", "content": "cp {{- /* no blanks */ -}} ={{ .controlPlane.version }}\n", "contentFormat": "Template"},
        {"path": "/etc/packed", "content": "H4sIAAAAAAACAytITM5OTeECAEPgQS8HAAAA", "encoding": "gzip+base64"},
    ],
    "bootCommands": ['echo "boot: $HOME"'],
    "preKubeadmCommands": ["hostname '{{ ds.meta_data.hostname }}'", "printf 'a\nb'"],
    "postKubeadmCommands": ["touch /done"],
    "users": [
        {
            "name": "capi",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "lockPassword": False,
            "sshAuthorizedKeys": ["ssh-ed25519 AAAA me"],
            "passwdFrom": {"secret": {"name": "extra", "key": "password"}},
        },
        {
            "name": "old",
            "gecos": "No More",
            "groups": "adm",
            "homeDir": "/srv/old",
            "shell": "/bin/sh",
            "primaryGroup": "old",
            "inactive": True,
            "passwd": "$6$x",
        },
    ],
    "ntp": {"enabled": True, "servers": ["ntp.example.com"]},
    "diskSetup": {
        "partitions": [
            {"device": "/dev/vdb", "layout": True, "overwrite": False, "tableType": "gpt"},
            {"device": "/dev/vdc", "diskLayout": [{"percentage": 60, "partitionType": "LinuxSwap"}, {"percentage": 40}]},
        ],
        "filesystems": [{"device": "/dev/vdb", "filesystem": "ext4", "label": "etcd_disk", "extraOpts": ["-E", "lazy_itable_init=1"]}],
    },
    "mounts": [["LABEL=etcd_disk", "/var/lib/etcddisk"]],
    "verbosity": 5,
}


PROXY: dict[str, Any] = {
    "httpProxy": "http://proxy.example.com:3128",
    "httpsProxy": "http://proxy.example.com:3129",
    "noProxy": ["registry.example.com"],
    "credentialsSecret": {"name": "proxy-login"},
}
EXTRA = {"token": b"s3cr3t", "password": b"$6$rounds=4096$salt$hash"}
LOGIN = {"username": b"fleet", "password": b"p@ss/word:%"}


def stored(name: str) -> dict[str, bytes]:
    """A certificate Secret of the golden files."""
    folder = GOLDEN / "secrets"
    return {"tls.crt": (folder / f"{name}.crt").read_bytes(), "tls.key": (folder / f"{name}.key").read_bytes()}


def inputs(**more: dict[str, bytes]) -> SecretInputs:
    """The Secrets of the cluster demo and those given by name; the service's authority is the cluster's CA for once."""
    found: dict[ObjectKey, dict[str, bytes]] = {ObjectKey("", "Secret", "default", f"demo-{name}"): stored(name) for name in ("ca", "etcd", "proxy", "sa")}
    found |= {ObjectKey("", "Secret", "default", name.replace("_", "-")): data for name, data in more.items()}
    found[AUTHORITY] = {"ca.crt": stored("ca")["tls.crt"]}
    return SecretInputs(found, (), AT)


def short_inputs() -> SecretInputs:
    """The same with one line in place of each certificate and key that nothing computes with: golden files stay readable."""
    found = dict(inputs(extra=EXTRA, proxy_login=LOGIN).secrets)
    for name in ("etcd", "proxy", "sa"):
        found[ObjectKey("", "Secret", "default", f"demo-{name}")] = {"tls.crt": f"{name} certificate\n".encode(), "tls.key": f"{name} PRIVATE KEY\n".encode()}
    found[CA] = {"tls.crt": stored("ca")["tls.crt"], "tls.key": b"ca PRIVATE KEY\n"}
    return SecretInputs(found, (), AT)


def request_of(version: str, spec: dict[str, Any] = SPEC, fetch: FetchPoint | None = None) -> Request:
    """Whose data to render."""
    facts = ClusterFacts("demo", version, "10.0.0.1:6443", "cluster.local", "10.96.0.0/12", "192.168.0.0/16,fd00::/64")
    return Request(CLUSTER, CONFIG, "uid-config", spec, facts, "v1.34.2", fetch=fetch)


def worker_spec(spec: dict[str, Any] = SPEC) -> dict[str, Any]:
    """A spec without what only a control plane says."""
    return {key: value for key, value in spec.items() if key not in ("clusterConfiguration", "initConfiguration")}


def data(role: Role, spec: dict[str, Any], version: str = "v1.34.2", given: SecretInputs | None = None) -> dict[str, bytes]:
    """The bootstrap Secret's data."""
    request = request_of(version, spec, POINT)
    assert composition.refusal(request, role) == ""
    found: dict[str, bytes] = composition.data(request, role).render(given or inputs(extra=EXTRA, proxy_login=LOGIN))
    return found
