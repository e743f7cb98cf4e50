"""Fetching bootstrap data over TLS, as a host's script does: once, believing one certificate authority."""

from __future__ import annotations

import ssl

import aiohttp

from fleetwake.errors import UnavailableError
from services.dev_infrastructure.emulation.fetched import ARCHIVE_BYTES_MAX, Order
from services.dev_infrastructure.emulation.user_data import BootstrapError

TIMEOUT_SECONDS = 60.0


async def fetch(order: Order) -> bytes:
    """The archive that an order names.

    Raises:
        BootstrapError: it is refused.
        UnavailableError: nobody answers yet.
    """
    try:
        context = ssl.create_default_context(cadata=order.authority)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(order.url, headers={"Authorization": order.authorization}, ssl=context, allow_redirects=False) as response,
        ):
            body = await response.content.read(ARCHIVE_BYTES_MAX)
            while not response.content.at_eof():
                more = await response.content.read(ARCHIVE_BYTES_MAX)
                body += more
                if len(body) > ARCHIVE_BYTES_MAX:
                    raise BootstrapError("the bootstrap data is larger than a host would take")
    except (TimeoutError, aiohttp.ClientError, OSError, ssl.SSLError) as error:
        raise UnavailableError(type(error).__name__, operation="fetch the bootstrap data") from None
    if response.status >= 500:
        raise UnavailableError(f"status {response.status}", operation="fetch the bootstrap data")
    if response.status != 200:
        raise BootstrapError(f"the bootstrap data is refused: {response.status}")
    return body
