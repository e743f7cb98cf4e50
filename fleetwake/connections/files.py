"""Secrets from files, and TLS made of them, read again when the files change.

Mounted Secrets are rotated under a running process (cert-manager, Strimzi): whoever opens a connection uses what the files hold at that moment. A rotation
that is half done, or a file that is gone for a moment, leaves what was read before in use.
"""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass
from functools import cache
from typing import Any

from fleetwake.errors import SettingsError

log = logging.getLogger(__name__)
Stamp = tuple[tuple[int, int, int], ...]


def refuse(message: str) -> SettingsError:
    """The error of a setting; ``message`` begins with its variable and ends with the remedy."""
    return SettingsError(message, operation="settings")


def read_file(variable: str, path: str) -> bytes:
    """The bytes of a file that a setting names.

    Raises:
        SettingsError: it cannot be read, or is empty.
    """
    try:
        with open(path, "rb") as file:
            found = file.read()
    except OSError as error:
        raise refuse(f"{variable}: {path} cannot be read ({error.strerror}); mount the Secret there, readable for this user, or correct the path") from None
    if not found.strip():
        raise refuse(f"{variable}: {path} is empty; put the secret into it")
    return found


def read_secret(variable: str, path: str) -> str:
    """The text of a file that a setting names, without the line end that editors leave behind it.

    Raises:
        SettingsError: it cannot be read, is empty, or is no UTF-8.
    """
    try:
        return read_file(variable, path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        # the error would show what it could not decode
        raise refuse(f"{variable}: {path} is no UTF-8 text; write the password into it as text") from None


class Password(str):
    """The password in a file, read again whenever it is encoded; it shows itself as its variable only.

    aiokafka and kafka-python keep the password that they are given for as long as they live, and encode it for each SCRAM exchange: so a password that was
    rotated is used by the next connection. PLAIN joins texts instead and sees the password of the start.
    """

    variable: str
    path: str

    def __new__(cls, variable: str, path: str) -> Password:
        made = super().__new__(cls, read_secret(variable, path))
        made.variable, made.path = variable, path
        return made

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The bytes of what the file holds now."""
        try:
            return read_secret(self.variable, self.path).encode(encoding, errors)
        except SettingsError as error:
            log.warning("%s; the password read before stays in use", error.message)
            return super().encode(encoding, errors)

    def __repr__(self) -> str:
        return f"<{self.variable}>"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A CA, a client certificate and its key, by path; empty: the system's CAs, no certificate. ``variables`` begins the names of their settings."""

    variables: str
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""

    @property
    def named(self) -> tuple[str, ...]:
        """The variables of those that are set."""
        return tuple(self.variable(part) for part in ("ca", "certificate", "key") if getattr(self, f"{part}_file"))

    def variable(self, part: str) -> str:
        """The variable of ``ca``, ``certificate`` or ``key``."""
        return f"{self.variables}_{part.upper()}_FILE"

    def check(self) -> None:
        """Read the files as a connection would.

        Raises:
            SettingsError: one of certificate and key is missing, or a file cannot be used.
        """
        certificate, key = self.variable("certificate"), self.variable("key")
        for have, lack in ((certificate, key), (key, certificate)):
            if have in self.named and lack not in self.named:
                raise refuse(f"{have} is set but {lack} is not: a client certificate needs both (a file that holds both may be named twice)")
        if self.named:
            _load(self)

    def stamp(self) -> Stamp:
        """What changes when a file is replaced or written. Raises: OSError."""
        found = [os.stat(path) for path in (self.ca_file, self.certificate_file, self.key_file) if path]
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def context(self) -> ssl.SSLContext:
        """The TLS context of clients, one for all that use the same files; certificate and host name of the server are always checked.

        Raises:
            SettingsError: a file cannot be used.
        """
        return _context(self)


class RotatingContext(ssl.SSLContext):
    """A TLS context that each new connection takes anew from the files if they have changed since the last one.

    Both ways in which the standard library, uvloop, aiokafka, kafka-python and redis use a context go through ``wrap_socket`` or ``wrap_bio``.
    """

    _files: TlsFiles
    _stamp: Stamp
    _current: ssl.SSLContext

    def __new__(cls, files: TlsFiles) -> RotatingContext:
        made = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)
        made._files, made._stamp, made._current = files, _stamp(files), _load(files)
        return made

    def _newest(self) -> ssl.SSLContext:
        stamp = _stamp(self._files)
        if stamp != self._stamp:
            try:
                self._current, self._stamp = _load(self._files), stamp
            except SettingsError as error:
                log.warning("%s; the files read before stay in use", error.message)
        return self._current

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """As ``ssl.SSLContext.wrap_socket``."""
        return self._newest().wrap_socket(*arguments, **options)

    def wrap_bio(self, *arguments: Any, **options: Any) -> ssl.SSLObject:
        """As ``ssl.SSLContext.wrap_bio``."""
        return self._newest().wrap_bio(*arguments, **options)


@cache
def _context(files: TlsFiles) -> RotatingContext:
    return RotatingContext(files)


def _stamp(files: TlsFiles) -> Stamp:
    try:
        return files.stamp()
    except OSError:
        return ()


def _load(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # what the CA file holds is trusted, an intermediate CA as well: cert-manager's ca.crt may be one
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if files.ca_file:
        variable = files.variable("ca")
        try:
            context.load_verify_locations(cadata=read_file(variable, files.ca_file).decode("ascii", "ignore"))
        except ssl.SSLError:
            raise refuse(f"{variable}: {files.ca_file} holds no certificate in PEM form; name the CA's certificate (ca.crt)") from None
    else:
        context.load_default_certs()
    if files.certificate_file:
        _load_pair(context, files)
    return context


def _load_pair(context: ssl.SSLContext, files: TlsFiles) -> None:
    certificate, key = files.variable("certificate"), files.variable("key")
    if b"-----BEGIN CERTIFICATE-----" not in read_file(certificate, files.certificate_file):
        raise refuse(f"{certificate}: {files.certificate_file} holds no certificate in PEM form; name the client's certificate (tls.crt, user.crt)")
    if b"PRIVATE KEY-----" not in read_file(key, files.key_file):
        raise refuse(f"{key}: {files.key_file} holds no private key in PEM form; name the key of the certificate (tls.key, user.key)")
    try:
        # without the empty password the library would ask for one on the terminal
        context.load_cert_chain(files.certificate_file, files.key_file, password="")
    except ssl.SSLError as error:
        why = "is not the key of the certificate" if error.reason == "KEY_VALUES_MISMATCH" else "cannot be read, or is encrypted"
        raise refuse(f"{key}: {files.key_file} {why} in {certificate}; name the pair as it was issued, the key not encrypted") from None
    except OSError as error:
        raise refuse(f"{key}: {files.key_file} cannot be read ({error.strerror})") from None
