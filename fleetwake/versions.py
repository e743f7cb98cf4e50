"""Kubernetes versions: their order, and how many Machines run which.

Pure. Source: semver 2.0 with build tags compared too, as Cluster API v1.14 does (util/version); kinds.md §1 (versions merged per version).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.shared import MachineVersion

_VERSION = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$")


def readable(version: str) -> bool:
    """Whether the text is a version, with or without a leading v and a patch number."""
    return _VERSION.match(version) is not None


def version_key(version: str) -> tuple[Any, ...]:
    """A sort key: by number, a release after its pre-releases, then by build tags; what cannot be read comes last, by its text."""
    found = _VERSION.match(version)
    if found is None:
        return (1, version)
    major, minor, patch, pre, build = found.groups()
    return (0, int(major), int(minor), int(patch or 0), pre is None, _parts(pre), _parts(build), version)


def newer(one: str, other: str) -> bool:
    """Whether ``one`` is a later version than ``other``; False when either cannot be read. Spelling (a leading v) does not count."""
    return readable(one) and readable(other) and version_key(one)[:-1] > version_key(other)[:-1]


def _parts(text: str | None) -> tuple[tuple[int, int, str], ...]:
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"[.-]", text or "") if part)


def summed(versions: Iterable[MachineVersion]) -> tuple[MachineVersion, ...]:
    """Add up the replicas per version, oldest version first."""
    counts: dict[str, int] = {}
    for one in versions:
        if one.version:
            counts[one.version] = counts.get(one.version, 0) + (one.replicas or 0)
    return tuple(MachineVersion(version=version, replicas=counts[version] or None) for version in sorted(counts, key=version_key))


def versions_of(machines: Iterable[Machine]) -> tuple[MachineVersion, ...]:
    """How many of the Machines run which version, oldest first: the kubelet's version where known, else the version asked for."""
    running = ((machine.status.node_info.kubelet_version if machine.status.node_info else "") or machine.spec.version or "" for machine in machines)
    return summed(MachineVersion(version=version, replicas=1) for version in running if version)
