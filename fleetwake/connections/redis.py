"""How clients reach Redis, blocking or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleetwake.connections.files import TlsFiles, read_secret, refuse
from fleetwake.connections.refusal import tls_refusal

if TYPE_CHECKING:
    import redis as library
    import redis.asyncio as async_library

VARIABLES = "FLEETWAKE_REDIS"
URL, USERNAME, PASSWORD = f"{VARIABLES}_URL", f"{VARIABLES}_USERNAME", f"{VARIABLES}_PASSWORD_FILE"
NO_FILES = TlsFiles(VARIABLES)
SCHEMES = ("redis", "rediss", "unix")


@dataclass(frozen=True, slots=True)
class Redis:
    """Where Redis is, and who we are to it; an empty URL: there is none. ``password_file`` and ``tls`` are paths: no secret is in here."""

    url: str
    username: str = ""
    password_file: str = ""
    tls: TlsFiles = NO_FILES

    def __bool__(self) -> bool:
        return bool(self.url)

    def __str__(self) -> str:
        return self.url

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        return self.url.startswith("rediss://")

    def check(self) -> None:
        """Refuse what contradicts itself or cannot be read. The URL may hold a password where it must not: no message shows it.

        Raises:
            SettingsError: the message names the variable and the remedy.
        """
        if not self.url:
            return
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError:
            raise refuse(f"{URL} is no URL; write redis://host:6379/0, or rediss://host:6379/0 for TLS") from None
        if parts.username is not None or parts.password is not None or port == 0:
            raise refuse(
                f"{URL} holds a user name or a password, which processes' environments, manifests and logs show; "
                f"take it out, set {USERNAME}, write the password into a file and set {PASSWORD}"
            )
        if parts.scheme not in SCHEMES:
            raise refuse(f"{URL} begins with none of {', '.join(f'{scheme}://' for scheme in SCHEMES)}; for TLS write rediss://host:6379/0")
        if parts.query or parts.fragment:
            raise refuse(f"{URL} holds options behind '?' or '#'; take them out: there are settings for what may be chosen")
        if self.username and not self.password_file:
            raise refuse(f"{USERNAME} is set but {PASSWORD} is not; set it, or take the name out")
        if self.password_file:
            read_secret(PASSWORD, self.password_file)
        if self.tls.named and not self.encrypted:
            raise refuse(f"{self.tls.named[0]} is set but {URL} is without TLS; write rediss:// in it, or take it out")
        self.tls.check()

    def client(self, timeout_seconds: float) -> library.Redis:
        """A blocking client that decodes answers; nothing is sent yet.

        Raises:
            SettingsError: a file cannot be used.
        """
        from fleetwake.connections.redis_clients import client

        return client(self, timeout_seconds)

    def async_client(self, timeout_seconds: float) -> async_library.Redis:
        """The same for an event loop."""
        from fleetwake.connections.redis_clients import async_client

        return async_client(self, timeout_seconds)

    def told(self, error: BaseException) -> str:
        """Why Redis did not do what was asked, with the setting to look at."""
        from redis.exceptions import AuthenticationError, ConnectionError, NoPermissionError

        if isinstance(error, NoPermissionError):
            return f"Redis at {self.url} refuses the command to user {self.username or 'default'} ({error}); see docs/security/transport.md for its ACL"
        if isinstance(error, AuthenticationError):
            given = f"{USERNAME} and {PASSWORD}" if self.username else PASSWORD
            return f"Redis at {self.url} refuses user {self.username or 'default'} ({error}); correct {given}"
        if refused := tls_refusal(error, self.tls, URL):
            return f"Redis at {self.url}: {refused}"
        hint = f"; if it asks for a client certificate, look at {self.tls.variable('certificate')}" if self.encrypted else "; if it speaks TLS, write rediss://"
        return f"Redis does not answer at {self.url} ({error}); is it up, is {URL} right?{hint if isinstance(error, ConnectionError) else ''}"
