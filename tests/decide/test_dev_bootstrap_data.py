"""Bootstrap data as an emulated host reads it: what our own renderer makes is understood, what a host would choke on is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.dev_infrastructure.emulation.bootstrap_data import BootstrapError, parse

GOLDEN = Path(__file__).parents[1] / "golden" / "bootstrap"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_rendered_data_is_understood(path: Path) -> None:
    data = parse({"value": path.read_bytes(), "format": b"cloud-config"}, "node-1")
    kind, _, version = path.stem.rpartition("-")
    assert data.api_version == ("kubeadm.k8s.io/v1beta3" if version.startswith("v1.30") else "kubeadm.k8s.io/v1beta4")
    assert (data.join, data.control_plane) == (kind != "init", kind != "join-worker")
    if data.join:
        assert len(data.token[0]) == 6 and len(data.token[1]) == 16 and data.token[1] not in repr(data)
    else:
        assert data.cluster_configuration["clusterName"] == "demo"


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
        pytest.param(WORKER.replace("path: /run/kubeadm/kubeadm-join-config.yaml", "path: /elsewhere"), "write_files does not write", id="file"),
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


def test_message_of_broken_yaml_shows_no_content() -> None:
    broken = INIT.replace("    content: |\n", "    content: [\n", 1)
    with pytest.raises(BootstrapError) as caught:
        parse({"value": broken.encode()}, "node-1")
    assert "BEGIN" not in str(caught.value) and "line" in str(caught.value)


def test_other_formats_are_refused() -> None:
    with pytest.raises(BootstrapError, match="ignition"):
        parse({"value": b"{}", "format": b"ignition"}, "node-1")
