"""Makes consumers of the trail to be killed: imports once, then forks a life for every line it is given, so that fifty lives take seconds.

Each life is the real consumer in a process of its own: connections to Kafka and database are made after the fork. Prints the pid of each.
"""

from __future__ import annotations

import logging
import os
import signal
import sys

from fleetwake.connections.kafka import Kafka
from services.audit_trail.consumer import Source, TrailConsumer
from services.audit_trail.database import engine_of
from services.audit_trail.metrics import TrailMetrics


def live(bootstrap: str, topic: str, url: str, password_file: str) -> int:
    """One life: consume until killed."""
    logging.basicConfig(level="WARNING", stream=sys.stderr, format=f"%(asctime)s {os.getpid()} %(message)s")
    engine = engine_of(url, password_file)
    if engine.dialect.name == "postgresql":
        import psycopg  # noqa: F401 -- not at the first statement
    TrailConsumer(Source(Kafka(bootstrap), topic), engine, TrailMetrics()).run()
    return 0


def main() -> None:
    """Fork a life per line."""
    arguments = sys.argv[1:5]
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            code = 1
            try:
                code = live(*arguments)
            finally:
                os._exit(code)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
