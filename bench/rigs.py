"""A rig for one benchmark: started for it, stopped after it, bound to this program's life."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import orjson

from bench.audit import AuditLog, Requests, count
from fleetwake.kube import config
from fleetwake.kube.client import ApiClient
from fleetwake.rig import Rig
from fleetwake.rig.records import StateFile

QUIET_S = 1.0
QUIET_POLL_S = 0.1
QUIET_LIMIT_S = 120.0
HTTP_LIMIT_S = 5.0
STARTS_VARIABLE = "BENCH_STARTS"


@contextmanager
def bench_rig(workers: int, state: Path | None = None, *, served_versions: str = "") -> Iterator[Rig]:
    """Start a rig in a folder of its own, and stop it and remove the folder at the end; or take the one that runs in ``state``, and leave it."""
    if state is not None:
        yield Rig(state)
        return
    folder = Path(tempfile.mkdtemp(prefix="fleetwake-bench-"))
    try:
        yield Rig.up(folder, workers=workers, served_versions=served_versions, bound_to=os.getpid())
    finally:
        Rig(folder).down()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def admin(rig: Rig) -> AsyncIterator[ApiClient]:
    """A client of the rig's API server with all rights."""
    client = ApiClient(config.load(rig.endpoints().kubeconfig), service="bench")
    try:
        yield client
    finally:
        await client.close()


def web_ports(rig: Rig) -> dict[str, int]:
    """The web ports of the rig's running services by name."""
    state = rig.state()
    processes = state.processes if state else ()
    return {process.name: process.ports["web"] for process in processes if "web" in process.ports and rig.pid(process.name) is not None}


def get(port: int, path: str) -> bytes:
    """Fetch a page of a service.

    Raises:
        OSError: it does not answer.
    """
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=HTTP_LIMIT_S) as answer:
        body: bytes = answer.read()
        return body


def status_of(port: int) -> dict[str, Any]:
    """What a worker says of itself; empty when it does not answer or says nothing (the watcher)."""
    try:
        found: dict[str, Any] = orjson.loads(get(port, "/statusz"))
    except (OSError, orjson.JSONDecodeError):
        return {}
    return found


def metric_of(page: bytes, name: str) -> float:
    """The sum of a metric's samples on a page in Prometheus' text format."""
    lines = page.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def metric(rig: Rig, name: str) -> float:
    """The same over all services of the rig."""
    return sum(metric_of(get(port, "/metrics"), name) for port in web_ports(rig).values())


async def quiet(rig: Rig, log: AuditLog) -> tuple[Requests, float]:
    """Wait until every worker is idle and none of our accounts has sent a request for ``QUIET_S``.

    Returns:
        The requests since the log was last read, and when the last of them was seen (``time.monotonic``, within ``QUIET_POLL_S``).
    """
    ports = web_ports(rig)
    lines = log.lines()
    began = last = time.monotonic()
    while time.monotonic() - last < QUIET_S and time.monotonic() - began < QUIET_LIMIT_S:
        await asyncio.sleep(QUIET_POLL_S)
        fresh = log.lines()
        lines += fresh
        busy = [name for name, port in ports.items() if status_of(port).get("idle") is False]
        if busy or count(fresh).total:
            last = time.monotonic()
    return count(lines), last


async def restart_with(rig: Rig, variables: Mapping[str, str]) -> None:
    """Start all services of the rig anew with these variables in their environment, and wait until they are ready."""
    file = StateFile(rig.state_dir)
    state = file.load()
    names = [process.name for process in state.processes if process.role == "service"] if state else []
    await asyncio.gather(*(asyncio.to_thread(rig.stop, name) for name in names))
    with file.lock():
        state = file.load()
        assert state is not None
        for name in names:
            process = state.process(name)
            state = state.with_process(process.model_copy(update={"env": {**process.env, **variables}}))
        file.save(state)
    for name in names:
        rig.start(name)
    await asyncio.gather(*(asyncio.to_thread(rig.wait_ready, name) for name in names))


def observe_starts(rig: Rig, folder: Path) -> Mapping[str, Path]:
    """Run the rig's reconcilers under ``bench.observed_worker``, which notes when each run starts; returns the notes' files by instance."""
    file = StateFile(rig.state_dir)
    state = file.load()
    names = [process.name for process in state.processes if process.name.startswith("reconcilers-")] if state else []
    notes = {name: folder / f"{name}.starts" for name in names}
    for name, path in notes.items():
        rig.stop(name)
        with file.lock():
            state = file.load()
            assert state is not None
            process = state.process(name)
            command = (sys.executable, "-m", "bench.observed_worker")
            changed = process.model_copy(update={"cmd": command, "env": {**process.env, STARTS_VARIABLE: str(path)}})
            file.save(state.with_process(changed))
        rig.start(name)
    for name in names:
        rig.wait_ready(name)
    return notes
