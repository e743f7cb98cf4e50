"""The versions an upgrade goes through: those of the control plane, one after the other, and those of the workers, as few as may be.

Source: kinds.md §10.4; Cluster API v1.14 (chained upgrades; versions with build tags); Kubernetes "Version skew policy", 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WORKERS_LAG_MAX = 3
"""Minor versions that workers may be behind their control plane."""

_VERSION = re.compile(r"^v?(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$")


class UpgradePlanError(ValueError):
    """There is no way from the versions there are to the one that is wanted; the message says why and what to change."""


@dataclass(frozen=True, slots=True)
class UpgradePlans:
    """Versions still to go through, in order; empty where nothing is to do. ``workers_from`` is the oldest version of a worker, empty without workers."""

    control_plane: tuple[str, ...] = ()
    workers: tuple[str, ...] = ()
    workers_from: str = ""


@dataclass(frozen=True, slots=True)
class _Version:
    text: str
    numbers: tuple[int, int, int]
    pre: tuple[tuple[int, int, str], ...]
    build: tuple[str, ...]

    @property
    def minor(self) -> int:
        return self.numbers[1]

    @property
    def key(self) -> tuple[Any, ...]:
        return (*self.numbers, not self.pre, self.pre)


def _read(text: str, what: str) -> _Version:
    match = _VERSION.match(text)
    if match is None:
        raise UpgradePlanError(f"{what} {text!r} is no version; write it as v1.31.2")
    major, minor, patch, pre, build = match.groups()
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in (pre or "").split(".") if part)
    return _Version(text, (int(major), int(minor), int(patch)), parts, tuple(build.split(".")) if build else ())


def order(one: str, other: str) -> int | None:
    """-1, 0 or 1 as the first is before, like or after the second; None where only their build tags differ and have no order.

    Raises: UpgradePlanError for what is no version.
    """
    return _order(_read(one, "the version"), _read(other, "the version"))


def _order(one: _Version, other: _Version) -> int | None:
    if one.key != other.key:
        return 1 if one.key > other.key else -1
    for mine, theirs in zip(one.build, other.build, strict=False):
        if mine == theirs:
            continue
        if mine.isdigit() and theirs.isdigit():
            return 1 if int(mine) > int(theirs) else -1
        if mine.isdigit() != theirs.isdigit():
            return -1 if mine.isdigit() else 1
        return None
    return (len(one.build) > len(other.build)) - (len(one.build) < len(other.build))


def _after(one: _Version, other: _Version) -> bool:
    """Whether the first is later, or differs by build tags that have no order."""
    return _order(one, other) not in (-1, 0)


def upgrade_plans(desired: str, control_plane: str, workers: Iterable[str], class_versions: Sequence[str] = ()) -> UpgradePlans:
    """The plans from the versions there are to the desired one. Raises: UpgradePlanError."""
    target, current = _read(desired, "the topology's version"), _read(control_plane, "the control plane's version")
    oldest = _oldest(workers, current)
    steps = _control_plane_steps(target, current, class_versions)
    _check_control_plane(steps, target, current)
    return UpgradePlans(
        control_plane=tuple(one.text for one in steps),
        workers=tuple(one.text for one in _worker_steps(target, current, oldest, steps)),
        workers_from=oldest.text if oldest is not None else "",
    )


def _oldest(workers: Iterable[str], control_plane: _Version) -> _Version | None:
    found: _Version | None = None
    for text in workers:
        one = _read(text, "a worker's version")
        relation = _order(one, found) if found is not None else -1
        # without an order the control plane's version is the newer one: workers follow it
        if relation == -1 or (relation is None and one.text != control_plane.text):
            found = one
    return found


def _control_plane_steps(target: _Version, current: _Version, class_versions: Sequence[str]) -> tuple[_Version, ...]:
    if _order(target, current) == 0:
        return ()
    if not class_versions:
        if target.minor > current.minor + 1:
            raise UpgradePlanError(
                f"the control plane cannot go from {current.text} to {target.text} at once: "
                "go one minor version at a time, or list kubernetesVersions in the ClusterClass"
            )
        return (target,)
    newest: dict[int, _Version] = {}
    for text in class_versions:
        one = _read(text, "the ClusterClass's version")
        if one.key <= current.key and _order(one, target) != 0:
            continue
        if _order(one, target) == 1:
            break
        if one.minor != current.minor or target.minor == current.minor:
            newest[one.minor] = one
        if _order(one, target) == 0:
            break
    return tuple(newest[minor] for minor in sorted(newest))


def _check_control_plane(steps: Sequence[_Version], target: _Version, current: _Version) -> None:
    at = current
    for one in steps:
        if not _after(one, at):
            raise UpgradePlanError(f"the control plane's upgrade plan has {one.text} after {at.text}; versions must ascend")
        if one.minor not in (at.minor, at.minor + 1):
            raise UpgradePlanError(
                f"the control plane's upgrade plan goes from {at.text} to {one.text}; "
                f"list a version of minor {at.minor + 1} in the ClusterClass's kubernetesVersions"
            )
        at = one
    if _order(at, target) != 0:
        raise UpgradePlanError(
            f"the control plane's upgrade plan ends at {at.text}, not at {target.text}; list {target.text} in the ClusterClass's kubernetesVersions"
        )


def _worker_steps(target: _Version, current: _Version, oldest: _Version | None, steps: Sequence[_Version]) -> tuple[_Version, ...]:
    """As few steps as the skew that is allowed asks for, the last to the target."""
    if oldest is None or _order(oldest, target) == 0:
        return ()
    minors = {current.minor: current, **{one.minor: one for one in steps}}
    found: list[_Version] = []
    for minor in range(oldest.minor + WORKERS_LAG_MAX, target.minor, WORKERS_LAG_MAX):
        if minor not in minors:
            raise UpgradePlanError(f"workers at {oldest.text} cannot reach {target.text}: no version of minor {minor} is on the control plane's way")
        found.append(minors[minor])
    found.append(target)
    at = oldest
    for one in found:
        if not _after(one, at):
            raise UpgradePlanError(f"workers at {at.text} are newer than {one.text}; a topology's version cannot go back")
        at = one
    return tuple(found)
