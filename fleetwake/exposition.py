"""Families of metrics as one readable list: made here, exposed here, documented from here.

A family is counted where things happen (counter, gauge, histogram), read from the process only when somebody asks (``read``), or another name of one that
is counted already (``also``): controller-runtime, its work queues and Cluster API each have a name for the same time, and one observation serves all three.
The text is that of OpenMetrics when the reader accepts it, exemplars included, else Prometheus' own.

Source: OpenMetrics 1.0; Prometheus exposition formats 0.0.4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TRACE_LABEL = "trace_id"
"""The label of exemplars by which Grafana finds the trace."""

NO_ANSWER = "<error>"
"""The code that client-go counts for a request without an answer."""

Type: TypeAlias = Literal["counter", "gauge", "histogram"]
Value: TypeAlias = tuple[Sequence[str], float]
"""The values of a family's labels, in their order, and the number."""
Read: TypeAlias = Callable[[], Iterable[Value]]


@dataclass(frozen=True, slots=True)
class Family:
    """One family as readers of the documentation need it; ``name`` is the one that queries use (counters with ``_total``)."""

    name: str
    type: Type
    labels: tuple[str, ...]
    help: str


class Families:
    """All families of one process, on a registry of their own: two services in one test share no counts."""

    def __init__(self) -> None:
        # a series of its own for the birth of every series would double what is scraped, and no query of ours reads it
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self.list: list[Family] = []
        ProcessCollector(registry=self.registry)

    def _told(self, type_: Type, name: str, help_: str, labels: Sequence[str]) -> None:
        self.list.append(Family(name, type_, tuple(labels), help_))

    def counter(self, name: str, help_: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows; ``name`` ends in ``_total``."""
        self._told("counter", name, help_, labels)
        return Counter(name, help_, labels, registry=self.registry)

    def gauge(self, name: str, help_: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that comes and goes."""
        self._told("gauge", name, help_, labels)
        return Gauge(name, help_, labels, registry=self.registry)

    def histogram(self, name: str, help_: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS) -> Histogram:
        """A distribution, of seconds unless the buckets say otherwise."""
        self._told("histogram", name, help_, labels)
        return Histogram(name, help_, labels, buckets=buckets, registry=self.registry)

    def read(self, type_: Literal["counter", "gauge"], name: str, help_: str, labels: Sequence[str] = ()) -> Reading:
        """A family whose numbers are asked for at each scrape; ``Reading.source`` says of whom."""
        self._told(type_, name, help_, labels)
        reading = Reading(type_, name, help_, labels)
        self.registry.register(reading)
        return reading

    def also(self, of: Counter | Histogram, name: str, help_: str, labels: Sequence[str], repeat: Mapping[str, str] | None = None) -> None:
        """The numbers of ``of`` under another name; ``repeat`` adds labels, each with the value of one that is there."""
        self._told("histogram" if isinstance(of, Histogram) else "counter", name, help_, labels)
        self.registry.register(_Also(of, name.removesuffix("_total"), help_, repeat or {}))


class Reading(Collector):
    """See ``Families.read``. Without a source it has no series."""

    def __init__(self, type_: Literal["counter", "gauge"], name: str, help_: str, labels: Sequence[str]) -> None:
        self._type, self._name, self._help, self._labels = type_, name, help_, tuple(labels)
        self.source: Read = tuple

    def _empty(self) -> CounterMetricFamily | GaugeMetricFamily:
        made = CounterMetricFamily if self._type == "counter" else GaugeMetricFamily
        return made(self._name, self._help, labels=self._labels)

    def describe(self) -> Iterable[Metric]:
        """The family without numbers: registering asks nobody."""
        yield self._empty()

    def collect(self) -> Iterable[Metric]:
        """The family with the numbers of now."""
        family = self._empty()
        for labels, value in self.source():
            family.add_metric(labels, value)
        yield family


class _Also(Collector):
    """Another name for a family."""

    def __init__(self, of: Counter | Histogram, name: str, help_: str, repeat: Mapping[str, str]) -> None:
        self._of, self._name, self._help, self._repeat = of, name, help_, dict(repeat)

    def describe(self) -> Iterable[Metric]:
        """The family without numbers."""
        for family in self._of.describe():
            yield Metric(self._name, self._help, family.type)

    def collect(self) -> Iterator[Metric]:
        """The numbers of the other family."""
        for family in self._of.collect():
            renamed = Metric(self._name, self._help, family.type)
            for sample in family.samples:
                labels = sample.labels
                if self._repeat:
                    labels = {**labels, **{added: labels[of] for added, of in self._repeat.items()}}
                renamed.samples.append(sample._replace(name=self._name + sample.name[len(family.name) :], labels=labels))
            yield renamed


class _Collected(Collector):
    """What was collected, to be written down elsewhere."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families


class RequestCounter:
    """Counts the requests of one API client (``fleetwake.kube.client.Answered``)."""

    def __init__(self, requests: Counter, server: str) -> None:
        self._requests, self._host = requests, urlsplit(server).netloc or server
        self._series: dict[tuple[str, int], Counter] = {}

    def __call__(self, method: str, status: int) -> None:
        """One request was answered with ``status``, or with 0 not at all."""
        series = self._series.get((method, status))
        if series is None:
            series = self._series[method, status] = self._requests.labels(str(status) if status else NO_ANSWER, method, self._host)
        series.inc()


async def exposed(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """What a scrape answers: the body and its content type. ``accept`` is the reader's Accept header.

    The numbers are read here and now, in the event loop that changes them; writing them down, most of the work, is a thread's, so that no run waits for it.
    """
    encode, content_type = choose_encoder(accept)
    collected = _Collected(list(registry.collect()))
    return await asyncio.to_thread(encode, collected), content_type
