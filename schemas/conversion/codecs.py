"""The forms of a value that differ between v1beta1 and the hub: durations, references, arguments, failure domains.

Source: cluster-api api/core/v1beta1/conversion.go and api/core/v1beta2/conversion.go (main, heading for v1.15), for what each form means.
"""

from __future__ import annotations

import re
from typing import Any, Final

from schemas.conversion.rules import Codec, Context, ConversionError
from schemas.conversion.values import MISSING

SECONDS_MAX: Final = 2**31 - 1
_UNITS: Final = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "µs": 1_000, "μs": 1_000, "ns": 1}
_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|μs|ns)")
_DURATION: Final = re.compile(rf"[+-]?(?:0|(?:{_PART.pattern})+)")


def seconds(text: str) -> int:
    """Whole seconds of a Go duration such as ``1h0m30s``; fractions are cut off, and what an int32 cannot hold is the most it can.

    Raises:
        ConversionError: the text is no duration.
    """
    if not _DURATION.fullmatch(text):
        raise ConversionError(f"{text!r} is not a duration like 1h0m30s")
    nanoseconds = sum(_nanoseconds(number, unit) for number, unit in _PART.findall(text))
    return (-1 if text.startswith("-") else 1) * min(nanoseconds // 1_000_000_000, SECONDS_MAX)


def _nanoseconds(number: str, unit: str) -> int:
    whole, _, fraction = number.partition(".")
    scale = _UNITS[unit]
    return int(whole or 0) * scale + (int(fraction) * scale // 10 ** len(fraction) if fraction else 0)


def go_duration(count: int) -> str:
    """Whole seconds as Go writes a duration: ``1h0m30s``, ``1m30s``, ``30s``, ``0s``."""
    rest = abs(count)
    hours, minutes = rest // 3600, rest % 3600 // 60
    text = (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{rest % 60}s"
    return f"-{text}" if count < 0 else text


def _seconds(value: Any, _: Context) -> Any:
    return seconds(str(value))


def _go_duration(value: Any, _: Context) -> Any:
    return go_duration(int(value))


DURATION: Final = Codec(_seconds, _go_duration)
"""A metav1.Duration; seconds in the hub."""

DURATION_OR_ZERO: Final = Codec(lambda value, _: seconds(str(value)) or MISSING, _go_duration)
"""A duration that older clients always write: zero says nothing."""

UNSAID_ZERO: Final = Codec(lambda value, _: value or MISSING, lambda value, _: value)
"""A flag or number that older clients always write, because their type has no way to say nothing: false and 0 say nothing."""


def _group(api_version: str) -> str:
    group, _, version = api_version.rpartition("/")
    if "/" in group or (group and not version):
        raise ConversionError(f"apiVersion {api_version!r} is not group/version")
    return group


def _contract_reference(value: Any, _: Context) -> Any:
    new = {"apiGroup": _group(str(value.get("apiVersion") or "")), "kind": value.get("kind"), "name": value.get("name")}
    return {name: one for name, one in new.items() if one} or MISSING


def _object_reference(value: Any, context: Context) -> Any:
    group, kind = str(value.get("apiGroup") or ""), str(value.get("kind") or "")
    new = {"apiVersion": context.api_version(group, kind), "kind": kind, "name": value.get("name"), "namespace": context.namespace}
    return {name: one for name, one in new.items() if one} or MISSING


REFERENCE: Final = Codec(_contract_reference, _object_reference)
"""A reference to a provider's object: the hub leaves its version to the labels of its definition, and its namespace is the referrer's."""

TEMPLATE_REFERENCE: Final = Codec(
    lambda value, _: {name: value[name] for name in ("apiVersion", "kind", "name") if value.get(name)} or MISSING,
    lambda value, context: value | ({"namespace": context.namespace} if context.namespace else {}),
)
"""A reference to a template, with its version in the hub too."""

NODE: Final = Codec(
    lambda value, _: {"name": value["name"]} if value.get("name") else MISSING,
    lambda value, _: {"apiVersion": "v1", "kind": "Node"} | value,
)
"""A reference to a Node of the workload cluster."""

ARGUMENTS: Final = Codec(
    lambda value, _: [{"name": name, "value": one} for name, one in sorted(value.items())],
    lambda value, _: {one["name"]: one.get("value", "") for one in value if "name" in one},
)
"""Command line arguments: a map, in the hub a list in which a name could stand more than once; of those the last is the one that counts."""

FAILURE_DOMAINS: Final = Codec(
    lambda value, _: [{"name": name, **one} for name, one in sorted(value.items())],
    lambda value, _: {one["name"]: {key: part for key, part in one.items() if key != "name"} for one in value if "name" in one},
)
"""Failure domains by name; a list in the hub, ordered by name."""

MACHINE_PHASE: Final = Codec(lambda value, _: value, lambda value, _: "Running" if value == "Updating" else value)
"""A Machine that is being updated in place was Running for v1beta1."""

ROLLOUT_STRATEGY: Final = Codec(lambda value, _: {"type": "RollingUpdate", **value}, lambda value, _: value)
"""How Machines are replaced; v1beta1 could leave the type out and meant RollingUpdate."""
