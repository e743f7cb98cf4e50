"""Checks of parts that several kinds have: labels and selectors, metadata of templates, naming templates, versions.

Pure. Source: contracts.md §11; apimachinery ``validation`` and ``labels`` (1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleetwake import names, versions
from schemas.api.core.v1beta2.shared import MachineNaming, TemplateMetadata
from schemas.api.meta import LabelSelector
from schemas.api.scalars import LABEL_VALUE_PATTERN, SUBDOMAIN_PATTERN, TAINT_KEY_PATTERN
from services.admission.rules.changes import changed, dotted
from services.admission.rules.rule import Violation, forbidden

LABEL_LENGTH_MAX = 63
NAME_LENGTH_MAX = 253
ANNOTATIONS_BYTES_MAX = 262_144
SAMPLE = "bcdfg"
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_KEY, _VALUE, _SUBDOMAIN = re.compile(TAINT_KEY_PATTERN), re.compile(LABEL_VALUE_PATTERN), re.compile(SUBDOMAIN_PATTERN)


def is_label_value(text: str) -> bool:
    """Whether the text may be a label's value."""
    return len(text) <= LABEL_LENGTH_MAX and _VALUE.match(text) is not None


def is_label_key(text: str) -> bool:
    """Whether the text may be the key of a label or annotation: a name of at most 63 characters, a subdomain and a slash before it or not."""
    prefix, slash, name = text.rpartition("/")
    return len(name) <= LABEL_LENGTH_MAX and len(prefix) <= NAME_LENGTH_MAX and bool(prefix) == bool(slash) and _KEY.match(text) is not None


def label_name(path: str, name: str) -> Iterator[Violation]:
    """A name that becomes the value of labels."""
    if not is_label_value(name):
        yield Violation(path, f"must be a valid label value: at most {LABEL_LENGTH_MAX} letters, digits, '-', '_' and '.', no sign first or last")


def selector(path: str, chosen: LabelSelector) -> Iterator[Violation]:
    """A selector that can be read."""
    yield from _labels(f"{path}.matchLabels", chosen.match_labels)
    for place, expression in enumerate(chosen.match_expressions):
        at = f"{path}.matchExpressions[{place}]"
        if not is_label_key(expression.key):
            yield Violation(f"{at}.key", "must be a valid label key")
        if expression.operator not in OPERATORS:
            yield Violation(f"{at}.operator", f"must be one of {', '.join(OPERATORS)}")
        elif (expression.operator in OPERATORS[:2]) != bool(expression.values):
            yield Violation(f"{at}.values", "must be set for In and NotIn, and not for Exists and DoesNotExist")
        if not all(is_label_value(value) for value in expression.values):
            yield Violation(f"{at}.values", "must be valid label values")


def metadata(path: str, handed: TemplateMetadata) -> Iterator[Violation]:
    """Labels and annotations that a template hands on."""
    yield from _labels(f"{path}.labels", handed.labels)
    for key in handed.annotations:
        if not is_label_key(key.lower()):
            yield Violation(f"{path}.annotations", f"{key!r} must be a valid key")
    if sum(len(key.encode()) + len(value.encode()) for key, value in handed.annotations.items()) > ANNOTATIONS_BYTES_MAX:
        yield Violation(f"{path}.annotations", f"must have at most {ANNOTATIONS_BYTES_MAX} bytes")


def _labels(path: str, found: Mapping[str, str]) -> Iterator[Violation]:
    for key, value in found.items():
        if not is_label_key(key):
            yield Violation(path, f"{key!r} must be a valid label key")
        if not is_label_value(value):
            yield Violation(path, f"the value of {key} must be a valid label value")


def naming(path: str, chosen: MachineNaming, owner: str) -> Iterator[Violation]:
    """A naming template whose names can be names of objects. ``owner`` is the variable that stands for the owner (``machineSet``)."""
    if chosen.template is None:
        return
    try:
        name = names.render_name(chosen.template, random=SAMPLE, values={"cluster.name": "cluster", f"{owner}.name": owner.lower()})
    except ValueError as error:
        yield Violation(f"{path}.template", str(error))
        return
    if _SUBDOMAIN.match(name) is None:
        yield Violation(f"{path}.template", f"makes names that objects cannot have, such as {name!r}")


def template_immutable(path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Violation]:
    """A part of a template that never changes once it is there: every field that would, by its path."""
    before, after = _at(old, path), _at(new, path)
    for place in changed(before, after, path):
        yield forbidden(dotted(place), "field is immutable; make a new object and refer to that")


def _at(obj: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for part in path:
        obj = obj.get(part) or {}
    return obj


def version_step(path: str, wanted: str, lowest: str, highest: str) -> Iterator[Violation]:
    """A version that is not older than the highest there is, and at most one minor above the lowest. What cannot be read is another rule's."""
    if not all(versions.readable(one) for one in (wanted, lowest, highest)):
        return
    if versions.newer(highest, wanted):
        yield forbidden(path, f"cannot go back from {highest} to {wanted}")
    (_, major, minor, *_), (_, major_now, minor_now, *_) = versions.version_key(wanted), versions.version_key(lowest)
    if major != major_now or minor > minor_now + 1:
        yield forbidden(path, f"cannot go from {lowest} to {wanted}: one minor version at a time")
