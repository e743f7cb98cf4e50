"""Keep a rig alive, or end it with the process that wanted it: ``python -m fleetwake.rig.supervisor STATE_DIR``.

Stands in for what an installation leaves to Kubernetes: a process that died is started again at once, one that dies again and again
after ever longer pauses. It waits on process descriptors, so a death is seen when it happens and nothing is polled in a loop.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from pathlib import Path

from fleetwake.rig.errors import RigError
from fleetwake.rig.processes import alive
from fleetwake.rig.records import Process, ProcessId, State
from fleetwake.rig.rig import SUPERVISOR, Rig

log = logging.getLogger("fleetwake.rig.supervisor")

# How often rig.json is read again for processes that others started or stopped.
LOOK_AGAIN_S = 0.5
# A process that lived this long before it died starts again at once.
STEADY_S = 5.0
PAUSE_FIRST_S = 0.2
PAUSE_MAX_S = 5.0


class Supervisor:
    """Restart what dies (if the rig was asked to), end everything when the process the rig is bound to ends."""

    def __init__(self, state_dir: Path) -> None:
        """Watch over the rig of ``state_dir``."""
        self._rig = Rig(state_dir)
        self._started: dict[str, float] = {}
        self._pause: dict[str, float] = {}

    def run(self) -> None:
        """Watch until the rig is stopped or its owner is gone."""
        while True:
            state = self._rig.state()
            if state is None or state.phase == "stopping":
                return
            if state.bound_to is not None and not alive(state.bound_to):
                log.warning("process %d, for which the rig runs, is gone: stopping the rig", state.bound_to.pid)
                # its own end is part of that: SIGTERM reaches this process last
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                self._rig.down(spare=os.getpid())
                return
            if state.options.restart and state.phase == "up":
                self._restart_dead(state)
            self._wait(state)

    def _restart_dead(self, state: State) -> None:
        for process in state.processes:
            if process.name == SUPERVISOR or not process.wanted or alive(process.process):
                continue
            now = time.monotonic()
            lived = now - self._started.get(process.name, float("-inf"))
            pause = 0.0 if lived >= STEADY_S else self._pause.get(process.name, PAUSE_FIRST_S)
            if lived < pause:
                continue
            self._pause[process.name] = PAUSE_FIRST_S if lived >= STEADY_S else min(PAUSE_MAX_S, pause * 2)
            self._started[process.name] = now
            self._start(process)

    def _start(self, process: Process) -> None:
        log.warning("%s is gone: starting it again", process.name)
        try:
            self._rig.start(process.name)
        except (OSError, RigError) as error:
            log.error("%s cannot be started: %s", process.name, error)

    def _wait(self, state: State) -> None:
        """Wait until a process of the rig ends, at most until rig.json has to be read again."""
        watched = [process.process for process in state.processes if process.process is not None and process.name != SUPERVISOR]
        descriptors = [opened for process in (*watched, state.bound_to) if process is not None and (opened := _open(process)) is not None]
        try:
            poll = select.poll()
            for descriptor in descriptors:
                poll.register(descriptor, select.POLLIN)
            poll.poll(LOOK_AGAIN_S * 1000)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


def _open(process: ProcessId) -> int | None:
    if not alive(process):
        return None
    try:
        return os.pidfd_open(process.pid)
    except OSError:
        return None


def main() -> None:
    """Run the supervisor of the state folder named on the command line."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    Supervisor(Path(sys.argv[1])).run()


if __name__ == "__main__":
    main()
