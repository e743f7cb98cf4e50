"""Programs that tests and generators need beside the rig's servers (helm, the OpenTelemetry Collector, ...), built from Go modules once and cached.

A tool is a folder ``rig/tools/<name>`` with a go.mod and a go.sum: what is built is the package that the go.mod's ``tool`` line names, or the folder's own
main package where it has one. A module per tool, because their dependencies contradict each other. A file ``ldflags`` beside the go.mod has further flags for
the linker, such as a version to write into the program.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fleetwake.rig.cache import SOURCES, artifact, digest
from fleetwake.rig.commands import follow
from fleetwake.rig.errors import RigError
from fleetwake.rig.progress import Progress
from fleetwake.rig.toolchain import GO_ENV, find_go

TOOLS = SOURCES / "tools"


def tool_names() -> tuple[str, ...]:
    """The tools there are, sorted. A module that neither names nor holds a program only requires others for the data they ship (``module_dir``)."""
    return tuple(sorted(module.parent.name for module in TOOLS.glob("*/go.mod") if any(module.parent.glob("*.go")) or "\ntool " in module.read_text()))


def tool(name: str, progress: Progress) -> Path:
    """The program of that tool, built when the cache has none of these sources.

    Raises:
        RigError: there is no such tool, or the build failed.
    """
    module = TOOLS / name
    if not (module / "go.mod").is_file():
        raise RigError(f"there is no tool {name!r}, only {', '.join(tool_names())}")
    stamp = module / "ldflags"
    sources = sorted((*module.rglob("*.go"), module / "go.mod", module / "go.sum", *([stamp] if stamp.is_file() else [])))
    linking = " ".join(["-s", "-w", *(stamp.read_text().split() if stamp.is_file() else [])])
    package = "." if any(module.glob("*.go")) else _tool_package((module / "go.mod").read_text(), name)

    def build(folder: Path) -> None:
        progress.step(f"building {name} from source, once")
        compiled = 0

        def describe(line: str) -> str:
            nonlocal compiled
            compiled += " " not in line
            return f"{compiled} packages compiled: {line}"

        flags = ("-v", "-trimpath", "-buildvcs=false", f"-ldflags={linking}", "-o", str(folder / name))
        follow(["nice", "-n", "5", str(find_go(progress)), "build", *flags, package], progress, describe, cwd=module, env=GO_ENV)
        progress.done(f"{name} built, {compiled} packages compiled")

    return artifact(f"tool-{name}-{digest(*sources)}", build, progress) / name


def module_dir(name: str, path: str, progress: Progress) -> Path:
    """The folder of a Go module that a tool's go.mod requires, as the module cache has it: for data it ships (schemas, definitions).

    Raises:
        RigError: the tool's go.mod does not require the module.
    """
    module = TOOLS / name
    found: list[str] = []
    command = [str(find_go(progress)), "mod", "download", "-json", path]

    def keep(line: str) -> str:
        found.append(line)
        return ""

    follow(command, progress, keep, cwd=module, env=GO_ENV)
    match = re.search(r'"Dir": "([^"]+)"', "\n".join(found))
    if match is None or not os.path.isdir(match.group(1)):
        raise RigError(f"rig/tools/{name}/go.mod requires no module {path}")
    return Path(match.group(1))


def _tool_package(go_mod: str, name: str) -> str:
    found = re.search(r"^tool (\S+)$", go_mod, re.MULTILINE)
    if found is None:
        raise RigError(f"rig/tools/{name} has neither Go files nor a `tool` line in its go.mod")
    return found.group(1)
