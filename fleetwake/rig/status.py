"""What a rig looks like from outside."""

from __future__ import annotations

import os
import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from fleetwake.connections.files import TlsFiles
from fleetwake.rig.probes import apiserver_ready, http_ok, kafka_answers, redis_answers
from fleetwake.rig.processes import alive
from fleetwake.rig.records import ApiserverProbe, Endpoints, HttpProbe, KafkaProbe, Process, RedisProbe, State, TlsRecord

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STATM_RESIDENT_FIELD = 1


class ProcessStatus(BaseModel):
    """One server or service. ``pid`` is null when it does not run."""

    model_config = ConfigDict(frozen=True)

    name: str
    role: str
    pid: int | None
    log: str
    ready: bool
    ports: dict[str, int]
    starts: int
    rss_mb: float | None


class RigStatus(BaseModel):
    """Everything a client of the rig needs to know; ``fleetwake dev status --json`` prints it."""

    model_config = ConfigDict(frozen=True)

    state_dir: str
    phase: str
    ready: bool
    kubeconfig: str
    kubectl: str
    bootstrap_servers: str
    redis_url: str
    audit_log: str
    clients: dict[str, dict[str, str]]
    """On a secure rig: the variables that each identity sets to be let in, all of them names and paths; else empty."""
    processes: tuple[ProcessStatus, ...]


def probe(process: Process) -> bool:
    """Ask a process whether it serves; False when it does not run."""
    if process.process is None or not alive(process.process):
        return False
    match process.probe:
        case ApiserverProbe(folder=folder, port=port):
            return apiserver_ready(Path(folder), port, process.process.pid)
        case KafkaProbe(port=port, tls=tls):
            return kafka_answers(port, _context(tls))
        case RedisProbe(port=port, tls=tls):
            return redis_answers(port, _context(tls))
        case HttpProbe(url=url):
            return http_ok(url)
        case _:
            return True


def _context(tls: TlsRecord | None) -> ssl.SSLContext | None:
    return TlsFiles("RIG", tls.ca_file, tls.certificate_file, tls.key_file).context() if tls is not None else None


def status_of(state_dir: Path, state: State) -> RigStatus:
    """Probe every process of the rig, all at the same time."""
    with ThreadPoolExecutor(max_workers=max(1, len(state.processes))) as pool:
        processes = tuple(pool.map(_process_status, state.processes))
    endpoints: Endpoints = state.endpoints
    return RigStatus(
        state_dir=str(state_dir),
        phase=state.phase,
        ready=state.phase == "up" and all(process.ready for process in processes),
        processes=processes,
        **endpoints.model_dump(),
    )


def _process_status(process: Process) -> ProcessStatus:
    running = process.process if alive(process.process) else None
    return ProcessStatus(
        name=process.name,
        role=process.role,
        pid=running.pid if running else None,
        log=process.log,
        ready=probe(process),
        ports=process.ports,
        starts=process.starts,
        rss_mb=resident_mb(running.pid) if running else None,
    )


def resident_mb(pid: int) -> float | None:
    """Resident memory of a process in MB (10^6 bytes), None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return None
    return round(int(fields[STATM_RESIDENT_FIELD]) * PAGE_BYTES / 1e6, 1)
