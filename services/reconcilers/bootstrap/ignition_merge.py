"""Two Ignition configurations made one, by the rules of their specification.

Source: Ignition 0.35 config append (2.x): lists are appended, values of the later one win, its ``ignition.config`` replaces. Ignition 2.x config merging
(3.x): entries of one key are merged, others appended; values of the later one win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]

_KEYS = {
    ("passwd", "users"): "name",
    ("passwd", "groups"): "name",
    ("storage", "disks"): "device",
    ("storage", "disks", "[]", "partitions"): "number",
    ("storage", "filesystems"): "path",
    ("storage", "files"): "path",
    ("storage", "directories"): "path",
    ("storage", "links"): "path",
    ("storage", "raid"): "name",
    ("storage", "luks"): "name",
    ("systemd", "units"): "name",
    ("systemd", "units", "[]", "dropins"): "name",
    ("ignition", "security", "tls", "certificateAuthorities"): "source",
    ("ignition", "config", "merge"): "source",
}
_APPENDED = {("storage", "files", "[]", "append"), ("storage", "filesystems", "[]", "options"), ("storage", "raid", "[]", "options")}
"""Lists of 3.x whose entries have no identity; in all other lists of plain values an equal one counts once."""


def appended(base: Config, more: Config) -> Config:
    """The rules of 2.x."""
    found: Config = _append(base, more, ())
    return found


def _append(base: Any, more: Any, path: tuple[str, ...]) -> Any:
    if path == ("ignition", "version"):
        return base
    if isinstance(base, Mapping) and isinstance(more, Mapping) and path != ("ignition", "config"):
        return {**base, **more, **{name: _append(base[name], more[name], (*path, name)) for name in base if name in more}}
    if isinstance(base, list) and isinstance(more, list):
        return [*base, *more]
    return more


def merged(base: Config, more: Config) -> Config:
    """The rules of 3.x. A file, a directory and a link of one path exclude each other: the later one stays."""
    kinds = ("files", "directories", "links")
    paths = {kind: {one.get("path") for one in more.get("storage", {}).get(kind, ())} for kind in kinds}
    kept = dict(base)
    if "storage" in base:
        storage = dict(base["storage"])
        for kind in kinds:
            others = set().union(*(paths[other] for other in kinds if other != kind))
            if kind in storage:
                storage[kind] = [one for one in storage[kind] if one.get("path") not in others]
        kept["storage"] = {name: value for name, value in storage.items() if value != []}
    found: Config = _merge(kept, more, ())
    return found


def _merge(base: Any, more: Any, path: tuple[str, ...]) -> Any:
    if path == ("ignition", "version"):
        return base
    if isinstance(base, Mapping) and isinstance(more, Mapping):
        return {**base, **more, **{name: _merge(base[name], more[name], (*path, name)) for name in base if name in more}}
    if isinstance(base, list) and isinstance(more, list):
        return _merge_lists(base, more, path)
    return more


def _merge_lists(base: list[Any], more: list[Any], path: tuple[str, ...]) -> list[Any]:
    key = _KEYS.get(path)
    if key is None:
        return [*base, *more] if path in _APPENDED else [*base, *(one for one in more if one not in base)]
    later = {_identity(one, key): one for one in more}
    out = [_merge(one, later.pop(_identity(one, key)), (*path, "[]")) if _identity(one, key) in later else one for one in base]
    return [*out, *later.values()]


def _identity(one: Mapping[str, Any], key: str) -> Any:
    return one.get(key) if one.get(key) is not None else one.get("device")
