"""Functions over texts.

Source: masterminds.github.io/sprig (strings, regex, paths), v3.3.0; each is rendered by Go too in tests/integration/test_sprig_in_go.py.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fleetwake.templating.go_format import spelled
from fleetwake.templating.go_reading import TemplateError

TEXT_LENGTH_MAX = 1 << 20
"""Characters that one function may make."""

_WORD = re.compile(r"\w+", re.ASCII)


def text(value: Any) -> str:
    """A value as a text, as ``toString`` makes it."""
    return value if isinstance(value, str) else spelled(value)


def texts(value: Any) -> list[str]:
    """A list as texts, nothing left out; what is no list is one text."""
    if isinstance(value, list | tuple):
        return [text(item) for item in value if item is not None]
    return [] if value is None else [text(value)]


def _must(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError("not a whole number")
    return value


def _repeat(count: Any, value: Any) -> str:
    if _count(count) * len(_must(value)) > TEXT_LENGTH_MAX:
        raise TemplateError(f"a text of more than {TEXT_LENGTH_MAX} characters")
    return _must(value) * _count(count)


def _trunc(length: Any, value: Any) -> str:
    data, size = _must(value), _count(length)
    if size < 0 and len(data) + size > 0:
        return data[len(data) + size :]
    return data[:size] if 0 <= size < len(data) else data


def _substr(start: Any, end: Any, value: Any) -> str:
    first, last, data = _count(start), _count(end), _must(value)
    if first < 0:
        return data[:last]
    return data[first:] if last < 0 or last > len(data) else data[first:last]


def _abbrev(width: Any, value: Any) -> str:
    data = _must(value)
    return data if width < 4 or len(data) <= width else data[: width - 3] + "..."


def _indent(spaces: Any, value: Any) -> str:
    pad = " " * _count(spaces)
    return pad + _must(value).replace("\n", "\n" + pad)


def _title(value: Any) -> str:
    return re.sub(r"(^|[^\w'])(\w)", lambda match: match[1] + match[2].upper(), _must(value))


def _words(value: str) -> list[str]:
    """The words of an identifier: apart at blanks, dashes, underlines, dots, and where a small letter or digit meets a capital."""
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1 \2", value))
    return [word for word in re.split(r"[\s_\-.]+", split) if word]


def _camelcase(value: Any) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[\s_\-]+", _must(value)) if word)


def _initials(value: Any) -> str:
    return "".join(word[0] for word in _must(value).split())


def _wrap(width: Any, value: Any, joint: str = "\n") -> str:
    lines: list[str] = []
    for word in _must(value).split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return joint.join(lines)


def _quote(mark: str) -> Callable[..., str]:
    def quoted(*values: Any) -> str:
        found = (value for value in values if value is not None)
        if mark == "'":
            return " ".join(f"'{text(value)}'" for value in found)
        return " ".join(go_quoted(text(value)) for value in found)

    return quoted


_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\v": "\\v"}


def go_quoted(value: str) -> str:
    """A text in double quotes as Go's %q writes it."""
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _hex(char)) for char in value) + '"'


def _hex(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _split_map(parts: Sequence[str]) -> dict[str, str]:
    return {f"_{index}": part for index, part in enumerate(parts)}


def _regex(pattern: Any) -> re.Pattern[str]:
    try:
        # Go's classes of characters are of ASCII
        return re.compile(_must(pattern), re.ASCII)
    except re.error as error:
        raise TemplateError("a regular expression cannot be read") from error


def _expanded(template: str) -> Callable[[re.Match[str]], str]:
    """Go's $1, ${1} and ${name} of a replacement; what names no group is nothing."""

    def value(match: re.Match[str]) -> str:
        def group(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            if found[0] == "$$":
                return "$"
            key: int | str = int(name) if name.isdigit() else name
            try:
                return match[key] or ""
            except IndexError:
                return ""

        return re.sub(r"\$\$|\$(?:\{(\w+)\}|(\w+))", group, template)

    return value


def _find_all(pattern: Any, value: Any, count: Any) -> list[str]:
    found = [match[0] for match in _regex(pattern).finditer(_must(value))]
    return found if count < 0 else found[:count]


def _regex_split(pattern: Any, value: Any, count: Any) -> list[str]:
    if count == 0:
        return []
    parts: list[str] = []
    start = 0
    for match in _regex(pattern).finditer(_must(value)):
        if len(parts) == count - 1 and count > 0:
            break
        if match.end() > 0 or match.start() > 0:
            parts.append(value[start : match.start()])
            start = match.end()
    return [*parts, value[start:]]


def _find(pattern: Any, value: Any) -> str:
    match = _regex(pattern).search(_must(value))
    return match[0] if match else ""


def _dir(path: Any) -> str:
    folder = posixpath.dirname(_must(path))
    return posixpath.normpath(folder) if folder else "."


def _base(path: Any) -> str:
    bare = _must(path).rstrip("/")
    return posixpath.basename(bare) or ("/" if path else ".")


def _matches(pattern: Any, value: Any) -> bool:
    """Whether the pattern is found; one that cannot be read is found nowhere (only the form with must refuses it)."""
    try:
        return _find_in(pattern, value)
    except TemplateError:
        return False


def _find_in(pattern: Any, value: Any) -> bool:
    return _regex(pattern).search(_must(value)) is not None


_REGEX: Mapping[str, Callable[..., Any]] = {
    "regexMatch": _find_in,
    "regexFind": _find,
    "regexFindAll": _find_all,
    "regexReplaceAll": lambda pattern, value, by: _regex(pattern).sub(_expanded(_must(by)), _must(value)),
    "regexReplaceAllLiteral": lambda pattern, value, by: _regex(pattern).sub(lambda _: _must(by), _must(value)),
    "regexSplit": _regex_split,
}

TEXTS: Mapping[str, Callable[..., Any]] = {
    "abbrev": _abbrev,
    "base": _base,
    "camelcase": _camelcase,
    "cat": lambda *values: " ".join(text(value) for value in values if value is not None),
    "clean": lambda path: posixpath.normpath(_must(path)) if path else ".",
    "contains": lambda part, value: _must(part) in _must(value),
    "dir": _dir,
    "ext": lambda path: posixpath.splitext(_must(path))[1],
    "hasPrefix": lambda part, value: _must(value).startswith(_must(part)),
    "hasSuffix": lambda part, value: _must(value).endswith(_must(part)),
    "indent": _indent,
    "initials": _initials,
    "isAbs": lambda path: _must(path).startswith("/"),
    "join": lambda joint, values: _must(joint).join(texts(values)),
    "kebabcase": lambda value: "-".join(word.lower() for word in _words(_must(value))),
    "lower": lambda value: _must(value).lower(),
    "nindent": lambda spaces, value: "\n" + _indent(spaces, value),
    "nospace": lambda value: "".join(_must(value).split()),
    "plural": lambda one, many, count: one if _count(count) == 1 else many,
    "quote": _quote('"'),
    "regexQuoteMeta": lambda value: re.sub(r"([\\.+*?()|\[\]{}^$])", r"\\\1", _must(value)),
    "repeat": _repeat,
    "replace": lambda old, new, value: _must(value).replace(_must(old), _must(new)),
    "snakecase": lambda value: "_".join(word.lower() for word in _words(_must(value))),
    "sortAlpha": lambda values: sorted(texts(values)),
    "split": lambda joint, value: _split_map(_must(value).split(_must(joint))),
    "splitList": lambda joint, value: _must(value).split(joint) if joint else list(_must(value)),
    "splitn": lambda joint, count, value: _split_map(_must(value).split(_must(joint), _count(count) - 1)),
    "squote": _quote("'"),
    "substr": _substr,
    "swapcase": lambda value: _must(value).swapcase(),
    "title": _title,
    "toString": text,
    "toStrings": texts,
    "trim": lambda value: _must(value).strip(),
    "trimAll": lambda chars, value: _must(value).strip(_must(chars)),
    "trimPrefix": lambda part, value: _must(value).removeprefix(_must(part)),
    "trimSuffix": lambda part, value: _must(value).removesuffix(_must(part)),
    "trimall": lambda chars, value: _must(value).strip(_must(chars)),
    "trunc": _trunc,
    "untitle": lambda value: re.sub(r"(^|[^\w'])(\w)", lambda match: match[1] + match[2].lower(), _must(value)),
    "upper": lambda value: _must(value).upper(),
    "wrap": _wrap,
    "wrapWith": lambda width, joint, value: _wrap(width, value, joint),
    **_REGEX,
    **{f"must{name[0].upper()}{name[1:]}": function for name, function in _REGEX.items()},
    "regexMatch": _matches,
}
