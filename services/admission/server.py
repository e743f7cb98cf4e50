"""The webhooks over HTTPS: a thin front of ``services.admission.review``."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from aiohttp import web

from fleetwake.errors import DecodeError, FleetwakeError
from schemas.conversion import ConversionError
from services.admission import conversion
from services.admission.catalog import MUTATING, VALIDATING
from services.admission.lookups import Lookups, NoTopologies
from services.admission.metrics import AdmissionMetrics
from services.admission.references import References
from services.admission.review import answer, mutate, request_of, validate
from services.admission.rules.rule import Admission, Known

log = logging.getLogger("services.admission")
REVIEW_BYTES_MAX = 8 << 20
"""Two objects of the size that etcd takes, and what is around them."""

KEEPALIVE_SECONDS = 120
Decide = Callable[[Admission[Any], Mapping[str, Any], Known], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Sources:
    """What answers rest on beside the request: versions of other kinds, and other objects. By default our own kinds are known, and topologies are off."""

    references: References = field(default_factory=lambda: References(None))
    lookups: Lookups = field(default_factory=NoTopologies)


@asynccontextmanager
async def serve(address: tuple[str, int], context: ssl.SSLContext, metrics: AdmissionMetrics, sources: Sources = Sources()) -> AsyncIterator[tuple[str, int]]:
    """Listen while the context is open; gives the address listened on.

    Raises:
        OSError: the address is taken.
    """
    app = web.Application(client_max_size=REVIEW_BYTES_MAX)
    for routes, decide in ((MUTATING, mutate), (VALIDATING, validate)):
        for path, admission in routes.items():
            app.router.add_post(path, _webhook(path, admission, partial(_decided, decide, admission, sources.lookups), metrics))
    app.router.add_post(conversion.PATH, _conversion(sources.references, metrics))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address, ssl_context=context).start()
        host, port = runner.addresses[0][:2]
        yield str(host), int(port)
    finally:
        await runner.cleanup()


async def _decided(decide: Decide, admission: Admission[Any], lookups: Lookups, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request, by what the rules of its kind know of other objects."""
    return decide(admission, asked, await lookups.known(admission.model, asked))


def _webhook(
    path: str, admission: Admission[Any], decided: Callable[[Mapping[str, Any]], Awaitable[dict[str, Any]]], metrics: AdmissionMetrics
) -> Callable[[web.Request], Any]:
    # models are built when they are first used, which the first who asks would wait for
    admission.model.model_rebuild()
    refused = metrics.refused.labels(path)

    async def answered(body: bytes) -> bytes:
        asked = request_of(body)
        response = await decided(asked)
        if not response["allowed"]:
            refused.inc()
            _tell(path, asked, response)
        return answer(asked["uid"], response)

    return _measured(path, answered, metrics)


def _conversion(references: References, metrics: AdmissionMetrics) -> Callable[[web.Request], Any]:
    refused = metrics.refused.labels(conversion.PATH)

    async def answered(body: bytes) -> bytes:
        asked = conversion.request_of(body)
        try:
            return conversion.converted(asked, await conversion.convert(asked, references))
        except ConversionError as error:
            refused.inc()
            log.info("%s refused to convert to %s: %s", conversion.PATH, asked["desiredAPIVersion"], error)
            return conversion.failed(asked, str(error))

    return _measured(conversion.PATH, answered, metrics)


def _measured(path: str, answered: Callable[[bytes], Awaitable[bytes]], metrics: AdmissionMetrics) -> Callable[[web.Request], Any]:
    in_flight, latency = metrics.in_flight.labels(path), metrics.latency.labels(path)

    async def handle(request: web.Request) -> web.Response:
        started = time.perf_counter()
        in_flight.inc()
        code = 500
        try:
            body = await answered(await request.read())
            code = 200
            return web.Response(body=body, content_type="application/json")
        except DecodeError as error:
            code = 400
            return web.Response(text=f"{error}\n", status=code)
        except FleetwakeError as error:
            # what the answer rests on is not to be had: the API server does as the webhook's policy says
            log.warning("%s cannot answer: %s", path, error)
            return web.Response(text=f"{error}\n", status=code)
        except web.HTTPException as error:
            code = error.status
            raise
        finally:
            in_flight.dec()
            latency.observe(time.perf_counter() - started)
            metrics.webhook_requests.labels(path, str(code)).inc()

    return handle


def _tell(path: str, asked: Mapping[str, Any], response: Mapping[str, Any]) -> None:
    """Log a refusal: who, what, which fields. Their values may be anything and are not told."""
    fields = ", ".join(cause["field"] for cause in response["status"]["details"]["causes"])
    who = (asked.get("userInfo") or {}).get("username", "")
    log.info("%s refused %s %s/%s of %s: %s", path, asked.get("operation"), asked.get("namespace", ""), asked.get("name", ""), who, fields)
