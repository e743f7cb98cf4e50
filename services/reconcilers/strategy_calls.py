"""Asking external upgrade strategies: one HTTPS call at a time for each MachineDeployment, its answer kept and its key woken.

A call is a look, never a write: an answer that is lost is asked for again. Decisions see only what ``told`` says.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import ssl
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import aiohttp
import orjson

from fleetwake.background import Background
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine_deployment.extension import Answer, Told

log = logging.getLogger(__name__)
CALLS_MAX = 16
"""Calls under way at a time, to all servers together."""
ANSWER_BYTES_MAX = 1 << 20
ANSWERS_MAX = 10_000
CONTEXTS_MAX = 64
REASON_MAX = 300
"""Longest part of a server's own words that is told."""


class CallError(Exception):
    """A call brought no answer; the text says why, for people."""


class StrategyCalls:
    """See the module. ``open`` before the first question; ``now`` and ``wake`` are the service's."""

    def __init__(self) -> None:
        self._answers: OrderedDict[ObjectKey, Answer] = OrderedDict()
        self._asking: dict[ObjectKey, str] = {}
        self._contexts: OrderedDict[str, ssl.SSLContext] = OrderedDict()
        self._limit = asyncio.Semaphore(CALLS_MAX)
        self._background = Background(lambda error: log.error("a strategy's call ended by a bug: %r", error, exc_info=error))
        self._session: aiohttp.ClientSession | None = None
        self._now: Callable[[], datetime] | None = None
        self._wake: Callable[[ObjectKey], None] | None = None

    def open(self, now: Callable[[], datetime], wake: Callable[[ObjectKey], None]) -> None:
        """Be ready to ask."""
        self._now, self._wake = now, wake
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CALLS_MAX))

    async def close(self) -> None:
        """End every call."""
        await self._background.stop()
        if self._session is not None:
            await self._session.close()

    def told(self, key: ObjectKey) -> Told:
        """What is known of a MachineDeployment's strategy."""
        return Told(self._answers.get(key), self._asking.get(key, ""))

    async def ask(self, arguments: Mapping[str, Any]) -> None:
        """Start a call; one under way for an older question ends unheard."""
        key, digest = ObjectKey.parse(arguments["key"]), str(arguments["digest"])
        if self._asking.get(key) != digest:
            self._asking[key] = digest
            self._background.spawn(self._ask(key, digest, arguments))

    async def _ask(self, key: ObjectKey, digest: str, arguments: Mapping[str, Any]) -> None:
        if self._now is None or self._wake is None:
            raise RuntimeError("strategies cannot be asked before the service has started")
        held = self._answers.get(key)
        failures = held.failures if held is not None else 0
        try:
            async with self._limit:
                body = await self._call(arguments)
            answer = Answer(digest, self._now(), body)
        except CallError as error:
            answer = Answer(digest, self._now(), error=str(error), failures=failures + 1)
            (log.warning if failures == 0 else log.debug)("upgrade strategy of %s: %s", key, error)
        finally:
            current = self._asking.get(key) == digest
            if current:
                del self._asking[key]
        if not current:
            return
        self._answers[key] = answer
        self._answers.move_to_end(key)
        while len(self._answers) > ANSWERS_MAX:
            self._answers.popitem(last=False)
        self._wake(key)

    async def _call(self, arguments: Mapping[str, Any]) -> Any:
        """The answer's JSON.

        Raises:
            CallError: there is none.
        """
        if self._session is None:
            raise RuntimeError("strategies cannot be asked before the service has started")
        url, seconds = str(arguments["url"]), float(arguments["timeout_seconds"])
        if not url.startswith("https://"):
            raise CallError(f"{url or 'the server'} is not reached by https")
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.post(
                    url, data=orjson.dumps(arguments["request"]), headers=headers, ssl=self._context(str(arguments["ca_bundle"])), allow_redirects=False
                ) as response,
            ):
                data = await _bounded(response)
        except TimeoutError:
            raise CallError(f"no answer within {seconds:g} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise CallError(f"call failed: {error or type(error).__name__}"[:REASON_MAX]) from None
        if response.status != 200:
            raise CallError(f"answered with HTTP status {response.status}")
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            raise CallError("the answer is not JSON") from None

    def _context(self, ca_bundle: str) -> ssl.SSLContext:
        """How the server proves who it is: by this authority, or the system's; its host name is always checked.

        Raises:
            CallError: the bundle holds no certificate.
        """
        digest = hashlib.sha256(ca_bundle.encode()).hexdigest()
        found = self._contexts.get(digest)
        if found is None:
            try:
                authority = base64.b64decode(ca_bundle, validate=True).decode("ascii") if ca_bundle else None
                found = ssl.create_default_context(cadata=authority)
            except (binascii.Error, ssl.SSLError, UnicodeDecodeError, ValueError) as error:
                raise CallError(f"caBundle is unusable: {error}"[:REASON_MAX]) from None
            found.minimum_version = ssl.TLSVersion.TLSv1_2
            self._contexts[digest] = found
            while len(self._contexts) > CONTEXTS_MAX:
                self._contexts.popitem(last=False)
        return found


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    """The body.

    Raises:
        CallError: it is too long.
    """
    data = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        data += part
        if len(data) > ANSWER_BYTES_MAX:
            raise CallError(f"the answer is longer than {ANSWER_BYTES_MAX} bytes")
    return bytes(data)
