"""The consumers of ``fleetwake audit`` as processes, on a real Kafka, over what a real rig recorded."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from sqlalchemy import delete, select
from typer.testing import CliRunner

from fleetwake.cli.main import app
from fleetwake.connections.kafka import Kafka
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import http_ok, wait_until
from fleetwake.rig.records import Endpoints
from fleetwake.rig.services import fleetwake_command
from fleetwake.shell.chains import Chains
from fleetwake.stream.bus import Bus
from fleetwake.stream.reading import TopicReader
from fleetwake.stream.topics import TopicAdmin
from fleetwake.views.parquet import SCHEMA
from schemas import chain
from schemas.topics import Topics
from services.audit_trail.database import engine_of
from services.audit_trail.schema import gaps, runs
from tests.audit.recorded import recorded

pytestmark = pytest.mark.kafka

KEY = b"k" * 32
PARTITIONS = 3
LIMIT_S = 60


class Commands:
    """``fleetwake audit`` against the results of one topic prefix."""

    def __init__(self, endpoints: Endpoints, prefix: str, folder: Path) -> None:
        self.bootstrap, self.prefix, self.folder = endpoints.bootstrap_servers, prefix, folder
        self.topic = Topics(prefix).results
        self.key_file = folder / "seal.key"
        self.key_file.write_bytes(KEY)

    def environment(self, prefix: str = "") -> dict[str, str]:
        """Where the commands find Kafka."""
        found = {"FLEETWAKE_KAFKA_BOOTSTRAP": self.bootstrap, "FLEETWAKE_TOPIC_PREFIX": prefix or self.prefix, "FLEETWAKE_KUBECONFIG": "/nonexistent"}
        return {**os.environ, **found, "FLEETWAKE_REDIS_URL": "redis://127.0.0.1:1/0"}

    def run(self, *arguments: str, code: int = 0, prefix: str = "") -> str:
        """Run a command to its end; returns what it prints. The trail sets up logging for good, so it gets a process of its own."""
        if arguments[0] == "trail":
            command = [fleetwake_command(), "audit", *arguments]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=self.environment(prefix), cwd=self.folder)
            exit_code, out, error = done.returncode, done.stdout, done.stderr
        else:
            result = CliRunner().invoke(app, ["audit", *arguments], env=self.environment(prefix))
            exit_code, out, error = result.exit_code, result.stdout, result.stderr
        assert exit_code == code, out + error
        return out if out or code == 0 else error

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """JSON lines that a command prints."""
        return [json.loads(line) for line in self.run(*arguments).splitlines()]

    def create(self, prefix: str) -> None:
        """Make the results topic of a prefix."""
        with TopicAdmin(Kafka(self.bootstrap), replication=1) as admin:
            admin.create(spec for spec in Topics(prefix).specs(PARTITIONS) if spec.name == Topics(prefix).results)

    def messages(self) -> list[Any]:
        """Every record of the topic."""
        with TopicReader(Kafka(self.bootstrap), self.topic, "judge") as reader:
            numbers = reader.partitions()
            return sorted(reader.read(reader.starts(numbers), reader.ends(numbers)), key=lambda one: (one.partition, one.offset))


@pytest.fixture(scope="module")
def commands(rig_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """A topic with the recorded results, sealed."""
    found = Commands(rig_endpoints, f"t{os.urandom(4).hex()}", tmp_path_factory.mktemp("audit"))
    found.create(found.prefix)
    asyncio.run(replay(found.bootstrap, found.topic))
    return found


async def replay(bootstrap: str, topic: str, lives: int = 3) -> None:
    """Produce the recorded results by several lives of a writer, one after the other."""
    bus = Bus(Kafka(bootstrap), "replay")
    await bus.start()
    try:
        share = -(-len(recorded()) // lives)
        for life in range(lives):
            chains = Chains(bus, f"life{life}", lambda: KEY)
            for one in recorded()[life * share : (life + 1) * share]:
                await chains.produce(topic, one.key, one.value, one.headers, one.spread(PARTITIONS))
    finally:
        await bus.stop()


# ---- follow -------------------------------------------------------------------------------------------------------------------------------


def test_follow_prints_every_record_as_a_cloud_event(commands: Commands) -> None:
    events = commands.lines("follow", "--from", "earliest", "--until-end", "--json")
    assert len(events) == len(recorded())
    assert {(event["kafkapartition"], event["kafkaoffset"]) for event in events} == {(one.partition, one.offset) for one in commands.messages()}
    assert {event["specversion"] for event in events} == {"1.0"}
    assert all(event["data"]["planId"] == event["id"].partition("/")[0] for event in events)


def test_follow_filters_by_cluster_kind_and_namespace(commands: Commands) -> None:
    everything = commands.lines("follow", "--from", "earliest", "--until-end", "--json")
    machines = commands.lines("follow", "--from", "earliest", "--until-end", "--json", "--kind", "machine", "-n", "shop", "--cluster", "shop/shop")
    assert [event["id"] for event in machines] == [event["id"] for event in everything if event["data"]["kind"] == "Machine"]
    assert commands.lines("follow", "--from", "earliest", "--until-end", "--json", "--cluster", "shop/other") == []


def test_follow_is_readable_and_ends_with_a_sentence_when_there_is_no_topic(commands: Commands) -> None:
    text = commands.run("follow", "--from", "earliest", "--until-end")
    assert len(text.splitlines()) == len(recorded())
    assert "MachineSet/" in text
    assert "Machines exist" in text
    assert "does not exist" in commands.run("follow", code=1, prefix="nobody")


def test_follow_goes_on_where_its_file_says(commands: Commands, tmp_path: Path) -> None:
    offsets = tmp_path / "offsets.json"
    first = commands.lines("follow", "--from", "earliest", "--until-end", "--json", "--offsets", str(offsets))
    assert commands.lines("follow", "--from", "earliest", "--until-end", "--json", "--offsets", str(offsets)) == []
    held = json.loads(offsets.read_bytes())
    held["offsets"]["0"] -= 2
    offsets.write_text(json.dumps(held))
    again = commands.lines("follow", "--until-end", "--json", "--offsets", str(offsets))
    assert [event["id"] for event in again] == [event["id"] for event in first if event["kafkapartition"] == 0][-2:]
    offsets.write_text(json.dumps({**held, "topic": "other"}))
    assert "holds offsets of topic other" in commands.run("follow", "--offsets", str(offsets), code=1)


def test_follow_from_a_time(commands: Commands) -> None:
    assert commands.lines("follow", "--from", "2099-01-01", "--until-end", "--json") == []
    assert len(commands.lines("follow", "--from", "1h", "--until-end", "--json")) == len(recorded())
    assert "is no time" in commands.run("follow", "--from", "yesterday", code=1)


# ---- export -------------------------------------------------------------------------------------------------------------------------------


def test_export_as_json_lines(commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "out" / "results.jsonl"
    commands.run("export", "-o", str(path))
    assert len(path.read_bytes().splitlines()) == len(recorded())
    assert len(commands.run("export").splitlines()) == len(recorded())
    assert os.listdir(path.parent) == [path.name]


def test_export_as_parquet_has_the_documented_schema_and_every_byte(commands: Commands, tmp_path: Path) -> None:
    from pyarrow import parquet

    path = tmp_path / "results.parquet"
    commands.run("export", "--format", "parquet", "-o", str(path))
    table = parquet.read_table(path)
    assert table.schema.equals(SCHEMA)
    assert table.schema.metadata[b"fleetwake.schema"] == b"1"
    rows = table.to_pylist()
    assert {(row["partition"], row["offset"]): row["value"] for row in rows} == {(one.partition, one.offset): one.value for one in commands.messages()}
    deletes = [
        step["target"] for row in rows if row["outcome"] == "done" for step in row["steps"] if step["verb"] == "delete" and "/Machine/" in step["target"]
    ]
    assert len(set(deletes)) == 8
    changed = [change for row in rows for step in row["steps"] or () for change in step["changes"] or () if change["path"] == "spec.replicas"]
    assert {"path": "spec.replicas", "before": "3", "after": "2"} in changed


def test_export_by_cluster_and_date_is_read_as_a_dataset_and_made_again_without_doubles(commands: Commands, tmp_path: Path) -> None:
    from pyarrow import dataset

    folder = tmp_path / "trail"
    for _ in range(2):
        commands.run("export", "--format", "parquet", "--partition-by", "cluster", "--partition-by", "date", "-o", str(folder))
    found = dataset.dataset(folder, partitioning="hive")
    assert found.count_rows() == len(recorded())
    assert {path.parent.parent.name for path in folder.rglob("*.parquet")} == {"cluster=shop%2Fshop"}
    assert not list(folder.rglob("*.part"))


# ---- trail and verify ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def service(commands: Commands, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The trail as a service; its web address and its database."""
    (port,) = free_ports(1)
    url = f"sqlite:///{tmp_path / 'trail.db'}"
    env = {**commands.environment(), "FLEETWAKE_WEB_PORT": str(port), "FLEETWAKE_WEB_BIND": "127.0.0.1", "FLEETWAKE_TRAIL_DATABASE": url}
    process = subprocess.Popen([fleetwake_command(), "audit", "trail"], env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        yield process, f"http://127.0.0.1:{port}", url
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def metric(address: str, name: str) -> float:
    """The sum of a metric."""
    with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def test_the_trail_serves_health_and_metrics_and_ends_when_told(commands: Commands, service: tuple[subprocess.Popen[str], str, str]) -> None:
    process, address, url = service
    wait_until(lambda: http_ok(f"{address}/readyz"), LIMIT_S, "the trail")
    wait_until(lambda: metric(address, "fleetwake_trail_records_total") == len(recorded()), LIMIT_S, "all records in the trail")
    assert http_ok(f"{address}/healthz")
    assert metric(address, "fleetwake_trail_errors_total") == 0
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT_S) == 0
    assert process.stderr is not None
    assert all(json.loads(line)["service"] == "audit_trail" for line in process.stderr)
    answer = commands.run("verify", "--key-file", str(commands.key_file), "--database", url)
    assert "no fault" in answer
    assert f"{len(recorded())} records of the trail" in answer
    assert "no fault" in commands.run("verify", "--key-file", str(commands.key_file), "--database", url, "--database-only")


def test_a_row_removed_from_the_database_is_found_and_named(commands: Commands, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trail.db'}"
    assert f"{len(recorded())} records written" in commands.run("trail", "--until-end", "--database", url)
    assert "0 records written" in commands.run("trail", "--until-end", "--database", url)
    engine = engine_of(url)
    with engine.begin() as connection:
        plan = connection.execute(select(runs.c.plan_id).where(runs.c.outcome == "done").order_by(runs.c.plan_id)).scalars().first()
        connection.execute(delete(runs).where(runs.c.plan_id == plan))
    engine.dispose()
    wanted = [one for one in commands.messages() if dict(one.headers)["ce_id"].startswith(str(plan).encode())]
    found = json.loads(commands.run("verify", "--key-file", str(commands.key_file), "--database", url, "--json", code=1).splitlines()[0])
    assert (found["kind"], found["partition"], found["offset"]) == ("row missing in the database", wanted[0].partition, wanted[0].offset)


def test_why_is_answered_from_a_trail_too(commands: Commands, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trail.db'}"
    commands.run("trail", "--until-end", "--database", url)
    machine = next(one.run.key.rpartition("/")[2] for one in recorded() if one.run.kind == "Machine")
    from_kafka, from_trail = commands.run("why", f"machine/{machine}", "-n", "shop"), commands.run("why", f"machine/{machine}", "-n", "shop", "--database", url)
    assert from_kafka == from_trail
    assert from_kafka.startswith(f"Machine {machine} ")


def tampered(messages: list[Any], how: str) -> tuple[list[tuple[Any, bytes]], Any]:
    """The records of partition 0 with one thing done to them, and the record it was done to."""
    mine = [(one, one.value) for one in messages if one.partition == 0]
    place = len(mine) // 2
    victim = mine[place][0]
    name = dict(victim.headers)[chain.CHAIN]
    if how == "flipped byte":
        mine[place] = (victim, victim.value[:-3] + bytes([victim.value[-3] ^ 1]) + victim.value[-2:])
    elif how == "missing row":
        del mine[place]
    else:
        other = next(number for number in range(place + 1, len(mine)) if dict(mine[number][0].headers)[chain.CHAIN] == name)
        mine[place], mine[other] = mine[other], mine[place]
    return mine, victim


@pytest.mark.parametrize(("how", "kind"), [("flipped byte", "altered"), ("missing row", "removed"), ("swapped pair", "reordered")])
def test_tampering_is_found_on_the_topic_and_named_by_its_place(commands: Commands, topic_prefix: str, how: str, kind: str) -> None:
    records, victim = tampered(commands.messages(), how)
    commands.create(topic_prefix)
    asyncio.run(copy(commands.bootstrap, Topics(topic_prefix).results, records))
    told = commands.run("verify", "--key-file", str(commands.key_file), "--copy", "--json", code=1, prefix=topic_prefix).splitlines()
    findings = [json.loads(line) for line in told[:-1]]
    faults = [found for found in findings if found["fault"]]
    assert [found["kind"] for found in faults] == [kind]
    number = int(dict(victim.headers)[chain.SEQUENCE])
    assert (faults[0]["partition"], f"number {number} of chain" in faults[0]["text"]) == (0, True)
    # a missing record is named by the one behind it, a record of a swapped pair by where it stands now: a few places on, in another chain's company
    assert victim.offset <= faults[0]["offset"] <= victim.offset + 10
    assert json.loads(told[-1])["faults"] == 1


async def copy(bootstrap: str, topic: str, records: list[tuple[Any, bytes]]) -> None:
    """Put records, as they are, into another topic."""
    bus = Bus(Kafka(bootstrap), "copy")
    await bus.start()
    for message, value in records:
        await bus.produce(topic, message.key, value, message.headers, 0)
    await bus.stop()


def test_verify_without_the_right_key_says_so(commands: Commands, tmp_path: Path) -> None:
    wrong, short = tmp_path / "wrong.key", tmp_path / "short.key"
    wrong.write_bytes(b"w" * 32)
    short.write_bytes(b"short")
    assert "sealed with an unknown key" in commands.run("verify", "--key-file", str(wrong), code=1)
    assert "32 bytes or more" in commands.run("verify", "--key-file", str(short), code=1)


def test_what_retention_took_is_told_by_verify_and_by_the_trail(commands: Commands, topic_prefix: str, tmp_path: Path) -> None:
    topic = Topics(topic_prefix).results
    commands.create(topic_prefix)
    asyncio.run(replay(commands.bootstrap, topic))
    admin = KafkaAdminClient(bootstrap_servers=commands.bootstrap)
    try:
        admin.delete_records({TopicPartition(topic, 0): 10})
    finally:
        admin.close()
    answer = commands.run("verify", "--key-file", str(commands.key_file), prefix=topic_prefix)
    assert "begins before the log" in answer
    assert "no fault" in answer
    url = f"sqlite:///{tmp_path / 'trail.db'}"
    commands.run("trail", "--until-end", "--database", url, "--partitions", "1-2", prefix=topic_prefix)
    engine = engine_of(url)
    from services.audit_trail.writer import TrailWriter

    TrailWriter(engine, topic).positions({0: 0})
    commands.run("trail", "--until-end", "--database", url, prefix=topic_prefix)
    with engine.connect() as connection:
        assert [tuple(row)[:3] for row in connection.execute(select(gaps))] == [(0, 0, 9)]
    engine.dispose()
    assert "no fault" in commands.run("verify", "--key-file", str(commands.key_file), "--database", url, prefix=topic_prefix)


def test_a_topic_that_was_made_anew_is_not_taken_for_the_same(commands: Commands, topic_prefix: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'trail.db'}"
    commands.run("trail", "--until-end", "--database", url)
    commands.create(topic_prefix)
    from services.audit_trail.writer import TrailWriter

    engine = engine_of(url)
    TrailWriter(engine, Topics(topic_prefix).results).positions({0: 5, 1: 0, 2: 0})
    engine.dispose()
    assert "was made anew" in commands.run("trail", "--until-end", "--database", url, code=1, prefix=topic_prefix)


def test_an_unsafe_database_is_refused_in_one_line(commands: Commands) -> None:
    began = time.monotonic()
    answer = commands.run("trail", "--until-end", "--database", "mysql://x", code=1)
    assert answer.count("\n") == 1
    assert "postgresql://<user>@<host>/<database>" in answer
    assert time.monotonic() - began < LIMIT_S
