"""Control planes of three behind each type of load balancer: available, replaced Machine by Machine, and reached by new connections all the time.

One of the clusters has an endpoint that its user chose, the other that of its infrastructure.
"""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleetwake.kube import config
from fleetwake.rig.ports import free_ports
from tests.e2e import manifests
from tests.e2e.fleet import Fleet
from tests.e2e.recorder import World, condition

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis, pytest.mark.haproxy]

log = logging.getLogger(__name__)
TYPES = {"inner": "InProcess", "outer": "HAProxy"}
PROVIDER = "dev_infrastructure-0"
REPLICAS = 3
NEXT_VERSION = "v1.34.1"
LIMIT_S = 240.0
PAUSE_S = 0.02
CONNECTIONS = 24
REQUEST_LIMIT_S = 10.0


@dataclass
class Client:
    """Somebody who has the cluster's kubeconfig and connects anew for each request."""

    kubeconfig: str
    served: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    in_a_row: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        found = config.load(self.kubeconfig)
        self.context = found.tls
        self.host, _, port = found.server.removeprefix("https://").rpartition(":")
        self.port = int(port)

    def connect(self) -> tuple[str, http.client.HTTPSConnection]:
        """Connect anew; returns the name of the API server and the connection."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=REQUEST_LIMIT_S, context=self.context)
        try:
            connection.connect()
            assert isinstance(connection.sock, ssl.SSLSocket)
            names = {str(value) for _, value in (connection.sock.getpeercert() or {}).get("subjectAltName", ())}
            return next(name for name in names if "-control-plane-" in name), connection
        except BaseException:
            connection.close()
            raise

    def request(self) -> str:
        """Make one request over a connection of its own; returns the name of the API server that answered."""
        name, connection = self.connect()
        try:
            connection.request("GET", "/api/v1/nodes")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise http.client.HTTPException(f"status {answer.status}")
        finally:
            connection.close()
        return name

    def reached(self) -> set[str]:
        """The API servers that so many connections reach which stay open: each goes where there are fewest, those of our services counted."""
        held = [self.connect() for _ in range(CONNECTIONS)]
        for _, connection in held:
            connection.close()
        return {name for name, _ in held}

    def run(self) -> None:
        """Make requests until the end."""
        failed = 0
        while not self._ended.wait(PAUSE_S):
            try:
                self.served.append(self.request())
                failed = 0
            except (OSError, http.client.HTTPException) as error:
                failed += 1
                self.lost.append(f"{type(error).__name__}: {error}")
                self.in_a_row = max(self.in_a_row, failed)

    @contextmanager
    def running(self) -> Iterator[Client]:
        """Make requests beside what the test does."""
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()


def _machines(world: World, namespace: str, name: str) -> set[str]:
    return {one["metadata"]["name"] for one in world.all("Machine", namespace, name)}


def _infrastructure(fleet: Fleet, namespace: str, name: str) -> dict[str, Any]:
    found = fleet.recorder.world.get("DevCluster", namespace, name)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def namespace(fleet: Fleet, haproxy: Path) -> str:
    """Both clusters, Available."""
    found = fleet.namespace("balanced")
    (port,) = free_ports(1)
    endpoint = {"host": "localhost", "port": port}
    fleet.apply(*manifests.balanced("inner", found, TYPES["inner"], control_planes=REPLICAS, workers=0))
    fleet.apply(*manifests.balanced("outer", found, TYPES["outer"], endpoint, control_planes=REPLICAS, workers=0))
    fleet.settle(found, *TYPES, limit_s=LIMIT_S)
    return found


def test_each_serves_the_endpoint_that_its_cluster_was_given(fleet: Fleet, namespace: str, tmp_path: Path) -> None:
    for name in TYPES:
        dev = _infrastructure(fleet, namespace, name)
        assert condition(dev, "LoadBalancerAvailable") == "True"
        cluster = fleet.recorder.world.get("Cluster", namespace, name)
        assert cluster is not None and cluster["spec"]["controlPlaneEndpoint"] == dev["spec"]["controlPlaneEndpoint"]
        client = Client(fleet.workload_kubeconfig(namespace, name, tmp_path))
        assert {"host": client.host, "port": client.port} == cluster["spec"]["controlPlaneEndpoint"]
        assert client.host == ("localhost" if name == "outer" else "127.0.0.1")
        assert client.reached() == _machines(fleet.recorder.world, namespace, name)

    assert fleet.metric(PROVIDER, "fleetwake_load_balancer_backends") == len(TYPES) * REPLICAS


def test_new_connections_are_answered_throughout_a_rollout(fleet: Fleet, namespace: str, tmp_path: Path) -> None:
    before = {name: _machines(fleet.recorder.world, namespace, name) for name in TYPES}
    clients = {name: Client(fleet.workload_kubeconfig(namespace, name, tmp_path)) for name in TYPES}
    with clients["inner"].running(), clients["outer"].running():
        for name in TYPES:
            fleet.patch(namespace, f"kubeadmcontrolplane/{name}-control-plane", {"spec": {"version": NEXT_VERSION}})
        fleet.settle(namespace, *TYPES, limit_s=LIMIT_S)
    for name, client in clients.items():
        after = _machines(fleet.recorder.world, namespace, name)
        log.info("%s: %d requests served, %d lost: %s", TYPES[name], len(client.served), len(client.lost), client.lost)
        assert before[name].isdisjoint(after) and len(after) == REPLICAS
        assert set(client.served) & before[name] and set(client.served) & after
        # a host that is switched off takes the connection with it that it is just answering
        assert len(client.lost) <= REPLICAS and client.in_a_row <= 1, client.lost
        assert client.reached() == after
    fleet.check_history(namespace)


def test_a_haproxy_that_is_killed_is_told_and_comes_back(fleet: Fleet, namespace: str, tmp_path: Path) -> None:
    client, begun = Client(fleet.workload_kubeconfig(namespace, "outer", tmp_path)), len(fleet.recorder.history)

    def told(world: World) -> list[str]:
        after = [seen.object for seen in fleet.recorder.history[begun:] if seen.name == ("DevCluster", namespace, "outer")]
        states = [condition(one, "LoadBalancerAvailable") for one in after]
        return [] if "False" in states and states[-1] == "True" else [f"LoadBalancerAvailable was {states}"]

    (killed,) = _haproxies(fleet)
    with client.running():
        os.kill(killed, signal.SIGKILL)
        fleet.recorder.wait(told, LIMIT_S, "the load balancer told as gone, and as back")
    assert client.in_a_row <= 1, client.lost
    (back,) = _haproxies(fleet)
    assert back != killed and client.reached() == _machines(fleet.recorder.world, namespace, "outer")


def _haproxies(fleet: Fleet) -> list[int]:
    """The HAProxies of the provider."""
    state = fleet.rig.state()
    provider = state.process(PROVIDER).process if state is not None else None
    assert provider is not None
    found = subprocess.run(["pgrep", "-x", "-P", str(provider.pid), "haproxy"], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def test_the_endpoint_outlives_the_provider(fleet: Fleet, namespace: str, tmp_path: Path) -> None:
    clients = {name: Client(fleet.workload_kubeconfig(namespace, name, tmp_path)) for name in TYPES}
    fleet.rig.kill(PROVIDER)
    fleet.rig.wait_ready(PROVIDER)
    for name, client in clients.items():
        deadline = time.monotonic() + LIMIT_S
        while not _listens(client.port):
            assert time.monotonic() < deadline, f"nothing listens at the endpoint of {name}"
            time.sleep(PAUSE_S)
        assert client.reached() == _machines(fleet.recorder.world, namespace, name)
    assert len(_haproxies(fleet)) == 1
    fleet.settle(namespace, *TYPES, limit_s=LIMIT_S)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
