"""The real programs' judgement of rendered bootstrap data: kubeadm's, cloud-init's and Ignition's own validators, and Go's own templates.

kubeadm is built from the module of the Kubernetes version that the rig's API server has; cloud-init is Debian's; Ignition's validators, the Container Linux
Config transpiler and Butane come from their Go modules. ``FLEETWAKE_KUBEADM`` names another kubeadm (``make test-kubeadm`` gives one that reads v1beta3).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from fleetwake.rig.binaries import kubernetes_version
from fleetwake.rig.progress import Progress
from fleetwake.rig.toolchain import debian
from fleetwake.rig.tools import tool
from fleetwake.templating.go_template import render
from services.reconcilers.bootstrap.host import Role
from services.reconcilers.kubeadm.versions import kubeadm_api
from tests.decide.bootstrap_world import EXTRA, PROXY, SPEC, data, inputs, stored, worker_spec
from tests.decide.test_go_template import DATA, REFUSED, RENDERED
from tests.decide.test_ignition import BUTANE, WHOLE_CONFIG
from tests.golden.test_bootstrap import FORMATS, SHORT, WINDOWS, spec_of

pytestmark = pytest.mark.e2e
LIMIT_SECONDS = 60
ROLES = list(Role)


def ran(command: list[str], stdin: bytes = b"", **environment: str) -> tuple[int, str]:
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=LIMIT_SECONDS, check=False, env={**os.environ, **environment})
    return done.returncode, done.stdout.decode() + done.stderr.decode()


# ---- kubeadm --------------------------------------------------------------------------------------------------------------------------------

EVERY_KUBEADM_FIELD: dict[str, Any] = {
    "clusterConfiguration": {
        **SPEC["clusterConfiguration"],
        "featureGates": {"RootlessControlPlane": False},
        "certificatesDir": "/etc/kubernetes/pki",
        "imageRepository": "registry.example.com/k8s",
        "dns": {"imageRepository": "registry.example.com/dns", "imageTag": "v1.12.4"},
        "scheduler": {
            "extraArgs": [{"name": "v", "value": "2"}],
            "extraVolumes": [{"name": "logs", "hostPath": "/var/log/k", "mountPath": "/var/log/k", "readOnly": False, "pathType": "DirectoryOrCreate"}],
            "extraEnvs": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        },
        "etcd": {
            "local": {
                **SPEC["clusterConfiguration"]["etcd"]["local"],
                "imageRepository": "registry.example.com/etcd",
                "imageTag": "3.6.5-0",
                "serverCertSANs": ["etcd.example.com"],
                "peerCertSANs": ["10.0.0.9"],
                "extraEnvs": [{"name": "ETCD_X", "value": "1"}],
            }
        },
    },
    "initConfiguration": {
        "bootstrapTokens": [
            {
                "token": "abcdef.0123456789abcdef",
                "ttlSeconds": 3600,
                "usages": ["signing", "authentication"],
                "groups": ["system:bootstrappers:kubeadm:default-node-token"],
                "description": "of mine",
            }
        ],
        "nodeRegistration": {
            "name": "node-1",
            "criSocket": "unix:///run/containerd/containerd.sock",
            "ignorePreflightErrors": ["Swap"],
            "imagePullPolicy": "IfNotPresent",
            "imagePullSerial": True,
            "kubeletExtraArgs": [{"name": "v", "value": "3"}],
            "taints": [{"key": "dedicated", "value": "cp", "effect": "NoSchedule"}],
        },
        "localAPIEndpoint": {"advertiseAddress": "10.0.0.3", "bindPort": 6443},
        "patches": {"directory": "/etc/kubernetes/patches"},
        "skipPhases": ["addon/kube-proxy"],
        "timeouts": {
            "controlPlaneComponentHealthCheckSeconds": 240,
            "discoverySeconds": 300,
            "etcdAPICallSeconds": 120,
            "kubeletHealthCheckSeconds": 240,
            "kubernetesAPICallSeconds": 60,
            "tlsBootstrapSeconds": 300,
        },
    },
    "joinConfiguration": {
        **SPEC["joinConfiguration"],
        "nodeRegistration": {"name": "node-2", "taints": [], "imagePullPolicy": "Always"},
        "caCertPath": "/etc/kubernetes/pki/ca.crt",
        "skipPhases": ["preflight"],
        "timeouts": {"controlPlaneComponentHealthCheckSeconds": 240, **SPEC["joinConfiguration"]["timeouts"]},
        "discovery": {"tlsBootstrapToken": "abcdef.0123456789abcdef"},
    },
}
BY_FILE: dict[str, Any] = {
    "joinConfiguration": {
        "nodeRegistration": {"name": "node-2"},
        "discovery": {"file": {"kubeConfigPath": "/run/kubeadm/discovery.yaml", "kubeConfig": {"user": {"exec": {"command": "aws"}}}}},
    }
}
EXTERNAL: dict[str, Any] = {
    "clusterConfiguration": {
        "etcd": {"external": {"endpoints": ["https://10.0.0.7:2379"], "caFile": "/e/ca.crt", "certFile": "/e/c.crt", "keyFile": "/e/c.key"}},
        "controlPlaneEndpoint": "api.example.com:6443",
    },
    "initConfiguration": {"nodeRegistration": {"name": "node-1"}},
}
KUBEADM_SPECS = {"every field": EVERY_KUBEADM_FIELD, "plain": SHORT, "by file": BY_FILE, "external etcd": EXTERNAL}


def kubeadm() -> tuple[str, str]:
    """The program, and a Kubernetes version it takes documents of."""
    other = os.environ.get("FLEETWAKE_KUBEADM")
    if not other:
        return str(tool("kubeadm", Progress())), kubernetes_version()
    path, _, version = other.partition("@")
    return path, version


def kubeadm_text(role: Role, spec: dict[str, Any], version: str) -> str:
    """kubeadm's own documents out of rendered cloud-config, with what jinja would fill in."""
    document = yaml.safe_load(data(role, spec, version)["value"])
    found = [one["content"] for one in document["write_files"] if one["path"].startswith("/run/kubeadm/kubeadm")]
    assert len(found) == 1
    return re.sub(r"\{\{.*?\}\}", "node-1", found[0])


# each spec with the roles that it says something about
@pytest.mark.parametrize(
    ("name", "role"),
    [
        pytest.param(name, role, id=f"{name}-{role.value}")
        for name in KUBEADM_SPECS
        for role in ROLES
        if not (name == "by file" and role is Role.INIT) and not (name == "external etcd" and role is not Role.INIT)
    ],
)
def test_kubeadm_accepts_its_documents(name: str, role: Role, tmp_path: Path) -> None:
    spec = KUBEADM_SPECS[name]
    program, version = kubeadm()
    path = tmp_path / "kubeadm.yaml"
    given = None
    if name == "external etcd":
        given = inputs(extra=EXTRA, demo_apiserver_etcd_client=stored("etcd"))
        document = yaml.safe_load(data(role, spec, version, given)["value"])
        (text,) = [one["content"] for one in document["write_files"] if one["path"].startswith("/run/kubeadm/kubeadm")]
    else:
        text = kubeadm_text(role, worker_spec(spec) if role is Role.JOIN_WORKER else spec, version)
    # kubeadm wants to see the file it discovers by
    (tmp_path / "discovery.yaml").touch()
    path.write_text(text.replace("/run/kubeadm/discovery.yaml", str(tmp_path / "discovery.yaml")))
    assert kubeadm_api(version).value in text
    code, told = ran([program, "config", "validate", "--config", str(path)])
    assert (code, told.strip().splitlines()[-1]) == (0, "ok"), told
    assert "unknown field" not in told


def test_kubeadm_is_no_rubber_stamp(tmp_path: Path) -> None:
    program, version = kubeadm()
    path = tmp_path / "kubeadm.yaml"
    path.write_text(kubeadm_text(Role.JOIN_WORKER, worker_spec(SHORT), version).replace("discovery:", "discoverie:"))
    assert ran([program, "config", "validate", "--config", str(path)])[0] != 0


# ---- cloud-init -----------------------------------------------------------------------------------------------------------------------------

CLOUD_CONFIGS = {
    "every field": SPEC,
    "with a proxy": {**SHORT, "fleetwake": {"httpProxy": PROXY}},
    "fetched": {**SHORT, "fleetwake": {"secretTransport": {"type": "Fetch"}, "httpProxy": PROXY}},
    "kubelet": {**SHORT, "fleetwake": {"bootstrapper": "kubelet"}},
}
INSTANCE_DATA = {"ds": {"meta_data": {"local_hostname": "node-1", "hostname": "node-1", "instance_id": "i-1"}}, "v1": {"local_hostname": "node-1"}}


@pytest.fixture(scope="module")
def cloud_init() -> str:
    """Debian's cloud-init. It is used for its validators alone: nothing enables its services here."""
    if shutil.which("cloud-init") is None:
        # installed for this, it must never configure the machine it is on: this file turns its services off
        Path("/etc/cloud").mkdir(exist_ok=True)
        Path("/etc/cloud/cloud-init.disabled").touch()
    return str(debian("cloud-init", "cloud-init", "checks rendered cloud-config", Progress()))


# the kubelet alone makes workers only
@pytest.mark.parametrize(
    ("name", "role"),
    [pytest.param(name, role, id=f"{name}-{role.value}") for name in CLOUD_CONFIGS for role in ROLES if name != "kubelet" or role is Role.JOIN_WORKER],
)
def test_cloud_init_accepts_cloud_config(name: str, role: Role, tmp_path: Path, cloud_init: str) -> None:
    spec = CLOUD_CONFIGS[name]
    user_data, instance, rendered = tmp_path / "user-data", tmp_path / "instance-data.json", tmp_path / "rendered"
    user_data.write_bytes(data(role, worker_spec(spec) if role is Role.JOIN_WORKER else spec)["value"])
    instance.write_text(json.dumps(INSTANCE_DATA))
    code, text = ran([cloud_init, "devel", "render", "--instance-data", str(instance), str(user_data)])
    assert code == 0 and "CI_MISSING_JINJA_VAR" not in text, text
    rendered.write_text(text)
    code, told = ran([cloud_init, "schema", "--config-file", str(rendered)])
    assert code == 0 and "Valid" in told, told
    assert "deprecat" not in told.lower(), told
    written = {one["path"]: one for one in yaml.safe_load(text)["write_files"]}
    if name == "every field":
        assert "/etc/indented.conf" in written and "node-1" in str(yaml.safe_load(text)["runcmd"])


def test_cloud_init_is_no_rubber_stamp(tmp_path: Path, cloud_init: str) -> None:
    path = tmp_path / "user-data"
    path.write_text("#cloud-config\nwrite_files:\n- paht: /x\n")
    assert ran([cloud_init, "schema", "--config-file", str(path)])[0] != 0


def test_windows_data_is_plain_cloud_config(tmp_path: Path, cloud_init: str) -> None:
    path = tmp_path / "user-data"
    path.write_bytes(data(Role.JOIN_WORKER, WINDOWS)["value"].removeprefix(b"## template: jinja\n"))
    code, told = ran([cloud_init, "schema", "--config-file", str(path)])
    assert code == 0, told


# ---- Ignition -------------------------------------------------------------------------------------------------------------------------------


def ignition(*arguments: str, stdin: bytes) -> tuple[int, str]:
    return ran([str(tool("ignition", Progress())), *arguments], stdin)


@pytest.mark.parametrize("transport", ["Inline", "Fetch"])
@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "proxy"])
@pytest.mark.parametrize("version", ["2.3", "3.0", "3.1", "3.2", "3.3", "3.4", "3.5"])
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.value)
def test_ignition_accepts_its_configurations(role: Role, version: str, proxy: bool, transport: str) -> None:
    ours = {"ignitionVersion": version, "secretTransport": {"type": transport}, **({"httpProxy": PROXY} if proxy else {})}
    made = data(role, spec_of(role, FORMATS["ignition-2.3"], ours))["value"]
    assert json.loads(made)["ignition"]["version"] == f"{version}.0"
    code, told = ignition("validate", stdin=made)
    assert code == 0, told


def test_ignition_is_no_rubber_stamp() -> None:
    wrong = {"ignition": {"version": "2.3.0"}, "storage": {"files": [{"filesystem": "root", "path": "relative"}]}}
    assert ignition("validate", stdin=json.dumps(wrong).encode())[0] != 0
    assert ignition("validate", stdin=json.dumps({**wrong, "ignition": {"version": "3.4.0"}}).encode())[0] != 0


@pytest.mark.parametrize(("version", "text"), [("2.3", WHOLE_CONFIG), ("3.4", BUTANE)])
def test_additional_configurations_are_merged_as_the_real_tools_do(version: str, text: str, tmp_path: Path) -> None:
    spec = spec_of(Role.INIT, FORMATS["ignition-2.3"], {"ignitionVersion": version})
    base = data(Role.INIT, spec)["value"]
    ours = data(Role.INIT, {**spec, "ignition": {"containerLinuxConfig": {"additionalConfig": text, "strict": True}}})["value"]
    path = tmp_path / "additional.yaml"
    path.write_text(text)
    code, theirs = ignition("merge", str(path), stdin=base)
    assert code == 0, theirs
    assert meant(json.loads(ours)) == meant(json.loads(theirs))


def meant(config: Any) -> Any:
    """A configuration without what says nothing: empty parts, zeroes, and the spelling of data URLs."""
    if isinstance(config, dict):
        found = {name: meant(item) for name, item in config.items()}
        return {name: item for name, item in found.items() if item not in (None, "", {}, [], False, 0)}
    if isinstance(config, list):
        return [meant(item) for item in config]
    if isinstance(config, str) and config.startswith("data:"):
        kind, _, body = config.partition(",")
        return (kind.replace(";charset=utf-8", ""), unquote(body))
    return config


# ---- Go templates ---------------------------------------------------------------------------------------------------------------------------


def go_template(template: str) -> tuple[int, str]:
    return ran([str(tool("gotemplate", Progress())), json.dumps(DATA)], template.encode())


@pytest.mark.parametrize(("template", "wanted"), RENDERED)
def test_go_renders_the_same(template: str, wanted: str) -> None:
    assert go_template(template) == (0, wanted) and render(template, DATA) == wanted


@pytest.mark.parametrize("template", [template for template, message in REFUSED if "not supported" not in message])
def test_go_refuses_the_same(template: str) -> None:
    assert go_template(template)[0] != 0
