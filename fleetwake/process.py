"""A service as this process: our event loop, the signals that end it, its exit code."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterator
from typing import Any

import setproctitle

from fleetwake.errors import FleetwakeError
from fleetwake.event_loop import EventLoop


def run_process(service: str, work: Coroutine[Any, Any, None], *, titled: bool) -> int:
    """Run ``work`` until it ends or SIGTERM or SIGINT cancels it; returns the exit code, 1 after an error of ours, which is logged.

    ``titled`` names the process after the service.
    """
    if titled:
        setproctitle.setproctitle(service)
    log = logging.getLogger(f"services.{service}")
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(_until_told(work, log))
    except* FleetwakeError as group:
        for error in _within(group):
            log.critical("%s", error, exc_info=error)
        return_code = 1
    else:
        return_code = 0
    return return_code


async def _until_told(work: Coroutine[Any, Any, None], log: logging.Logger) -> None:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        log.info("stopped")


def _within(group: BaseExceptionGroup[FleetwakeError]) -> Iterator[FleetwakeError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _within(error)
        else:
            yield error
