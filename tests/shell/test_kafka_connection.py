"""A connection to Kafka that breaks is told as broken, whichever turn of the event loop a request comes in."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import aiokafka.conn
import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from fleetwake.connections.kafka_connection import Connection, use_on_uvloop

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close is a reset."""
LIMIT_S = 5.0
METADATA, API_VERSIONS = 3, 18


class Broker:
    """Answers one client's ApiVersions, then resets the connection when it is told to."""

    def __init__(self) -> None:
        self.killed = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.getsockname()[1])

    def _serve(self) -> None:
        with self._server.accept()[0] as client:
            (size,) = struct.unpack(">i", client.recv(4, socket.MSG_WAITALL))
            correlation = client.recv(size, socket.MSG_WAITALL)[4:8]
            answer = correlation + struct.pack(">hi", 0, 2) + struct.pack(">hhh", API_VERSIONS, 0, 0) + struct.pack(">hhh", METADATA, 0, 1)
            client.sendall(struct.pack(">i", len(answer)) + answer)
            self.killed.wait(LIMIT_S)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

    def close(self) -> None:
        self.killed.set()
        self._thread.join(LIMIT_S)
        self._server.close()


@pytest.fixture
def broker() -> Iterator[Broker]:
    with contextlib.closing(Broker()) as found:
        yield found


@pytest.fixture
def connection_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``use_on_uvloop`` replaces is put back."""
    monkeypatch.setattr(aiokafka.conn, "AIOKafkaConnection", AIOKafkaConnection)


async def _ask_just_after_the_loss(broker: Broker) -> tuple[type, BaseException | None]:
    """The class of the connection, and what a request raises that comes after the transport heard of the loss and before aiokafka did."""
    connection = await create_conn("127.0.0.1", broker.port)
    broker.killed.set()
    async with asyncio.timeout(LIMIT_S):
        await connection._closed_fut
        assert connection.connected(), "aiokafka has heard of it: too late for what this test is about"
        try:
            await connection.send(MetadataRequest([]))
        except Exception as error:
            return type(connection), error
    return type(connection), None


@pytest.mark.usefixtures("connection_class")
def test_a_request_in_the_turn_of_the_loss_fails_as_a_broken_connection_does(broker: Broker) -> None:
    use_on_uvloop()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        kind, error = runner.run(_ask_just_after_the_loss(broker))
    assert kind is Connection
    assert isinstance(error, KafkaConnectionError), error


@pytest.mark.usefixtures("connection_class")
def test_the_fault_is_still_there(broker: Broker) -> None:
    """When this fails, ``fleetwake/connections/kafka_connection.py`` has nothing to do any more."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        kind, error = runner.run(_ask_just_after_the_loss(broker))
    assert kind is AIOKafkaConnection
    assert isinstance(error, RuntimeError), error
