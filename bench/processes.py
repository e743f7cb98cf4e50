"""CPU and memory of a rig's processes, from the kernel's own accounts."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from fleetwake.rig import Rig

KIB = 1024
MB = 1e6
OWN = "bench client"


def part_of(name: str) -> str:
    """The part of the system that a process of the rig belongs to: its name without the instance's number."""
    return name.rpartition("-")[0] if name.rpartition("-")[2].isdigit() else name


@dataclass(frozen=True)
class Reading:
    """CPU seconds so far by process, of this program, and of the whole machine (busy)."""

    at: float
    cpu: Mapping[str, float]
    own: float
    machine: float


@dataclass(frozen=True)
class Usage:
    """What was used between two readings: CPU seconds by part, and by what does not belong to the rig."""

    seconds: float
    cpu: Mapping[str, float] = field(default_factory=dict)
    client: float = 0.0
    others: float = 0.0

    @property
    def total(self) -> float:
        """CPU seconds of the rig; the benchmark's own client aside."""
        return sum(self.cpu.values())

    @property
    def load_of_others(self) -> float:
        """The share of the machine's CPU time that others took, 0 to 1."""
        return self.others / (self.seconds * (os.cpu_count() or 1)) if self.seconds else 0.0


def pids(rig: Rig) -> dict[str, int]:
    """The pids of the rig's running servers and services, by name."""
    state = rig.state()
    names = [process.name for process in state.processes if process.role != "supervisor"] if state else []
    return {name: pid for name in names if (pid := rig.pid(name)) is not None}


def read(rig: Rig) -> Reading:
    """Read all counters now."""
    cpu = {name: _cpu(pid) for name, pid in pids(rig).items()}
    busy = psutil.cpu_times()
    own = time.process_time()
    return Reading(time.monotonic(), cpu, own, sum(busy) - busy.idle - busy.iowait - getattr(busy, "guest", 0.0) - getattr(busy, "steal", 0.0))


def between(before: Reading, after: Reading) -> Usage:
    """What was used between two readings; a process that started meanwhile counts from nothing."""
    parts: dict[str, float] = {}
    for name, value in after.cpu.items():
        parts[part_of(name)] = parts.get(part_of(name), 0.0) + value - before.cpu.get(name, 0.0)
    client = after.own - before.own
    others = max(after.machine - before.machine - sum(parts.values()) - client, 0.0)
    return Usage(after.at - before.at, {name: round(value, 3) for name, value in parts.items()}, round(client, 3), round(others, 3))


def _cpu(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:4]) for member in family)
    except psutil.Error:
        return 0.0


def memory(rig: Rig, peak: bool = False) -> dict[str, float]:
    """Resident memory by process in MB (10^6 bytes), now or at its highest."""
    field_name = "VmHWM:" if peak else "VmRSS:"
    found = {}
    for name, pid in pids(rig).items():
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        found[name] = next((round(int(line.split()[1]) * KIB / MB, 1) for line in lines if line.startswith(field_name)), 0.0)
    return found
