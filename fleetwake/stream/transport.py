"""Faust's Kafka transport with our acknowledgement rules and a view of the group's heartbeat; found by Faust as ``fleetwake://``.

Two things of Faust 0.15.3 are changed, in subclasses and nowhere else (docs/design.md, kafka-faust.md rule 2):
acknowledgements reach it strictly in order, so the offset to commit is simply behind the highest one, whatever holes compaction left; and it must not
expand those holes into lists of integers. Holes in *delivery* are found elsewhere (``fleetwake.shell.intake``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ClassVar

from faust.assignor.client_assignment import ClientAssignment
from faust.transport.drivers import aiokafka as driver

FETCH_WAIT_MS = 50
"""Longest wait of one fetch: what a partition left out of it may lose (at 100 ms it was the p99 from watch line to reconcile start).
Idle, it costs 20 small requests a second of every worker: 16 % of a core in the broker for three of them, against 11 % at 100 ms."""


class Heartbeats:
    """When the group last confirmed this member, on a clock that counts suspension. Written by the consumer's thread, read by the event loop."""

    def __init__(self, boot: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) -> None:
        self._boot = boot
        self.last: float = float("-inf")

    def confirmed(self, at: float) -> None:
        """The group answered a request that was sent at ``at``."""
        self.last = max(self.last, at)

    def now(self) -> float:
        """Seconds since boot, suspension included."""
        return self._boot()

    @property
    def known(self) -> bool:
        """Whether the group has ever confirmed this member."""
        return self.last > float("-inf")

    def age(self) -> float:
        """Seconds since the last confirmed request was sent."""
        return self._boot() - self.last


class ConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Adds the heartbeat's time to Faust's consumer thread."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust fixes 1.5 s. A partition whose records were being handled when a fetch left is not in it, and waits for the end of that fetch.
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Start the consumer, then listen to its coordinator."""
        await super().on_start()
        coordinator = self._consumer._coordinator
        heartbeats: Heartbeats = self.consumer.app.fleetwake_heartbeats
        beat = coordinator._do_heartbeat

        async def observed() -> bool:
            at = heartbeats.now()
            answered = bool(await beat())
            if answered:
                heartbeats.confirmed(at)
            return answered

        coordinator._do_heartbeat = observed

    def rejoin(self) -> None:
        """Join the group again as the member it knows, which had nothing: Faust's assignor asks for what it had, and fails when that is not there any more."""
        self.consumer.app.assignor._assignment = ClientAssignment(actives={}, standbys={})
        self.thread_loop.call_soon_threadsafe(self._consumer._coordinator.request_rejoin)


class Consumer(driver.Consumer):  # type: ignore[misc]
    """Commits behind the highest acknowledged offset: right because ours come in order, per partition and generation."""

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def rejoin(self) -> None:
        """Ask the group for an assignment again; the answer comes as any other."""
        self._thread.rejoin()

    def _new_offset(self, tp: Any) -> int | None:
        acked = self._acked[tp]
        if not acked:
            return None
        highest = max(acked)
        acked.clear()
        self._acked_index[tp].clear()
        return int(highest) + 1

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        return


class Transport(driver.Transport):  # type: ignore[misc]
    """The transport Faust loads for ``fleetwake://`` broker URLs."""

    Consumer: ClassVar[type] = Consumer
