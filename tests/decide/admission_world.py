"""Objects as the API server sends them for review, and what came of it."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Mapping
from typing import Any

from services.admission.catalog import ADMISSIONS
from services.admission.review import mutate, validate
from services.admission.rules.rule import Admission
from tests.e2e import manifests

Document = dict[str, Any]
NAMESPACE = "default"
OF_KIND: Mapping[str, Admission[Any]] = {admission.model.KIND: admission for admission in ADMISSIONS}


def document(kind: str) -> Document:
    """A valid object of a kind that a cluster's manifests have, with every default filled in."""
    return stored(next(one for one in manifests.cluster("c", NAMESPACE) if one["kind"] == kind))


def of(api_version: str, kind: str, spec: Document, **metadata: Any) -> Document:
    """Any other object."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": "one", "namespace": NAMESPACE, **metadata}, "spec": spec}


def changed(source: Document, path: str, value: Any) -> Document:
    """A copy with the field at a dotted path set; None takes it away."""
    made = copy.deepcopy(source)
    *parents, last = path.split(".")
    place = made
    for part in parents:
        place = place.setdefault(part, {})
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value
    return made


def request(new: Document, old: Document | None = None) -> Document:
    """What the API server asks."""
    operation = "UPDATE" if old else "CREATE"
    return {"uid": "1", "operation": operation, "name": new["metadata"].get("name", ""), "object": new, "oldObject": old, "userInfo": {"username": "somebody"}}


def refused(new: Document, old: Document | None = None) -> list[tuple[str, str]]:
    """The field and the reason of each cause, empty when it is allowed."""
    response = validate(OF_KIND[new["kind"]], request(new, old))
    if response["allowed"]:
        return []
    assert (response["status"]["code"], response["status"]["reason"]) == (422, "Invalid")
    return [(cause["field"], cause["reason"].removeprefix("FieldValue")) for cause in response["status"]["details"]["causes"]]


def stored(new: Document, old: Document | None = None) -> Document:
    """The object with what the webhook fills in."""
    admission = OF_KIND.get(new["kind"])
    if admission is None or admission.default is None:
        return new
    response = mutate(admission, request(new, old))
    made = copy.deepcopy(new)
    for operation in json.loads(base64.b64decode(response.get("patch", "W10="))):
        assert operation["op"] == "add"
        *parents, last = (part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:])
        place = made
        for part in parents:
            place = place[part]
        place[last] = operation["value"]
    return made
