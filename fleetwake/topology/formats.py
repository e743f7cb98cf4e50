"""Formats that a schema may ask of texts and numbers. A format that nobody knows asks nothing.

Source: Kubernetes "Extend the Kubernetes API with CustomResourceDefinitions" (validation: formats), 1.36; JSON Schema (OpenAPI v3.0) data types.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any

_DNS_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DURATION = re.compile(r"^[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))*)$")
_EMAIL = re.compile(r"^[^@\s]+@[^@\s]+$")
_HOSTNAME = re.compile(rf"^(?=.{{1,253}}$){_DNS_LABEL}(\.{_DNS_LABEL})*$", re.IGNORECASE)
_MAC = re.compile(r"^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$", re.IGNORECASE)
_URI = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*:|/)\S*$")
_UUID = re.compile(r"^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$", re.IGNORECASE)
_QUANTITY = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)(([KMGTPE]i)|[numkMGTPE]|([eE][+-]?\d+))?$")
_INT_BITS: Mapping[str, int] = {"int32": 32, "int64": 64}


def _reads(reader: Callable[[str], Any]) -> Callable[[str], bool]:
    def holds(value: str) -> bool:
        try:
            reader(value)
        except (ValueError, binascii.Error):
            return False
        return True

    return holds


def is_uri(value: str) -> bool:
    """Whether the text is an absolute URI, or a path from the root, which Kubernetes' library takes for one too."""
    return _URI.match(value) is not None


def is_quantity(value: str) -> bool:
    """Whether the text is an amount as Kubernetes writes them (``500m``, ``4Gi``)."""
    return _QUANTITY.match(value) is not None


is_ip = _reads(ipaddress.ip_address)
is_cidr = _reads(lambda value: ipaddress.ip_network(value, strict=False) if "/" in value else int("x"))

_TEXTS: Mapping[str, Callable[[str], bool]] = {
    "byte": _reads(lambda value: base64.b64decode(value, validate=True)),
    "cidr": is_cidr,
    "date": _reads(date.fromisoformat),
    "date-time": _reads(lambda value: datetime.fromisoformat(value) if "T" in value.upper() and len(value) > 19 else int("x")),
    "duration": lambda value: _DURATION.match(value) is not None,
    "email": lambda value: _EMAIL.match(value) is not None,
    "hostname": lambda value: _HOSTNAME.match(value) is not None,
    "ipv4": _reads(ipaddress.IPv4Address),
    "ipv6": _reads(ipaddress.IPv6Address),
    "mac": lambda value: _MAC.match(value) is not None,
    "quantity": is_quantity,
    "uri": is_uri,
    "uuid": lambda value: _UUID.match(value) is not None,
}


def fits(name: str, value: Any) -> bool:
    """Whether a text or number has the format; formats of the other kind, and unknown ones, ask nothing."""
    if isinstance(value, str):
        return name not in _TEXTS or _TEXTS[name](value)
    bits = _INT_BITS.get(name)
    return bits is None or (float(value).is_integer() and -(1 << (bits - 1)) <= value < 1 << (bits - 1))
