"""``fleetwake audit``: the history of one object, and the figures that hold records against the API server's own log."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import orjson
import pytest

from fleetwake.views import figures
from fleetwake.views.connection import ViewError
from fleetwake.views.following import duration
from fleetwake.views.history import as_json, history, render
from fleetwake.views.runs import join
from tests.shell.view_records import BEGIN, CLUSTER, DEPLOYMENT, INTENT, MACHINE, at, golden, records, text_of


def test_the_history_of_an_object_tells_what_why_and_because_of_what() -> None:
    golden("history of a Cluster", text_of(render(history(join(records()), CLUSTER))))


def test_a_step_without_an_outcome_says_so() -> None:
    entries = history(join(records()), MACHINE)
    assert [(entry.step.verb, entry.outcome) for entry in entries] == [("create", "done"), ("create", "recovered"), ("delete", "done")]
    assert "closed by the next owner" in text_of(render(entries))


def test_a_skipped_step_is_shown_as_skipped() -> None:
    assert [entry.outcome for entry in history(join(records()), DEPLOYMENT)] == ["skipped"]


def test_since_leaves_out_what_was_before() -> None:
    assert len(history(join(records()), CLUSTER, at(1000))) == 1


def test_an_entry_as_json_names_its_audit_id_and_intent() -> None:
    plain = as_json(history(join(records()), CLUSTER)[0])
    assert (plain["audit_id"], plain["intent"]["trace"]) == ("audit-demo-patch-0", INTENT.trace)
    assert plain["changes"] == {"metadata.finalizers": {"before": None, "after": ["cluster.cluster.x-k8s.io"]}}
    orjson.dumps(plain)


@pytest.mark.parametrize(("text", "wanted"), [("", None), ("90s", timedelta(seconds=90)), ("1h30m", timedelta(minutes=90)), ("7d", timedelta(days=7))])
def test_durations(text: str, wanted: timedelta | None) -> None:
    assert duration(text) == wanted


def test_what_is_no_duration_is_refused() -> None:
    with pytest.raises(ViewError, match="90s, 30m, 12h or 7d"):
        duration("yesterday")


def event(audit_id: str, **changed: object) -> bytes:
    account = changed.pop("account", f"{figures.OUR_ACCOUNTS}reconcilers")
    found = {
        "auditID": audit_id, "stage": "ResponseComplete", "verb": "patch", "user": {"username": account}, "objectRef": {"resource": "clusters", "name": "demo"},
        "responseStatus": {"code": 200}, "requestReceivedTimestamp": "2026-01-01T12:00:01.000000Z", **changed,
    }  # fmt: skip
    return orjson.dumps(found) + b"\n"


def test_the_books_of_the_api_server_and_ours_are_joined_by_audit_id(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    lines = [
        event("audit-demo-patch-0"),
        event("unknown", objectRef={"resource": "clusters", "subresource": "status", "name": "demo"}),
        event("read", verb="get"),
        event("lease", objectRef={"resource": "leases", "name": "watcher"}),
        event("theirs", account="admin"),
        event("early", requestReceivedTimestamp="2026-01-01T11:00:00.000000Z"),
        event("half")[:-20],
    ]
    log.write_bytes(b"".join(lines))
    writes = figures.our_writes(log, BEGIN)
    found, missing = figures.recorded(writes, join(records()))
    assert [write.audit_id for write in found] == ["audit-demo-patch-0"]
    assert [str(write) for write in missing] == ["patch clusters/status demo by reconcilers: 200"]
    assert figures.by_resource(writes) == {"patch clusters": 1, "patch clusters/status": 1}


def test_runs_are_counted_by_the_trace_they_share_or_link_to() -> None:
    inside, outside = figures.traced(join(records()), frozenset({INTENT.trace}))
    assert (len(inside), [run.record.plan_id for run in outside]) == (6, ["p7"])
    assert (figures.share(1, 3), figures.share(0, 0)) == (0.3333, 1.0)
