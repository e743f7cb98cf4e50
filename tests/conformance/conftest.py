"""One suite, three servers: in memory directly, in memory over HTTP, and (marker ``apiserver``) the real kube-apiserver."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from conformance_clients import Client, HttpClient, MemoryClient, client_of_kubeconfig, memory_server, served
from conformance_kinds import CRD, CRDS, NAMESPACES, WIDGETS

from fleetwake.rig import Rig
from fleetwake.sim.apiserver import ApiStatusError

KUBECONFIG_VARIABLE = "FLEETWAKE_CONFORMANCE_KUBECONFIG"


@pytest.fixture(scope="session")
def real_kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The kubeconfig of a real kube-apiserver: a running one named by the environment, else one started for the session."""
    named = os.environ.get(KUBECONFIG_VARIABLE)
    if named:
        yield Path(named)
        return
    rig = Rig.up(tmp_path_factory.mktemp("rig"), only_servers=True, bound_to=os.getpid())
    try:
        yield Path(rig.endpoints().kubeconfig)
    finally:
        rig.down()


def _with_crd(client: Client) -> Client:
    names = [item["metadata"]["name"] for item in client.list(CRDS)["items"]]
    if CRD["metadata"]["name"] not in names:
        client.create(CRDS, CRD)
    client.eventually(lambda: _is_served(client))
    return client


def _is_served(client: Client) -> bool:
    try:
        client.list(WIDGETS, "default")
    except ApiStatusError as error:
        # 404 before the kind is served, 429 while its storage is being set up
        if error.code not in (404, 429):
            raise
        return False
    return True


@pytest.fixture(scope="session")
def memory_client() -> Client:
    return _with_crd(MemoryClient())


@pytest.fixture(scope="session")
def http_client() -> Iterator[Client]:
    with served(memory_server()) as url:
        yield _with_crd(HttpClient(url))


@pytest.fixture(scope="session")
def real_client(real_kubeconfig: Path) -> Client:
    return _with_crd(client_of_kubeconfig(real_kubeconfig))


@pytest.fixture(params=["memory", "http", pytest.param("real", marks=pytest.mark.apiserver)])
def client(request: pytest.FixtureRequest) -> Client:
    """The server under test."""
    found: Client = request.getfixturevalue(f"{request.param}_client")
    return found


@pytest.fixture
def namespace(client: Client) -> str:
    """A namespace no other test uses."""
    name = f"t{secrets.token_hex(4)}"
    client.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name
