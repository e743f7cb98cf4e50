"""kill -9 of the trail's consumer at fifty random points, on a real Kafka and real databases: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import collections
import itertools
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import Engine, func, select

from fleetwake.connections.kafka import Kafka
from fleetwake.rig.probes import wait_until
from fleetwake.rig.records import Endpoints
from fleetwake.shell.chains import Chains
from fleetwake.stream.bus import Bus
from fleetwake.stream.reading import TopicReader
from fleetwake.stream.topics import TopicAdmin
from fleetwake.views.verification import LogFacts, Message, Verification
from schemas.chain import key_id
from schemas.topics import Topics
from services.audit_trail.compare import TrailReader
from services.audit_trail.consumer import Source, TrailConsumer
from services.audit_trail.database import engine_of
from services.audit_trail.metrics import TrailMetrics
from services.audit_trail.migrations import prepare
from services.audit_trail.schema import changes, records, runs, steps
from tests.audit.recorded import Recorded, recorded

pytestmark = pytest.mark.kafka

KILLS = 50
LIFE_SHARE = (0.5, 1.6)
"""How long a life lasts, in times to its first transaction as measured: about half are killed in the midst of reading and writing, the others before."""
LONGER, SHORTER = 1.15, 0.92
"""What the measured time is multiplied with after a life that wrote nothing, and after one that did: other work may slow the machine down meanwhile."""
PARTITIONS = 4
KEY = b"k" * 32
REPEATED_SHARE = 0.02
AT_ONCE, ROUNDS = 10, 10
"""Records produced side by side, and how often for each life: they come while it goes, in many small batches."""
FIRST_LIMIT_S = 60.0
HERE = Path(__file__).parent


class Traffic:
    """Replays the recorded results of a real rig when asked to, under new plan ids each time, sealed, some of them produced twice."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._bootstrap, self._topic = bootstrap, topic
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._random = random.Random(11)
        self.produced = 0
        self.failure: BaseException | None = None

    def start(self) -> None:
        """Be ready to produce."""
        self._thread.start()

    def _run(self) -> None:
        try:
            asyncio.run(self._produce())
        except BaseException as error:
            self.failure = error

    def more(self) -> None:
        """Produce some more, from now on."""
        self._wanted.put(True)

    def stop(self) -> None:
        """Finish what was asked for."""
        self._wanted.put(False)
        self._thread.join()
        assert self.failure is None, self.failure

    async def _produce(self) -> None:
        bus = Bus(Kafka(self._bootstrap), "traffic")
        await bus.start()
        chains = Chains(bus, "traffic", lambda: KEY)
        try:
            coming = ((one, number) for number in itertools.count() for one in recorded())
            while await asyncio.to_thread(self._wanted.get):
                for _ in range(ROUNDS):
                    await asyncio.gather(*(self._one(chains, *next(coming)) for _ in range(AT_ONCE)))
        finally:
            await bus.stop()

    async def _one(self, chains: Chains, one: Recorded, number: int) -> None:
        again = one.renamed(f"r{number}")
        times = 2 if self._random.random() < REPEATED_SHARE else 1
        for _ in range(times):
            await chains.produce(self._topic, again.key, again.value, again.headers, again.spread(PARTITIONS))
            self.produced += 1


class Lives:
    """The process that forks consumers."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        self.errors = folder / "lives.err"
        with self.errors.open("w") as errors:
            self._parent = subprocess.Popen(
                [sys.executable, str(HERE / "trail_under_kill.py"), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
            )

    def start(self) -> int:
        """Begin a life; returns its pid."""
        assert self._parent.stdin is not None
        assert self._parent.stdout is not None
        print(file=self._parent.stdin, flush=True)
        return int(self._parent.stdout.readline())

    def end(self) -> None:
        """End the parent; lives were killed by then."""
        assert self._parent.stdin is not None
        self._parent.stdin.close()
        self._parent.wait(10)


def kill(pid: int) -> None:
    """kill -9, and wait until it is gone: only then may the next life hold the database."""
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture(params=[pytest.param("sqlite", id="sqlite"), pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgresql)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """URL and password file of a fresh database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'trail.db'}", ""
    server = request.getfixturevalue("postgresql")
    return server.database(), str(server.password_file)


@pytest.fixture
def topic(rig_endpoints: Endpoints, topic_prefix: str) -> str:
    """A results topic of this test's own."""
    topics = Topics(topic_prefix)
    with TopicAdmin(Kafka(rig_endpoints.bootstrap_servers), replication=1) as admin:
        admin.create(spec for spec in topics.specs(PARTITIONS) if spec.name == topics.results)
    return topics.results


@pytest.fixture
def traffic(rig_endpoints: Endpoints, topic: str) -> Iterator[Traffic]:
    """Records that keep coming."""
    found = Traffic(rig_endpoints.bootstrap_servers, topic)
    found.start()
    yield found
    found.stop()


def on_topic(bootstrap: str, topic: str) -> list[Message]:
    """Every record of the topic, read by itself."""
    with TopicReader(Kafka(bootstrap), topic, "judge") as reader:
        numbers = reader.partitions()
        return [Message(m.partition, m.offset, m.key, m.value, list(m.headers)) for m in reader.read(reader.starts(numbers), reader.ends(numbers))]


def count(engine: Engine, table: Any) -> int:
    """How many rows a table has."""
    with engine.connect().execution_options(read_only=True) as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def test_nothing_is_lost_and_nothing_doubled(rig_endpoints: Endpoints, topic: str, traffic: Traffic, place: tuple[str, str], tmp_path: Path) -> None:
    bootstrap, chooser = rig_endpoints.bootstrap_servers, random.Random(2)
    engine = engine_of(*place)
    prepare(engine)
    lives = Lives([bootstrap, topic, *place], tmp_path)
    try:
        progressed = _kill_all(lives, engine, traffic, chooser)
    finally:
        lives.end()
    assert progressed >= KILLS // 3, f"only {progressed} of {KILLS} lives wrote anything: {lives.errors.read_text()[-2000:]}"
    traffic.stop()
    TrailConsumer(Source(Kafka(bootstrap), topic), engine, TrailMetrics()).run(until_end=True)
    _judge(engine, topic, on_topic(bootstrap, topic))
    engine.dispose()


def _kill_all(lives: Lives, engine: Engine, traffic: Traffic, chooser: random.Random) -> int:
    """Have the lives, each killed at a moment of its own; returns how many of them wrote something."""
    traffic.more()
    began, pid = time.monotonic(), lives.start()
    wait_until(lambda: count(engine, records) > 0, FIRST_LIMIT_S, "the first transaction")
    span = time.monotonic() - began
    kill(pid)
    progressed, before = 1, count(engine, records)
    for _ in range(KILLS - 1):
        traffic.more()
        pid = lives.start()
        time.sleep(span * chooser.uniform(*LIFE_SHARE))  # the point of the kill is a moment, not an event
        kill(pid)
        written = count(engine, records)
        span *= SHORTER if written > before else LONGER
        progressed, before = progressed + (written > before), written
    return progressed


def _judge(engine: Engine, topic: str, held: list[Message]) -> None:
    """Join the database with the topic, counting anew from the bytes."""
    with engine.connect() as connection:
        rows = connection.execute(select(records.c.partition, records.c.offset, records.c.value)).all()
    assert len(rows) == len(held)
    assert {(row.partition, row.offset): bytes(row.value) for row in rows} == {(one.partition, one.offset): one.value for one in held}
    plans: set[str] = set()
    step_ids: set[tuple[str, int]] = set()
    changed: dict[str, int] = {}
    repeats = collections.Counter(dict(one.headers)["ce_id"] for one in held)
    for one in held:
        type_, told = dict(one.headers)["ce_type"].decode(), orjson.loads(one.value or b"")
        if type_.endswith(("planned", "done", "recovered")):
            plans.add(told["planId"])
            step_ids |= {(told["planId"], step["index"]) for step in told.get("steps", ())}
        if type_.endswith("done"):
            changed[told["planId"]] = sum(len(step.get("changes", ())) for step in told["steps"])
    assert max(repeats.values()) == 2, "the traffic has records that were produced twice"
    assert count(engine, runs) == len(plans)
    assert count(engine, steps) == len(step_ids)
    assert count(engine, changes) == sum(changed.values())
    with TrailReader(engine) as reader:
        assert [*reader.heads()] == []
        for number in range(PARTITIONS):
            mine = [one for one in held if one.partition == number]
            for first in range(0, len(mine), 200):
                assert [*reader.compare(topic, mine[first : first + 200])] == []
            verification = Verification(LogFacts(number), {key_id(KEY): KEY})
            assert [finding for one in mine for finding in verification.take(one) if finding.fault] == []
            assert [finding for finding in verification.finish() if finding.fault] == []
