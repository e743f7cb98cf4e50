"""aiokafka's connection, for uvloop: a request on a connection that has just broken fails as every broken connection does.

uvloop raises RuntimeError ("the handler is closed") where asyncio's own transports drop what is written after the connection was lost. Between the loss and
the turn of the loop in which aiokafka is told of it, a request ran into that. aiokafka 0.14 expects OSError there: its task that keeps the cluster's metadata
ended, and everything that waited for metadata (the search for the group's coordinator) waited for ever, in a process that otherwise went on.
"""

from __future__ import annotations

from typing import Any

import aiokafka.conn
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


class Connection(AIOKafkaConnection):  # type: ignore[misc]
    """Says that it is broken in the words that its clients know."""

    def send(self, request: Any, expect_response: bool = True) -> Any:
        """As aiokafka's.

        Raises:
            KafkaConnectionError: the connection is closed, or its transport is.
        """
        try:
            return super().send(request, expect_response)
        except RuntimeError as error:
            self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
            raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


def use_on_uvloop() -> None:
    """Make every client of aiokafka in this process connect by ``Connection``; there is no argument for it."""
    aiokafka.conn.AIOKafkaConnection = Connection
