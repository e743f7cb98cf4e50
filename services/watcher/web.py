"""/healthz, /readyz and /metrics of the watcher."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import web

from fleetwake.exposition import exposed

if TYPE_CHECKING:
    from services.watcher.app import Watcher


@asynccontextmanager
async def serve(watcher: Watcher) -> AsyncIterator[tuple[str, int]]:
    """Serve while the context is open; gives the address listened on."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        role = "leader" if watcher.term is not None else "standby"
        streams = watcher.term.streams.all if watcher.term is not None and watcher.term.streams is not None else ()
        waiting = [str(stream.selection) for stream in streams if not stream.synced]
        text = "\n".join([f"{role}: {'ready' if watcher.ready else 'not ready'}", *(f"waiting for {name}" for name in waiting)])
        return web.Response(text=text + "\n", status=200 if watcher.ready else 503)

    async def metrics(request: web.Request) -> web.Response:
        term = watcher.term
        streams = term.streams.all if term is not None and term.streams is not None else ()
        synced = sum(stream.synced for stream in streams)
        watcher.metrics.streams.labels(synced="true").set(synced)
        watcher.metrics.streams.labels(synced="false").set(len(streams) - synced)
        watcher.metrics.outstanding.set(term.producer.outstanding if term is not None else 0)
        watcher.metrics.suspects.set(len(term.publisher.suspects) if term is not None and term.publisher is not None else 0)
        body, content_type = await exposed(watcher.metrics.registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, watcher.settings.web_bind, watcher.settings.web_port)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield str(host), int(port)
    finally:
        await runner.cleanup()
