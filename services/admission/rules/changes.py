"""What an update changes, as field paths, and what defaults add, as a JSON patch.

Pure. Lists count as one value, as in a merge patch. Source: RFC 7386, RFC 6902; Cluster API v1.14 compares the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Path = tuple[str, ...]
ANY = "*"


def changed(old: Mapping[str, Any], new: Mapping[str, Any], base: Path = ()) -> Iterator[Path]:
    """The paths that differ, sorted: of what is new every leaf, of what is gone its beginning."""
    for key in sorted({*old, *new}):
        path = (*base, key)
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(after, Mapping) and after and not isinstance(before, list | str | int | float):
            yield from changed(before if isinstance(before, Mapping) else {}, after, path)
        else:
            yield path


def matches(pattern: Path, path: Path) -> bool:
    """Whether the path is the pattern's own, or below it where that ends in ``*``."""
    if pattern[-1] == ANY:
        return len(path) >= len(pattern) and path[: len(pattern) - 1] == pattern[:-1]
    return path == pattern


def allowed(patterns: Iterable[Path], path: Path) -> bool:
    """Whether any pattern matches."""
    return any(matches(pattern, path) for pattern in patterns)


def additions(before: Mapping[str, Any], after: Mapping[str, Any], base: str = "") -> Iterator[dict[str, Any]]:
    """JSON patch operations that bring what ``after`` has and ``before`` has not; nothing is taken away."""
    for key, value in after.items():
        place = f"{base}/{key.replace('~', '~0').replace('/', '~1')}"
        stored = before.get(key)
        if stored == value:
            continue
        if isinstance(stored, Mapping) and isinstance(value, Mapping):
            yield from additions(stored, value, place)
        else:
            yield {"op": "add", "path": place, "value": value}


def dotted(path: Path) -> str:
    """The path as the API server writes it; a key with dots (a label) in brackets."""
    return "".join(f"[{part}]" if "." in part or "/" in part else f".{part}" for part in path).removeprefix(".")
