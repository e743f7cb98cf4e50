"""The chart rendered by helm, and manifests built by kustomize: the real programs, called with what the project always gives them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetwake import yaml_text
from fleetwake.rig.access import MANIFESTS
from fleetwake.rig.binaries import kubernetes_version
from fleetwake.rig.errors import RigError
from fleetwake.rig.progress import Progress
from fleetwake.rig.tools import tool

CHART = MANIFESTS / "chart"
RELEASE = "fleetwake"
NAMESPACE = "fleetwake-system"
COMPONENT_LABEL = "app.kubernetes.io/component"
LIMIT_S = 120

_SOURCE = re.compile(r"^# Source: fleetwake/templates/(\S+)\n", re.MULTILINE)


@dataclass(frozen=True)
class Manifest:
    """One object: its text as rendered, what the text says, and the template it comes from ("" where kustomize made it)."""

    text: str
    body: Mapping[str, Any]
    template: str = ""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Kind, namespace and name."""
        metadata = self.body["metadata"]
        return (str(self.body["kind"]), str(metadata.get("namespace", "")), str(metadata["name"]))

    @property
    def component(self) -> str:
        """The part of the installation that it belongs to."""
        return str(self.body["metadata"].get("labels", {}).get(COMPONENT_LABEL, ""))


def helm_template(values: Iterable[Path] = (), settings: Mapping[str, str] | None = None) -> tuple[Manifest, ...]:
    """Render the chart; ``settings`` are values by their path, as ``--set`` takes them.

    Raises:
        RigError: helm cannot be built, or refuses the chart or a value.
    """
    command = ["template", RELEASE, str(CHART), "--namespace", NAMESPACE, "--kube-version", kubernetes_version()]
    command += [argument for path in values for argument in ("--values", str(path))]
    command += [argument for name, value in (settings or {}).items() for argument in ("--set", f"{name}={value}")]
    return manifests(run("helm", *command))


def helm_lint(values: Iterable[Path] = ()) -> str:
    """Have helm lint the chart, warnings being errors; returns what it said.

    Raises:
        RigError: there is something to correct.
    """
    return run("helm", "lint", str(CHART), "--strict", "--namespace", NAMESPACE, *(argument for path in values for argument in ("--values", str(path))))


def kustomize_build(folder: Path) -> tuple[Manifest, ...]:
    """Build a kustomization.

    Raises:
        RigError: kustomize cannot be built, or refuses it.
    """
    return manifests(run("kustomize", "build", str(folder)))


def manifests(stream: str) -> tuple[Manifest, ...]:
    """The objects of a stream of YAML documents, in its order."""
    found = []
    for text in re.split(r"^---\s*\n", stream, flags=re.MULTILINE):
        source = _SOURCE.search(text)
        body = yaml_text.load(text)
        if body:
            found.append(Manifest(_SOURCE.sub("", text).strip() + "\n", body, source.group(1) if source else ""))
    return tuple(found)


def run(program: str, *arguments: str) -> str:
    """Run one of the tools; returns its standard output.

    Raises:
        RigError: it failed; the message has its errors.
    """
    done = subprocess.run([str(tool(program, Progress())), *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise RigError(f"`{program} {arguments[0]}` ended with {done.returncode}:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
