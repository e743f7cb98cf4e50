"""Declared kubeconfigs against a real kube-apiserver: who somebody is with one, what that allows, and that revoking takes effect at once.

What the control plane decided (Secret, ClusterRole, binding; signed with the API server's own CA) is applied to the rig's API server.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from fleetwake.rig.records import Endpoints
from services.reconcilers.kinds.kubeadm_control_plane.declared_kubeconfigs import KUBECONFIGS
from tests.decide.control_plane_fleet import Fleet, fleet
from tests.decide.kubeadm_world import CLUSTER

pytestmark = pytest.mark.apiserver
KUBECTL_LIMIT_S = 60


@dataclass
class Handed:
    """A control plane's declared kubeconfig ``name`` at the real API server."""

    world: Fleet
    endpoints: Endpoints
    kubectl: Callable[..., str]
    folder: Path
    name: str

    @classmethod
    def made(cls, endpoints: Endpoints, kubectl: Callable[..., str], folder: Path) -> Handed:
        """A control plane whose CA and address are the API server's."""
        world = fleet()
        # certificates are valid from then on; the world's clock is moved on by what is played
        world.at = datetime.now(UTC) - timedelta(minutes=30)
        server = urlsplit(yaml.safe_load(Path(endpoints.kubeconfig).read_text())["clusters"][0]["cluster"]["server"])
        world.edit("Cluster", "demo", {"spec": {"controlPlaneEndpoint": {"host": server.hostname, "port": server.port}}})
        pki = Path(endpoints.kubeconfig).parent / "pki"
        data = {"tls.crt": (pki / "ca.crt").read_bytes(), "tls.key": (pki / "ca.key").read_bytes()}
        metadata = {"name": "demo-ca", "namespace": "default", "labels": {"cluster.x-k8s.io/cluster-name": "demo"}}
        world.put({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "cluster.x-k8s.io/secret", "data": data})
        world.live()
        return cls(world, endpoints, kubectl, folder, f"t{secrets.token_hex(4)}")

    @property
    def access(self) -> str:
        """The name of the ClusterRole and of its binding."""
        return f"fleetwake:kubeconfig:{self.name}"

    def declare(self, revision: int = 0) -> None:
        """Declare it in that revision (0: not at all), and bring the API server to what the control plane made of it."""
        self.world.later(60)
        entry = {"name": self.name, "user": f"jane-{self.name}", "groups": [f"viewers-{self.name}"], "revision": revision}
        text = yaml.safe_dump([entry]) if revision else None
        self.world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {KUBECONFIGS: text}}})
        self.world.settle_kcp()
        for kind in ("ClusterRole", "ClusterRoleBinding"):
            found = self.world.stored(kind, self.access, CLUSTER)
            if found is None:
                self.kubectl("delete", kind.lower(), self.access)
            else:
                plain = {**found, "metadata": {"name": self.access}}
                self.kubectl("apply", "-f", "-", stdin=json.dumps(plain))

    def file(self) -> Path:
        """Write the kubeconfig as the Secret has it now."""
        secret = self.world.stored("Secret", f"demo-kubeconfig-{self.name}")
        assert secret is not None
        path = self.folder / f"{self.name}-{secrets.token_hex(4)}"
        path.write_bytes(secret["data"]["value"])
        return path

    def ask(self, kubeconfig: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run kubectl with a kubeconfig."""
        command = [self.endpoints.kubectl, "--kubeconfig", str(kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=KUBECTL_LIMIT_S, check=False)


def test_a_declared_kubeconfig_is_whom_it_says_and_worthless_once_revoked(rig_endpoints: Endpoints, kubectl: Callable[..., str], tmp_path: Path) -> None:
    handed = Handed.made(rig_endpoints, kubectl, tmp_path)
    handed.declare(revision=1)
    first = handed.file()

    asked = handed.ask(first, "auth", "whoami", "-o", "json")
    assert asked.returncode == 0, asked.stderr
    info = json.loads(asked.stdout)["status"]["userInfo"]
    assert (info["username"], set(info["groups"])) == (f"jane-{handed.name}", {f"viewers-{handed.name}", "system:authenticated"})

    # it is allowed what its group is allowed, and nothing else
    assert "forbidden" in handed.ask(first, "get", "configmaps").stderr.lower()
    kubectl("create", "clusterrolebinding", handed.name, "--clusterrole=view", f"--group=viewers-{handed.name}")
    assert handed.ask(first, "get", "configmaps").returncode == 0
    assert "forbidden" in handed.ask(first, "get", "secrets").stderr.lower()
    # nor may it be anybody else, or itself without the declared name
    assert "cannot impersonate" in handed.ask(first, "get", "configmaps", "--as=kubernetes-admin", "--as-group=system:masters").stderr

    handed.declare(revision=2)
    second = handed.file()
    assert "cannot impersonate" in handed.ask(first, "get", "configmaps").stderr, "what was handed out before is revoked"
    assert handed.ask(second, "get", "configmaps").returncode == 0

    handed.declare()
    assert "cannot impersonate" in handed.ask(second, "get", "configmaps").stderr
    assert handed.world.stored("Secret", f"demo-kubeconfig-{handed.name}") is None
