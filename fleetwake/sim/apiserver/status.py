"""The ``Status`` bodies with which an API server refuses a request.

One exception carries code, reason, message and details, so that the HTTP front end and the in-process clients tell the same story.
Knows nothing of storage.

Source: metav1.Status and apimachinery ``api/errors`` (Kubernetes 1.36): codes, reasons and the wording clients match on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

JsonDict = dict[str, Any]


class ApiStatusError(Exception):
    """A refused request. ``code`` is the HTTP status, ``reason`` the machine readable word, ``details`` the optional body part."""

    def __init__(self, code: int, reason: str, message: str, details: JsonDict | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    @property
    def retry_after_seconds(self) -> int:
        """Seconds after which the server asks to be tried again; 0 when it does not say."""
        return int(self.details.get("retryAfterSeconds", 0))

    def body(self) -> JsonDict:
        """Return the metav1.Status object of this refusal."""
        status: JsonDict = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message, "reason": self.reason}
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def qualified(group: str, plural: str) -> str:
    """Return the resource as messages spell it: ``machines.cluster.x-k8s.io``, or ``nodes`` for the core group."""
    return f"{plural}.{group}" if group else plural


def _details(group: str, plural: str, name: str, causes: Sequence[JsonDict] = ()) -> JsonDict:
    details: JsonDict = {"name": name} if name else {}
    if group:
        details["group"] = group
    details["kind"] = plural
    if causes:
        details["causes"] = list(causes)
    return details


def cause(reason: str, message: str, field: str = "") -> JsonDict:
    """Return one entry of ``details.causes``."""
    return {"reason": reason, "message": message, "field": field} if field else {"reason": reason, "message": message}


def not_found(group: str, plural: str, name: str) -> ApiStatusError:
    """404: no object of that name."""
    return ApiStatusError(404, "NotFound", f'{qualified(group, plural)} "{name}" not found', _details(group, plural, name))


def no_such_resource() -> ApiStatusError:
    """404: no such path, kind or subresource."""
    return ApiStatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(group: str, plural: str, name: str) -> ApiStatusError:
    """409: create of a name that is taken."""
    return ApiStatusError(409, "AlreadyExists", f'{qualified(group, plural)} "{name}" already exists', _details(group, plural, name))


def conflict(group: str, plural: str, name: str, why: str) -> ApiStatusError:
    """409: a precondition (resourceVersion, uid) does not hold."""
    message = f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}'
    return ApiStatusError(409, "Conflict", message, _details(group, plural, name))


def apply_conflict(conflicts: Sequence[tuple[str, str]]) -> ApiStatusError:
    """409: server-side apply would change fields of others. ``conflicts`` pairs a description of the manager with a field path."""
    causes = [cause("FieldManagerConflict", f"conflict with {manager}", path) for manager, path in conflicts]
    if len(conflicts) == 1:
        text = f"1 conflict: conflict with {conflicts[0][0]}: {conflicts[0][1]}"
    else:
        managers = dict.fromkeys(manager for manager, _ in conflicts)
        blocks = [f"conflicts with {manager}:\n" + "\n".join(f"- {path}" for owner, path in conflicts if owner == manager) for manager in managers]
        text = f"{len(conflicts)} conflicts: " + "\n".join(blocks)
    return ApiStatusError(409, "Conflict", f"Apply failed with {text}", {"causes": causes})


def invalid(group: str, kind: str, name: str, causes: Sequence[JsonDict]) -> ApiStatusError:
    """422: the object does not satisfy its rules."""
    lines = [f"{c.get('field', '')}: {c['message']}" for c in causes]
    text = lines[0] if len(lines) == 1 else "[" + ", ".join(lines) + "]"
    gk = f"{kind}.{group}" if group else kind
    return ApiStatusError(422, "Invalid", f'{gk} "{name}" is invalid: {text}', _details(group, kind, name, causes))


def bad_request(message: str) -> ApiStatusError:
    """400: the request itself makes no sense."""
    return ApiStatusError(400, "BadRequest", message)


def forbidden(group: str, plural: str, name: str, why: str, causes: Sequence[JsonDict] = ()) -> ApiStatusError:
    """403: allowed to nobody in this state."""
    message = f'{qualified(group, plural)} "{name}" is forbidden: {why}'
    return ApiStatusError(403, "Forbidden", message, _details(group, plural, name, causes))


def unauthorized() -> ApiStatusError:
    """401: no known credentials."""
    return ApiStatusError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiStatusError:
    """405: the resource has no such verb."""
    return ApiStatusError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(given: str, accepted: Sequence[str]) -> ApiStatusError:
    """415: a body in a format not served (protobuf, CBOR)."""
    listed = ", ".join(accepted)
    return ApiStatusError(
        415, "UnsupportedMediaType", f"the body of the request was in an unknown format - accepted media types include: {listed} (got {given})"
    )


def too_large(limit: int) -> ApiStatusError:
    """413: the object exceeds what the store takes."""
    return ApiStatusError(413, "RequestEntityTooLarge", f"Request entity too large: limit is {limit}")


def expired(message: str) -> ApiStatusError:
    """410: the history a watch or a continue token needs is compacted; the caller must list again."""
    return ApiStatusError(410, "Expired", message)


def version_too_large(asked: int, current: int) -> ApiStatusError:
    """504: a resourceVersion of the future, as after a restored backup."""
    details: JsonDict = {"causes": [cause("ResourceVersionTooLarge", "Too large resource version")], "retryAfterSeconds": 1}
    return ApiStatusError(504, "Timeout", f"Timeout: Too large resource version: {asked}, current: {current}", details)


def too_many_requests(message: str, causes: Sequence[JsonDict] = (), retry_after_seconds: int = 0) -> ApiStatusError:
    """429: try again later; an eviction refused by a disruption budget answers this."""
    details: JsonDict = {}
    if causes:
        details["causes"] = list(causes)
    if retry_after_seconds:
        details["retryAfterSeconds"] = retry_after_seconds
    return ApiStatusError(429, "TooManyRequests", message, details)


def success(group: str, plural: str, name: str, uid: str) -> JsonDict:
    """Return the Status body of a delete that removed the object at once."""
    details = _details(group, plural, name)
    details["uid"] = uid
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
