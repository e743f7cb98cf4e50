"""TLS and passwords from files: checked, used as they are at the moment of connecting, told apart when they fail."""

from __future__ import annotations

import http.server
import os
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from opentelemetry.sdk.trace.export import SpanExportResult

from fleetwake.connections.files import Password, TlsFiles
from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import refusal
from fleetwake.connections.otlp import Otlp
from fleetwake.connections.refusal import tls_refusal
from fleetwake.errors import SettingsError
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, self_signed_ca, sign_certificate
from fleetwake.settings import Settings

NOW = datetime.now(UTC)
HERE = "127.0.0.1"


def authority(name: str) -> KeyPair:
    return self_signed_ca(name, generate_key("ECDSA-P256"), now=NOW)


def certificate(ca: KeyPair, name: str, usage: str = "client", sans: tuple[str, ...] = (HERE,), now: datetime = NOW) -> KeyPair:
    spec = CertificateSpec(name, sans=sans if usage == "server" else (), usages=(usage,), validity=timedelta(hours=1))  # type: ignore[arg-type]
    return sign_certificate(ca, spec, generate_key("ECDSA-P256"), now=now)


def put(folder: Path, name: str, pair: KeyPair) -> tuple[str, str]:
    """Write a pair; returns the paths of certificate and key."""
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    for path, content in zip(paths, (pair.cert_pem, pair.key_pem), strict=True):
        part = path.with_suffix(".part")
        part.write_bytes(content)
        part.replace(path)
    return str(paths[0]), str(paths[1])


class Server:
    """A TLS server that says to each client the common name it came with; ``asks`` makes it refuse those without a certificate of the CA."""

    def __init__(self, folder: Path, ca: KeyPair, pair: KeyPair, *, asks: bool = False) -> None:
        (folder / "server-ca.crt").write_bytes(ca.cert_pem)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*put(folder, "server", pair))
        self._context.load_verify_locations(folder / "server-ca.crt")
        self._context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_OPTIONAL
        self._listener = socket.create_server((HERE, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                plain, _ = self._listener.accept()
            except OSError:
                return
            try:
                with self._context.wrap_socket(plain, server_side=True) as channel:
                    subject = dict(part[0] for part in (channel.getpeercert() or {}).get("subject", ()))  # type: ignore[misc]
                    channel.sendall(subject.get("commonName", "nobody").encode())
            except OSError:
                plain.close()

    def close(self) -> None:
        self._listener.close()


@contextmanager
def serving(folder: Path, ca: KeyPair, pair: KeyPair, *, asks: bool = False) -> Iterator[Server]:
    server = Server(folder, ca, pair, asks=asks)
    try:
        yield server
    finally:
        server.close()


def name_seen(port: int, context: ssl.SSLContext, host: str = HERE) -> str:
    """Connect, and return who the server takes us for."""
    with socket.create_connection((HERE, port), timeout=5) as plain, context.wrap_socket(plain, server_hostname=host) as channel:
        return channel.recv(100).decode()


def test_a_rotated_certificate_is_used_by_the_next_connection_of_the_same_context(tmp_path: Path) -> None:
    ca = authority("ca")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    with serving(tmp_path, ca, certificate(ca, "server", "server")) as server:
        files = TlsFiles("X", str(tmp_path / "ca.crt"), *put(tmp_path, "client", certificate(ca, "first")))
        context = files.context()
        assert name_seen(server.port, context) == "first" and files.context() is context
        put(tmp_path, "client", certificate(ca, "second"))
        assert name_seen(server.port, context) == "second"


def test_a_rotated_ca_is_used_and_the_old_one_no_longer_trusted(tmp_path: Path) -> None:
    old, new = authority("old"), authority("new")
    (tmp_path / "ca.crt").write_bytes(old.cert_pem)
    context = TlsFiles("X", str(tmp_path / "ca.crt")).context()
    with serving(tmp_path, new, certificate(new, "server", "server")) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            name_seen(server.port, context)
        (tmp_path / "ca.crt").write_bytes(new.cert_pem + b"\n# the new one\n")
        assert name_seen(server.port, context) == "nobody"
    with serving(tmp_path, old, certificate(old, "server", "server")) as server, pytest.raises(ssl.SSLCertVerificationError):
        name_seen(server.port, context)


@pytest.mark.parametrize("damage", ["gone", "half"])
def test_a_rotation_that_is_half_done_leaves_the_old_files_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    ca = authority("ca")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    with serving(tmp_path, ca, certificate(ca, "server", "server")) as server:
        paths = put(tmp_path, "client", certificate(ca, "first"))
        context = TlsFiles("FLEETWAKE_KAFKA", str(tmp_path / "ca.crt"), *paths).context()
        second = certificate(ca, "second")
        if damage == "gone":
            Path(paths[1]).unlink()
        else:
            Path(paths[0]).write_bytes(second.cert_pem)
        assert name_seen(server.port, context) == "first"
        assert "FLEETWAKE_KAFKA_KEY_FILE" in caplog.text and "stay in use" in caplog.text
        put(tmp_path, "client", second)
        assert name_seen(server.port, context) == "second"


def test_an_intermediate_ca_in_the_file_is_enough(tmp_path: Path) -> None:
    """cert-manager's ca.crt may be one; the server sends its own certificate only, so no chain leads to a self-signed one."""
    key = ec.generate_private_key(ec.SECP256R1())
    root, intermediate = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("root", "intermediate"))
    builder = x509.CertificateBuilder(issuer_name=root, subject_name=intermediate, public_key=key.public_key(), serial_number=1)
    builder = builder.not_valid_before(NOW - timedelta(hours=1)).not_valid_after(NOW + timedelta(hours=1))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    signed = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    plain = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    ca = KeyPair(signed.public_bytes(serialization.Encoding.PEM), plain)
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    with serving(tmp_path, ca, certificate(ca, "server", "server")) as server:
        assert name_seen(server.port, TlsFiles("X", str(tmp_path / "ca.crt")).context()) == "nobody"


def test_a_context_checks_the_name_and_speaks_no_old_tls(tmp_path: Path) -> None:
    ca = authority("ca")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    context = TlsFiles("X", str(tmp_path / "ca.crt")).context()
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    inner = context._newest()  # type: ignore[attr-defined]
    assert inner.check_hostname and inner.verify_mode is ssl.CERT_REQUIRED and inner.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("untrusted", "is not signed by the CA in FLEETWAKE_KAFKA_CA_FILE"),
        ("unset", "signed by none of the system's CAs .*; set FLEETWAKE_KAFKA_CA_FILE"),
        ("name", "is for another name .*localhost.* into FLEETWAKE_KAFKA_BOOTSTRAP"),
        ("expired", "is not valid .*expired"),
        ("none", "asks for a client certificate .*; set FLEETWAKE_KAFKA_CERTIFICATE_FILE and FLEETWAKE_KAFKA_KEY_FILE"),
        ("foreign", "refuses the client certificate in FLEETWAKE_KAFKA_CERTIFICATE_FILE"),
    ],
)
def test_what_a_handshake_fails_of_is_told_with_its_setting(tmp_path: Path, case: str, told: str) -> None:
    ca, other = authority("ca"), authority("other")
    (tmp_path / "ca.crt").write_bytes((other if case == "untrusted" else ca).cert_pem)
    now = NOW - timedelta(hours=2) if case == "expired" else NOW
    mine = put(tmp_path, "client", certificate(other, "client")) if case == "foreign" else ("", "")
    files = TlsFiles("FLEETWAKE_KAFKA", "" if case == "unset" else str(tmp_path / "ca.crt"), *mine)
    with serving(tmp_path, ca, certificate(ca, "server", "server", now=now), asks=case in ("none", "foreign")) as server:
        host = "localhost" if case == "name" else HERE
        with pytest.raises(ssl.SSLError) as caught:
            name_seen(server.port, files.context(), host)
        assert re.search(told, tls_refusal(caught.value, files, "FLEETWAKE_KAFKA_BOOTSTRAP"))


def test_tls_toward_a_server_without_is_told(tmp_path: Path) -> None:
    listener = socket.create_server((HERE, 0))

    def answer() -> None:
        channel, _ = listener.accept()
        with channel:
            channel.recv(1000)
            channel.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 4)

    threading.Thread(target=answer, daemon=True).start()
    with listener:
        told = refusal(Kafka(f"{HERE}:{listener.getsockname()[1]}", "SSL"))
    assert "speaks no TLS" in told and "FLEETWAKE_KAFKA_BOOTSTRAP" in told


def test_nobody_there_is_no_refusal() -> None:
    with socket.create_server((HERE, 0)) as listener:
        port = listener.getsockname()[1]
    assert refusal(Kafka(f"{HERE}:{port}", "SSL")) == ""


def test_a_password_is_what_its_file_holds_when_it_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "password"
    path.write_text("first\n")
    password = Password("FLEETWAKE_KAFKA_PASSWORD_FILE", str(path))
    assert password.encode("utf-8") == b"first"
    path.write_text("second")
    assert password.encode("utf-8") == b"second"
    path.unlink()
    assert password.encode("utf-8") == b"first" and "FLEETWAKE_KAFKA_PASSWORD_FILE" in caplog.text


def test_a_password_shows_itself_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("sesame")
    kafka = Kafka("k:1", "SASL_PLAINTEXT", username="u", password_file=str(path))
    shown = f"{kafka} {kafka!r} {kafka.client()} {kafka.client()['sasl_plain_password']} {kafka.faust()} {kafka.faust()['broker_credentials']!r}"
    assert "sesame" not in shown and "FLEETWAKE_KAFKA_PASSWORD_FILE" in shown


def test_faust_gets_the_same(tmp_path: Path) -> None:
    ca = authority("ca")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    (tmp_path / "password").write_text("sesame")
    tls = TlsFiles("FLEETWAKE_KAFKA", str(tmp_path / "ca.crt"))
    found = Kafka("a:1,b:2", "SASL_SSL", username="u", password_file=str(tmp_path / "password"), tls=tls).faust()
    credentials = found["broker_credentials"]
    assert found["broker"] == "fleetwake://a:1;fleetwake://b:2"
    assert (credentials.protocol.value, credentials.mechanism.value, credentials.username) == ("SASL_SSL", "SCRAM-SHA-512", "u")
    assert credentials.ssl_context is tls.context() and credentials.password.encode() == b"sesame"
    assert Kafka("a:1").faust() == {"broker": "fleetwake://a:1", "broker_credentials": None}
    assert Kafka("a:1", "SSL", tls=tls).faust()["broker_credentials"].context is tls.context()


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes anything, and keeps headers and the client's name."""

    seen: list[tuple[str, str]]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        peer = self.connection.getpeercert() or {}  # type: ignore[attr-defined]
        subject = dict(part[0] for part in peer.get("subject", ()))
        type(self).seen.append((self.headers["Authorization"], subject.get("commonName", "nobody")))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        # one connection a request
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        return


def test_spans_leave_over_tls_with_headers_and_certificate_as_the_files_are_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, other = authority("ca"), authority("other")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    (tmp_path / "other.crt").write_bytes(other.cert_pem)
    (tmp_path / "headers").write_text("Authorization: Bearer one\n")
    handler = type("Seen", (Collector,), {"seen": []})
    server = http.server.ThreadingHTTPServer((HERE, 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*put(tmp_path, "server", certificate(ca, "server", "server")))
    context.load_verify_locations(tmp_path / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mine = put(tmp_path, "client", certificate(ca, "first"))
    try:
        otlp = Otlp(f"https://{HERE}:{server.server_port}", str(tmp_path / "headers"), TlsFiles("FLEETWAKE_OTLP", str(tmp_path / "ca.crt"), *mine))
        exporter = otlp.exporter()
        assert exporter.export([]) is SpanExportResult.SUCCESS
        (tmp_path / "headers").write_text("Authorization: Bearer two\n")
        put(tmp_path, "client", certificate(ca, "second"))
        assert exporter.export([]) is SpanExportResult.SUCCESS
        assert handler.seen == [("Bearer one", "first"), ("Bearer two", "second")]  # type: ignore[attr-defined]
        # the exporter tries again until its time is over
        monkeypatch.setattr("fleetwake.connections.otlp.TIMEOUT_SECONDS", 0.5)
        foreign = Otlp(otlp.endpoint, tls=TlsFiles("FLEETWAKE_OTLP", str(tmp_path / "other.crt"), *mine)).exporter()
        assert foreign.export([]) is SpanExportResult.FAILURE
    finally:
        server.shutdown()
        server.server_close()


def test_settings_make_the_connections(tmp_path: Path) -> None:
    ca = authority("ca")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
    settings = Settings.from_env({"FLEETWAKE_KAFKA_SECURITY_PROTOCOL": "SSL", "FLEETWAKE_KAFKA_CA_FILE": str(tmp_path / "ca.crt")})
    client = settings.kafka.client()
    assert client["security_protocol"] == "SSL" and client["ssl_context"].check_hostname and client["bootstrap_servers"] == ["127.0.0.1:9092"]
    os.unlink(tmp_path / "ca.crt")
    with pytest.raises(SettingsError, match="FLEETWAKE_KAFKA_CA_FILE"):
        settings.kafka.check()
