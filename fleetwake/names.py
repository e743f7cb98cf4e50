"""Names that a repeated create cannot double: derived from who wants the child and which children there are.

Source: architecture.md §4 (derived names); alphabet and lengths as Kubernetes' generateName (apiserver names, 1.36) and Cluster API v1.14 use them.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schemas.api.meta import ObjectMeta

SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
SUFFIX_LENGTH = 5
NAME_LENGTH_MAX = 63


def derived_suffix(owner: ObjectMeta, sibling_uids: Iterable[str], index: int = 0) -> str:
    """Five characters of the safe alphabet from the owner's uid and generation, the uids of ALL its children (those being deleted included) and an index.

    The same observation gives the same name, so the second create of the same want collides instead of doubling; any change among the
    children gives another name, so a name is not used twice while its holder is still going. The generation keeps a name from coming
    back later: after one more and one less the children are the same as before.
    """
    return suffix(owner.uid, [*sorted(sibling_uids), str(owner.generation), str(index)])


def suffix(uid: str, basis: Iterable[str]) -> str:
    """Five characters of the safe alphabet from an object's uid and what a name of something of it rests on."""
    digest = hmac.new(uid.encode(), ";".join(basis).encode(), hashlib.sha256).digest()
    number = int.from_bytes(digest[:8], "big")
    letters = []
    for _ in range(SUFFIX_LENGTH):
        number, position = divmod(number, len(SAFE_ALPHABET))
        letters.append(SAFE_ALPHABET[position])
    return "".join(letters)


def with_suffix(stem: str, suffix: str) -> str:
    """``<stem><suffix>`` with the stem cut so that the whole stays within 63 characters. The stem brings its own dash."""
    return stem[: NAME_LENGTH_MAX - len(suffix)] + suffix


def render_name(template: str, *, random: str, values: dict[str, str]) -> str:
    """Render a naming template: ``{{ .random }}`` and dotted names (``{{ .machineSet.name }}``) from ``values`` (``machineSet.name``).

    The part before the random suffix is cut so that the whole stays within 63 characters.

    Raises:
        ValueError: the template has no ``{{ .random }}`` or names an unknown variable.
    """
    known = {**values, "random": "\x00"}
    rendered, rest = "", template
    while "{{" in rest:
        text, _, rest = rest.partition("{{")
        name, closed, rest = rest.partition("}}")
        name = name.strip().lstrip(".").strip()
        if not closed or name not in known:
            raise ValueError(f"naming template {template!r}: unknown variable {{{{ .{name} }}}}; known: {', '.join(sorted(values))}, random")
        rendered += text + known[name]
    rendered += rest
    if "\x00" not in rendered:
        raise ValueError(f"naming template {template!r}: it must contain {{{{ .random }}}}")
    head, _, tail = rendered.partition("\x00")
    tail = tail.replace("\x00", random)
    return head[: max(NAME_LENGTH_MAX - len(random) - len(tail), 0)] + random + tail


def label_value(name: str) -> str:
    """The name as a label value: itself, or a stable hash form when it is longer than 63 characters.

    Source: kinds.md §0.4 (labels whose value may be too long carry a hashed form).
    """
    if len(name) <= NAME_LENGTH_MAX:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:10]
    return f"hash_{digest}_z"
