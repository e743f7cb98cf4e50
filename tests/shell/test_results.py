"""Results on the wire: CloudEvents in Kafka's binary mode, readable by what reads them back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from fleetwake.shell.intake import parse_result
from fleetwake.shell.results import LastWords
from schemas.results import Done, Planned, Recovered, Run, StepRecord, StepResult, cloud_event

RUN: dict[str, Any] = {"plan_id": "p-1", "service": "reconcilers", "instance": "w0", "kind": "Machine", "key": "g/Machine/default/m1"}
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PLANNED = Planned(**RUN, cluster="default/demo", trace="00-aa-bb-01", at=AT, cause={}, observed={"g/Machine/default/m1": "7"}, steps=())
STEP = StepResult(index=1, verb="patch", target="g/Machine/default/m1", reason="why", outcome="done", status=200, changes={"spec.a": (1, 2)})
DONE = Done(**RUN, cluster="default/demo", at=AT, outcome="done", steps=(STEP,), duration_ms=1.5)
RECOVERED = Recovered(**RUN, at=AT, found="absent")


@pytest.mark.parametrize("record", [PLANNED, DONE, RECOVERED], ids=lambda record: record.TYPE)
def test_what_is_written_can_be_read_back(record: Any) -> None:
    text = record.model_dump_json(by_alias=True, exclude_defaults=True).encode()
    assert parse_result(text, dict(cloud_event(record))["ce_type"]) == record


def test_the_attributes_of_the_event() -> None:
    found = dict(cloud_event(PLANNED))
    assert found == {
        "ce_specversion": b"1.0",
        "ce_id": b"p-1/planned",
        "ce_source": b"/fleetwake/reconcilers/w0",
        "ce_type": b"dev.fleetwake.run.planned",
        "ce_subject": b"g/Machine/default/m1",
        "ce_time": b"2026-01-02T03:04:05Z",
        "content-type": b"application/json",
        "ce_partitionkey": b"default/demo",
        "traceparent": b"00-aa-bb-01",
    }


def test_an_id_repeats_with_its_record_so_that_consumers_can_drop_repeats() -> None:
    assert dict(cloud_event(DONE))["ce_id"] == dict(cloud_event(DONE.model_copy(update={"duration_ms": 9.0})))["ce_id"] != dict(cloud_event(PLANNED))["ce_id"]


def test_a_run_of_no_cluster_is_keyed_by_its_object() -> None:
    found = dict(cloud_event(RECOVERED))
    assert found["ce_partitionkey"] == b"g/Machine/default/m1" and "traceparent" not in found


def test_a_type_of_a_later_version_is_passed_over_and_nonsense_is_refused() -> None:
    assert parse_result(b"{}", b"dev.fleetwake.run.of-tomorrow") is None
    with pytest.raises(ValidationError):
        parse_result(b'{"planId": 1}', Done.TYPE.encode())
    assert issubclass(Done, Run)


def test_the_last_words_of_each_cluster_and_every_delete_are_kept_in_order() -> None:
    delete = (StepRecord(index=0, verb="delete", target="g/Machine/default/m1", reason="scale down"),)
    told = [
        PLANNED.model_copy(update={"plan_id": plan_id, "cluster": cluster, "intent": intent, "steps": steps})
        for plan_id, cluster, intent, steps in (
            ("overtaken", "default/a", "1" * 32, ()),
            ("last of b", "default/b", "2" * 32, ()),
            ("deletes", "default/a", "3" * 32, delete),
            ("last of a", "default/a", "3" * 32, ()),
            ("of no intent", "default/a", "", ()),
        )
    ]
    words = LastWords()
    for record in (*told, DONE):
        words.take(record.cluster.encode(), record.model_dump_json(by_alias=True, exclude_defaults=True).encode(), dict(cloud_event(record)))
    words.take(b"default/b", b"no JSON", dict(cloud_event(PLANNED)))
    words.take(b"default/c", b'{"intent":"', dict(cloud_event(PLANNED)))
    assert [run.plan_id for run in words.runs()] == ["last of b", "deletes", "last of a"]
