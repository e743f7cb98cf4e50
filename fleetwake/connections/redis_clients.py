"""The clients of Redis themselves: in a module of their own because the library takes a third of a second to import, and settings are read by every command."""

from __future__ import annotations

import ssl
from typing import Any

import redis as library
import redis.asyncio as async_library
from redis.credentials import CredentialProvider

from fleetwake.connections.files import read_secret
from fleetwake.connections.redis import PASSWORD, Redis


class _FromFiles(CredentialProvider):
    """User name and password, the latter read for each new connection."""

    def __init__(self, username: str, password_file: str) -> None:
        self._username, self._password_file = username, password_file

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = read_secret(PASSWORD, self._password_file)
        return (self._username, password) if self._username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class _Tls(library.SSLConnection):
    """A blocking connection over our context: the library's own trusts the system's CAs beside the one that is set."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _wrap_socket_with_ssl(self, sock: Any) -> ssl.SSLSocket:
        return self._tls.wrap_socket(sock, server_hostname=self.host)


class _AsyncTls(async_library.SSLConnection):
    """The same without blocking: the library's own would keep the files of the first connection for ever."""

    def __init__(self, *, tls: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)
        self._tls = tls

    def _connection_arguments(self) -> dict[str, Any]:
        return {**async_library.Connection._connection_arguments(self), "ssl": self._tls}


def client(redis: Redis, timeout_seconds: float) -> library.Redis:
    """A blocking client that decodes answers; nothing is sent yet. Raises: SettingsError."""
    made = library.Redis.from_url(redis.url, decode_responses=True, **_options(redis, timeout_seconds))
    _secure(made.connection_pool, redis, _Tls)
    return made


def async_client(redis: Redis, timeout_seconds: float) -> async_library.Redis:
    """The same for an event loop. Raises: SettingsError."""
    made: async_library.Redis = async_library.Redis.from_url(redis.url, decode_responses=True, **_options(redis, timeout_seconds))
    _secure(made.connection_pool, redis, _AsyncTls)
    return made


def _options(redis: Redis, timeout_seconds: float) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds}
    if redis.password_file:
        options["credential_provider"] = _FromFiles(redis.username, redis.password_file)
    return options


def _secure(pool: library.ConnectionPool | async_library.ConnectionPool, redis: Redis, over_tls: type[Any]) -> None:
    if redis.encrypted:
        # from_url lets the URL choose the class, whatever it is given
        pool.connection_class = over_tls
        pool.connection_kwargs["tls"] = redis.tls.context()
