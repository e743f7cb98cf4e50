"""A compose file as Docker Compose itself reads it: loaded by compose-go (``rig/tools/compose-check``), never by a parser of ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetwake.rig import Progress
from fleetwake.rig.tools import tool

CHECKOUT = Path(__file__).parents[3]
COMPOSE = CHECKOUT / "deploy" / "compose" / "compose.yaml"
LOAD_LIMIT_S = 30
ENDS_WELL, HEALTHY, STARTED = "service_completed_successfully", "service_healthy", "service_started"


@dataclass(frozen=True)
class Mount:
    """One mount of a container: of a volume by its name, or of a path of the checkout."""

    kind: str
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Container:
    """One service of the file. ``raw`` is all that compose-go says of it."""

    name: str
    raw: Mapping[str, Any]

    @property
    def words(self) -> list[str]:
        """Entrypoint and command, as far as the file gives them."""
        return [*(self.raw.get("entrypoint") or ()), *(self.raw.get("command") or ())]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the file sets."""
        return {name: value or "" for name, value in (self.raw.get("environment") or {}).items()}

    @property
    def mounts(self) -> list[Mount]:
        """Volumes and binds."""
        found = self.raw.get("volumes") or ()
        return [Mount(one["type"], one.get("source", ""), one["target"], bool(one.get("read_only"))) for one in found]

    @property
    def tmpfs(self) -> list[str]:
        """Folders in memory."""
        return [str(one).partition(":")[0] for one in self.raw.get("tmpfs") or ()]

    @property
    def needs(self) -> dict[str, str]:
        """What must have been reached before it starts: condition by service."""
        return {name: one["condition"] for name, one in (self.raw.get("depends_on") or {}).items()}

    @property
    def health(self) -> list[str]:
        """Its health check: ``CMD`` or ``CMD-SHELL`` and the words; empty when it has none."""
        check = self.raw.get("healthcheck") or {}
        return [] if check.get("disable") else list(check.get("test") or ())

    @property
    def once(self) -> bool:
        """Whether it runs to an end."""
        return self.raw.get("restart") == "no"

    @property
    def by_hand(self) -> bool:
        """Whether ``docker compose up`` leaves it out."""
        return bool(self.raw.get("profiles"))


@dataclass(frozen=True)
class Project:
    """The whole file, normalized."""

    raw: Mapping[str, Any]

    @property
    def containers(self) -> dict[str, Container]:
        """Every service by name."""
        return {name: Container(name, raw) for name, raw in self.raw["services"].items()}

    def start_order(self) -> list[Container]:
        """What ``docker compose up`` starts, each behind what it needs."""
        containers = {name: one for name, one in self.containers.items() if not one.by_hand}
        order: dict[str, Container] = {}

        def visit(name: str) -> None:
            for needed in containers[name].needs:
                visit(needed)
            order.setdefault(name, containers[name])

        for name in sorted(containers):
            visit(name)
        return list(order.values())


def load(file: Path = COMPOSE, variables: Sequence[str] = ()) -> Project:
    """Load the file with ``NAME=VALUE`` variables alone.

    Raises:
        AssertionError: compose-go refuses the file; the message is its.
    """
    done = subprocess.run([tool("compose-check", Progress()), str(file), *variables], capture_output=True, text=True, timeout=LOAD_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return Project(json.loads(done.stdout))
