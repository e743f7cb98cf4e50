"""From a ConversionReview to its answer: every object of it in the version asked for, or none and why.

Source: Kubernetes "Versions in CustomResourceDefinitions" (webhook conversion), apiextensions.k8s.io/v1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import orjson

from schemas.conversion import Context, said_in
from services.admission.references import References, UnknownKindError
from services.admission.review import request_within

PATH: Final = "/convert"
API_VERSION, KIND = "apiextensions.k8s.io/v1", "ConversionReview"
OBJECTS_AT_ONCE = 20
"""A list may be long: so many of it are converted before others who ask get their turn."""

UNKNOWN_MAX = 50
"""Kinds of providers that the objects of one review may refer to."""


def request_of(body: bytes) -> Mapping[str, Any]:
    """The request within a ConversionReview.

    Raises:
        DecodeError: it is none.
    """
    return request_within(body, (API_VERSION, KIND), "convert", _whole)


def _whole(request: Mapping[str, Any]) -> bool:
    return isinstance(request["desiredAPIVersion"], str) and all(isinstance(one, dict) for one in request["objects"])


async def convert(request: Mapping[str, Any], references: References) -> list[dict[str, Any]]:
    """The objects of a request in the version it asks for, in their order.

    Raises:
        ConversionError: one of them cannot be said in it.
    """
    context, done = Context(references.api_version), []
    for number, obj in enumerate(request["objects"], 1):
        done.append(await _convert(obj, request["desiredAPIVersion"], context, references))
        if number % OBJECTS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return done


async def _convert(obj: Mapping[str, Any], api_version: str, context: Context, references: References) -> dict[str, Any]:
    for _ in range(UNKNOWN_MAX):
        try:
            return said_in(obj, api_version, context)
        except UnknownKindError as unknown:
            await references.learn(unknown.group, unknown.kind)
    return said_in(obj, api_version, context)


def converted(request: Mapping[str, Any], objects: list[dict[str, Any]]) -> bytes:
    """The ConversionReview that answers with the objects."""
    return _answer(request, {"convertedObjects": objects, "result": {"status": "Success"}})


def failed(request: Mapping[str, Any], message: str) -> bytes:
    """The ConversionReview that says why there are none."""
    return _answer(request, {"result": {"status": "Failure", "message": message}})


def _answer(request: Mapping[str, Any], response: Mapping[str, Any]) -> bytes:
    return orjson.dumps({"apiVersion": API_VERSION, "kind": KIND, "response": {"uid": request["uid"], **response}})
