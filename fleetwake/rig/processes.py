"""Start and stop processes of this user, and know them again after this program has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fleetwake.rig.records import ProcessId

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
# In the environment of everything a rig starts, and so of all its descendants.
MARKER = "FLEETWAKE_RIG"
PAUSE_S = 0.02
KILL_LIMIT_S = 10.0
START_TICKS_FIELD = 19  # of /proc/<pid>/stat, counted behind the command's name
STATE_FIELD = 0
THREADS_FIELD = 17
DEAD_STATES = frozenset("ZXx")
STOPPED_STATES = frozenset("Tt") | DEAD_STATES

_children: dict[int, subprocess.Popen[bytes]] = {}


def identify(pid: int) -> ProcessId | None:
    """The identity of a process that runs now, None when there is none (a zombie is none)."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        del _children[pid]
        return None
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    # a killed process is a zombie as soon as its first thread is gone, while others may still hold its ports
    if fields[STATE_FIELD] in DEAD_STATES and int(fields[THREADS_FIELD]) <= 1:
        return None
    return ProcessId(pid=pid, start_ticks=int(fields[START_TICKS_FIELD]), boot_id=BOOT_ID.read_text().strip())


def alive(process: ProcessId | None) -> bool:
    """Whether that very process still runs."""
    return process is not None and identify(process.pid) == process


def spawn(command: Sequence[str], env: Mapping[str, str], log: Path, marker: str) -> ProcessId | None:
    """Start a command in a session of its own, its output appended to ``log``.

    Returns:
        The identity of the process, None when it ended at once.

    Raises:
        OSError: the command cannot be run.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            env={**os.environ, **env, MARKER: marker},
            cwd=log.parent,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _children[child.pid] = child
    return identify(child.pid)


def send(process: ProcessId, number: signal.Signals) -> bool:
    """Send a signal to that very process; returns whether it was there to receive it."""
    if not alive(process):
        return False
    try:
        os.kill(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_gone(processes: Iterable[ProcessId], limit_s: float) -> list[ProcessId]:
    """Wait until none of them runs; returns those that still do after ``limit_s`` seconds."""
    deadline = time.monotonic() + limit_s
    left = [process for process in processes if alive(process)]
    while left and time.monotonic() < deadline:
        time.sleep(PAUSE_S)
        left = [process for process in left if alive(process)]
    return left


def wait_stopped(process: ProcessId, limit_s: float) -> bool:
    """Wait until SIGSTOP has stopped every thread; returns whether it had within ``limit_s`` seconds.

    The signal begins with whichever thread is scheduled first: on a busy machine the others go on for some milliseconds.
    """
    deadline = time.monotonic() + limit_s
    while not _stopped(process.pid):
        if time.monotonic() > deadline or not alive(process):
            return False
        time.sleep(PAUSE_S)
    return True


def _stopped(pid: int) -> bool:
    states = []
    for thread in (PROC / str(pid) / "task").glob("*/stat"):
        try:
            states.append(thread.read_text().rpartition(")")[2].split()[STATE_FIELD])
        except OSError:  # it ended meanwhile
            continue
    return bool(states) and STOPPED_STATES.issuperset(states)


def stop(limits: Mapping[ProcessId, float]) -> list[ProcessId]:
    """End processes: SIGTERM to all at once, SIGKILL to each that outlasts its limit in seconds.

    Returns:
        Those that no signal ended.
    """
    for process in limits:
        send(process, signal.SIGTERM)
        send(process, signal.SIGCONT)  # a stopped process takes no other signal
    started = time.monotonic()
    left = list(limits)
    for limit in sorted(set(limits.values())):
        left = wait_gone(left, limit - (time.monotonic() - started))
        for process in left:
            if limits[process] <= limit:
                send(process, signal.SIGKILL)
    return wait_gone(left, KILL_LIMIT_S)


def marked(marker: str) -> list[ProcessId]:
    """All processes of this user that were started under ``marker``, by a rig or by one of its processes."""
    wanted = f"{MARKER}={marker}".encode()
    found = []
    for entry in PROC.iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(identify(int(entry.name)))
    return [process for process in found if process is not None]
