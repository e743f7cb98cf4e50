"""Functions that encode: JSON, base64, digests, URLs.

Source: masterminds.github.io/sprig (encoding, defaults, cryptographic digests, URLs), v3.3.0; pkg.go.dev/encoding/json.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

JSON_EXPONENT_FROM = 1e21
_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def _numbers(value: Any) -> Any:
    """The value with whole floats as integers: JSON writes them without a point."""
    if isinstance(value, Mapping):
        return {key: _numbers(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_numbers(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < JSON_EXPONENT_FROM:
        return int(value)
    return value


def _json(value: Any, *, html: bool = True, indent: int | None = None) -> str:
    separators = (",", ": ") if indent else (",", ":")
    made = json.dumps(_numbers(value), ensure_ascii=False, separators=separators, indent=indent)
    return "".join(_HTML.get(char, char) for char in made) if html else made


def _from_json(value: Any) -> Any:
    try:
        return json.loads(value, parse_int=float)
    except ValueError:
        return None


def _b64_decoded(value: Any) -> str:
    # Go's function returns its error as if it were the text; a patch must not write that
    return base64.b64decode(value, validate=True).decode(errors="replace")


def _digest(name: str) -> Callable[[Any], str]:
    return lambda value: hashlib.new(name, value.encode()).hexdigest()


def _url(value: Any) -> dict[str, Any]:
    found = urlsplit(value)
    userinfo, _, host = found.netloc.rpartition("@")
    return {
        "scheme": found.scheme,
        "host": host,
        "hostname": found.hostname or "",
        "path": found.path,
        "query": found.query,
        "opaque": "",
        "fragment": found.fragment,
        "userinfo": userinfo,
    }


ENCODING: Mapping[str, Callable[..., Any]] = {
    "adler32sum": lambda value: str(zlib.adler32(value.encode())),
    "b32dec": lambda value: base64.b32decode(value).decode(errors="replace"),
    "b32enc": lambda value: base64.b32encode(value.encode()).decode(),
    "b64dec": _b64_decoded,
    "b64enc": lambda value: base64.b64encode(value.encode()).decode(),
    "fromJson": _from_json,
    "mustFromJson": lambda value: json.loads(value, parse_int=float),
    "mustToJson": _json,
    "mustToPrettyJson": lambda value: _json(value, indent=2),
    "mustToRawJson": lambda value: _json(value, html=False),
    "sha1sum": _digest("sha1"),
    "sha256sum": _digest("sha256"),
    "sha512sum": _digest("sha512"),
    "toJson": _json,
    "toPrettyJson": lambda value: _json(value, indent=2),
    "toRawJson": lambda value: _json(value, html=False),
    "urlParse": _url,
}
