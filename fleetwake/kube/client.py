"""Raw requests to an API server: bytes in, bytes out, one connection pool, few microseconds of ours on each.

The typed client of the ``kubernetes`` package costs three times the CPU (kafka-faust.md rule 16), so only its configuration is used
(``fleetwake.kube.config``). HTTP statuses are values here; ``raise_for`` turns them into the errors that ``fleetwake.shell.policy`` judges.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from yarl import URL

from fleetwake import errors
from fleetwake.kube.answers import error_of
from fleetwake.kube.config import ApiConfig

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

CONNECTIONS_MAX = 100
READ_BUFFER_BYTES = 1 << 20
KEEPALIVE_SECONDS = 75
CONNECT_TIMEOUT_SECONDS = 5.0
REQUEST_TIMEOUT_SECONDS = 10.0
AUTHORIZATION_MAX_AGE_SECONDS = 30.0


Leaving: TypeAlias = Callable[[], None]
"""Called as the bytes of a request leave; what it raises keeps them here."""
LEAVING: ContextVar[Leaving | None] = ContextVar("LEAVING", default=None)
"""That of the request which this task sends: aiohttp makes the request itself and hands nothing of ours to it."""
Answered: TypeAlias = Callable[[str, int], None]
"""Told of every request: its method, and the status of its answer (0: none came)."""


def untold(method: str, status: int) -> None:
    """Nobody counts the requests."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> dict[str, Any]:
        """The body as a JSON object.

        Raises:
            DecodeError: it is none.
        """
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise errors.DecodeError(f"status {self.status}, body is no JSON: {self.body[:120]!r}") from error
        if not isinstance(value, dict):
            raise errors.DecodeError(f"status {self.status}, body is no JSON object")
        return value


@lru_cache(maxsize=1)
def software_version() -> str:
    """The installed version of fleetwake."""
    try:
        return version("fleetwake")
    except PackageNotFoundError:
        return "0"


@lru_cache(maxsize=4096)
def _collection_path(api_version: str, plural: str, namespace: str) -> str:
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}/namespaces/{quote(namespace, safe='')}/{plural}" if namespace else f"{root}/{plural}"


def resource_path(api_version: str, plural: str, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The REST path of a collection or an object: ``/apis/<group>/<version>/namespaces/<ns>/<plural>/<name>/<subresource>``.

    Source: Kubernetes API concepts, resource URIs (1.36).
    """
    path = _collection_path(api_version, plural, namespace)
    if name:
        path = f"{path}/{quote(name, safe='')}"
    return f"{path}/{subresource}" if subresource else path


class _Asking(aiohttp.ClientRequest):
    """Asks whether it may still be sent when it has its connection, and once more when its body is written: until then its headers wait here too."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        leaving = LEAVING.get()
        if leaving is not None:
            leaving()
        return await super().send(conn)

    async def write_bytes(self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None) -> None:
        leaving = LEAVING.get()
        try:
            if leaving is not None:
                leaving()
        except Exception as error:
            # whoever waits for the answer is told; the connection has carried nothing and is not used again
            if conn.protocol is not None:
                conn.protocol.set_exception(error)
            conn.close()
            return
        await super().write_bytes(writer, conn, content_length)


class ApiClient:
    """Requests to one API server over one pool of connections. Make it inside a running loop; ``close`` it at the end."""

    def __init__(self, config: ApiConfig, *, service: str = "client", connections_max: int = CONNECTIONS_MAX, answered: Answered = untold) -> None:
        self.config, self._answered = config, answered
        self._root = config.server.rstrip("/")
        self._ssl: ssl.SSLContext | bool = config.tls if config.tls is not None else True
        self._authorization = ""
        self._authorization_until = 0.0
        self._authorizing = asyncio.Lock()
        self._headers = {"User-Agent": f"fleetwake-{service}/{software_version()}", "Accept": JSON}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._ssl, limit=connections_max, keepalive_timeout=KEEPALIVE_SECONDS, ttl_dns_cache=60),
            read_bufsize=READ_BUFFER_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_SECONDS),
            # gzip of a management API's answers costs more CPU than the loopback or data-centre bytes it saves
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
            cookie_jar=aiohttp.DummyCookieJar(),
            proxy=config.proxy or None,
            request_class=_Asking,
        )

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The pool, for protocols that upgrade a connection (port forward)."""
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def request(  # noqa: PLR0913 -- the one flat call every write goes through; an object per request would cost more than it says
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
        audit_id: str = "",
        traceparent: str = "",
        accept: str = "",
        timeout_seconds: float = REQUEST_TIMEOUT_SECONDS,
        leaving: Leaving | None = None,
    ) -> Response:
        """Send one request and read the whole answer. No HTTP status raises; what ``leaving`` raises, does, and then nothing was sent.

        ``path`` is percent-encoded (``resource_path``); ``query`` is not. ``audit_id`` becomes the entry's id in the API server's audit log.

        Raises:
            UnavailableError: no connection, or no whole answer in time; whether the request took effect is unknown.
        """
        headers = self._headers.copy()
        if body is not None:
            headers["Content-Type"] = content_type
        if audit_id:
            headers["Audit-ID"] = audit_id
        if traceparent:
            headers["traceparent"] = traceparent
        if accept:
            headers["Accept"] = accept
        asks = LEAVING.set(leaving)
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._authorize(headers)
                async with self._session.request(
                    method, self._url(path, query), data=body, headers=headers, allow_redirects=False, server_hostname=self.config.server_hostname
                ) as response:
                    answer = Response(response.status, await response.read(), response.headers)
        except TimeoutError as error:
            self._answered(method, 0)
            raise errors.UnavailableError(f"no answer within {timeout_seconds:g} s", operation=f"{method} {path}") from error
        except (aiohttp.ClientError, OSError) as error:
            self._answered(method, 0)
            raise errors.UnavailableError(f"{type(error).__name__}: {error}", operation=f"{method} {path}") from error
        finally:
            LEAVING.reset(asks)
        self._answered(method, answer.status)
        if answer.status == 401:
            self._authorization_until = 0.0
        return answer

    @asynccontextmanager
    async def open(
        self, path: str, *, query: Mapping[str, str] | None = None, connect_seconds: float = REQUEST_TIMEOUT_SECONDS
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Open a streaming GET (a watch, a log): the caller reads ``response.content``; statuses >= 400 raise as ``raise_for`` says.

        Raises:
            UnavailableError: no connection, or no status line in time.
        """
        headers = self._headers.copy()
        operation = f"GET {path}"
        try:
            async with asyncio.timeout(connect_seconds):
                await self._authorize(headers)
                response = await self._session.get(self._url(path, query), headers=headers, allow_redirects=False, server_hostname=self.config.server_hostname)
        except TimeoutError as error:
            self._answered("GET", 0)
            raise errors.UnavailableError(f"no answer within {connect_seconds:g} s", operation=operation) from error
        except (aiohttp.ClientError, OSError) as error:
            self._answered("GET", 0)
            raise errors.UnavailableError(f"{type(error).__name__}: {error}", operation=operation) from error
        self._answered("GET", response.status)
        try:
            if response.status >= 400:
                if response.status == 401:
                    self._authorization_until = 0.0
                raise_for(Response(response.status, await response.read(), response.headers), operation)
            yield response
        finally:
            # a stream is abandoned, not drained: its connection cannot serve another request
            response.close()

    def _url(self, path: str, query: Mapping[str, str] | None) -> URL:
        return URL(f"{self._root}{path}?{urlencode(query)}" if query else self._root + path, encoded=True)

    async def _authorize(self, headers: dict[str, str]) -> None:
        now = time.monotonic()
        if now >= self._authorization_until:
            async with self._authorizing:
                if now >= self._authorization_until:
                    # an exec plugin or an OIDC refresh blocks; nobody else may wait for it
                    self._authorization = await asyncio.to_thread(self.config.authorization)
                    self._authorization_until = time.monotonic() + AUTHORIZATION_MAX_AGE_SECONDS
        if self._authorization:
            headers["Authorization"] = self._authorization


def raise_for(response: Response, operation: str) -> None:
    """Raise the error that the status stands for; return when it is a success. ``operation`` says what was being done.

    Raises:
        FleetwakeError: the subclass that says what to do about it (``fleetwake.kube.answers.error_of``).
    """
    error = error_of(response, operation)
    if error is not None:
        raise error
