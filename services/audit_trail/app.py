"""The consumer of the audit trail as a process: the loop in a thread of its own, health and metrics beside it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import setproctitle
from sqlalchemy import Engine

from fleetwake.errors import FleetwakeError
from fleetwake.settings import Settings
from fleetwake.stream.web import HealthServer
from services.audit_trail.consumer import Source, TrailConsumer
from services.audit_trail.database import engine_of
from services.audit_trail.metrics import TrailMetrics

log = logging.getLogger(__name__)
SERVICE = "audit_trail"
STOP_SECONDS = 30.0


def partitions_of(text: str) -> frozenset[int] | None:
    """The partitions that ``0-3,7`` names; None for an empty text."""
    if not text:
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def consumer_of(settings: Settings) -> tuple[TrailConsumer, Engine]:
    """The consumer that the settings describe, and its database.

    Raises:
        DatabaseUrlError: the database's URL or password file cannot be used.
    """
    engine = engine_of(settings.trail_database, settings.trail_database_password_file)
    source = Source(settings.kafka, settings.topics.results, partitions_of(settings.trail_partitions))
    return TrailConsumer(source, engine, TrailMetrics()), engine


async def run(settings: Settings) -> None:
    """Consume until SIGTERM or SIGINT.

    Raises:
        FleetwakeError: the trail cannot go on.
        OSError: the address for health and metrics is taken.
    """
    consumer, engine = consumer_of(settings)
    web = HealthServer((settings.web_bind, settings.web_port), consumer.metrics.registry, consumer.missing, consumer.stalled, consumer.status)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, consumer.stop)
    await web.start()
    place = engine.url.render_as_string(hide_password=True)
    log.info("%s started: instance %s, pid %d, %s into %s", SERVICE, settings.instance, os.getpid(), settings.topics.results, place)
    try:
        await asyncio.to_thread(consumer.run)
    finally:
        await web.stop()
        engine.dispose()


def main(settings: Settings) -> int:
    """Run the consumer as this process; returns the exit code."""
    if settings.process_title:
        setproctitle.setproctitle(SERVICE)
    try:
        asyncio.run(run(settings))
    except FleetwakeError as error:
        log.critical("%s", error, exc_info=error)
        return 1
    log.info("stopped")
    return 0
