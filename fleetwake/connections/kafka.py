"""How clients reach Kafka: the arguments of aiokafka, kafka-python and Faust, from one value."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fleetwake.connections.files import Password, TlsFiles, read_secret, refuse

if TYPE_CHECKING:
    import ssl

VARIABLES = "FLEETWAKE_KAFKA"
PROTOCOL, USERNAME, PASSWORD = f"{VARIABLES}_SECURITY_PROTOCOL", f"{VARIABLES}_USERNAME", f"{VARIABLES}_PASSWORD_FILE"
MECHANISM, BOOTSTRAP = f"{VARIABLES}_SASL_MECHANISM", f"{VARIABLES}_BOOTSTRAP"
CORRELATION_ID = 7
_BODY = struct.pack(">hhih", 18, 0, CORRELATION_ID, -1)
API_VERSIONS = struct.pack(">i", len(_BODY)) + _BODY
"""The one request that a broker answers whoever asks: ApiVersions, version 0, no client id."""
ANSWER_BYTES = 10
"""The length, correlation id and error code that its answer begins with."""

AUTHORIZATION_FAILED = frozenset({29, 30, 31})
"""Kafka's error codes for a topic, a group and the cluster, which both libraries keep in ``errno``."""
FAUST_SCHEME = "fleetwake"
"""The scheme by which Faust finds ``fleetwake.stream.transport``."""

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"]

NO_FILES = TlsFiles(VARIABLES)


@dataclass(frozen=True, slots=True)
class Kafka:
    """Bootstrap servers, and how to be safe on the way to them. ``password_file`` and ``tls`` are paths: no secret is in here."""

    bootstrap: str
    protocol: SecurityProtocol = "PLAINTEXT"
    mechanism: SaslMechanism = "SCRAM-SHA-512"
    username: str = ""
    password_file: str = ""
    tls: TlsFiles = NO_FILES

    def __str__(self) -> str:
        return self.bootstrap

    @property
    def addresses(self) -> list[str]:
        """``host:port`` of each bootstrap server."""
        return [address.strip() for address in self.bootstrap.split(",")]

    @property
    def encrypted(self) -> bool:
        """Whether connections are TLS."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def by_password(self) -> bool:
        """Whether clients say who they are by user name and password."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def who(self) -> str:
        """Whom the broker takes us for, as far as the settings say."""
        if self.by_password:
            return self.username
        return f"the user of {self.tls.variable('certificate')}" if self.tls.certificate_file else "an unnamed client"

    def told(self, error: BaseException) -> str:
        """What an error of either library says; of a refusal also what to do."""
        text = str(error) or type(error).__name__
        if getattr(error, "errno", None) in AUTHORIZATION_FAILED:
            return f"{self.who} may not do that on {self}: {text}; `fleetwake topics access` says what to allow whom"
        return text

    def check(self) -> None:
        """Refuse what contradicts itself or cannot be read.

        Raises:
            SettingsError: the message names the variable and the remedy.
        """
        if self.by_password:
            lacking = [name for name, value in ((USERNAME, self.username), (PASSWORD, self.password_file)) if not value]
            if lacking:
                raise refuse(f"{PROTOCOL} is {self.protocol} but {' and '.join(lacking)} is not set; set it, or choose SSL to authenticate by certificate")
            if self.mechanism == "PLAIN" and not self.encrypted:
                raise refuse(f"{MECHANISM} PLAIN would send the password in the clear; set {PROTOCOL}=SASL_SSL, or a SCRAM mechanism")
            read_secret(PASSWORD, self.password_file)
        elif given := [name for name, value in ((USERNAME, self.username), (PASSWORD, self.password_file)) if value]:
            raise refuse(f"{given[0]} is set but {PROTOCOL} is {self.protocol}, which uses none; set {PROTOCOL}=SASL_SSL, or take it out")
        if not self.encrypted and self.tls.named:
            wanted = "SASL_SSL" if self.by_password else "SSL"
            raise refuse(f"{self.tls.named[0]} is set but {PROTOCOL} is {self.protocol}, without TLS; set {PROTOCOL}={wanted}, or take it out")
        self.tls.check()

    def client(self) -> dict[str, Any]:
        """The arguments by which a client of aiokafka or kafka-python connects; both call them alike.

        Raises:
            SettingsError: a file cannot be used.
        """
        arguments: dict[str, Any] = {"bootstrap_servers": self.addresses, "security_protocol": self.protocol}
        if self.encrypted:
            arguments["ssl_context"] = self.tls.context()
        if self.by_password:
            arguments |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": Password(PASSWORD, self.password_file),
            }
        return arguments

    def faust(self) -> dict[str, Any]:
        """The settings by which a Faust app connects.

        Raises:
            SettingsError: a file cannot be used.
        """
        # only services need it, and it takes half a second
        from faust.auth import SASLCredentials, SSLCredentials

        context: ssl.SSLContext | None = self.tls.context() if self.encrypted else None
        credentials: Any = SSLCredentials(context) if context is not None else None
        if self.by_password:
            password = Password(PASSWORD, self.password_file)
            credentials = SASLCredentials(username=self.username, password=password, ssl_context=context, mechanism=self.mechanism)
        return {"broker": ";".join(f"{FAUST_SCHEME}://{address}" for address in self.addresses), "broker_credentials": credentials}
