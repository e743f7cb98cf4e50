"""An API server's front that loses answers: it passes a write on, waits until it is stored, and closes the connection instead of answering."""

from __future__ import annotations

import asyncio
import ssl
import threading
from pathlib import Path

import aiohttp
import yaml
from aiohttp import web

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
SPARED = ("/leases", "/events", "/selfsubject")
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "te", "upgrade"})
SUCCESS = range(200, 300)
START_LIMIT_S = 10.0


class LossyProxy:
    """Stands before the API server of ``kubeconfig``; the answer to every write is lost, until the same write comes again.

    ``lost`` lists those writes as (method, path). TLS ends here, with the certificate and key given.
    """

    def __init__(self, kubeconfig: Path, certificate: Path, key: Path) -> None:
        document = yaml.safe_load(kubeconfig.read_text())
        self._server = document["clusters"][0]["cluster"]["server"]
        self._ca = Path(certificate.parent / "ca.crt")
        self._pair = (certificate, key)
        self._document = document
        self.lost: list[tuple[str, str]] = []
        self._seen: set[tuple[str, str, bytes]] = set()
        self.url = ""
        self._up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), name="lossy-proxy", daemon=True)

    def __enter__(self) -> LossyProxy:
        self._thread.start()
        assert self._up.wait(START_LIMIT_S), "the proxy did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(START_LIMIT_S)

    def kubeconfig(self) -> str:
        """The same kubeconfig, pointing here."""
        self._document["clusters"][0]["cluster"]["server"] = self.url
        return yaml.safe_dump(self._document)

    async def _serve(self) -> None:
        inbound = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        inbound.load_cert_chain(*self._pair)
        outbound = ssl.create_default_context(cafile=str(self._ca))
        app = web.Application(client_max_size=1 << 24)
        app.router.add_route("*", "/{path:.*}", self._pass)
        connector = aiohttp.TCPConnector(ssl=outbound, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None))
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=inbound)
        await site.start()
        assert runner.addresses
        self.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        self._up.set()
        await self._stopped.wait()
        await self._session.close()
        await runner.cleanup()

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
        body = await request.read()
        async with self._session.request(request.method, self._server + request.raw_path, headers=headers, data=body or None, allow_redirects=False) as answer:
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
            if request.method in WRITES:
                content = await answer.read()
                if answer.status in SUCCESS and self._loses(request, body):
                    assert request.transport is not None
                    request.transport.abort()
                return web.Response(status=answer.status, headers=kept, body=content)
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for block in answer.content.iter_any():
                await response.write(block)
            return response

    def _loses(self, request: web.Request, body: bytes) -> bool:
        write = (request.method, request.path, body)
        if any(part in request.path for part in SPARED) or write in self._seen:
            return False
        self._seen.add(write)
        self.lost.append(write[:2])
        return True
