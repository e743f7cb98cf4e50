"""Health and metrics of a service: /healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from aiohttp import web
from prometheus_client import CollectorRegistry

from fleetwake.exposition import exposed


class HealthServer:
    """A small HTTP server. ``ready`` and ``alive`` give an empty text when all is well, else what is missing. ``refresh`` is awaited before each scrape."""

    refresh: Callable[[], Awaitable[None]] | None = None

    def __init__(
        self,
        address: tuple[str, int],
        registry: CollectorRegistry,
        ready: Callable[[], str],
        alive: Callable[[], str],
        status: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self._address, self._registry, self._ready, self._alive, self._status = address, registry, ready, alive, status
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken; the message names it.
        """
        app = web.Application()
        app.router.add_get("/healthz", lambda request: _answer(self._alive()))
        app.router.add_get("/livez", lambda request: _answer(self._alive()))
        app.router.add_get("/readyz", lambda request: _answer(self._ready()))
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/statusz", self._statusz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address).start()

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, request: web.Request) -> web.Response:
        if self.refresh is not None:
            await self.refresh()
        body, content_type = await exposed(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _statusz(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(dict(self._status()), default=str), content_type="application/json")


async def _answer(missing: str) -> web.Response:
    return web.Response(text=missing or "ok", status=503 if missing else 200)
