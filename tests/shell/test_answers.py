"""What an API server's answer means, whichever client it came through."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest

from fleetwake import errors
from fleetwake.kube import client
from fleetwake.kube.answers import body_of, error_of, message_with_causes
from fleetwake.shell import ports


def status(code: int, reason: str = "", message: str = "it is so", causes: object = None) -> bytes:
    return orjson.dumps({"kind": "Status", "code": code, "reason": reason, "message": message, "details": {"causes": causes} if causes else None})


CASES = [
    (400, "BadRequest", {}, errors.InvalidError),
    (401, "Unauthorized", {}, errors.ForbiddenError),
    (403, "Forbidden", {}, errors.ForbiddenError),
    (404, "NotFound", {}, errors.NotFoundError),
    (405, "MethodNotAllowed", {}, errors.TerminalError),
    (408, "Timeout", {}, errors.UnavailableError),
    (409, "AlreadyExists", {}, errors.AlreadyExistsError),
    (409, "Conflict", {}, errors.ConflictError),
    (410, "Expired", {}, errors.WatchExpiredError),
    (413, "RequestEntityTooLarge", {}, errors.InvalidError),
    (415, "UnsupportedMediaType", {}, errors.InvalidError),
    (422, "Invalid", {}, errors.InvalidError),
    (429, "TooManyRequests", {"retry-after": "3"}, errors.ThrottledError),
    (500, "InternalError", {}, errors.UnavailableError),
    (503, "ServiceUnavailable", {}, errors.UnavailableError),
    (503, "ServiceUnavailable", {"retry-after": "3"}, errors.ThrottledError),
    (307, "", {}, errors.TerminalError),
]


@pytest.mark.parametrize(("code", "reason", "headers", "expected"), CASES)
def test_both_clients_say_the_same(code: int, reason: str, headers: dict[str, str], expected: type[errors.FleetwakeError]) -> None:
    body = status(code, reason)
    of_port = error_of(ports.Response(code, body, headers), "patch Machine default/m1")
    of_client = error_of(client.Response(code, body, {name.title(): value for name, value in headers.items()}), "patch Machine default/m1")
    for error in (of_port, of_client):
        assert type(error) is expected and str(error) == "patch Machine default/m1: it is so"
        if headers:
            assert isinstance(error, errors.RetryableError) and error.after == timedelta(seconds=3)


@pytest.mark.parametrize("code", [200, 201, 202, 204])
def test_success_is_no_error(code: int) -> None:
    assert error_of(ports.Response(code, b"{}"), "get") is None
    client.raise_for(client.Response(code, b"{}", {}), "get")


@pytest.mark.parametrize(("value", "seconds"), [("", 1.0), ("0.5", 0.5), ("-1", 0.0), ("soon", 1.0)])
def test_a_throttle_always_says_how_long(value: str, seconds: float) -> None:
    error = error_of(ports.Response(429, status(429), {"retry-after": value} if value else {}), "get")
    assert isinstance(error, errors.ThrottledError) and error.after == timedelta(seconds=seconds)


def test_another_uid_is_a_conflict() -> None:
    error = error_of(ports.Response(422, status(422, "Invalid", causes=[{"field": "metadata.uid", "message": "immutable"}])), "patch")
    assert type(error) is errors.ConflictError


@pytest.mark.parametrize("body", [b"upstream is away\n", b"[1]", b'{"details": {"causes": ["odd"]}}', b'{"details": 1}', b""])
def test_an_odd_body_is_still_an_answer(body: bytes) -> None:
    answer = ports.Response(502, body)
    error = error_of(answer, "get")
    assert isinstance(error, errors.UnavailableError) and "HTTP 502" in str(error)
    assert message_with_causes(answer).startswith("HTTP 502")
    assert isinstance(body_of(answer), dict)


def test_causes_are_told_once() -> None:
    causes = [{"message": "The disruption budget web needs 2 healthy pods and has 2 currently"}, {"message": "it is"}, {}]
    told = message_with_causes(ports.Response(429, status(429, causes=causes)))
    assert told == "it is so The disruption budget web needs 2 healthy pods and has 2 currently"
