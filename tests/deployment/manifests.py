"""The committed manifests as tests read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from fleetwake import yaml_text
from fleetwake.rig.access import MANIFESTS

WORKLOADS = frozenset({"Deployment", "StatefulSet", "Job"})
GENERATED = ("base", "components")
OVERLAYS = ("dev", "production")

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Workload:
    """An object with pods, and the spec of those."""

    kind: str
    name: str
    component: str
    spec: Mapping[str, Any]
    pod: Mapping[str, Any]

    @property
    def containers(self) -> tuple[Mapping[str, Any], ...]:
        """All of the pod's containers, those that run first included."""
        return (*self.pod.get("initContainers", ()), *self.pod["containers"])


@cache
def committed() -> tuple[Document, ...]:
    """Every object of the base and of all components, kustomize's own files left out."""
    paths = [path for folder in GENERATED for path in sorted((MANIFESTS / folder).rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return tuple(document for path in paths for document in yaml_text.load_all(path.read_text()) if document)


def of_kind(*kinds: str) -> tuple[Document, ...]:
    """The committed objects of some kinds."""
    return tuple(document for document in committed() if document["kind"] in kinds)


def workloads() -> tuple[Workload, ...]:
    """Everything that has pods."""
    return tuple(
        Workload(
            document["kind"],
            document["metadata"]["name"],
            document["metadata"]["labels"]["app.kubernetes.io/component"],
            document["spec"],
            document["spec"]["template"]["spec"],
        )
        for document in committed()
        if document["kind"] in WORKLOADS
    )


def settings_env(*groups: str) -> dict[str, str]:
    """The settings of some groups, of all without any named."""
    found: dict[str, str] = {}
    for path in sorted((MANIFESTS / "base" / "settings").glob("*.env")):
        if not groups or path.stem in groups:
            found.update(line.split("=", 1) for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return found
