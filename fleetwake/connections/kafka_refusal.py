"""Why Kafka does not take us: the libraries try again and again and say only that no broker answers, so we ask one ourselves, once, step by step."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from typing import Any

from aiokafka.conn import create_conn
from aiokafka.errors import IllegalSaslStateError, KafkaError, SaslAuthenticationFailed, UnsupportedSaslMechanismError
from aiokafka.protocol.metadata import MetadataRequest

from fleetwake.connections.kafka import (
    ANSWER_BYTES,
    API_VERSIONS,
    BOOTSTRAP,
    CORRELATION_ID,
    MECHANISM,
    PASSWORD,
    PROTOCOL,
    USERNAME,
    Kafka,
)
from fleetwake.connections.refusal import tls_refusal
from fleetwake.errors import UnavailableError

LIMIT_SECONDS = 5.0
LISTEN_SECONDS = 0.5
PORT_DEFAULT = 9092
TLS_ALERT = b"\x15\x03"


def refusal(kafka: Kafka) -> str:
    """What keeps us out, with the setting to look at; empty when a broker takes us, or when none answers at all.

    Blocks for some seconds at most; not to be called on an event loop.

    Raises:
        SettingsError: a file cannot be used.
    """
    told = ""
    for address in kafka.addresses:
        host, _, port = address.rpartition(":") if ":" in address else (address, "", str(PORT_DEFAULT))
        try:
            told = _greet(kafka, host, int(port)) or asyncio.run(_introduce(kafka, host, int(port)))
        except (OSError, ValueError):
            continue
        if not told:
            return ""
    return told


def unavailable(kafka: Kafka, error: BaseException, operation: str) -> UnavailableError:
    """The error to raise when a client could not connect; blocks as ``refusal`` does."""
    why = refusal(kafka) or f"{error}; is a broker up there, is {BOOTSTRAP} right?"
    return UnavailableError(f"no Kafka broker serves us at {kafka}: {why}", operation=operation)


async def unavailable_async(kafka: Kafka, error: BaseException, operation: str) -> UnavailableError:
    """The same on an event loop."""
    return await asyncio.to_thread(unavailable, kafka, error, operation)


def _greet(kafka: Kafka, host: str, port: int) -> str:
    """Connect, shake hands, ask for the versions. Raises: OSError when nobody is there."""
    answer = b""
    # a server that refuses a certificate says so and closes: what had been sent to it by then can cost us its last word, so the second time we listen first
    for listen_first in (False, True):
        plain = socket.create_connection((host, port), timeout=LIMIT_SECONDS)
        try:
            with kafka.tls.context().wrap_socket(plain, server_hostname=host) if kafka.encrypted else plain as channel:
                answer = _asked(channel, listen_first and kafka.encrypted)
        except ssl.SSLError as error:
            return tls_refusal(error, kafka.tls, BOOTSTRAP)
        except OSError:
            continue
        if answer:
            break
    if len(answer) == ANSWER_BYTES and struct.unpack(">iih", answer)[1] == CORRELATION_ID:
        return ""
    if answer.startswith(TLS_ALERT) or not kafka.encrypted:
        return f"the broker does not understand us: that port may be one for TLS, and {PROTOCOL} is {kafka.protocol}"
    return f"the broker closed the connection; look at {kafka.tls.variable('certificate')} and {PROTOCOL}"


def _asked(channel: socket.socket, listen_first: bool) -> bytes:
    answer = b""
    if listen_first:
        with suppress(TimeoutError):
            channel.settimeout(LISTEN_SECONDS)
            answer = channel.recv(ANSWER_BYTES)
        channel.settimeout(LIMIT_SECONDS)
    channel.sendall(API_VERSIONS)
    while len(answer) < ANSWER_BYTES and (block := channel.recv(ANSWER_BYTES - len(answer))):
        answer += block
    return answer


async def _introduce(kafka: Kafka, host: str, port: int) -> str:
    """Say who we are, and ask for something that only a known client gets."""
    arguments: dict[str, Any] = {name: value for name, value in kafka.client().items() if name != "bootstrap_servers"}
    try:
        connection = await create_conn(host, port, request_timeout_ms=int(LIMIT_SECONDS * 1000), **arguments)
    except SaslAuthenticationFailed:
        return f"the broker refuses user {kafka.username} with that password; correct {USERNAME} and {PASSWORD}, and look whether it knows {kafka.mechanism}"
    except UnsupportedSaslMechanismError as error:
        return f"the broker does not offer what {MECHANISM} says: {error}"
    except IllegalSaslStateError:
        return f"the broker wants no user name at that port; {PROTOCOL} is {kafka.protocol}"
    except (KafkaError, TimeoutError) as error:
        return f"the broker did not let us in: {error}; look at {PROTOCOL}"
    try:
        await connection.send(MetadataRequest([]))
    except (KafkaError, TimeoutError) as error:
        return f"the broker lets nobody in unnamed ({error}): that port may be one for user names, and {PROTOCOL} is {kafka.protocol}"
    finally:
        connection.close()
    return ""
