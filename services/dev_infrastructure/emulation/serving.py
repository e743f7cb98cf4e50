"""What an emulated API server is reached by: a TLS listener whose port is promised long before it serves, and the pods' own ports behind it.

Client certificates are verified against the cluster's CA; who has none is nobody. A listener shows the certificate it is told to, and each API server's own
is shown on port 6443 of its pod.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.x509.oid import NameOID

from fleetwake.kube.pki import KeyPair, load_key_pair
from fleetwake.sim.http import Credentials

log = logging.getLogger(__name__)
BACKLOG = 128
SHUTDOWN_SECONDS = 0.5
HANDSHAKE_SECONDS = 10.0
KNOWN_CERTIFICATES_MAX = 256


def server_context(ca_pem: bytes, serving: KeyPair) -> ssl.SSLContext:
    """The TLS context of an API server: a client certificate is optional, but one that is shown must chain to the CA."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    load_key_pair(context, serving.cert_pem, serving.key_pem)
    return context


class Authenticator:
    """Tells the user of a request by its client certificate (verified by TLS already)."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}

    def __call__(self, credentials: Credentials) -> str | None:
        """The certificate's common name; None without a certificate or a name."""
        der = credentials.certificate
        if not der:
            return None
        name = self._known.get(der)
        if name is None:
            if len(self._known) >= KNOWN_CERTIFICATES_MAX:
                self._known.clear()
            names = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            name = self._known[der] = str(names[0].value) if names else ""
        return name or None


class Listener:
    """A listener of a cluster. ``make`` makes the application it serves, anew for each start.

    One socket stays bound for the whole life; what is served is a duplicate of it. A shutdown ends listening but not the binding (Linux), so the port is
    never free in between.
    """

    def __init__(self, reserved: socket.socket, make: Callable[[], web.Application]) -> None:
        self._reserved, self._make = reserved, make
        self.port = int(reserved.getsockname()[1])
        self._context: ssl.SSLContext | None = None
        self._runner: web.AppRunner | None = None

    @property
    def serving(self) -> bool:
        """Whether it takes connections."""
        return self._runner is not None

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._runner.server.connections) if self._runner is not None and self._runner.server is not None else 0

    async def serve(self, ca_pem: bytes, certificate: KeyPair) -> None:
        """Take connections from now on, or, if it does, show this certificate to new ones."""
        if self._context is not None:
            self._context.load_verify_locations(cadata=ca_pem.decode("ascii"))
            load_key_pair(self._context, certificate.cert_pem, certificate.key_pem)
            return
        self._context = server_context(ca_pem, certificate)
        self._runner = web.AppRunner(self._make(), access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_SECONDS)
        await self._runner.setup()
        # connections inherit it: those that linger after a crash must not keep the next process from the port
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await web.SockSite(self._runner, self._reserved.dup(), ssl_context=self._context, backlog=BACKLOG).start()

    async def stop(self) -> None:
        """Take no more connections and end those there are; the port stays promised."""
        runner, self._runner, self._context = self._runner, None, None
        if runner is not None:
            # first, so that who comes while the others are ended is refused and not left waiting
            self._reserved.shutdown(socket.SHUT_RDWR)
            await runner.cleanup()

    async def close(self) -> None:
        """End everything and let the port go."""
        await self.stop()
        self._reserved.close()
        await asyncio.sleep(0)  # uvloop closes the duplicate at its next turn

    def connection(self) -> asyncio.Protocol:
        """The protocol of one more connection that somebody else accepted.

        Raises:
            ConnectionRefusedError: the listener does not serve.
        """
        if self._runner is None or self._runner.server is None:
            raise ConnectionRefusedError("connect: connection refused")
        return self._runner.server()


class ApiServerPort:
    """Port 6443 of one API server's pod: a ``fleetwake.sim.port_forward.ForwardTarget``."""

    def __init__(self, listener: Listener, ca_pem: bytes, certificate: KeyPair) -> None:
        self._listener, self._ca_pem, self._certificate = listener, ca_pem, certificate

    async def accept(self, sock: socket.socket) -> None:
        """Serve one connection until it ends. Raises: ConnectionRefusedError if nothing serves."""
        protocol = _Connection(self._listener.connection())
        context = server_context(self._ca_pem, self._certificate)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock, ssl=context, ssl_handshake_timeout=HANDSHAKE_SECONDS)
        except OSError as error:  # ssl.SSLError is one
            log.info("an API server's pod refused a client: %s", error)
            return
        await protocol.ended


class _Connection(asyncio.Protocol):
    """A connection of another protocol whose end can be awaited."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)
        if not self.ended.done():
            self.ended.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
