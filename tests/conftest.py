"""Rules that hold for every test, and the real servers that some need: started once per session, with names of its own for each test."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetwake.rig import Rig
from fleetwake.rig.progress import Progress
from fleetwake.rig.records import Endpoints
from fleetwake.rig.toolchain import find_haproxy
from tests.postgresql import Postgresql

SERVER_MARKERS = ("kafka", "apiserver", "redis", "postgresql", "haproxy", "e2e")
SERVER_FIXTURES = frozenset({"rig_servers", "rig_endpoints", "kube_namespace", "kubectl", "audit_events", "postgresql", "haproxy"})
KUBECTL_LIMIT_S = 60

Kubectl = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test that starts servers without a marker that says so: the quick tier runs without servers."""
    unmarked = [
        item.nodeid
        for item in items
        if SERVER_FIXTURES.intersection(getattr(item, "fixturenames", ())) and not any(item.get_closest_marker(marker) for marker in SERVER_MARKERS)
    ]
    if unmarked:
        raise pytest.UsageError(f"these tests use the rig and need one of the markers {', '.join(SERVER_MARKERS)}: {', '.join(unmarked)}")


@pytest.fixture(scope="session")
def rig_servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Kafka, the API server and Redis, shared by the session; they end with it even when it is killed.

    A test that kills one of them starts it again (``rig_servers.restart(name)``) before it ends.
    """
    rig = Rig.up(tmp_path_factory.mktemp("rig"), only_servers=True, bound_to=os.getpid())
    try:
        yield rig
    finally:
        rig.down()


@pytest.fixture(scope="session")
def rig_endpoints(rig_servers: Rig) -> Endpoints:
    """Where the servers are: ``kubeconfig``, ``kubectl``, ``bootstrap_servers``, ``redis_url``, ``audit_log``.

    The kubeconfig is the admin's; ``f"{kubeconfig}-{service}"`` is a service's (watcher, reconcilers, …).
    """
    return rig_servers.endpoints()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A PostgreSQL, shared by the session; ``postgresql.database()`` makes a database of a test's own."""
    server = Postgresql()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def haproxy() -> Path:
    """The ``haproxy`` command, installed when it is missing and we are root."""
    return find_haproxy(Progress())


@pytest.fixture
def topic_prefix() -> str:
    """A prefix for topics, groups and Redis keys that no other test has."""
    return f"t{secrets.token_hex(4)}"


@pytest.fixture
def kube_namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace of the API server that no other test has; its deletion is started, not awaited, afterwards."""
    name = f"t{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def kubectl(rig_endpoints: Endpoints) -> Kubectl:
    """Run kubectl and return what it prints; a failure fails the test with its error output.

    ``kubectl(*arguments, stdin=None, account="")``: as admin, or with the kubeconfig of a service.
    """

    def run(*arguments: str, stdin: str | None = None, account: str = "") -> str:
        kubeconfig = f"{rig_endpoints.kubeconfig}-{account}" if account else rig_endpoints.kubeconfig
        command = [rig_endpoints.kubectl, "--kubeconfig", kubeconfig, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=KUBECTL_LIMIT_S, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    return run


@pytest.fixture(scope="session")
def audit_events(rig_endpoints: Endpoints) -> Callable[[], list[dict[str, Any]]]:
    """Read every event of the API server's audit log so far, oldest first."""

    def read() -> list[dict[str, Any]]:
        # the last line may be half written
        return [json.loads(line) for line in Path(rig_endpoints.audit_log).read_text().splitlines(keepends=True) if line.endswith("\n")]

    return read
