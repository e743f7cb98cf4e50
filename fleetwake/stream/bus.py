"""The bus as a worker writes to it: results, dead letters, what it sees in workload clusters."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import unavailable_async
from fleetwake.errors import UnavailableError
from schemas.records import Headers
from schemas.topics import MESSAGE_BYTES_MAX

LINGER_MS = 1
"""Waits this long for company: runs side by side share a batch."""
REQUEST_TIMEOUT_MS = 30_000


class Bus:
    """``fleetwake.shell.ports.BusPort`` over an idempotent producer."""

    def __init__(self, kafka: Kafka, client_id: str) -> None:
        self._kafka, self._client_id = kafka, client_id
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        """Connect.

        Raises:
            UnavailableError: no broker answers, or none takes us; the message names the setting.
        """
        # made here because aiokafka wants a running loop
        self._producer = AIOKafkaProducer(
            **self._kafka.client(),
            client_id=self._client_id,
            enable_idempotence=True,
            acks="all",
            linger_ms=LINGER_MS,
            max_request_size=MESSAGE_BYTES_MAX,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=30_000,
        )
        try:
            await self._producer.start()
        except KafkaError as error:
            raise await unavailable_async(self._kafka, error, "connect to Kafka") from error

    async def stop(self) -> None:
        """Flush and disconnect."""
        if self._producer is not None:
            await self._producer.stop()

    async def produce(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> None:
        """Produce one record and wait for its acknowledgement.

        Raises:
            UnavailableError: the broker did not take it in time; it may still arrive.
        """
        await (await self.enqueue(topic, key, value, headers, partition))

    async def enqueue(self, topic: str, key: bytes, value: bytes | None, headers: Headers, partition: int) -> asyncio.Future[int]:
        """Give one record its place in the partition's order; the answer is its offset, or UnavailableError when its fate is not known.

        aiokafka keeps the order in which records were handed over, retries included: one batch of a partition is on its way at a time.

        Raises:
            UnavailableError: the record got no place and will not arrive.
        """
        if self._producer is None:
            raise UnavailableError("the producer is not connected yet", operation=f"produce to {topic}")
        try:
            sent = await self._producer.send(topic, value=value, key=key, headers=headers, partition=partition)
        except KafkaError as error:
            raise self._unavailable(error, topic) from error
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answered(told: asyncio.Future[Any]) -> None:
            if answer.done():
                return
            if told.cancelled():
                answer.set_exception(UnavailableError("the producer was stopped", operation=f"produce to {topic}"))
            elif (error := told.exception()) is not None:
                answer.set_exception(self._unavailable(error, topic))
            else:
                answer.set_result(told.result().offset)

        sent.add_done_callback(answered)
        return answer

    def _unavailable(self, error: BaseException, topic: str) -> UnavailableError:
        found = UnavailableError(self._kafka.told(error), operation=f"produce to {topic}")
        found.__cause__ = error
        return found
