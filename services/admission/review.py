"""From an AdmissionReview to its answer. Pure: no clock, no IO.

Who asks is never read: ``userInfo`` is the API server's audit log's, and no rule depends on it.
Source: Kubernetes "Dynamic Admission Control", admission.k8s.io/v1 (1.36); refusals are 422 Invalid with causes (contracts.md §11).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson
from pydantic import ValidationError

from fleetwake.errors import DecodeError
from schemas.api.meta import KubeObject
from services.admission.rules.changes import additions
from services.admission.rules.rule import Admission, Asked, Known, Violation

API_VERSION, KIND = "admission.k8s.io/v1", "AdmissionReview"
DELETE = "DELETE"
UNKNOWN = Known()
CAUSES_MAX = 100
"""So many are told; who mends them is told the next."""


def request_of(body: bytes) -> Mapping[str, Any]:
    """The request within an AdmissionReview.

    Raises:
        DecodeError: it is none.
    """
    return request_within(body, (API_VERSION, KIND), "review", lambda request: True)


def request_within(body: bytes, review: tuple[str, str], operation: str, whole: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
    """The request within a review of this API version and kind, if it is ``whole``.

    Raises:
        DecodeError: it is none.
    """
    version, kind = review
    try:
        found = orjson.loads(body)
        request = found["request"]
        if (found["apiVersion"], found["kind"]) != review or not isinstance(request["uid"], str) or not whole(request):
            raise DecodeError(f"not an {version} {kind}", operation=operation)
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise DecodeError(f"not an {version} {kind}", operation=operation) from error
    return request  # type: ignore[no-any-return]


def answer(uid: str, response: Mapping[str, Any]) -> bytes:
    """The AdmissionReview that answers."""
    return orjson.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": {"uid": uid, **response}})


def mutate(admission: Admission[Any], request: Mapping[str, Any], known: Known = UNKNOWN) -> dict[str, Any]:
    """Fill in the defaults. What cannot be read is left as it is: the API server's own validation comes next and says what is wrong."""
    assert admission.default is not None
    try:
        asked = asked_of(admission.model, request)
    except ValidationError:
        return {"allowed": True}
    filled = admission.default.complete(admission.default.fill(asked.new, asked.old), known)
    patch = list(additions(_wire(asked.new), _wire(filled)))
    if not patch:
        return {"allowed": True}
    return {"allowed": True, "patchType": "JSONPatch", "patch": base64.b64encode(orjson.dumps(patch)).decode()}


def validate(admission: Admission[Any], request: Mapping[str, Any], known: Known = UNKNOWN) -> dict[str, Any]:
    """Hold every rule against what is asked; what is wrong is told whole, each with its field path."""
    deleted = request.get("operation") == DELETE
    try:
        asked = asked_of(admission.model, request, known)
    except ValidationError as error:
        if deleted:
            # what cannot be read can go
            return {"allowed": True}
        # the schema has passed it, so this is a field that only the model bounds
        found = [Violation(".".join(str(part) for part in one["loc"]), one["msg"]) for one in error.errors(include_input=False, include_url=False)]
        return refusal(admission, request, found)
    found = [violation for rule in (admission.deletion if deleted else admission.rules) for violation in rule.check(asked)]
    if found:
        return refusal(admission, request, found)
    told = () if deleted else tuple(admission.warns(asked))
    return {"allowed": True, **({"warnings": list(told)} if told else {})}


def asked_of(model: type[KubeObject], request: Mapping[str, Any], known: Known = UNKNOWN) -> Asked[Any]:
    """What is asked, read. An old object that cannot be read counts as none: who mends it must not be held to it.

    Raises:
        ValidationError: the new object is not of the model.
    """
    new, old = request.get("object") or request.get("oldObject") or {}, request.get("oldObject") or {}
    try:
        before = model.model_validate(old) if old else None
    except ValidationError:
        before = None
    return Asked(model.model_validate(new), before, new, old, known)


def refusal(admission: Admission[Any], request: Mapping[str, Any], found: Iterable[Violation]) -> dict[str, Any]:
    """A refusal as the API server's own validation would word it."""
    model, name = admission.model, str(request.get("name") or "")
    told = list(found)
    shown = told[:CAUSES_MAX]
    listed = ", ".join(f"{one.path}: {_REASONS[one.reason]}: {one.message}" for one in shown)
    more = f", and {len(told) - CAUSES_MAX} more" if len(told) > CAUSES_MAX else ""
    causes = [{"reason": one.reason, "field": one.path, "message": f"{_REASONS[one.reason]}: {one.message}"} for one in shown]
    status = {
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": f"{model.KIND}.{model.GROUP} {name!r} is invalid: {f'[{listed}{more}]' if len(told) > 1 else listed}",
        "details": {"group": model.GROUP, "kind": model.KIND, "name": name, "causes": causes},
    }
    return {"allowed": False, "status": status}


_REASONS = {"FieldValueInvalid": "Invalid value", "FieldValueForbidden": "Forbidden", "FieldValueRequired": "Required value"}


def _wire(obj: KubeObject) -> dict[str, Any]:
    return obj.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude={"status"})
