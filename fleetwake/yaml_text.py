"""YAML by libyaml where PyYAML was built with it: certificates and kubeconfigs cost 40 times the CPU in the emitter written in Python."""

from __future__ import annotations

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

YAMLError = yaml.YAMLError


def load(text: bytes | str) -> Any:
    """One document of plain values. Raises: YAMLError."""
    return yaml.load(text, Loader=_LOADER)


def load_all(text: bytes | str) -> list[Any]:
    """All documents of plain values. Raises: YAMLError."""
    return list(yaml.load_all(text, Loader=_LOADER))


def dump(value: Any, *, width: int, sort_keys: bool = True) -> str:
    """Plain values as one document, with a newline at its end, and no document end behind a bare scalar. Characters beyond U+FFFF are escaped."""
    text: str = yaml.dump(value, Dumper=_DUMPER, sort_keys=sort_keys, width=width, allow_unicode=True)
    return text.removesuffix("...\n")


def quoted(value: str, *, width: int) -> str:
    """A text as a scalar in double quotes, with a newline at its end."""
    text: str = yaml.dump(value, Dumper=_DUMPER, width=width, allow_unicode=True, default_style='"')
    return text
