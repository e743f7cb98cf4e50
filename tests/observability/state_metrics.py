"""The real kube-state-metrics on the rig, with the generated configuration and an account that may read what its generated role says, and nothing else."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable
from pathlib import Path

import yaml

from fleetwake.rig import Rig
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import http_ok, wait_until
from fleetwake.rig.processes import spawn
from fleetwake.rig.progress import Progress
from fleetwake.rig.tools import tool

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "deploy/k8s/kube-state-metrics"
ACCOUNT = "kube-state-metrics"
NAMESPACE = "fleetwake-system"
START_LIMIT_S = 60.0
KNOWN = "Resource=clusters,"
"""In its log once it follows the kind."""
SAMPLE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class KubeStateMetrics:
    """One process; it ends with the rig."""

    def __init__(self, rig: Rig, folder: Path, token: str) -> None:
        folder.mkdir(parents=True)
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(yaml.safe_dump(_kubeconfig(Path(rig.endpoints().kubeconfig), token)))
        kubeconfig.chmod(0o600)
        port, telemetry = free_ports(2)
        self.address = f"127.0.0.1:{port}"
        command = [
            str(tool("kube-state-metrics", Progress())),
            f"--kubeconfig={kubeconfig}",
            "--host=127.0.0.1",
            f"--port={port}",
            "--telemetry-host=127.0.0.1",
            f"--telemetry-port={telemetry}",
            "--custom-resource-state-only=true",
            f"--custom-resource-state-config-file={GENERATED / 'custom-resource-state.yaml'}",
        ]
        self.log = folder / "kube-state-metrics.log"
        spawn(command, {}, self.log, str(rig.state_dir))
        wait_until(self._knows_our_kinds, START_LIMIT_S, "kube-state-metrics")

    def _knows_our_kinds(self) -> bool:
        """Whether it has found the definitions: it looks for them every few seconds, and tells of no object before."""
        return http_ok(f"http://{self.address}/healthz") and KNOWN in self.log.read_text()

    def _text(self) -> str:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=10) as response:
            return str(response.read().decode())

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """Every series now: name, labels, value."""
        matches = (SAMPLE.match(line) for line in self._text().splitlines() if not line.startswith("#"))
        return [(found.group(1), dict(LABEL.findall(found.group(2))), float(found.group(3))) for found in matches if found]


def prepare_account(kubectl: Callable[..., str]) -> str:
    """Make the account and bind the generated role to it; returns a token."""
    role = GENERATED / "cluster-role.yaml"
    name = yaml.safe_load(role.read_text())["metadata"]["name"]
    kubectl("apply", "-f", str(role))
    kubectl("-n", NAMESPACE, "create", "serviceaccount", ACCOUNT)
    kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--serviceaccount={NAMESPACE}:{ACCOUNT}")
    return kubectl("-n", NAMESPACE, "create", "token", ACCOUNT).strip()


def _kubeconfig(admin: Path, token: str) -> dict[str, object]:
    document = yaml.safe_load(admin.read_text())
    return {**document, "users": [{"name": user["name"], "user": {"token": token}} for user in document["users"]]}
