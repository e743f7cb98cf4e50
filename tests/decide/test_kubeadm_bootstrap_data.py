"""Bootstrap data: kubeadm's documents by version, cloud-config that parses back, what users write in theirs."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import yaml

from fleetwake.errors import InvalidError, RetryableError
from fleetwake.plan import SecretInputs
from services.reconcilers.bootstrap import cloud_config, composition, files
from services.reconcilers.bootstrap.host import Host, HostFile, Role
from services.reconcilers.kubeadm import documents, secrets
from services.reconcilers.kubeadm.versions import KubeadmApi, kubeadm_api, needs_kubelet_local_mode_gate, normalized
from tests.decide.bootstrap_world import AT, CA, CLUSTER, CONFIG, SPEC, data, inputs, request_of, stored, worker_spec

ROLES = {"init": Role.INIT, "join-control-plane": Role.JOIN_CONTROL_PLANE, "join-worker": Role.JOIN_WORKER}


def value(mode: str, version: str) -> str:
    found = data(ROLES[mode], worker_spec() if mode == "join-worker" else SPEC, version)
    assert found["format"] == b"cloud-config"
    return found["value"].decode()


def joined(spec: dict[str, Any], given: SecretInputs | None = None) -> str:
    found = composition.data(request_of("v1.34.2", spec), Role.JOIN_WORKER).render(given or inputs())
    return bytes(found["value"]).decode()


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
    assert document["disk_setup"]["/dev/vdc"]["layout"] == [[60, 82], 40]
    assert document["mounts"] == [["LABEL=etcd_disk", "/var/lib/etcddisk"]]


def kubeadm_documents(mode: str, version: str) -> list[dict[str, Any]]:
    path = cloud_config.LAYOUT.init_path if mode == "init" else cloud_config.LAYOUT.join_path
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
    assert discovery["caCertHashes"] == secrets.ca_hashes(inputs(), CA)
    assert discovery["token"] == secrets.token(inputs(), CA, "uid-config")
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


def test_template_says_its_file_and_has_a_limit() -> None:
    with pytest.raises(InvalidError, match="/etc/x: its template cannot be rendered: the function upper is not known"):
        files.rendered("{{ .controlPlane.version | upper }}", "v1.34.2", "/etc/x")
    with pytest.raises(InvalidError, match="/etc/x: its template asks for the control plane's version"):
        files.rendered("{{ .controlPlane.version }}", "", "/etc/x")
    with pytest.raises(InvalidError, match="exceeds"):
        files.rendered("x" * (files.RENDERED_BYTES_MAX + 1), "v1.34.2", "/etc/x")
    assert files.rendered("{{ if .controlPlane }}{{ .controlPlane.version }}{{ else }}none{{ end }}", "", "/x") == "none"


def test_missing_secret_is_retried_and_missing_key_is_final() -> None:
    with pytest.raises(RetryableError, match="default/extra does not exist"):
        data(Role.INIT, SPEC, given=inputs())
    with pytest.raises(InvalidError, match="no key 'password'"):
        data(Role.INIT, SPEC, given=inputs(extra={"token": b"x"}))


def test_worker_that_asks_for_a_control_plane_is_refused() -> None:
    with pytest.raises(InvalidError, match="is a worker"):
        joined({"joinConfiguration": {"controlPlane": {}}})


def test_sensitive_values_come_from_the_live_object() -> None:
    observed = {"joinConfiguration": {"discovery": {"bootstrapToken": {"token": "hmac-sha256:00", "apiServerEndpoint": "user:1"}}}}
    real = {"joinConfiguration": {"discovery": {"bootstrapToken": {"token": "abcdef.0123456789abcdef", "apiServerEndpoint": "user:1"}}}}
    assert CONFIG in composition.data(request_of("v1.34.2", observed), Role.JOIN_WORKER).secrets
    text = joined(observed, SecretInputs({**inputs().secrets, CONFIG: {"object": json.dumps({"spec": real}).encode()}}, (), AT))
    assert "abcdef.0123456789abcdef" in text
    assert "user:1" in text


def test_discovery_file_gets_server_and_ca() -> None:
    spec = {"joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/etc/kubeconfig", "kubeConfig": {"user": {"exec": {"command": "aws"}}}}}}}
    document = written(joined(spec))
    kubeconfig = yaml.safe_load(file(document, "/etc/kubeconfig")["content"])
    cluster = kubeconfig["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.0.0.1:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == stored("ca")["tls.crt"]
    assert kubeconfig["users"][0]["user"]["exec"]["interactiveMode"] == "Never"
    (join,) = yaml.safe_load_all(file(document, cloud_config.LAYOUT.join_path)["content"])
    assert join["discovery"] == {"file": {"kubeConfigPath": "/etc/kubeconfig"}}


def test_token_is_the_same_each_time_and_valid() -> None:
    first, again, other = (secrets.token(inputs(), CA, uid, counter) for uid, counter in (("a", 0), ("a", 0), ("a", 1)))
    assert first == again != other
    identity, _, secret = first.partition(".")
    assert (len(identity), len(secret)) == (6, 16)
    assert set(identity + secret) <= set("abcdefghijklmnopqrstuvwxyz0123456789")
    body = secrets.token_body(CLUSTER, "a")
    made = body["data"].render(inputs())
    assert (made["token-id"].decode(), made["token-secret"].decode()) == (identity, secret)
    assert made["expiration"] == b"2026-01-02T03:19:05Z"


@pytest.mark.parametrize(
    "content",
    ["", "\n", "a", "a\n", "  a\n b\n", "\n\n  a\n", "tab\tin\n", "cr\r\nlf\r\n", "bell\x07", "# no comment\n---\nkey: |\n  x\n", "ünï😀\n", " \n x\n"],
)
def test_contents_survive(content: str) -> None:
    document = written(cloud_config.render(Host((HostFile("/f", content),), "kubeadm join")).decode())
    found = file(document, "/f")["content"]
    # a literal block ends in exactly one newline, as cloud-init's users are used to
    assert found == content or found == content.rstrip("\n") + "\n"


def test_durations() -> None:
    assert [documents.duration(s) for s in (0, 45, 60, 240, 3661, 86400)] == ["0s", "45s", "1m0s", "4m0s", "1h1m1s", "24h0m0s"]
