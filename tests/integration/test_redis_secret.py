"""The Secret of a development cluster's Redis, on a real Redis and a real API server."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
import yaml

from fleetwake.kube.redis_secret import redis_credentials
from fleetwake.rig.access import MANIFESTS
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import wait_until
from fleetwake.rig.progress import Progress
from fleetwake.rig.records import Endpoints
from fleetwake.rig.services import fleetwake_command
from fleetwake.rig.toolchain import find_redis

START_LIMIT_S = 15.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[int, dict[str, bytes]]]:
    """A Redis started as the manifest starts it, with the files of the Secret; its port and those files."""
    files = redis_credentials("localhost", "here", now=datetime.now(UTC))
    for name, value in files.items():
        (tmp_path / name).write_bytes(value)
    documents = yaml.safe_load_all((MANIFESTS / "components" / "redis" / "dev" / "redis.yaml").read_text())
    (container,) = next(one for one in documents if one["kind"] == "StatefulSet")["spec"]["template"]["spec"]["containers"]
    (port,) = free_ports(1)
    command = [str(find_redis(Progress())), *container["command"][1:], "--bind", "127.0.0.1"]
    moved = {"/tmp": str(tmp_path), "6379": str(port)}
    command = [moved.get(word, word.replace("/tls/", f"{tmp_path}/")) for word in command]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: process.poll() is not None or _answers(port, tmp_path, files["password"].decode()), START_LIMIT_S, "Redis with TLS")
            yield port, files
        finally:
            process.terminate()


def _client(port: int, folder: Path, **options: object) -> redis.Redis:
    return redis.Redis(host="localhost", port=port, ssl_ca_certs=str(folder / "ca.crt"), **{"ssl": True, **options})  # type: ignore[arg-type]


def _answers(port: int, folder: Path, password: str) -> bool:
    try:
        return bool(_client(port, folder, password=password).ping())
    except redis.ConnectionError:
        return False


@pytest.mark.redis
def test_it_lets_in_who_knows_the_password_and_speaks_tls(served: tuple[int, dict[str, bytes]], tmp_path: Path) -> None:
    port, files = served
    client = _client(port, tmp_path, password=files["password"].decode())
    assert client.set("a", "1") and client.get("a") == b"1"
    with pytest.raises(redis.AuthenticationError):
        _client(port, tmp_path, password="wrong").ping()
    with pytest.raises(redis.AuthenticationError):
        _client(port, tmp_path).ping()
    with pytest.raises(redis.ConnectionError):
        redis.Redis(host="localhost", port=port, password=files["password"].decode()).ping()
    assert files["password"] not in files["users.acl"], "the server is told the hash alone"


@pytest.mark.apiserver
def test_it_is_made_once(rig_endpoints: Endpoints, kubectl: Callable[..., str], kube_namespace: str) -> None:
    env = {**os.environ, "FLEETWAKE_KUBECONFIG": rig_endpoints.kubeconfig, "FLEETWAKE_SYSTEM_NAMESPACE": kube_namespace}

    def made() -> str:
        return subprocess.run([fleetwake_command(), "secrets", "redis"], env=env, capture_output=True, text=True, check=True, timeout=60).stdout

    assert "created" in made()
    stored = json.loads(kubectl("-n", kube_namespace, "get", "secret", "fleetwake-redis", "-o", "json"))["data"]
    assert stored.keys() == {"ca.crt", "tls.crt", "tls.key", "users.acl", "password"}
    assert "stays" in made()
    assert json.loads(kubectl("-n", kube_namespace, "get", "secret", "fleetwake-redis", "-o", "json"))["data"] == stored
    assert base64.b64decode(stored["users.acl"]).startswith(b"user default on #")
