"""A Containerfile as its instructions: enough of the format for ours."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    image: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """The arguments of every instruction of that word."""
        return [arguments for found, arguments in self.instructions if found == word]


def stages(path: Path) -> list[Stage]:
    """The stages in order. Comments are left out, continued lines are joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    found: list[Stage] = []
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, arguments = line.strip().partition(" ")
        if not word:
            continue
        if word == "FROM":
            image, _, name = arguments.partition(" AS ")
            found.append(Stage(image, name))
        else:
            found[-1].instructions.append((word, re.sub(r"\s+", " ", arguments.strip())))
    return found


@dataclass(frozen=True)
class Copy:
    """One COPY: what, to where, from which stage ("" for the build's own folder)."""

    sources: tuple[str, ...]
    target: str
    stage: str


def copies(stage: Stage) -> list[Copy]:
    """Every COPY of a stage."""
    found = []
    for arguments in stage.all("COPY"):
        words = shlex.split(arguments)
        flags = [word for word in words if word.startswith("--")]
        *sources, target = [word for word in words if not word.startswith("--")]
        found.append(Copy(tuple(sources), target, next((flag.removeprefix("--from=") for flag in flags if flag.startswith("--from=")), "")))
    return found
