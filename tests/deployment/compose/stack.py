"""The compose file's services as processes of this machine, started in its order, each when its conditions hold."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from fleetwake.rig import Progress
from fleetwake.rig.kafka import kafka_distribution
from fleetwake.rig.probes import wait_until
from fleetwake.tracing.receiver import Receiver
from tests.deployment.compose.ground import LOOPBACK, NOT_RUN, Ground
from tests.deployment.compose.log_receiver import LogReceiver
from tests.deployment.compose.project import ENDS_WELL, HEALTHY, Container

HEALTHY_LIMIT_S = 60.0
TIMED_OUT = 124
ONCE_LIMIT_S = 60.0
STOP_LIMIT_S = 3.0
TAIL_CHARS = 3000
# ends with the thread that started it, however that ends
BOUND = ("setpriv", "--pdeathsig", "KILL", "--")


@dataclass
class Stack:
    """A run of the file. Use it as a context: it starts everything in order and ends it in the opposite one."""

    ground: Ground
    more_arguments: dict[str, list[str]] = field(default_factory=dict)
    """Further arguments of a service, behind those of the file."""
    tempo: Receiver = field(init=False)
    loki: LogReceiver = field(init=False)
    unhealthy_before: dict[str, bool] = field(default_factory=dict)
    """Whether the health check of a service said no before its process was there."""

    def __post_init__(self) -> None:
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: dict[str, int] = {}
        self._exit = ExitStack()
        self.tempo = Receiver(LOOPBACK, self.ground.ports["tempo", 4318])
        self.loki = LogReceiver(LOOPBACK, self.ground.ports["loki", 3100])

    @property
    def containers(self) -> dict[str, Container]:
        """The file's services."""
        return self.ground.project.containers

    def __enter__(self) -> Stack:
        self._exit.enter_context(self.tempo)
        self._exit.enter_context(self.loki)
        self._exit.callback(self._stop)
        try:
            for container in self.ground.project.start_order():
                if container.name not in NOT_RUN:
                    self._begin(container)
            for container in self.ground.project.start_order():
                if container.health and container.name in self._processes:
                    self.await_healthy(container.name)
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._exit.close()

    # ---- one service ------------------------------------------------------------------------------------------------------------------
    def _begin(self, container: Container) -> None:
        for needed, condition in container.needs.items():
            if condition == ENDS_WELL:
                assert self._ended[needed] == 0, f"{needed} ended with {self._ended[needed]}: {self.log_tail(needed)}"
            elif condition == HEALTHY:
                self.await_healthy(needed)
        self.ground.lay_out(container)
        if container.health and (self.ground.folder / "volumes" / "probe" / "busybox").exists():
            self.unhealthy_before[container.name] = self.check(container.name) != 0
        self.start(container.name)
        if container.once:
            self._ended[container.name] = self.ended(container.name)
            if container.name == "certificates":
                self.ground.translate_kubeconfigs()

    def start(self, name: str) -> None:
        """Start the process of a service."""
        container = self.containers[name]
        command = _kafka(self.ground, container) if name == "kafka" else self.ground.command(container)
        command += self.more_arguments.get(name, ())
        with self.log(name).open("ab") as output:
            self._processes[name] = subprocess.Popen(
                [*BOUND, *command],
                env=self.ground.environment(container),
                cwd=self.ground.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def ended(self, name: str) -> int:
        """Wait for the end of a service that runs to one; its exit code."""
        return self._processes.pop(name).wait(ONCE_LIMIT_S)

    def kill(self, name: str) -> None:
        """SIGKILL a service's process."""
        process = self._processes.pop(name)
        process.kill()
        process.wait(STOP_LIMIT_S)

    def run(self, name: str, *words: str, stdin: str | None = None) -> str:
        """``docker compose run`` of a service by hand: returns what it prints.

        Raises:
            AssertionError: it failed; the message is its error output.
        """
        container = self.containers[name]
        self.ground.lay_out(container)
        command = self.ground.command(container, list(words))
        environment = self.ground.environment(container)
        done = subprocess.run(
            command, env=environment, cwd=self.ground.folder, input=stdin, capture_output=True, text=True, timeout=ONCE_LIMIT_S * 2, check=False
        )
        assert done.returncode == 0, f"{shlex.join(words)}: {done.stdout[-TAIL_CHARS:]}{done.stderr[-TAIL_CHARS:]}"
        return done.stdout

    # ---- health -----------------------------------------------------------------------------------------------------------------------
    def check(self, name: str) -> int:
        """Run the health check of a service once; its exit code. One that outlasts its timeout says no, as with Docker."""
        container = self.containers[name]
        command = self.ground.health(container)
        environment = self.ground.environment(container)
        limit_s = float(container.raw["healthcheck"]["timeout"].rstrip("s"))
        try:
            return subprocess.run(command, env=environment, capture_output=True, timeout=limit_s, check=False).returncode
        except subprocess.TimeoutExpired:
            return TIMED_OUT

    def await_healthy(self, name: str) -> None:
        """Wait until the health check of a service says yes.

        Raises:
            AssertionError: its process ended, or it never did; the message has its last lines.
        """

        def healthy() -> bool:
            code = self._processes[name].poll()
            assert code is None, f"{name} ended with {code}: {self.log_tail(name)}"
            return self.check(name) == 0

        try:
            wait_until(healthy, HEALTHY_LIMIT_S, f"the health check of {name}")
        except Exception as error:
            raise AssertionError(f"{error}: {self.log_tail(name)}") from error

    # ---- logs -------------------------------------------------------------------------------------------------------------------------
    def log(self, name: str) -> Path:
        """Where the output of a service is."""
        path = self.ground.folder / "output" / f"{name}.log"
        path.parent.mkdir(exist_ok=True)
        return path

    def log_tail(self, name: str) -> str:
        """Its last lines."""
        return self.log(name).read_text(errors="replace")[-TAIL_CHARS:]

    def _stop(self) -> None:
        # nothing of a run is kept: who takes his time (the API server waits a minute for open watches) is killed
        for name in reversed(list(self._processes)):
            process = self._processes[name]
            process.send_signal(signal.SIGTERM)
        end = time.monotonic() + STOP_LIMIT_S
        for process in self._processes.values():
            try:
                process.wait(max(end - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _kafka(ground: Ground, container: Container) -> list[str]:
    """What Kafka's image does with its environment: its own wrapper makes the properties and formats the log folder, then the broker starts.

    Source: Kafka 4.3 ``docker/jvm/launch``.
    """
    java = list(kafka_distribution(Progress()).command)
    folder = ground.folder / "tmpfs" / container.name / "opt" / "kafka" / "config"
    defaults, mounted = ground.folder / "kafka-defaults", ground.folder / "kafka-mounted"
    for here in (folder, defaults, mounted):
        here.mkdir(parents=True, exist_ok=True)
    for name in ("server.properties", "log4j2.yaml", "tools-log4j2.yaml"):
        (defaults / name).write_text("Configuration:\n  Loggers: {}\n" if name.endswith("yaml") else "")
    folders = ["--default-configs-dir", str(defaults), "--mounted-configs-dir", str(mounted), "--final-configs-dir", str(folder)]
    environment = ground.environment(container)
    setup = subprocess.run(
        [*java, "kafka.docker.KafkaDockerWrapper", "setup", *folders], env=environment, capture_output=True, text=True, timeout=ONCE_LIMIT_S, check=False
    )
    assert setup.returncode == 0 or "already formatted" in setup.stdout + setup.stderr, setup.stdout + setup.stderr
    return [*java, *environment["KAFKA_HEAP_OPTS"].split(), "kafka.Kafka", str(folder / "server.properties")]
