"""The Faust app of a service: one agent takes ``objects`` in, one agent per kind runs that kind's keys.

The agents of the kinds read an in-memory channel that carries signals, not keys: keys stay on the kind's queue until a run takes them, so that a
channel emptied by a rebalance loses nothing (kafka-faust.md §3c). No tables; the guarantee is the replay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import faust

from fleetwake.connections.kafka import Kafka
from fleetwake.errors import UnavailableError
from fleetwake.shell.ending import end_within
from fleetwake.shell.intake import DRIFT_CHECK_SECONDS, Intake
from fleetwake.shell.membership import CHECK_SECONDS, FormerAssignment, MembershipWatch
from fleetwake.shell.worker import Worker
from fleetwake.stream.transport import Heartbeats

log = logging.getLogger(__name__)

SESSION_SECONDS = 6
HEARTBEAT_SECONDS = 1
FENCE_SHARE = 0.5
"""A write is sent only while the last confirmed heartbeat is younger than this share of the session."""
COMMIT_SECONDS = 0.5
DRAIN_SECONDS = 10.0
END_SECONDS = 30.0
"""A process that is to end and has not after this long, because what it waits for does not come, ends where it stands."""
STALL_SECONDS = 120.0
"""Lag without progress for longer than this makes /healthz fail."""


@dataclass(frozen=True, slots=True)
class Membership:
    """How the app takes part in its group. ``instance`` is the static member's id; every worker has one of its own that outlives restarts."""

    group: str
    instance: str
    kafka: Kafka
    datadir: str
    session_seconds: int = SESSION_SECONDS


class StreamApp:
    """Faust and the worker, joined. ``before`` and ``after`` start and stop what the service needs beside them."""

    def __init__(
        self,
        membership: Membership,
        make_worker: Callable[[StreamApp], Worker],
        before: Callable[[], Awaitable[None]],
        after: Callable[[], Awaitable[None]],
    ) -> None:
        self.heartbeats = Heartbeats()
        self._membership, self._before, self._after = membership, before, after
        self._fatal: BaseException | None = None
        self.app = self._faust()
        self.app.fleetwake_heartbeats = self.heartbeats
        self._channels: dict[str, Any] = {}
        self._signalled: set[str] = set()
        self.worker = make_worker(self)
        self.intake = Intake(self.worker, membership.kafka, self.worker.options.topics, self.crash)
        self._former = FormerAssignment(self.worker.options.partitions, self._rejoin_in, self.crash)
        self._agents()
        self._signals()

    def _faust(self) -> Any:
        m = self._membership
        return faust.App(
            m.group,
            **m.kafka.faust(),
            broker_session_timeout=m.session_seconds,
            broker_heartbeat_interval=HEARTBEAT_SECONDS,
            broker_commit_interval=COMMIT_SECONDS,
            broker_rebalance_timeout=60,
            consumer_group_instance_id=m.instance,
            consumer_auto_offset_reset="earliest",
            consumer_metadata_max_age_ms=30_000,
            consumer_max_fetch_size=4 * 1024 * 1024 + 1024,
            table_standby_replicas=1,
            topic_disable_leader=True,
            topic_allow_declare=False,
            stream_wait_empty=False,
            cython_optimizations=True,
            web_enabled=False,
            datadir=m.datadir,
            producer_linger=0.002,
        )

    # ---- seen by the worker -----------------------------------------------------------------------------------------------------------
    def fenced(self) -> bool:
        """Whether this process may no longer write: the group has not confirmed it for half a session."""
        return self.heartbeats.age() > self._membership.session_seconds * FENCE_SHARE

    def signal(self, kind: str) -> None:
        """Tell a kind's agent that a key may run."""
        if kind not in self._signalled and kind in self._channels:
            self._signalled.add(kind)
            asyncio.get_running_loop().create_task(self._channels[kind].put(kind))

    def crash(self, error: BaseException) -> None:
        """End the process: its supervisor starts a new one, the replay does the rest."""
        if self._fatal is None:
            self._fatal = error
            log.critical("ending: %s", error, exc_info=error)
            end_within(END_SECONDS)
            asyncio.get_running_loop().create_task(self.app.crash(error))

    # ---- wiring -----------------------------------------------------------------------------------------------------------------------
    def _agents(self) -> None:
        objects = self.app.topic(self.worker.options.topics.objects, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

        async def intake(stream: Any) -> None:
            async for event in stream.noack().events():
                try:
                    await self.intake.take(event, lambda: self.app.consumer_generation_id)
                except Exception as error:
                    self.crash(error)

        self.app.agent(objects, name="intake")(intake)
        for name in self.worker.queues:
            self._channels[name] = self.app.channel(maxsize=4)
            self.app.agent(self._channels[name], name=f"reconcile-{name}")(self._reconciler(name))

    def _reconciler(self, name: str) -> Any:
        async def reconcile(stream: Any) -> None:
            async for _ in stream:
                self._signalled.discard(name)
                try:
                    self.worker.pump(name)
                except Exception as error:
                    self.crash(error)

        return reconcile

    def _signals(self) -> None:
        app = self.app

        async def assigned(app: Any, assigned: Any, **_: Any) -> None:
            self.heartbeats.confirmed(self.heartbeats.now())
            numbers = {tp.partition for tp in assigned if tp.topic == self.worker.options.topics.objects}
            self.intake.assigned(self._former.take(numbers), app.consumer_generation_id)
            self._signalled.clear()
            for name in self.worker.queues:
                self.signal(name)

        async def revoked(app: Any, revoked: Any, **_: Any) -> None:
            self.intake.revoked()
            await self.intake.answered()

        async def started(app: Any, **_: Any) -> None:
            await self._before()
            self.intake.start()

        async def stopping(app: Any, **_: Any) -> None:
            await self.worker.runner.drain(DRAIN_SECONDS)
            await self.intake.stop()
            await self._after()

        app.on_partitions_assigned.connect(assigned, weak=False)
        app.on_partitions_revoked.connect(revoked, weak=False)
        app.on_before_configured.connect(lambda app, **_: None, weak=False)
        app.on_before_shutdown.connect(stopping, weak=False)
        # services started before the consumer joins the group: what they make must exist when the first record comes
        app.on_start = _chain(app.on_start, started, app)

        @app.timer(DRIFT_CHECK_SECONDS)  # type: ignore[untyped-decorator]
        async def drift() -> None:
            await self.intake.drift_check()
            self.worker.cache.forget_graves()

        watch = MembershipWatch(lambda: self.heartbeats.known and self.fenced(), self.intake.broker_answers)

        @app.timer(CHECK_SECONDS)  # type: ignore[untyped-decorator]
        async def membership() -> None:
            if await watch.forgotten():
                age = self.heartbeats.age()
                self.crash(UnavailableError(f"Kafka answers, but the group has not confirmed this worker for {age:.0f} s", operation="take part in the group"))

    def _rejoin_in(self, seconds: float) -> None:
        log.warning("the assignment is one of the topic as it was; asking the group again")
        asyncio.get_running_loop().call_later(seconds, self.app.consumer.rejoin)

    # ---- health -----------------------------------------------------------------------------------------------------------------------
    def missing(self) -> str:
        """What keeps the service from being ready; empty when it is."""
        if not self.app.started:
            return "starting"
        if self.app.rebalancing:
            return "rebalancing"
        if self._former.asking:
            return "the group's assignment is of a topic as it was before"
        if not self.intake.ready:
            return "replaying"
        if self.fenced():
            return "no confirmed group heartbeat"
        return ""

    def stalled(self) -> str:
        """Why the process should be restarted; empty when it should not."""
        if self._fatal is not None:
            return str(self._fatal)
        waited = max((entry.queue.oldest_wait() for entry in self.worker.queues.values()), default=0.0)
        if waited > STALL_SECONDS and self.worker.runner.free > 0 and not self.fenced() and self.intake.ready:
            return f"a key has waited {waited:.0f} s although runs are free"
        return ""


def _chain(first: Callable[[], Awaitable[None]], then: Callable[..., Awaitable[None]], app: Any) -> Callable[[], Awaitable[None]]:
    async def both() -> None:
        await first()
        await then(app)

    return both
