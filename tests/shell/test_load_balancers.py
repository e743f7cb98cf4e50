"""Load balancers before emulated API servers: who gets connections, and that none is lost when an API server, the provider or the load balancer dies."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pytest
import uvloop

from fleetwake.errors import UnavailableError
from schemas.api.infrastructure.v1beta2 import InMemoryLoadBalancer
from services.dev_infrastructure.balancing import haproxy as haproxy_module
from services.dev_infrastructure.balancing.implementations import LOAD_BALANCERS
from services.dev_infrastructure.balancing.load_balancer import Backend, Place
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.kinds.state import Faults
from tests.shell.test_dev_infrastructure import PORTS, World, _connects

HOSTS = ("cp-0", "cp-1", "cp-2")
DETECTED_S = 1.0
"""By then a load balancer knows that a backend died, or came."""
STREAMS = 4
ENOUGH = 40
LIMIT_S = 20.0
BOTH = ["InProcess", pytest.param("HAProxy", marks=pytest.mark.haproxy)]
DEV_CLUSTER = "DevCluster"


@dataclass
class Attempt:
    """A new connection: when it was begun, the API server that answered, or why none did."""

    begun: float
    server: str = ""
    failure: str = ""


@dataclass
class Stream:
    """New connections, one after the other and several at a time, until it is stopped."""

    world: World
    attempts: list[Attempt] = field(default_factory=list)
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    async def one(self) -> None:
        """Make a connection, and end it."""
        attempt = Attempt(time.monotonic())
        try:
            attempt.server, writer = await connect(self.world)
            writer.close()
        except OSError as error:  # ssl.SSLError is one
            attempt.failure = str(error) or type(error).__name__
        self.attempts.append(attempt)
        self._more.set()

    async def run(self) -> None:
        """Make connections for ever."""
        while True:
            await self.one()

    def since(self, begun: float) -> list[Attempt]:
        """The attempts begun since then."""
        return [attempt for attempt in self.attempts if attempt.begun >= begun]

    async def enough(self, begun: float, server: str = "") -> list[Attempt]:
        """The attempts begun since then, once there are enough, one of them answered by that API server."""
        async with asyncio.timeout(LIMIT_S):
            while len(found := self.since(begun)) < ENOUGH or (server and all(one.server != server for one in found)):
                self._more.clear()
                await self._more.wait()
        return found


async def connect(world: World) -> tuple[str, asyncio.StreamWriter]:
    """Connect to the endpoint as a client does: TLS with the cluster's CA. Returns the API server whose certificate was shown."""
    context = ssl.create_default_context(cadata=world.cas["ca"].cert_pem.decode())
    _, writer = await asyncio.open_connection(world.state.host, world.state.port, ssl=context)
    names = {value for _, value in writer.get_extra_info("peercert")["subjectAltName"]}
    return next(name for name in names if name.startswith("cp-")), writer


@asynccontextmanager
async def stream(world: World) -> AsyncIterator[Stream]:
    """New connections all the time."""
    found = Stream(world)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(found.run()) for _ in range(STREAMS)]
        yield found
        for task in tasks:
            task.cancel()


@asynccontextmanager
async def three(folder: Path, kind: str) -> AsyncIterator[World]:
    """A cluster of three control plane hosts behind a load balancer."""
    world = World(folder / "clusters", PortPool("127.0.0.1", *PORTS))
    await world.emulator.open()
    try:
        await world.cluster(balancer=kind)
        await world.machine("cp-0", "init")
        await world.token()
        for name in HOSTS[1:]:
            await world.machine(name, "join-control-plane")
        yield world
    finally:
        await world.emulator.close()


async def check_backends(folder: Path, kind: str) -> None:
    """One life of a control plane: all of its API servers work, one dies and comes back, one comes, one goes."""
    async with three(folder, kind) as world:
        held = [await connect(world) for _ in range(12)]
        assert Counter(server for server, _ in held) == dict.fromkeys(HOSTS, 4), "who has fewest connections gets the next"
        async with stream(world) as seen:
            await world.machine("cp-1", "join-control-plane", faults=Faults(api_server_down=True).model_dump())
            dead = time.monotonic()
            after = await seen.enough(dead + DETECTED_S)
            assert {one.failure for one in after} == {""}
            assert {one.server for one in after} == {"cp-0", "cp-2"}
            await world.machine("cp-1", "join-control-plane", faults=Faults().model_dump())
            back = time.monotonic()
            assert {one.server for one in await seen.enough(back + DETECTED_S, "cp-1")} == set(HOSTS)

            await world.machine("cp-3", "join-control-plane")
            assert "cp-3" in {one.server for one in await seen.enough(time.monotonic() + DETECTED_S, "cp-3")}
            await world.emulator.remove_machine({"uid": "uid-cp-2"})
            gone = await seen.enough(time.monotonic(), "cp-3")
            assert {one.server for one in gone} <= {"cp-0", "cp-1", "cp-3"}
            assert [one.failure for one in seen.since(back) if one.failure and one.begun > back + DETECTED_S] == []
        for _, writer in held:
            writer.close()
        door = world.emulator.clusters["default/demo"].door
        assert door is not None
        async with asyncio.timeout(LIMIT_S):
            while sum(listener.connections for listener in door.listeners()):
                await asyncio.sleep(0)  # each turn ends some: nothing tells when the last is gone


@pytest.mark.parametrize("kind", BOTH)
def test_connections_follow_the_api_servers(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    """On uvloop, as in services."""
    _installed(request, kind)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(check_backends(tmp_path, kind))


def _installed(request: pytest.FixtureRequest, kind: str) -> None:
    if kind == "HAProxy":
        request.getfixturevalue("haproxy")


@pytest.mark.parametrize("graceful", [True, False], ids=["closed", "killed"])
@pytest.mark.parametrize("kind", BOTH)
async def test_a_restart_keeps_endpoint_ports_and_backends(tmp_path: Path, kind: str, graceful: bool, request: pytest.FixtureRequest) -> None:
    _installed(request, kind)
    async with three(tmp_path, kind) as world:
        cluster = world.emulator.clusters["default/demo"]
        ports = {uid: host.backend_port for uid, host in cluster.hosts.items()}
        assert len({*ports.values(), world.state.port}) == 4
        before = world.state
        if graceful:
            await world.restart()
        else:
            await cluster.close()
            world.emulator = world.new()
            await world.emulator.open()
        assert (world.state.port, world.state.balancer, world.state.balancer_failure) == (before.port, kind, "")
        assert {uid: host.backend_port for uid, host in world.emulator.clusters["default/demo"].hosts.items()} == ports
        assert {(await connect(world))[0] for _ in range(6)} == set(HOSTS)


@pytest.mark.haproxy
async def test_it_is_really_switched(tmp_path: Path, haproxy: Path) -> None:
    async with three(tmp_path, "") as world:
        port = world.state.port
        for kind, servers in (("InProcess", set(HOSTS)), ("HAProxy", set(HOSTS)), ("InProcess", set(HOSTS)), ("", {"cp-2"})):
            await world.cluster(balancer=kind)
            assert (world.state.port, world.state.balancer) == (port, kind)
            assert {(await connect(world))[0] for _ in range(6)} == servers


@pytest.mark.parametrize("kind", BOTH)
async def test_nothing_is_left_of_a_cluster_that_goes(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    _installed(request, kind)
    async with three(tmp_path, kind) as world:
        ports = [world.state.port, *(host.backend_port for host in world.emulator.clusters["default/demo"].hosts.values())]
        assert all(_connects(port) for port in ports)
        await world.emulator.remove_cluster({"uid": "uid-demo"})
        assert not any(_connects(port) for port in ports)
        assert _processes(tmp_path) == [] and not list(world.folder.iterdir())


def _processes(folder: Path) -> list[int]:
    """The HAProxies of a provider that keeps its clusters under this folder."""
    mark = haproxy_mark(folder)
    found = subprocess.run(["pgrep", "-f", f"haproxy .*-L {mark}"], capture_output=True, text=True, check=False).stdout
    return [int(line) for line in found.split()]


def haproxy_mark(folder: Path) -> str:
    """What tells them."""
    pool = PortPool("127.0.0.1", *PORTS)
    return World(folder / "clusters", pool).emulator._doors._mark


def told(world: World) -> asyncio.Event:
    """Set once the load balancer has fallen and that is told."""
    event, cluster = asyncio.Event(), world.emulator.clusters["default/demo"]
    tell = cluster.fell

    def fell() -> None:
        tell()
        event.set()

    cluster.fell = fell
    return event


@pytest.mark.haproxy
async def test_a_haproxy_that_is_killed_comes_back_and_no_new_connection_is_refused(tmp_path: Path, haproxy: Path) -> None:
    async with three(tmp_path, "HAProxy") as world:
        (pid,) = _processes(tmp_path)
        world.woken.clear()
        async with stream(world) as seen:
            fallen = told(world)
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            await asyncio.wait_for(fallen.wait(), LIMIT_S)
            assert world.state.balancer_failure == "haproxy ended by SIGKILL"
            assert [key.kind for key in world.woken] == [DEV_CLUSTER], "whoever tells and repairs it is woken"
            await world.cluster(balancer="HAProxy")
            assert world.state.balancer_failure == ""
            # the endpoint's socket listens on: who came in between has waited in it
            assert [one.failure for one in await seen.enough(killed + 0.1) if one.failure] == []
        (again,) = _processes(tmp_path)
        assert again != pid


@pytest.mark.haproxy
async def test_haproxy_has_no_right_it_does_not_need(tmp_path: Path, haproxy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # which nobody else may read
    async with three(tmp_path, "HAProxy") as world:
        (pid,) = _processes(tmp_path)
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff")} == {0}
        if os.geteuid() == 0:
            assert status["Uid"].split() == ["65534"] * 4
        sockets = {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening = {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets}
        assert listening == {world.state.port}


PARENT = """
import asyncio, socket, sys
from services.dev_infrastructure.balancing.haproxy import HAProxy
from services.dev_infrastructure.balancing.load_balancer import Backend, Place

async def main():
    endpoint = socket.create_server(("127.0.0.1", 0))
    balancer = HAProxy(Place("default/demo", sys.argv[1], print))
    await balancer.start(endpoint, ())
    print(endpoint.getsockname()[1], flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.haproxy
def test_haproxy_ends_with_a_provider_that_is_killed(tmp_path: Path, haproxy: Path) -> None:
    mark = haproxy_mark(tmp_path)
    with subprocess.Popen([sys.executable, "-c", PARENT, mark], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline())
        (pid,) = _processes(tmp_path)
        descriptor = os.pidfd_open(pid)
        parent.kill()
    assert _ended(descriptor), "it outlives the provider"
    assert not _connects(port)


def _ended(descriptor: int) -> bool:
    """Whether a process ends within the limit."""
    try:
        return bool(select.select([descriptor], [], [], LIMIT_S)[0])
    finally:
        os.close(descriptor)


@pytest.mark.haproxy
async def test_one_that_was_left_behind_is_ended_by_its_mark(tmp_path: Path, haproxy: Path) -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    balancer, mark = haproxy_module.HAProxy(Place("default/demo", haproxy_mark(tmp_path), ended.set_result)), haproxy_mark(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as endpoint:
        await balancer.start(endpoint, ())
        assert haproxy_module.end_leftovers(f"{mark}0") == 0
        assert haproxy_module.end_leftovers(mark) == 1
        assert await asyncio.wait_for(ended, LIMIT_S) == "haproxy ended by SIGKILL"
        await balancer.stop()


@pytest.mark.parametrize("kind", BOTH)
async def test_bytes_pass_unchanged_both_ways_and_each_way_ends_by_itself(tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    _installed(request, kind)
    sent = os.urandom(4 << 20)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())  # until the client has said all
        writer.close()

    balancer = LOAD_BALANCERS[kind](Place("default/demo", haproxy_mark(tmp_path), print))
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server, asyncio.timeout(LIMIT_S):
        with socket.create_server(("127.0.0.1", 0)) as endpoint:
            await balancer.start(endpoint, (Backend("cp-0", *server.sockets[0].getsockname()),))
            reader, writer = await asyncio.open_connection(*endpoint.getsockname())
            writer.write(sent)
            writer.write_eof()
            assert await reader.read() == sent
            writer.close()
            await balancer.stop()


async def test_a_missing_program_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(haproxy_module, "FOLDERS", ())
    world = World(tmp_path / "clusters", PortPool("127.0.0.1", *PORTS))
    await world.emulator.open()
    try:
        with pytest.raises(UnavailableError, match="haproxy is not installed"):
            await world.cluster(balancer="HAProxy")
        assert "apt-get install haproxy" in world.state.balancer_failure and "InProcess" in world.state.balancer_failure
        assert not _connects(world.state.port)
        await world.cluster(balancer="InProcess")
        assert world.state.balancer_failure == "" and _connects(world.state.port)
    finally:
        await world.emulator.close()


def test_every_type_that_the_api_takes_has_an_implementation() -> None:
    assert set(get_args(InMemoryLoadBalancer.model_fields["type"].annotation)) == set(LOAD_BALANCERS)
    place = Place("default/demo", "mark", print)
    assert {kind: type(make(place)).__name__ for kind, make in LOAD_BALANCERS.items()} == {kind: kind for kind in LOAD_BALANCERS}
