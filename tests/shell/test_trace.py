"""``fleetwake trace``: from records to intents to a picture that a user can read."""

from __future__ import annotations

import orjson
import pytest
from typer.testing import CliRunner

from fleetwake.cli.main import app
from fleetwake.connections.kafka import Kafka
from fleetwake.views.connection import ViewError, connect
from fleetwake.views.naming import object_named
from fleetwake.views.results import decode, read_results
from fleetwake.views.runs import intents, intents_of, join
from fleetwake.views.waterfall import Gap, as_json, rows_of, waterfall
from schemas.keys import GroupKind, ObjectKey
from schemas.results import cloud_event
from schemas.topics import Topics
from tests.shell.view_records import APPLIED, CLUSTER, INTENT, LATER, MACHINE, NODE, SCALED, golden, records, text_of


def test_records_become_runs_whatever_their_order() -> None:
    runs = join(reversed(records()))
    assert [(run.record.plan_id, run.outcome) for run in runs] == [
        ("p1", "done"), ("p2", "failed"), ("p3", "done"), ("p4", "done"), ("p5", "open"), ("p6", "recovered"), ("p7", "done"),
    ]  # fmt: skip


def test_an_object_is_touched_by_the_runs_for_it_and_by_steps_on_it() -> None:
    runs = join(records())
    assert [intent.trace for intent in intents_of(runs, CLUSTER)] == [INTENT.trace]
    assert [intent.trace for intent in intents_of(runs, MACHINE)] == [INTENT.trace, LATER.trace]
    assert [intent.change for intent in intents(runs)] == [APPLIED, SCALED]
    assert [intent.trace for intent in intents_of(runs, NODE._replace(cluster="", namespace="default"))] == [INTENT.trace]
    assert intents_of(runs, CLUSTER._replace(namespace="other")) == []


def test_a_run_without_a_cause_of_its_own_belongs_to_the_intent_its_trace_names() -> None:
    runs = join(record.model_copy(update={"intent": ""}) for record in records())
    assert [intent.trace for intent in intents(runs)] == [INTENT.trace, LATER.trace]


@pytest.mark.parametrize(("steps", "name"), [(True, "waterfall"), (False, "waterfall without steps")])
def test_the_waterfall(steps: bool, name: str) -> None:
    golden(name, text_of(waterfall(intents(join(records()))[0], steps=steps)))


def test_a_gap_is_told_and_cut_out_of_the_axis() -> None:
    rows = rows_of(intents(join(records()))[0].runs)
    assert [round(row.length.total_seconds(), 3) for row in rows if isinstance(row, Gap)] == [1.905]


def test_a_long_waterfall_says_how_much_it_left_out() -> None:
    assert text_of(waterfall(intents(join(records()))[0], rows_max=2)).splitlines()[-1] == "… and 5 more rows"


def test_the_waterfall_as_json_has_every_run_with_its_steps() -> None:
    plain = as_json(intents(join(records()))[0])
    assert orjson.loads(orjson.dumps(plain)) == plain
    assert [run["duration_ms"] for run in plain["runs"]][:3] == [40, 50, 5]
    assert plain["runs"][1]["steps"][1]["error"] == "spec.backend: Required value"


def test_a_message_of_the_topic_becomes_a_record_again() -> None:
    for record in records():
        value = orjson.dumps(record.model_dump(mode="json", exclude_defaults=True))
        assert decode(cloud_event(record), value) == record  # type: ignore[arg-type]
    assert decode([("ce_type", b"dev.fleetwake.run.imagined")], b"{}") is None
    assert decode([("ce_type", b"dev.fleetwake.run.done")], b"garbage") is None


@pytest.mark.parametrize("words", [["machine/a"], ["ma/a"], ["machines/a"], ["Machine", "a"], ["machines.cluster.x-k8s.io/a"]], ids=" ".join)
def test_kinds_are_named_as_for_kubectl(words: list[str]) -> None:
    assert object_named(words, "default") == ObjectKey("cluster.x-k8s.io", "Machine", "default", "a")


@pytest.mark.parametrize(
    ("word", "kind"), [("kcp", "KubeadmControlPlane"), ("cl", "Cluster"), ("md", "MachineDeployment"), ("no", "Node"), ("secrets", "Secret")]
)
def test_short_names(word: str, kind: str) -> None:
    assert object_named([f"{word}/a"], "default").group_kind in {GroupKind(group, kind) for group in ("", "cluster.x-k8s.io", "controlplane.cluster.x-k8s.io")}


@pytest.mark.parametrize(("words", "told"), [(["machne/a"], "did you mean 'machine'"), (["machine"], "<kind>/<name>"), (["machine/"], "<kind>/<name>")])
def test_what_names_nothing_is_explained(words: list[str], told: str) -> None:
    with pytest.raises(ViewError, match=told):
        object_named(words, "default")


def test_without_a_rig_and_settings_the_remedy_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.raises(ViewError, match=r"FLEETWAKE_KAFKA_BOOTSTRAP is not set.*fleetwake dev up"):
        connect("kafka_bootstrap", state_dir=tmp_path_factory.mktemp("none"), environment={})
    found = connect("kafka_bootstrap", state_dir=tmp_path_factory.mktemp("none"), environment={"FLEETWAKE_KAFKA_BOOTSTRAP": "kafka:1"})
    assert (found.settings.kafka_bootstrap, found.rig) == ("kafka:1", None)


def test_the_command_fails_in_one_line(tmp_path_factory: pytest.TempPathFactory) -> None:
    result = CliRunner().invoke(app, ["trace", "cluster/demo", "--state", str(tmp_path_factory.mktemp("none"))], env={"FLEETWAKE_KAFKA_BOOTSTRAP": ""})
    assert (result.exit_code, result.stderr.count("\n")) == (1, 1)
    assert "fleetwake dev up" in result.stderr


@pytest.mark.kafka
def test_the_topic_is_read_to_its_end(rig_endpoints: object, topic_prefix: str) -> None:
    from fleetwake.stream.topics import TopicAdmin

    bootstrap: str = rig_endpoints.bootstrap_servers  # type: ignore[attr-defined]
    topics = Topics(topic_prefix)
    with pytest.raises(ViewError, match="does not exist"):
        read_results(Kafka(bootstrap), topics.results)
    with TopicAdmin(Kafka(bootstrap)) as admin:
        admin.create(topics.specs(4))
    assert read_results(Kafka(bootstrap), topics.results) == []
    _produce(bootstrap, topics.results)
    assert sorted(record.plan_id for record in read_results(Kafka(bootstrap), topics.results)) == sorted(record.plan_id for record in records())


def _produce(bootstrap: str, topic: str) -> None:
    from kafka import KafkaProducer

    producer = KafkaProducer(bootstrap_servers=bootstrap)
    sent = [
        producer.send(topic, orjson.dumps(record.model_dump(mode="json")), headers=cloud_event(record), partition=number % 4)  # type: ignore[arg-type]
        for number, record in enumerate(records())
    ]
    for future in sent:
        future.get(timeout=30)
    producer.close()
