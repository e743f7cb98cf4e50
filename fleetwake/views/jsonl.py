"""Records of results as JSON lines: one CloudEvent a line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from fleetwake.views.events import as_event, plain


class JsonLines:
    """A file, which is there under its name only when it is whole; without a path, standard output."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part") if path is not None else None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._out = self._part.open("wb") if self._part is not None else sys.stdout.buffer

    def add(self, message: Any) -> None:
        """The next record."""
        self._out.write(plain(as_event(message)))

    def close(self) -> list[Path]:
        """All were given; returns the file."""
        self._out.flush()
        if self._part is None or self._path is None:
            return []
        self._out.close()
        os.replace(self._part, self._path)
        return [self._path]

    def abandon(self) -> None:
        """Something failed: leave nothing behind."""
        if self._part is not None:
            self._out.close()
            self._part.unlink(missing_ok=True)
