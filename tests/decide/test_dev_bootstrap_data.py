"""Bootstrap data as an emulated host reads it: what our own renderer makes is understood, what a host would choke on is refused."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from services.dev_infrastructure.emulation import bootstrap_data, fetched, user_data
from services.dev_infrastructure.emulation.bootstrap_data import BootstrapData
from services.dev_infrastructure.emulation.user_data import BootstrapError
from services.reconcilers.bootstrap import composition
from services.reconcilers.bootstrap.host import Role
from tests.decide.bootstrap_world import POINT, data, request_of, short_inputs, worker_spec
from tests.golden.test_bootstrap import FETCHED, FORMATS, WINDOWS, spec_of

GOLDEN = Path(__file__).parents[1] / "golden" / "bootstrap"
KINDS = {"init": Role.INIT, "join-control-plane": Role.JOIN_CONTROL_PLANE, "join-worker": Role.JOIN_WORKER}


def parse(secret: Mapping[str, bytes], node_name: str, *, windows: bool = False) -> BootstrapData:
    return bootstrap_data.parse(user_data.read(secret, node_name, windows=windows))


def understood(made: BootstrapData, role: Role) -> None:
    assert (made.join, made.control_plane) == (role is not Role.INIT, role.control_plane)
    if made.join:
        assert len(made.token[0]) == 6 and len(made.token[1]) == 16 and made.token[1] not in repr(made)
    else:
        assert made.cluster_configuration["clusterName"] == "demo"
    if role is Role.JOIN_WORKER:
        assert {"key": "node.cluster.x-k8s.io/uninitialized", "effect": "NoSchedule"} in made.taints


@pytest.mark.parametrize("version", ["v1.30.4", "v1.34.2"])
@pytest.mark.parametrize("kind", KINDS)
def test_rendered_data_is_understood(kind: str, version: str) -> None:
    made = parse({"value": (GOLDEN / f"{kind}-{version}.yaml").read_bytes(), "format": b"cloud-config"}, "node-1")
    assert made.api_version == ("kubeadm.k8s.io/v1beta3" if version == "v1.30.4" else "kubeadm.k8s.io/v1beta4")
    understood(made, KINDS[kind])


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_understood(kind: str, format_: str) -> None:
    role = KINDS[kind]
    understood(parse(data(role, spec_of(role, FORMATS[format_], {}), given=short_inputs()), "node-1"), role)


def test_the_kubelet_alone_is_understood() -> None:
    spec = worker_spec({"fleetwake": {"bootstrapper": "kubelet"}, "joinConfiguration": {"nodeRegistration": {
        "kubeletExtraArgs": [{"name": "node-labels", "value": "a=b,c=50%"}], "taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}}})  # fmt: skip
    made = parse(data(Role.JOIN_WORKER, spec), "node-1")
    understood(made, Role.JOIN_WORKER)
    assert made.labels == {"a": "b", "c": "50%"} and made.taints[0] == {"key": "k", "value": "v", "effect": "NoExecute"}


@pytest.mark.parametrize("name", FETCHED)
def test_fetched_data_is_understood(name: str) -> None:
    role, spec = FETCHED[name]
    spec = {**spec, "fleetwake": {**spec.get("fleetwake", {}), "secretTransport": {"type": "Fetch"}}}
    windows = spec is not None and "windows" in name
    found = user_data.read(data(role, spec, given=short_inputs()), "node-1", windows=windows)
    with pytest.raises(BootstrapError):
        bootstrap_data.parse(found)
    wanted = fetched.order(found)
    assert wanted.url == "https://bootstrap.example.com:9443/v1/bootstrap-data/default/demo-abcde"
    assert wanted.authorization.startswith("Bearer ") and "BEGIN CERTIFICATE" in wanted.authority and wanted.authorization not in repr(wanted)
    archive = composition.fetched(request_of("v1.34.2", spec, POINT), role).render(short_inputs())
    whole = fetched.applied(found, archive, "node-1")
    understood(bootstrap_data.parse(whole), role)
    assert not any("{{" in content.decode() for path, content in whole.files.items() if "motd" in path and "ignition" not in name)
    with pytest.raises(BootstrapError, match="no archive"):
        fetched.applied(found, b"else", "node-1")


def test_systems_do_not_read_each_others_data() -> None:
    windows, linux = data(Role.JOIN_WORKER, WINDOWS, given=short_inputs()), data(Role.JOIN_WORKER, spec_of(Role.JOIN_WORKER, {}, {}), given=short_inputs())
    understood(parse(windows, "node-1", windows=True), Role.JOIN_WORKER)
    with pytest.raises(BootstrapError, match="no path of a linux host"):
        parse(windows, "node-1")
    with pytest.raises(BootstrapError, match="no path of a windows host"):
        parse(linux, "node-1", windows=True)
    with pytest.raises(BootstrapError, match="windows host reads no"):
        parse({**linux, "format": b"ignition"}, "node-1", windows=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"version":"2.3.0"', b'"version":"2.9.0"', "2.9.0"),
        (b"ConditionPathExists=/etc/kubeadm.yml", b"ConditionPathExists=/etc/nothing", "waits for /etc/nothing"),
        (b'"path":"/etc/kubeadm.sh"', b'"path":"/etc/other.sh"', "runs /etc/kubeadm.sh"),
        (b'"path":"/etc/motd"', b'"path":"etc/motd"', "no absolute path"),
        (b'"source":"data:', b'"source":"http:', "no data URL"),
        (b"{", b"", "no JSON"),
    ],
)
def test_ignition_that_a_host_would_choke_on(old: bytes, new: bytes, message: str) -> None:
    made = data(Role.JOIN_WORKER, spec_of(Role.JOIN_WORKER, FORMATS["ignition-2.3"], {}), given=short_inputs())
    assert old in made["value"]
    with pytest.raises(BootstrapError, match=message):
        parse({**made, "value": made["value"].replace(old, new, 1)}, "node-1")


WORKER = (GOLDEN / "join-worker-v1.34.2.yaml").read_text()
INIT = (GOLDEN / "init-v1.34.2.yaml").read_text()


def test_taints_come_from_the_data() -> None:
    taints = parse({"value": WORKER.encode()}, "node-1").taints
    assert {"key": "node.cluster.x-k8s.io/uninitialized", "effect": "NoSchedule"} in taints


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(WORKER.replace("#cloud-config", ""), "does not begin", id="header"),
        pytest.param(WORKER.replace("kubeadm join --config", "kubeadm join"), "0 times", id="no-command"),
        pytest.param(WORKER.replace("&& echo success", "&& echo done"), "no command writes /run/cluster-api/bootstrap-success", id="no-sentinel"),
        pytest.param(WORKER.replace("path: /run/kubeadm/kubeadm-join-config.yaml", "path: /elsewhere"), "which nothing writes", id="file"),
        pytest.param(WORKER.replace("kind: JoinConfiguration", "kind: JoinConfig"), "no kind 'JoinConfig'", id="kind"),
        pytest.param(WORKER.replace("      discovery:", "      discoverie:"), "has no field discoverie", id="unknown-field"),
        pytest.param(WORKER.replace("token: l88c0v.", "token: L88c0v."), "no discovery token", id="token"),
        pytest.param(WORKER.replace("v1beta4", "v1beta3"), "v1beta3", id="field-of-another-version"),
        pytest.param(WORKER.replace("        kubeletExtraArgs:\n", "        kubeletExtraArgs: {a: b}\n        x:\n"), "has no field x", id="registration"),
        pytest.param(
            INIT.replace("path: /etc/kubernetes/pki/ca.key", "path: /etc/kubernetes/pki/other.key"), "needs /etc/kubernetes/pki/ca.key", id="no-ca-key"
        ),
        pytest.param(
            WORKER.replace("permissions: '0640'", "permissions: 'rw'", 1).replace("permissions: '0644'", "permissions: 'rw'"), "no octal", id="permissions"
        ),
    ],
)
def test_what_a_host_would_choke_on(text: str, message: str) -> None:
    with pytest.raises(BootstrapError, match=message):
        parse({"value": text.encode()}, "node-1")


@pytest.mark.parametrize(
    ("name", "ours"), [("cloud-config", {}), ("ignition-3.4", {}), ("cloud-config", {"bootstrapper": "kubelet"}), ("windows", {"operatingSystem": "windows"})]
)
def test_a_script_that_ends_early_leaves_no_sentinel(name: str, ours: dict[str, str]) -> None:
    early = {"preKubeadmCommands": ["echo before", "exit 1", "echo never"]}
    spec = spec_of(Role.JOIN_WORKER, FORMATS[name], ours) if name in FORMATS else WINDOWS
    with pytest.raises(BootstrapError, match="ends the host's script before it becomes a Node: /run/cluster-api/bootstrap-success"):
        parse(data(Role.JOIN_WORKER, {**spec, **early}, given=short_inputs()), "node-1", windows=name == "windows")
    late = {"postKubeadmCommands": ["exit 1"]}
    understood(parse(data(Role.JOIN_WORKER, {**spec, **late}, given=short_inputs()), "node-1", windows=name == "windows"), Role.JOIN_WORKER)


def test_message_of_broken_yaml_shows_no_content() -> None:
    broken = INIT.replace("    content: |\n", "    content: [\n", 1)
    with pytest.raises(BootstrapError) as caught:
        parse({"value": broken.encode()}, "node-1")
    assert "BEGIN" not in str(caught.value) and "line" in str(caught.value)


def test_other_formats_are_refused() -> None:
    with pytest.raises(BootstrapError, match="talos"):
        parse({"value": b"{}", "format": b"talos"}, "node-1")
