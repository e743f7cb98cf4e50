"""Bootstrap data: kubeadm's documents by version, cloud-config that parses back, golden texts under tests/golden/bootstrap."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.errors import InvalidError, RetryableError
from fleetwake.plan import Computed, SecretInputs
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kubeadm import bootstrap_data, cloud_config, documents, files, secrets
from services.reconcilers.kubeadm.documents import ClusterFacts
from services.reconcilers.kubeadm.versions import KubeadmApi, kubeadm_api, needs_kubelet_local_mode_gate, normalized

GOLDEN = Path(__file__).parents[1] / "golden" / "bootstrap"
CLUSTER = ClusterKey("default", "demo")
CONFIG = ObjectKey("bootstrap.cluster.x-k8s.io", "KubeadmConfig", "default", "demo-abcde")
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
        {"path": "/etc/packed", "content": "H4sIAAAA", "encoding": "gzip+base64"},
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
        }
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


def stored(name: str) -> dict[str, bytes]:
    folder = GOLDEN / "secrets"
    return {"tls.crt": (folder / f"{name}.crt").read_bytes(), "tls.key": (folder / f"{name}.key").read_bytes()}


def inputs(**more: dict[str, bytes]) -> SecretInputs:
    found: dict[ObjectKey, dict[str, bytes]] = {ObjectKey("", "Secret", "default", f"demo-{name}"): stored(name) for name in ("ca", "etcd", "proxy", "sa")}
    found |= {ObjectKey("", "Secret", "default", name): data for name, data in more.items()}
    return SecretInputs(found, (), AT)


EXTRA = {"token": b"s3cr3t", "password": b"$6$rounds=4096$salt$hash"}


def request_of(version: str, spec: dict[str, Any] = SPEC) -> bootstrap_data.Request:
    facts = ClusterFacts("demo", version, "10.0.0.1:6443", "cluster.local", "10.96.0.0/12", "192.168.0.0/16,fd00::/64")
    return bootstrap_data.Request(CLUSTER, CONFIG, "uid-config", spec, facts, "v1.34.2")


def worker_spec() -> dict[str, Any]:
    return {key: value for key, value in SPEC.items() if key not in ("clusterConfiguration", "initConfiguration")}


def computed(mode: str, version: str) -> Computed:
    match mode:
        case "init":
            return bootstrap_data.init_data(request_of(version))
        case "join-control-plane":
            return bootstrap_data.join_data(request_of(version), control_plane=True)
        case _:
            return bootstrap_data.join_data(request_of(version, worker_spec()), control_plane=False)


def value(mode: str, version: str) -> str:
    found = computed(mode, version).render(inputs(extra=EXTRA))
    assert found["format"] == b"cloud-config"
    return bytes(found["value"]).decode()


@pytest.mark.parametrize("version", ["v1.30.4", "v1.34.2"])
@pytest.mark.parametrize("mode", ["init", "join-control-plane", "join-worker"])
def test_golden(mode: str, version: str, request: pytest.FixtureRequest) -> None:
    path = GOLDEN / f"{mode}-{version}.yaml"
    rendered = value(mode, version)
    if request.config.getoption("--regolden", default=False):
        path.write_text(rendered)
    assert rendered == path.read_text()


def written(text: str) -> dict[str, Any]:
    assert text.startswith("## template: jinja\n#cloud-config\n")
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def file(document: dict[str, Any], path: str) -> dict[str, Any]:
    (found,) = (one for one in document["write_files"] if one["path"] == path)
    return dict(found)


def test_cloud_config_parses_back_in_order() -> None:
    document = written(value("init", "v1.34.2"))
    assert list(document) == ["write_files", "bootcmd", "runcmd", "ntp", "users", "disk_setup", "fs_setup", "mounts"]
    assert [one["path"] for one in document["write_files"]] == [
        "/etc/kubernetes/pki/ca.crt",
        "/etc/kubernetes/pki/ca.key",
        "/etc/kubernetes/pki/etcd/ca.crt",
        "/etc/kubernetes/pki/etcd/ca.key",
        "/etc/kubernetes/pki/front-proxy-ca.crt",
        "/etc/kubernetes/pki/front-proxy-ca.key",
        "/etc/kubernetes/pki/sa.pub",
        "/etc/kubernetes/pki/sa.key",
        "/etc/indented.conf",
        "/etc/token",
        "/etc/version",
        "/etc/packed",
        "/run/kubeadm/kubeadm.yaml",
        "/run/cluster-api/placeholder",
    ]
    assert file(document, "/etc/kubernetes/pki/ca.crt")["content"] == stored("ca")["tls.crt"].decode()
    assert (file(document, "/etc/kubernetes/pki/ca.crt")["permissions"], file(document, "/etc/kubernetes/pki/ca.key")["permissions"]) == ("0640", "0600")
    assert file(document, "/etc/indented.conf")["content"] == "  starts indented\nand:\n  - goes\n\t- on\n"
    assert file(document, "/etc/token") == {"path": "/etc/token", "permissions": "0600", "append": True, "content": "s3cr3t\n"}
    assert file(document, "/etc/version")["content"] == "cp=v1.34.2\n"
    assert document["bootcmd"] == SPEC["bootCommands"]
    assert document["runcmd"] == [
        *SPEC["preKubeadmCommands"],
        "kubeadm init --config /run/kubeadm/kubeadm.yaml --v 5 && echo success > /run/cluster-api/bootstrap-success.complete",
        *SPEC["postKubeadmCommands"],
    ]
    assert document["users"][0]["passwd"] == "$6$rounds=4096$salt$hash"
    assert document["users"][0]["lock_passwd"] is False
    assert document["disk_setup"]["/dev/vdc"]["layout"] == [[60, "82"], 40]
    assert document["mounts"] == [["LABEL=etcd_disk", "/var/lib/etcddisk"]]


def kubeadm_documents(mode: str, version: str) -> list[dict[str, Any]]:
    path = cloud_config.INIT_PATH if mode == "init" else cloud_config.JOIN_PATH
    return list(yaml.safe_load_all(file(written(value(mode, version)), path)["content"]))


def test_v1beta4_init() -> None:
    cluster, init = kubeadm_documents("init", "v1.34.2")
    assert (cluster["apiVersion"], init["apiVersion"]) == ("kubeadm.k8s.io/v1beta4",) * 2
    assert cluster["apiServer"]["extraArgs"] == [{"name": "authorization-mode", "value": "Node,RBAC"}, {"name": "v", "value": "2"}]
    assert cluster["controllerManager"]["extraEnvs"] == [{"name": "EMPTY", "value": ""}]
    assert (cluster["certificateValidityPeriod"], cluster["caCertificateValidityPeriod"]) == ("8760h0m0s", "87600h0m0s")
    assert cluster["networking"] == {"dnsDomain": "cluster.local", "serviceSubnet": "10.96.0.0/12", "podSubnet": "192.168.0.0/16,fd00::/64"}
    assert (cluster["controlPlaneEndpoint"], cluster["clusterName"], cluster["kubernetesVersion"]) == ("10.0.0.1:6443", "demo", "v1.34.2")
    assert cluster["featureGates"] == {"ControlPlaneKubeletLocalMode": True, "NodeLocalCRISocket": False}
    assert init["timeouts"] == {"controlPlaneComponentHealthCheck": "4m0s", "kubernetesAPICall": "1m0s"}
    assert init["nodeRegistration"]["taints"] == []
    assert init["nodeRegistration"]["imagePullSerial"] is False
    assert init["nodeRegistration"]["kubeletExtraArgs"][1] == {"name": "node-labels", "value": ""}


def test_v1beta3_init() -> None:
    cluster, init = kubeadm_documents("init", "v1.30.4")
    assert (cluster["apiVersion"], init["apiVersion"]) == ("kubeadm.k8s.io/v1beta3",) * 2
    assert cluster["apiServer"] == {
        "extraArgs": {"authorization-mode": "Node,RBAC", "v": "2"},
        "certSANs": ["api.example.com"],
        "timeoutForControlPlane": "4m0s",
    }
    assert cluster["etcd"]["local"]["extraArgs"] == {"quota-backend-bytes": "8589934592"}
    assert not {"encryptionAlgorithm", "certificateValidityPeriod", "caCertificateValidityPeriod"} & set(cluster)
    assert "extraEnvs" not in cluster["controllerManager"]
    assert "timeouts" not in init
    assert init["nodeRegistration"]["kubeletExtraArgs"] == {"cloud-provider": "external", "node-labels": ""}
    assert "imagePullSerial" not in init["nodeRegistration"]


@pytest.mark.parametrize(("version", "api"), [("v1.30.4", "v1beta3"), ("v1.34.2", "v1beta4")])
def test_join_worker(version: str, api: str) -> None:
    (join,) = kubeadm_documents("join-worker", version)
    assert join["apiVersion"] == f"kubeadm.k8s.io/{api}"
    assert [taint["key"] for taint in join["nodeRegistration"]["taints"]] == ["dedicated", "node.cluster.x-k8s.io/uninitialized"]
    discovery = join["discovery"]["bootstrapToken"]
    assert discovery["apiServerEndpoint"] == "10.0.0.1:6443"
    assert discovery["caCertHashes"] == secrets.ca_hashes(inputs(), ObjectKey("", "Secret", "default", "demo-ca"))
    assert discovery["token"] == secrets.token(inputs(), ObjectKey("", "Secret", "default", "demo-ca"), "uid-config")
    if api == "v1beta4":
        assert join["timeouts"] == {"tlsBootstrap": "5m0s", "discovery": "1h1m1s"}
    else:
        assert join["discovery"]["timeout"] == "5m0s"
    assert "controlPlane" not in join


def test_join_control_plane_has_certificates_and_says_so() -> None:
    document = written(value("join-control-plane", "v1.34.2"))
    (join,) = kubeadm_documents("join-control-plane", "v1.34.2")
    assert join["controlPlane"] == {}
    assert [taint["key"] for taint in join["nodeRegistration"]["taints"]] == ["dedicated"]
    assert document["write_files"][0]["path"] == "/etc/kubernetes/pki/ca.crt"
    assert any("kubeadm join --config /run/kubeadm/kubeadm-join-config.yaml --v 5 && echo success" in command for command in document["runcmd"])


@pytest.mark.parametrize(
    ("version", "api"),
    [("v1.22.0", KubeadmApi.V1BETA3), ("1.30", KubeadmApi.V1BETA3), ("v1.31.0-rc.1", KubeadmApi.V1BETA4), ("v1.36.2+build.1", KubeadmApi.V1BETA4)],
)
def test_api_by_version(version: str, api: KubeadmApi) -> None:
    assert kubeadm_api(version) is api


@pytest.mark.parametrize("version", ["v1.21.14", "v1.22.x", "latest", ""])
def test_versions_refused(version: str) -> None:
    with pytest.raises(InvalidError):
        kubeadm_api(version)


def test_version_helpers() -> None:
    assert normalized("1.35") == "v1.35.0"
    assert normalized("v1.35.1-beta.2+x") == "v1.35.1-beta.2+x"
    assert [needs_kubelet_local_mode_gate(v) for v in ("v1.30.9", "v1.31.0-alpha.1", "v1.35.4", "v1.36.0")] == [False, True, True, False]


@pytest.mark.parametrize(
    "template",
    ["{{ .controlPlane.version | upper }}", "{{ if .controlPlane }}x{{ end }}", "{{ .cluster.name }}", "open {{ .controlPlane.version"],
)
def test_templates_beyond_a_lookup_are_refused(template: str) -> None:
    with pytest.raises(InvalidError, match="/etc/x"):
        files.rendered(template, "v1.34.2", "/etc/x")


def test_template_needs_a_known_version_and_has_a_limit() -> None:
    with pytest.raises(InvalidError, match="reports no version"):
        files.rendered("{{ .controlPlane.version }}", "", "/etc/x")
    with pytest.raises(InvalidError, match="exceeds"):
        files.rendered("x" * (files.RENDERED_BYTES_MAX + 1), "v1.34.2", "/etc/x")
    assert files.rendered("a  {{- .controlPlane.version -}}  b", "v1", "/x") == "av1b"


def test_missing_secret_is_retried_and_missing_key_is_final() -> None:
    data = bootstrap_data.init_data(request_of("v1.34.2"))
    with pytest.raises(RetryableError, match="default/extra does not exist"):
        data.render(inputs())
    with pytest.raises(InvalidError, match="no key 'password'"):
        data.render(inputs(extra={"token": b"x"}))


def test_worker_that_asks_for_a_control_plane_is_refused() -> None:
    spec = {"joinConfiguration": {"controlPlane": {}}}
    with pytest.raises(InvalidError, match="is a worker"):
        bootstrap_data.join_data(request_of("v1.34.2", spec), control_plane=False).render(inputs())


def test_sensitive_values_come_from_the_live_object() -> None:
    observed = {"joinConfiguration": {"discovery": {"bootstrapToken": {"token": "hmac-sha256:00", "apiServerEndpoint": "user:1"}}}}
    real = {"joinConfiguration": {"discovery": {"bootstrapToken": {"token": "abcdef.0123456789abcdef", "apiServerEndpoint": "user:1"}}}}
    data = bootstrap_data.join_data(request_of("v1.34.2", observed), control_plane=False)
    assert CONFIG in data.secrets
    given = inputs()
    live = SecretInputs({**given.secrets, CONFIG: {"object": json.dumps({"spec": real}).encode()}}, (), AT)
    text = bytes(data.render(live)["value"]).decode()
    assert "abcdef.0123456789abcdef" in text
    assert "user:1" in text


def test_discovery_file_gets_server_and_ca() -> None:
    spec = {"joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/etc/kubeconfig", "kubeConfig": {"user": {"exec": {"command": "aws"}}}}}}}
    data = bootstrap_data.join_data(request_of("v1.34.2", spec), control_plane=False)
    document = written(bytes(data.render(inputs())["value"]).decode())
    kubeconfig = yaml.safe_load(file(document, "/etc/kubeconfig")["content"])
    cluster = kubeconfig["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.0.0.1:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == stored("ca")["tls.crt"]
    assert kubeconfig["users"][0]["user"]["exec"]["interactiveMode"] == "Never"
    (join,) = yaml.safe_load_all(file(document, cloud_config.JOIN_PATH)["content"])
    assert join["discovery"] == {"file": {"kubeConfigPath": "/etc/kubeconfig"}}


def test_token_is_the_same_each_time_and_valid() -> None:
    ca = ObjectKey("", "Secret", "default", "demo-ca")
    first, again, other = (secrets.token(inputs(), ca, uid, counter) for uid, counter in (("a", 0), ("a", 0), ("a", 1)))
    assert first == again != other
    identity, _, secret = first.partition(".")
    assert (len(identity), len(secret)) == (6, 16)
    assert set(identity + secret) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    body = secrets.token_body(CLUSTER, "a")
    data = body["data"].render(inputs())
    assert (data["token-id"].decode(), data["token-secret"].decode()) == (identity, secret)
    assert data["expiration"] == b"2026-01-02T03:19:05Z"


@pytest.mark.parametrize(
    "content",
    ["", "\n", "a", "a\n", "  a\n b\n", "\n\n  a\n", "tab\tin\n", "cr\r\nlf\r\n", "bell\x07", "# no comment\n---\nkey: |\n  x\n", "ünï😀\n", " \n x\n"],
)
def test_contents_survive(content: str) -> None:
    document = written(cloud_config.render(cloud_config.UserData((cloud_config.WriteFile("/f", content),), "kubeadm join")).decode())
    found = file(document, "/f")["content"]
    # a literal block ends in exactly one newline, as cloud-init's users are used to
    assert found == content or found == content.rstrip("\n") + "\n"


def test_durations() -> None:
    assert [documents.duration(s) for s in (0, 45, 60, 240, 3661, 86400)] == ["0s", "45s", "1m0s", "4m0s", "1h1m1s", "24h0m0s"]
