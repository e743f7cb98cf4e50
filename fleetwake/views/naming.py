"""Names as kubectl takes them: ``<kind>/<name>`` with the kind in any of its spellings."""

from __future__ import annotations

import difflib

from fleetwake.views.connection import ViewError
from schemas.api.registry import KINDS
from schemas.keys import GroupKind, ObjectKey

CORE = {"node": ("Node", "no"), "pod": ("Pod", "po"), "secret": ("Secret",), "configmap": ("ConfigMap", "cm")}
"""Kinds of the core group that results name."""


def spellings() -> dict[str, GroupKind]:
    """Every accepted spelling of a kind, lower-case: kind, plural, short names, each also with the group behind a dot."""
    found: dict[str, GroupKind] = {}
    for model in KINDS:
        kind = GroupKind(model.GROUP, model.KIND)
        for word in (model.KIND.lower(), model.PLURAL, *model.SHORT_NAMES):
            found.setdefault(word, kind)
            found[f"{word}.{model.GROUP}"] = kind
    for word, (name, *short) in CORE.items():
        for spelling in (word, f"{word}s", *short):
            found.setdefault(spelling, GroupKind("", name))
    return found


def kind_named(word: str) -> GroupKind:
    """The kind that a spelling means.

    Raises:
        ViewError: none; the message offers the nearest.
    """
    known = spellings()
    kind = known.get(word.lower())
    if kind is None:
        near = difflib.get_close_matches(word.lower(), known, n=1)
        raise ViewError(
            f"no kind is called {word!r}{f'; did you mean {near[0]!r}?' if near else ''} (kinds are named as for kubectl: cluster, machine, md, kcp)"
        )
    return kind


def object_named(words: list[str], namespace: str) -> ObjectKey:
    """The object that ``kind/name`` or ``kind name`` names.

    Raises:
        ViewError: it is neither.
    """
    parts = words[0].split("/", 1) if len(words) == 1 else words
    if len(parts) != 2 or not all(parts):
        raise ViewError(f"{' '.join(words)!r} names no object: write <kind>/<name>, for example cluster/demo")
    kind = kind_named(parts[0])
    return ObjectKey(kind.group, kind.kind, namespace, parts[1])


def short(key: str) -> str:
    """A key as people read it: ``Kind/name``, with the workload cluster when it is one's object."""
    try:
        parsed = ObjectKey.parse(key)
    except ValueError:
        return key
    return f"{parsed.kind}/{parsed.name}{f' in {parsed.cluster}' if parsed.cluster else ''}"


def same_object(target: str, key: ObjectKey) -> bool:
    """Whether a key in a record names the object. Workload objects match whichever cluster they are in, whatever namespace was given."""
    try:
        parsed = ObjectKey.parse(target)
    except ValueError:
        return False
    if parsed.cluster:
        return (parsed.group, parsed.kind, parsed.name) == (key.group, key.kind, key.name)
    return parsed == key
