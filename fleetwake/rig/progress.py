"""A live line for steps that take minutes."""

from __future__ import annotations

import sys
import time
from typing import TextIO

LINE_EVERY_S = 15.0
WIDTH = 110


class Progress:
    """Tell a person what is going on: a line that changes in place on a terminal, one line every 15 s elsewhere."""

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to ``stream``, standard error if none is given."""
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty()
        self._started = time.monotonic()
        self._last = 0.0
        self._dirty = False

    def step(self, text: str) -> None:
        """Begin a step: print it on a line of its own and start its clock."""
        self._clear()
        self._stream.write(f"{text}\n")
        self._stream.flush()
        self._started = self._last = time.monotonic()

    def tick(self, text: str) -> None:
        """Say how far the step is, with the time it has taken."""
        now = time.monotonic()
        if not self._live and now - self._last < LINE_EVERY_S:
            return
        self._last = now
        minutes, seconds = divmod(int(now - self._started), 60)
        line = f"  {minutes}:{seconds:02d}  {text}"[:WIDTH]
        self._stream.write(f"\r{line:<{WIDTH}}" if self._live else f"{line}\n")
        self._stream.flush()
        self._dirty = self._live

    def done(self, text: str) -> None:
        """End a step: print its result and the time it took."""
        self._clear()
        self._stream.write(f"  {text} ({time.monotonic() - self._started:.1f} s)\n")
        self._stream.flush()

    def _clear(self) -> None:
        if self._dirty:
            self._stream.write(f"\r{'':<{WIDTH}}\r")
            self._dirty = False
