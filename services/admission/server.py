"""The webhooks over HTTPS: a thin front of ``services.admission.review``."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from fleetwake.errors import DecodeError
from services.admission.catalog import MUTATING, VALIDATING
from services.admission.metrics import AdmissionMetrics
from services.admission.review import answer, mutate, request_of, validate
from services.admission.rules.rule import Admission

log = logging.getLogger("services.admission")
REVIEW_BYTES_MAX = 8 << 20
"""Two objects of the size that etcd takes, and what is around them."""

KEEPALIVE_SECONDS = 120
Decide = Callable[[Admission[Any], Mapping[str, Any]], dict[str, Any]]


@asynccontextmanager
async def serve(address: tuple[str, int], context: ssl.SSLContext, metrics: AdmissionMetrics) -> AsyncIterator[tuple[str, int]]:
    """Listen while the context is open; gives the address listened on.

    Raises:
        OSError: the address is taken.
    """
    app = web.Application(client_max_size=REVIEW_BYTES_MAX)
    for routes, decide in ((MUTATING, mutate), (VALIDATING, validate)):
        for path, admission in routes.items():
            app.router.add_post(path, _webhook(path, admission, decide, metrics))
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, *address, ssl_context=context).start()
        host, port = runner.addresses[0][:2]
        yield str(host), int(port)
    finally:
        await runner.cleanup()


def _webhook(path: str, admission: Admission[Any], decide: Decide, metrics: AdmissionMetrics) -> Callable[[web.Request], Any]:
    # models are built when they are first used, which the first who asks would wait for
    admission.model.model_rebuild()
    in_flight, latency, refused = metrics.in_flight.labels(path), metrics.latency.labels(path), metrics.refused.labels(path)

    async def handle(request: web.Request) -> web.Response:
        started = time.perf_counter()
        in_flight.inc()
        code = 500
        try:
            asked = request_of(await request.read())
            response = decide(admission, asked)
            if not response["allowed"]:
                refused.inc()
                _tell(path, asked, response)
            code = 200
            return web.Response(body=answer(asked["uid"], response), content_type="application/json")
        except DecodeError as error:
            code = 400
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
