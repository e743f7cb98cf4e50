"""What a rig remembers of itself: ``rig.json`` in its state folder, edited under a lock by whoever starts or stops a part of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetwake.rig.cache import locked
from fleetwake.rig.errors import RigError

STATE_FILE = "rig.json"
LOCK_FILE = "rig.lock"

Phase = Literal["starting", "up", "stopping"]
Role = Literal["server", "service", "supervisor"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ApiserverProbe(_Record):
    """Ready when the API server in ``folder`` answers and has said that it is this process."""

    kind: Literal["apiserver"] = "apiserver"
    folder: str
    port: int


class TlsRecord(_Record):
    """The files with which a probe speaks TLS."""

    ca_file: str
    certificate_file: str
    key_file: str


class KafkaProbe(_Record):
    """Ready when the broker answers on ``port``."""

    kind: Literal["kafka"] = "kafka"
    port: int
    tls: TlsRecord | None = None


class RedisProbe(_Record):
    """Ready when the Redis answers on ``port``."""

    kind: Literal["redis"] = "redis"
    port: int
    tls: TlsRecord | None = None


class HttpProbe(_Record):
    """Ready when a GET of ``url`` is answered with 200."""

    kind: Literal["http"] = "http"
    url: str


class AliveProbe(_Record):
    """Ready as soon as it runs."""

    kind: Literal["alive"] = "alive"


Probe = Annotated[ApiserverProbe | KafkaProbe | RedisProbe | HttpProbe | AliveProbe, Field(discriminator="kind")]


class ProcessId(_Record):
    """One process of one boot: a pid alone may have been given to another since."""

    pid: int
    start_ticks: int
    boot_id: str


class Process(_Record):
    """How one server or service is run, and as which process it runs now."""

    name: str
    role: Role
    cmd: tuple[str, ...]
    env: dict[str, str] = {}
    ports: dict[str, int] = {}
    log: str
    probe: Probe
    start_limit_s: float
    stop_limit_s: float
    wanted: bool = True
    process: ProcessId | None = None
    starts: int = 0


class Wishes(TypedDict, total=False):
    """What a rig can be asked for; ``Options`` has the meanings and what holds without."""

    brokers: int
    workers: int
    only_servers: bool
    restart: bool
    secure: bool
    served_versions: str


class Options(_Record):
    """What the rig was asked for."""

    brokers: int = 1
    """1 or 3."""
    workers: int = 2
    """How many reconcilers."""
    only_servers: bool = False
    """Leave fleetwake's services out."""
    restart: bool = False
    """Start again at once whatever dies."""
    secure: bool = False
    """Kafka and Redis let in only whom they know, over TLS, to do what ``schemas.access`` says."""
    served_versions: str = ""
    """Older API versions that are served beside the hub (``FLEETWAKE_SERVED_VERSIONS``)."""


class Endpoints(_Record):
    """Where clients of the rig find things; paths are absolute. ``clients``, on a secure rig: what each identity sets to be let in."""

    kubeconfig: str
    kubectl: str
    bootstrap_servers: str
    redis_url: str
    audit_log: str
    clients: dict[str, dict[str, str]] = {}

    def variables(self, identity: str) -> dict[str, str]:
        """The FLEETWAKE_* variables by which a client finds Kafka and Redis, and is let in as ``identity`` where the rig asks."""
        return {"FLEETWAKE_KAFKA_BOOTSTRAP": self.bootstrap_servers, "FLEETWAKE_REDIS_URL": self.redis_url, **self.clients.get(identity, {})}


class State(_Record):
    """The whole of a rig."""

    phase: Phase
    creator: ProcessId
    bound_to: ProcessId | None
    options: Options
    endpoints: Endpoints
    processes: tuple[Process, ...] = ()

    def process(self, name: str) -> Process:
        """The record of that name.

        Raises:
            RigError: there is none; the message lists those there are.
        """
        for process in self.processes:
            if process.name == name:
                return process
        raise RigError(f"the rig has no process {name!r}; it has {', '.join(process.name for process in self.processes)}")

    def with_process(self, changed: Process) -> State:
        """The state with the record of that name replaced, or added at the end."""
        if all(process.name != changed.name for process in self.processes):
            return self.model_copy(update={"processes": (*self.processes, changed)})
        return self.model_copy(update={"processes": tuple(changed if process.name == changed.name else process for process in self.processes)})


class StateFile:
    """``rig.json`` of one state folder."""

    def __init__(self, folder: Path) -> None:
        """Name the file; nothing is read."""
        self.folder = folder
        self.path = folder / STATE_FILE

    def load(self) -> State | None:
        """The state as last saved, None when there is no rig.

        Raises:
            RigError: the file is not one that this version writes.
        """
        try:
            return State.model_validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise RigError(f"{self.path} is not readable by this version ({error.error_count()} faults): stop its processes and remove it") from error

    def save(self, state: State) -> None:
        """Replace the file as a whole."""
        part = self.path.with_suffix(".part")
        part.write_text(state.model_dump_json(indent=1) + "\n")
        part.replace(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the right to edit the state."""
        with locked(self.folder / LOCK_FILE):
            yield

    def remove(self) -> None:
        """Forget the rig."""
        self.path.unlink(missing_ok=True)
