"""Run a build command to its end while a person watches."""

from __future__ import annotations

import os
import selectors
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fleetwake.rig.errors import RigError
from fleetwake.rig.progress import Progress

TAIL_LINES = 30
TICK_S = 1.0
READ_BYTES = 65536


def follow(
    command: Sequence[str], progress: Progress, describe: Callable[[str], str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run ``command``; ``describe`` gets each line of its output and returns how far it is ("" keeps what was said before).

    Raises:
        RigError: the command failed; the message ends with its last lines.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    said, rest = "", b""
    full_env = {**os.environ, **(env or {})}
    with (
        subprocess.Popen(command, cwd=cwd, env=full_env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process,
        selectors.DefaultSelector() as selector,
    ):
        assert process.stdout is not None
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if selector.select(TICK_S):
                block = os.read(process.stdout.fileno(), READ_BYTES)
                if not block:
                    break
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    tail.append(line.decode(errors="replace"))
                    said = describe(tail[-1]) or said
            progress.tick(said)
    if process.returncode != 0:
        raise RigError(f"{' '.join(command[:6])} … ended with {process.returncode}:\n" + "\n".join(tail))
