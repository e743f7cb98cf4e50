"""What a failed TLS handshake means for the settings: which one to look at, and what to do."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetwake.connections.files import TlsFiles

# OpenSSL's X509_V_ERR_* numbers (x509_vfy.h)
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21, 24})
OTHER_NAME = frozenset({62, 64})
NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"})


def tls_refusal(error: BaseException, tls: TlsFiles, address: str) -> str:
    """Why TLS failed, with the setting to look at; empty if it was not TLS that did. ``address`` is the variable that holds the server's name."""
    found = next((part for part in _chain(error) if isinstance(part, ssl.SSLError)), None)
    if found is None:
        return ""
    if isinstance(found, ssl.SSLCertVerificationError):
        return _server_certificate(found, tls, address)
    reason = found.reason or str(found)
    # a server that closes at once may cost us the alert in which it said why
    if "ALERT" in reason or isinstance(found, ssl.SSLEOFError):
        certificate, key = tls.variable("certificate"), tls.variable("key")
        sure = "" if "ALERT" in reason else "probably "
        if not tls.certificate_file:
            return f"the server {sure}asks for a client certificate ({reason}); set {certificate} and {key}"
        return f"the server {sure}refuses the client certificate in {certificate} ({reason}); it must be valid, and signed by a CA that the server trusts"
    if reason in NO_TLS:
        return f"the server speaks no TLS at that port ({reason}); correct the port in {address}, or choose a protocol without TLS"
    return f"TLS failed ({reason}); look at {address} and {', '.join(tls.named) or tls.variable('ca')}"


def _server_certificate(error: ssl.SSLCertVerificationError, tls: TlsFiles, address: str) -> str:
    told = error.verify_message
    if error.verify_code in OTHER_NAME:
        return f"the server's certificate is for another name ({told}); write a name that it holds into {address}"
    if error.verify_code in UNKNOWN_ISSUER:
        variable = tls.variable("ca")
        if not tls.ca_file:
            return f"the server's certificate is signed by none of the system's CAs ({told}); set {variable} to the CA's certificate"
        return f"the server's certificate is not signed by the CA in {variable} ({told}); name the CA of that server"
    return f"the server's certificate is not valid ({told}); renew it, or correct this machine's clock"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
