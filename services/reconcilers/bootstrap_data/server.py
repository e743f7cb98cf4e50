"""The listener: TLS, one path, a limit on refusals per address, and the memory of used tokens in Redis."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from contextlib import suppress

from aiohttp import web
from redis.exceptions import RedisError

from fleetwake.connections.redis import Redis
from fleetwake.errors import FleetwakeError
from fleetwake.settings import Settings
from fleetwake.shell.service import Service
from schemas.api.scalars import LABEL_PATTERN, SUBDOMAIN_PATTERN
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap import transports
from services.reconcilers.bootstrap.request import FetchPoint
from services.reconcilers.bootstrap_data.authority import SECRET_NAME, Authority
from services.reconcilers.bootstrap_data.handing_out import HandingOut, Place, config_key

log = logging.getLogger(__name__)
REFRESH_SECONDS, RETRY_SECONDS = 3600.0, 60.0
"""Between two looks at the certificate, which is renewed a month before it ends: a settled fleet makes no other request. Sooner after a failure."""
TIMEOUT_SECONDS = 1.0
"""For Redis: without its answer the API server's counts."""
REMEMBERED_SECONDS = 7 * 24 * 3600
"""How long Redis remembers a used token: longer than one may live."""
REFUSALS_MAX = 20
REFUSAL_WINDOW_SECONDS = 60.0
"""An address that was refused so often within this time is not listened to: guessing costs the API server nothing."""
ADDRESSES_MAX = 10_000
_LABEL, _SUBDOMAIN = re.compile(LABEL_PATTERN), re.compile(SUBDOMAIN_PATTERN)


def fetch_point(settings: Settings) -> FetchPoint | None:
    """Where hosts fetch from, None where nothing is served."""
    if not settings.bootstrap_data_url:
        return None
    return FetchPoint(settings.bootstrap_data_url, ObjectKey("", "Secret", settings.system_namespace, SECRET_NAME))


class RememberedTokens:
    """``SpentTokens`` in Redis. It may forget: the Secret's annotation is the truth."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis = redis.async_client(TIMEOUT_SECONDS) if redis else None
        self._prefix = f"fleetwake:{prefix}:fetched"

    async def cluster_of(self, token_hash: str) -> str:
        """The cluster whose data the token opened."""
        if self._redis is None:
            return ""
        try:
            return str(await self._redis.get(f"{self._prefix}:{token_hash}") or "")
        except (RedisError, OSError):
            return ""

    async def remember(self, token_hash: str, cluster: str) -> None:
        """Remember a used token."""
        if self._redis is not None:
            with suppress(RedisError, OSError):
                await self._redis.set(f"{self._prefix}:{token_hash}", cluster, ex=REMEMBERED_SECONDS)

    async def close(self) -> None:
        """Disconnect."""
        if self._redis is not None:
            await self._redis.aclose()


class Refusals:
    """How often each address was refused lately."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, list[float]] = OrderedDict()

    def add(self, address: str, now: float) -> None:
        """Count a refusal."""
        self._times[address] = [*self._recent(address, now), now][-REFUSALS_MAX:]
        self._times.move_to_end(address)
        while len(self._times) > ADDRESSES_MAX:
            self._times.popitem(last=False)

    def too_many(self, address: str, now: float) -> bool:
        """Whether an address is not listened to for now."""
        return len(self._recent(address, now)) >= REFUSALS_MAX

    def _recent(self, address: str, now: float) -> list[float]:
        return [at for at in self._times.get(address, ()) if now - at < REFUSAL_WINDOW_SECONDS]


class BootstrapDataServer:
    """Serves from ``start`` to ``stop``."""

    def __init__(self, service: Service, point: FetchPoint) -> None:
        settings, ports = service.settings, service.worker.ports
        self._address = (settings.bootstrap_data_bind, settings.bootstrap_data_port)
        self._clock = ports.clock
        self._spent = RememberedTokens(settings.redis, settings.topic_prefix)
        self._refusals = Refusals()
        self._authority = Authority(ports.kube, point.ca, point.url, ports.clock.now)
        # the worker's own chains: where it owns the partition, what follows vouches for these records
        place = Place(ports, service.worker.resources, service.worker.results, self._spent, point, settings.partitions)
        self._handing_out = HandingOut(place)
        self._runner: web.AppRunner | None = None
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            FleetwakeError: there is no certificate to serve with.
            OSError: the address is taken.
        """
        await self._authority.refresh()
        app = web.Application()
        app.router.add_get(f"{transports.PATH}/{{namespace}}/{{name}}", self._get)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, *self._address, ssl_context=self._authority.context).start()
        self._refreshing = asyncio.create_task(self._refresh())
        log.info("bootstrap data is served at %s:%d", *self._address)

    async def stop(self) -> None:
        """Stop listening."""
        if self._refreshing is not None:
            self._refreshing.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
        await self._spent.close()

    async def _refresh(self) -> None:
        pause = REFRESH_SECONDS
        while True:
            await asyncio.sleep(pause)
            try:
                await self._authority.refresh()
                pause = REFRESH_SECONDS
            except FleetwakeError as error:
                pause = RETRY_SECONDS
                log.warning("the certificate of the bootstrap data service is not refreshed: %s", error)

    async def _get(self, request: web.Request) -> web.Response:
        remote, now = request.remote or "", self._clock.boot()
        if self._refusals.too_many(remote, now):
            # for a host behind the same address it is a delay, no refusal: it tries again
            return web.Response(status=503, headers={"Retry-After": "30"})
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        if not _LABEL.fullmatch(namespace) or not _SUBDOMAIN.fullmatch(name):
            # names go into paths of the API server: nothing but a name may
            self._refusals.add(remote, now)
            return web.Response(status=403)
        key = config_key(namespace, name)
        try:
            answer = await self._handing_out.answer(key, request.headers.get("Authorization", ""), remote)
        except FleetwakeError as error:
            log.warning("bootstrap data of %s/%s cannot be given to %s: %s", key.namespace, key.name, remote, error)
            return web.Response(status=503, headers={"Retry-After": "5"})
        if answer.status != 200:
            self._refusals.add(remote, now)
            return web.Response(status=answer.status)
        return web.Response(body=answer.body, content_type="application/gzip", headers={"Cache-Control": "no-store"})
