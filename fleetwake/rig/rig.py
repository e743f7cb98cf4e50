"""Start, watch, kill and stop a rig and its parts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Unpack

from fleetwake.connections.kafka import Kafka
from fleetwake.rig.access import grant_access
from fleetwake.rig.cache import default_state_dir
from fleetwake.rig.errors import RigError
from fleetwake.rig.kafka import BROKERS_MAX
from fleetwake.rig.probes import wait_until
from fleetwake.rig.processes import MARKER, alive, identify, marked, send, spawn, stop, wait_gone, wait_stopped
from fleetwake.rig.progress import Progress
from fleetwake.rig.records import LOCK_FILE, AliveProbe, Endpoints, Options, Process, ProcessId, State, StateFile, Wishes
from fleetwake.rig.security import ADMIN, Security, issue
from fleetwake.rig.servers import programs, server_processes
from fleetwake.rig.services import (
    ADMITTING,
    PREPARATIONS,
    PREPARING,
    PREPARING_IDENTITY,
    VERSIONS_ENV,
    client_env,
    fleetwake_command,
    service_processes,
)
from fleetwake.rig.status import RigStatus, probe, status_of
from fleetwake.settings import Settings

SUPERVISOR = "supervisor"
SUPERVISOR_STOP_LIMIT_S = 5.0
PREPARATION_LIMIT_S = 120.0
KILL_LIMIT_S = 10.0
LOG_TAIL_LINES = 15


class Rig:
    """The rig of one state folder, whoever started it."""

    def __init__(self, state_dir: Path | None = None) -> None:
        """Name the rig; nothing is started. Without a folder it is this checkout's."""
        self.state_dir = (state_dir or default_state_dir()).absolute()
        self._file = StateFile(self.state_dir)

    # -- the whole ------------------------------------------------------------------------------------------------------------------

    @classmethod
    def up(cls, state_dir: Path | None = None, *, bound_to: int | None = None, **wishes: Unpack[Wishes]) -> Rig:
        """Start a rig and return when all of it is ready.

        Args:
            state_dir: its folder, emptied first; this checkout's when not given.
            bound_to: a pid; when that process ends, however it ends, so does the rig.
            wishes: see ``fleetwake.rig.records.Options``.

        Raises:
            RigError: a rig runs in that folder already, something is missing on the machine, or a process did not become ready.
        """
        options = Options(**wishes)
        if options.brokers not in (1, BROKERS_MAX):
            raise RigError(f"a rig has 1 or {BROKERS_MAX} brokers, not {options.brokers}")
        rig = cls(state_dir)
        found = programs(Progress())
        rig._check_folder()
        rig._clean_up()
        with rig._file.lock():
            rig._empty_folder()
            security = issue(rig.security.folder) if options.secure else None
            endpoints, servers = server_processes(found, rig.state_dir, options.brokers, security)
            owner = identify(bound_to) if bound_to is not None else None
            rig._file.save(State(phase="starting", creator=_myself(), bound_to=owner, options=options, endpoints=endpoints, processes=servers))
        try:
            if options.restart or owner is not None:
                rig._start_supervisor()
            rig._start_all(process.name for process in servers)
            grant_access(endpoints, older_versions=bool(options.served_versions))
            if security is not None:
                # only here, because it imports kafka-python
                from fleetwake.rig.kafka_users import grant

                grant(rig.kafka(), security, Settings.from_env().topic_prefix)
            if not options.only_servers:
                rig._start_services(endpoints, options)
            rig._edit(phase="up")
        except BaseException:
            rig.down()
            raise
        return rig

    def state(self) -> State | None:
        """What ``rig.json`` says, None when there is no rig."""
        return self._file.load()

    def status(self) -> RigStatus | None:
        """Probe every process; None when there is no rig."""
        state = self.state()
        return status_of(self.state_dir, state) if state else None

    def endpoints(self) -> Endpoints:
        """Where clients find the servers.

        Raises:
            RigError: there is no rig.
        """
        return self._require().endpoints

    def kafka(self, identity: str = ADMIN.service) -> Kafka:
        """How a client reaches Kafka as an identity, which matters on a secure rig.

        Raises:
            RigError: there is no rig.
        """
        return Settings.from_env(self.endpoints().variables(identity)).kafka

    @property
    def security(self) -> Security:
        """Certificates and passwords of a secure rig."""
        return Security(self.state_dir / "security")

    def down(self, spare: int | None = None) -> None:
        """Stop every process of the rig, its supervisor first, its services before its servers; does nothing when there is none.

        Only what this rig started is stopped: processes that ``rig.json`` records, by pid and start time, and their descendants, by
        the mark in their environment. ``spare`` is a pid that is left alone.

        Raises:
            RigError: a process outlived SIGKILL.
        """
        state = self.state()
        if state is not None:
            self._edit(phase="stopping")
        recorded = {process.process: process for process in state.processes if process.process} if state else {}
        left: list[ProcessId] = []
        for role in ("supervisor", "service", "server"):
            limits = {identity: process.stop_limit_s for identity, process in recorded.items() if process.role == role and identity.pid != spare}
            left += stop(limits)
        left += stop({process: SUPERVISOR_STOP_LIMIT_S for process in marked(str(self.state_dir)) if process.pid != spare})
        self._file.remove()
        if left:
            raise RigError(f"these processes outlived SIGKILL: {', '.join(str(process.pid) for process in left)}")

    # -- one process ----------------------------------------------------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        """The pid of a process of the rig, None when it does not run."""
        process = self._require().process(name).process
        return process.pid if process is not None and alive(process) else None

    def start(self, name: str) -> int:
        """Start a process unless it runs; returns its pid. Its ports and data are those it had before.

        Raises:
            RigError: it ended at once.
        """
        with self._file.lock():
            process = self._require().process(name)
            if process.process is not None and alive(process.process):
                return process.process.pid
            identity = spawn(process.cmd, process.env, Path(process.log), str(self.state_dir))
            changed = process.model_copy(update={"process": identity, "wanted": True, "starts": process.starts + 1})
            self._file.save(self._require().with_process(changed))
        if identity is None:
            raise RigError(f"{name} ended at once; {_log_tail(process)}")
        return identity.pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a process and, unless it only stops or continues it, wait until it is gone.

        A supervisor that was asked to restart will start it again; ``stop`` keeps it down.

        Raises:
            RigError: it does not run, or outlived the signal by 10 s.
        """
        process = self._require().process(name).process
        if process is None or not send(process, number):
            raise RigError(f"{name} does not run")
        if number not in (signal.SIGSTOP, signal.SIGCONT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2) and wait_gone([process], KILL_LIMIT_S):
            raise RigError(f"{name} outlived {number.name} by {KILL_LIMIT_S:.0f} s")

    def stop(self, name: str) -> None:
        """End a process for good: SIGTERM, after its limit SIGKILL, and no supervisor starts it again."""
        with self._file.lock():
            state = self._require()
            process = state.process(name)
            self._file.save(state.with_process(process.model_copy(update={"wanted": False})))
        if process.process is not None and stop({process.process: process.stop_limit_s}):
            raise RigError(f"{name} outlived SIGKILL")

    def pause(self, name: str) -> None:
        """Freeze a process (SIGSTOP); it has stopped then.

        Raises:
            RigError: it does not run, or went on for 10 s.
        """
        self.kill(name, signal.SIGSTOP)
        process = self._require().process(name).process
        if process is None or not wait_stopped(process, KILL_LIMIT_S):
            raise RigError(f"{name} did not stop within {KILL_LIMIT_S:.0f} s")

    def resume(self, name: str) -> None:
        """Let a frozen process go on (SIGCONT)."""
        self.kill(name, signal.SIGCONT)

    def restart(self, name: str) -> None:
        """Kill a process if it runs, start it again with the same ports and data, and wait until it is ready."""
        if self.pid(name) is not None:
            self.kill(name)
        self.start(name)
        self.wait_ready(name)

    def wait_ready(self, name: str, limit_s: float | None = None) -> None:
        """Wait until a process answers its probe.

        Raises:
            RigError: it ended, or did not answer within ``limit_s`` (its own start limit when not given); the message has its last lines.
        """
        state = self._require()
        asked = state.process(name)
        supervised = state.options.restart and state.phase == "up"

        def answers() -> bool:
            process = self._require().process(name)
            if process.process is None or not alive(process.process):
                if supervised:
                    return False
                raise RigError(f"{name} ended before it was ready; {_log_tail(process)}")
            return probe(process)

        try:
            wait_until(answers, limit_s or asked.start_limit_s, name)
        except RigError as error:
            raise RigError(f"{error}\n{_log_tail(asked)}") if asked.log not in str(error) else error from None

    # -- within ---------------------------------------------------------------------------------------------------------------------

    def _require(self) -> State:
        state = self.state()
        if state is None:
            raise RigError(f"no rig in {self.state_dir}: start one with `fleetwake dev up`")
        return state

    def _edit(self, **changes: object) -> None:
        with self._file.lock():
            self._file.save(self._require().model_copy(update=changes))

    def _check_folder(self) -> None:
        """Make sure that the folder may be emptied.

        Raises:
            RigError: it holds something that no rig put there.
        """
        self.state_dir.mkdir(parents=True, mode=0o700, exist_ok=True)
        if any(self.state_dir.iterdir()) and not (self.state_dir / LOCK_FILE).exists():
            raise RigError(f"{self.state_dir} is not empty and is no rig's folder: choose another")

    def _clean_up(self) -> None:
        """Stop what a crash left behind.

        Raises:
            RigError: a rig that somebody may be using runs in the folder.
        """
        state = self.state()
        if state is not None:
            running = [process.name for process in state.processes if alive(process.process)]
            if state.phase == "starting" and alive(state.creator):
                raise RigError(f"process {state.creator.pid} is starting a rig in {self.state_dir}")
            if state.phase == "up" and running:
                raise RigError(f"a rig runs in {self.state_dir} ({', '.join(running)}): stop it with `fleetwake dev down`")
        self.down()

    def _empty_folder(self) -> None:
        """Remove what an earlier rig left in the folder; the lock, held now, stays.

        Raises:
            RigError: another rig was started meanwhile.
        """
        if self.state() is not None:
            raise RigError(f"another process has started a rig in {self.state_dir}")
        for entry in self.state_dir.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK_FILE:
                entry.unlink()

    def _start_supervisor(self) -> None:
        command = (sys.executable, "-m", "fleetwake.rig.supervisor", str(self.state_dir))
        log = str(self.state_dir / "logs" / f"{SUPERVISOR}.log")
        record = Process(
            name=SUPERVISOR,
            role="supervisor",
            cmd=command,
            log=log,
            probe=AliveProbe(),
            start_limit_s=SUPERVISOR_STOP_LIMIT_S,
            stop_limit_s=SUPERVISOR_STOP_LIMIT_S,
        )
        self._edit(processes=(*self._require().processes, record))
        self.start(SUPERVISOR)

    def _start_services(self, endpoints: Endpoints, options: Options) -> None:
        services = service_processes(endpoints, self.state_dir, options)
        # the definitions name the webhook that converts, which is admission's
        versions = next({name: process.env[name] for name in VERSIONS_ENV if name in process.env} for process in services if process.name == ADMITTING)
        with ThreadPoolExecutor(max_workers=len(PREPARATIONS)) as pool:
            list(pool.map(lambda arguments: self._prepare(arguments, endpoints, versions), PREPARATIONS))
        self._edit(processes=(*self._require().processes, *services))
        self._start_all(process.name for process in services)

    def _start_all(self, names: Iterable[str]) -> None:
        started = list(names)
        for name in started:
            self.start(name)
        with ThreadPoolExecutor(max_workers=len(started)) as pool:
            list(pool.map(self.wait_ready, started))

    def _prepare(self, arguments: tuple[str, ...], endpoints: Endpoints, versions: Mapping[str, str]) -> None:
        env = {**os.environ, **client_env(endpoints, PREPARING_IDENTITY, PREPARING), **versions, MARKER: str(self.state_dir)}
        command = [fleetwake_command(), *arguments]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=PREPARATION_LIMIT_S, check=False, cwd=self.state_dir)
        (self.state_dir / "logs" / f"{'-'.join(arguments)}.log").write_text(done.stdout + done.stderr)
        if done.returncode != 0:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-LOG_TAIL_LINES:])
            raise RigError(f"`fleetwake {' '.join(arguments)}` ended with {done.returncode}:\n{tail}")


def _myself() -> ProcessId:
    identity = identify(os.getpid())
    assert identity is not None
    return identity


def _log_tail(process: Process) -> str:
    try:
        lines = Path(process.log).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        lines = []
    return "\n".join([f"the end of {process.log}:", *lines])
