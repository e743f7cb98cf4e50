"""The end of a process whose orderly end does not come: a supervisor restarts what has ended, not what stands still."""

from __future__ import annotations

import logging
import os
import threading

log = logging.getLogger(__name__)

EXIT_CODE = 1


def end_within(seconds: float) -> None:
    """End this process after ``seconds`` whatever its tasks and threads then wait for; nothing when it has ended before."""
    timer = threading.Timer(seconds, _end, (seconds,))
    timer.daemon = True
    timer.start()


def _end(seconds: float) -> None:
    log.critical("the orderly end has not come within %.0f s: ending where it stands", seconds)
    logging.shutdown()
    os._exit(EXIT_CODE)
