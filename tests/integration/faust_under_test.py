"""A bare Faust app run as a process by the tests of our transport: which offsets does it commit, with Faust's own consumer and with ours?

``python faust_under_test.py <broker URL> <topic> <group> <what> <data folder>``; ``what`` is ``in order`` (acknowledge every record as it comes), ``hold 0``
(never acknowledge offset 0) or ``raise 5`` (an agent of the documented form raises at offset 5). Prints ``<partition> <offset>`` of what it took.
"""

from __future__ import annotations

import sys
from typing import Any

import faust

from fleetwake.stream.transport import Heartbeats

BROKER, TOPIC, GROUP, WHAT, FOLDER = sys.argv[1:6]
app: Any = faust.App(
    GROUP,
    broker=BROKER,
    broker_session_timeout=6,
    broker_heartbeat_interval=1,
    broker_commit_interval=0.3,
    consumer_auto_offset_reset="earliest",
    table_standby_replicas=1,
    topic_disable_leader=True,
    topic_allow_declare=False,
    stream_wait_empty=False,
    datadir=FOLDER,
)
app.fleetwake_heartbeats = Heartbeats()
topic = app.topic(TOPIC, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")


def took(message: Any) -> None:
    sys.stdout.write(f"{message.partition} {message.offset}\n")
    sys.stdout.flush()


if WHAT.startswith("raise"):

    @app.agent(topic)
    async def raising(stream: Any) -> None:
        async for event in stream.events():
            if event.message.offset == int(WHAT.split()[1]):
                raise ValueError("a record that nobody can handle")
            took(event.message)

else:

    @app.agent(topic)
    async def agent(stream: Any) -> None:
        async for event in stream.noack().events():
            took(event.message)
            if event.message.offset != 0 or not WHAT.startswith("hold"):
                event.ack()


sys.argv = ["x", "worker", "--without-web", "-l", "error"]
app.main()
