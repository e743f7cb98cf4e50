"""HAProxy as a load balancer: a process of its own, that takes over the endpoint's socket and is told over a pair of sockets which backends there are.

Nothing of it is on disk: its configuration is a file in memory, and who may command it holds the other end of the pair. It can do less than the provider: no
capability, no new privilege, and not even the provider's user where that is root. It ends with the provider, also with one that is killed (the kernel sends
SIGKILL when the parent is gone). Backends change at run time, so no reload ever touches a connection.
"""

from __future__ import annotations

import array
import asyncio
import logging
import os
import shutil
import signal
import socket
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from services.dev_infrastructure.balancing import haproxy_configuration as configuration
from services.dev_infrastructure.balancing.load_balancer import BACKENDS_MAX, Backend, BalancerError, Place

log = logging.getLogger(__name__)
OPERATION = "run HAProxy"
START_SECONDS = 10.0
ANSWER_SECONDS = 3.0
ANSWER_BYTES_MAX = 65536
LINES_KEPT = 3
CHANGE = "[WARNING]"
"""How it begins what it says of backends that come and go: no reason for its end."""
NOBODY = "65534"
FOLDERS = ("/usr/local/sbin", "/usr/sbin")
"""Where programs are looked for beside PATH."""
MISSING = (
    "{command} is not installed where the development provider runs: install Debian's package {package} there (apt-get install {package}; for the image,"
    " build it with --build-arg PACKAGES=haproxy), or set spec.backend.inMemory.loadBalancer.type to InProcess"
)


class HAProxy:
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._slots: list[Backend | None] = [None] * BACKENDS_MAX
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None
        self._said: deque[str] = deque(maxlen=LINES_KEPT)
        self._control: socket.socket | None = None
        self._turn = asyncio.Lock()

    async def start(self, endpoint: socket.socket, backends: Sequence[Backend]) -> None:
        """See ``LoadBalancer``."""
        if self._process is not None and self._process.returncode is None:
            await self.set_backends(backends)
            return
        await self.stop()
        command = _command()
        self._arrange(backends)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        inherited = endpoint.dup()
        file = os.memfd_create("haproxy.cfg")
        try:
            text = configuration.render(inherited.fileno(), theirs.fileno(), self._slots)
            os.write(file, text.encode())
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *("-db", "-f", f"/proc/self/fd/{file}", "-L", self._place.mark),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                cwd="/",  # it goes back to where it began, and may not see the provider's folder
                pass_fds=(inherited.fileno(), theirs.fileno(), file),
            )
        except OSError as error:
            ours.close()
            raise BalancerError(f"haproxy does not start: {error}", operation=OPERATION) from error
        finally:
            os.close(file)
            theirs.close()
            inherited.close()
        self._control = ours
        await self._begin(self._process)

    async def _begin(self, process: asyncio.subprocess.Process) -> None:
        """Wait until it answers: then it has taken over the endpoint."""
        self._said.clear()
        self._watching = asyncio.create_task(self._watch(process))
        try:
            await self._ask("show version", START_SECONDS)
        except BalancerError as error:
            watching, self._watching = self._watching, None
            self._kill()
            await asyncio.wait((watching,))
            raise BalancerError(f"haproxy does not start: {'; '.join(self._said) or error}", operation=OPERATION) from error

    async def set_backends(self, backends: Sequence[Backend]) -> None:
        """See ``LoadBalancer``."""
        async with self._turn:
            changed = self._arrange(backends)
            if self._process is None or self._process.returncode is not None or not changed:
                return  # what starts next is told them by its configuration
            orders = [order for index in changed for order in configuration.commands(index, self._slots[index])]
            told = await self._ask("; ".join([*orders, f"show servers state {configuration.GROUP}"]), ANSWER_SECONDS)
            wanted = {configuration.slot(index): backend.port for index, backend in enumerate(self._slots) if backend is not None}
            if configuration.ports(told) != wanted:
                self._kill()  # what it serves is not what it should: it begins anew with a configuration that says so
                raise BalancerError(f"haproxy did not take its backends: {told.splitlines()[0] if told.strip() else 'no answer'}", operation=OPERATION)

    async def stop(self) -> None:
        """See ``LoadBalancer``."""
        watching, self._watching = self._watching, None
        self._kill()
        if watching is not None:
            await asyncio.wait((watching,))
        if self._control is not None:
            self._control.close()
            self._control = None
        self._process = None

    # ---- the process --------------------------------------------------------------------------------------------------------------------
    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Note what it says, and tell when it ends by itself."""
        assert process.stderr is not None
        while line := await process.stderr.readline():
            said = line.decode("utf-8", "replace").strip()
            if not said.startswith(CHANGE):
                self._said.append(said)
            log.info("haproxy of %s: %s", self._place.cluster, said)
        code = await process.wait()
        if self._watching is asyncio.current_task():
            self._place.failed(f"haproxy ended {_how(code)}{': ' if self._said else ''}{'; '.join(self._said)}")

    def _arrange(self, backends: Sequence[Backend]) -> list[int]:
        """Give each backend a slot, keeping those that have one; returns which slots changed."""
        wanted = dict.fromkeys(backends)
        before = list(self._slots)
        self._slots = [backend if backend in wanted else None for backend in before]
        new = iter([backend for backend in wanted if backend not in before])
        self._slots = [backend if backend is not None else next(new, None) for backend in self._slots]
        return [index for index, backend in enumerate(self._slots) if backend != before[index]]

    # ---- what it is told ----------------------------------------------------------------------------------------------------------------
    async def _ask(self, orders: str, limit_seconds: float) -> str:
        """Give it orders and return what it says to them; the connection for it goes through the pair, as a descriptor.

        Raises:
            BalancerError: it does not answer; then it is ended, and is started anew by whoever hears of it.
        """
        loop = asyncio.get_running_loop()
        mine, its = socket.socketpair()
        mine.setblocking(False)
        try:
            with its:
                if self._control is None:
                    raise BalancerError("haproxy does not run", operation=OPERATION)
                self._control.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [its.fileno()]))])
            async with asyncio.timeout(limit_seconds):
                await loop.sock_sendall(mine, orders.encode() + b"\n")
                told = bytearray()
                while len(told) < ANSWER_BYTES_MAX and (part := await loop.sock_recv(mine, ANSWER_BYTES_MAX)):
                    told += part
        except OSError as error:  # TimeoutError is one
            self._kill()
            raise BalancerError(f"haproxy does not answer: {error or 'in time'}", operation=OPERATION) from error
        finally:
            mine.close()
        if not told:
            self._kill()
            raise BalancerError("haproxy does not answer", operation=OPERATION)
        return told.decode("utf-8", "replace")


def _command() -> list[str]:
    """What starts HAProxy with as few rights as it needs.

    Raises:
        BalancerError: a program is missing; the message says how to get it.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *FOLDERS))
    found = {}
    for command, package in (("haproxy", "haproxy"), ("setpriv", "util-linux")):
        program = shutil.which(command, path=path)
        if program is None:
            raise BalancerError(MISSING.format(command=command, package=package), operation=OPERATION)
        found[command] = program
    rights = ["--pdeathsig", "KILL", "--no-new-privs", "--inh-caps=-all"]
    if os.geteuid() == 0:
        rights += ["--bounding-set=-all", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]
    return [found["setpriv"], *rights, found["haproxy"]]


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"


def end_leftovers(mark: str) -> int:
    """End every HAProxy of this mark, and return how many: a provider killed in the very moment of a start may leave one that keeps the endpoint's port."""
    ended = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in arguments and b"-L" in arguments:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(folder.name), signal.SIGKILL)
                ended += 1
    return ended
