"""The OTLP receiver takes what our exporter sends, and tells whole traces from torn ones."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from fleetwake.connections.otlp import Otlp
from fleetwake.tracing.context import SpanId
from fleetwake.tracing.export import Exporter, Finished
from fleetwake.tracing.receiver import Receiver, TraceSummary

ROOT = SpanId.derive("root")
RUN, STEP, LOST = SpanId(ROOT.trace, "a" * 16), SpanId(ROOT.trace, "b" * 16), SpanId(ROOT.trace, "c" * 16)
LIMIT_SECONDS = 20


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def finished(name: str, identity: SpanId, parent: str, links: tuple[str, ...] = (), error: str = "") -> Finished:
    return Finished(name, identity, parent, "internal", 100.25, 101.5, {"k8s.object.name": "demo", "fleetwake.causes": 2}, links, error=error)


def export(receiver: Receiver, *spans: Finished) -> None:
    exporter = Exporter(Otlp(receiver.endpoint), "dev_infrastructure", "dev-0")
    exporter.start()
    for span in spans:
        exporter.add(span)
    exporter.stop()
    assert exporter.dropped == 0
    assert receiver.wait_for(lambda received: len(received) >= len(spans), LIMIT_SECONDS)


def test_a_span_arrives_as_it_was_made(receiver: Receiver) -> None:
    other = SpanId.derive("other")
    export(receiver, finished("reconcile Machine", RUN, ROOT.span, (other.traceparent(),), "boom"))
    (span,) = receiver.spans
    assert (span.trace, span.span, span.parent) == (RUN.trace, RUN.span, ROOT.span)
    assert (span.name, span.service, span.error) == ("reconcile Machine", "fleetwake-dev-infrastructure", True)
    assert (span.started, span.ended) == (100.25, 101.5)
    assert span.links == (tuple(other),)
    assert span.attributes == {"k8s.object.name": "demo", "fleetwake.causes": 2}


def test_a_span_whose_parent_never_came_is_an_orphan(receiver: Receiver) -> None:
    export(receiver, finished("intent", ROOT, ""), finished("run", RUN, ROOT.span), finished("patch", STEP, LOST.span))
    assert receiver.summaries() == [TraceSummary(ROOT.trace, spans=3, roots=1, orphans=1)]
    export(receiver, finished("intent", ROOT, ""), finished("lost", LOST, RUN.span))
    assert receiver.orphans == 0


def test_a_parent_of_another_trace_does_not_count(receiver: Receiver) -> None:
    export(receiver, finished("intent", ROOT, ""), finished("run", SpanId("f" * 32, "a" * 16), ROOT.span))
    assert {summary.trace: summary.orphans for summary in receiver.summaries()} == {ROOT.trace: 0, "f" * 32: 1}


@pytest.mark.parametrize(("path", "headers", "status"), [("/v1/traces", {"Content-Encoding": "gzip"}, 400), ("/v1/traces", {}, 400), ("/v1/logs", {}, 404)])
def test_what_is_no_span_is_refused(receiver: Receiver, path: str, headers: dict[str, str], status: int) -> None:
    request = urllib.request.Request(receiver.endpoint + path, data=b"\xff no protobuf", headers=headers)
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request, timeout=LIMIT_SECONDS)
    assert answer.value.code == status
    assert receiver.spans == ()
