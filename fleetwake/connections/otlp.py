"""How spans reach the trace backend: OTLP over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fleetwake.connections.files import TlsFiles, read_secret, refuse

if TYPE_CHECKING:
    import requests
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

VARIABLES = "FLEETWAKE_OTLP"
ENDPOINT, HEADERS = f"{VARIABLES}_ENDPOINT", f"{VARIABLES}_HEADERS_FILE"
TRACES_PATH = "/v1/traces"
TIMEOUT_SECONDS = 5

NO_FILES = TlsFiles(VARIABLES)


@dataclass(frozen=True, slots=True)
class Otlp:
    """Where spans go; an empty endpoint: nowhere. ``headers_file`` and ``tls`` are paths: no secret is in here."""

    endpoint: str = ""
    headers_file: str = ""
    tls: TlsFiles = NO_FILES

    def __bool__(self) -> bool:
        return bool(self.endpoint)

    @property
    def traces_url(self) -> str:
        """Where spans are posted."""
        return self.endpoint if self.endpoint.endswith(TRACES_PATH) else f"{self.endpoint.rstrip('/')}{TRACES_PATH}"

    def check(self) -> None:
        """Refuse what contradicts itself or cannot be read.

        Raises:
            SettingsError: the message names the variable and the remedy.
        """
        if not self.endpoint:
            return
        parts = urlsplit(self.endpoint)
        if parts.username is not None or parts.password is not None:
            raise refuse(f"{ENDPOINT} holds a user name or a password; take it out and write an Authorization header into the file of {HEADERS}")
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise refuse(f"{ENDPOINT} is no http:// or https:// URL; write http://collector:4318, or https:// for TLS")
        if self.tls.named and parts.scheme == "http":
            raise refuse(f"{self.tls.named[0]} is set but {ENDPOINT} is without TLS; write https:// in it, or take it out")
        if self.headers_file:
            self._headers()
        self.tls.check()

    def exporter(self) -> OTLPSpanExporter:
        """An exporter of spans; nothing is sent yet. The library reads CA and certificate for each new connection, we the headers for each request."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        from fleetwake.connections.otlp_session import OtlpSession

        session = OtlpSession()
        if self.headers_file:
            session.auth = self._sign
        return OTLPSpanExporter(
            endpoint=self.traces_url,
            timeout=TIMEOUT_SECONDS,
            certificate_file=self.tls.ca_file or None,
            client_certificate_file=self.tls.certificate_file or None,
            client_key_file=self.tls.key_file or None,
            session=session,
        )

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers())
        return request

    def _headers(self) -> dict[str, str]:
        found = {}
        for number, line in enumerate(read_secret(HEADERS, self.headers_file).splitlines(), 1):
            name, colon, value = line.partition(":")
            if not line.strip():
                continue
            if not colon or not name.strip() or not value.strip():
                # the line is not shown: it may hold a token
                raise refuse(f"{HEADERS}: line {number} of {self.headers_file} is no header; write one `Name: value` a line")
            found[name.strip()] = value.strip()
        return found
