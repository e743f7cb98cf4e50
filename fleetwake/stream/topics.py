"""Create the topics and verify those that exist, before anything reads or writes them (kafka-faust.md rule 10).

A worker that starts before its topics sits idle for minutes, and a topic with other partitions or limits loses data slowly: so this step
fails loudly, naming topic, setting and remedy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import refusal, unavailable
from fleetwake.errors import TerminalError, UnavailableError
from schemas.topics import TopicSpec

REPLICATION_DEFAULT = -1
"""The broker's default.replication.factor."""


class TopicMismatchError(TerminalError):
    """A topic exists with other partitions or settings than it must have."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One setting of an existing topic that differs. ``setting`` is ``partitions`` or a topic config."""

    topic: str
    setting: str
    found: str
    wanted: str

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if self.setting == "partitions":
            why = "the partitions decide where a cluster lives and cannot change"
            return f"set FLEETWAKE_PARTITIONS={self.found}, or choose another FLEETWAKE_TOPIC_PREFIX: {why}"
        return f"run: kafka-configs.sh --alter --entity-type topics --entity-name {self.topic} --add-config {self.setting}={self.wanted}"

    def __str__(self) -> str:
        return f"topic {self.topic}: {self.setting} is {self.found}, must be {self.wanted}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class TopicState:
    """An existing topic as the broker describes it."""

    name: str
    partitions: int
    config: Mapping[str, str]


class TopicAdmin:
    """Admin requests about the topics; blocking (run it in a thread or before the loop starts)."""

    def __init__(self, kafka: Kafka, *, replication: int = REPLICATION_DEFAULT) -> None:
        """Connect.

        Raises:
            UnavailableError: no broker answers, or none takes us; the message names the setting.
        """
        self._replication, self._kafka = replication, kafka
        if why := refusal(kafka):  # the client would try again for half a minute
            raise UnavailableError(f"no Kafka broker serves us at {kafka}: {why}", operation="topics")
        try:
            self._admin = KafkaAdminClient(**kafka.client(), client_id="fleetwake-admin")
        except KafkaError as error:
            raise unavailable(kafka, error, "topics") from error

    def __enter__(self) -> TopicAdmin:
        return self

    def __exit__(self, *_: object) -> None:
        self._admin.close()

    def create(self, specs: Iterable[TopicSpec]) -> tuple[str, ...]:
        """Create the topics that are missing, then verify all. Returns the names created.

        Raises:
            TopicMismatchError: an existing topic differs.
            UnavailableError: the broker refused or did not answer.
        """
        specs = tuple(specs)
        there = {state.name for state in self.describe(specs)}
        created = []
        for spec in specs:
            if spec.name in there:
                continue
            topic = NewTopic(spec.name, spec.partitions, self._replication, topic_configs=dict(spec.config))
            try:
                self._admin.create_topics([topic], wait_for_metadata=True)
                created.append(spec.name)
            except TopicAlreadyExistsError:  # another service's admin step was first
                continue
            except KafkaError as error:
                raise UnavailableError(f"topic {spec.name}: {self._kafka.told(error)}", operation="create topic") from error
        self.verify(specs)
        return tuple(created)

    def verify(self, specs: Iterable[TopicSpec]) -> None:
        """Compare the topics with what they must be.

        Raises:
            TopicMismatchError: one is missing or differs; every difference is in the message, one a line.
        """
        specs = tuple(specs)
        states = {state.name: state for state in self.describe(specs)}
        missing = [f"topic {spec.name} does not exist; run: fleetwake topics create" for spec in specs if spec.name not in states]
        found = [str(mismatch) for spec in specs if spec.name in states for mismatch in compare(spec, states[spec.name])]
        if missing or found:
            raise TopicMismatchError("\n".join([*missing, *found]), operation="verify topics")

    def lacking(self, specs: Sequence[TopicSpec]) -> tuple[str, ...]:
        """What keeps topics from being used, a sentence each: missing ones (or ones that may not be seen), other partitions. Their settings are not asked for.

        Raises:
            UnavailableError: the broker refused or did not answer.
        """
        try:
            names = set(self._admin.list_topics())
            present = [spec for spec in specs if spec.name in names]
            described = self._admin.describe_topics([spec.name for spec in present]) if present else []
        except KafkaError as error:
            raise UnavailableError(str(error), operation="look for topics") from error
        counts = {entry.get("name", entry.get("topic")): len(entry["partitions"]) for entry in described}
        missing = [f"topic {spec.name} does not exist, or its user may not see it" for spec in specs if spec.name not in counts]
        return (*missing, *(str(_partitions(spec, counts[spec.name])) for spec in present if counts[spec.name] != spec.partitions))

    def describe(self, specs: Iterable[TopicSpec]) -> tuple[TopicState, ...]:
        """The topics of ``specs`` that exist, in their order.

        Raises:
            UnavailableError: the broker refused or did not answer.
        """
        specs = tuple(specs)
        try:
            names = set(self._admin.list_topics())
            present = [spec for spec in specs if spec.name in names]
            if not present:
                return ()
            described = {entry.get("name", entry.get("topic")): entry for entry in self._admin.describe_topics([spec.name for spec in present])}
            answer = self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in present], config_filter="all")
        except KafkaError as error:
            raise UnavailableError(self._kafka.told(error), operation="describe topics") from error
        configs = _configs(answer)
        return tuple(TopicState(spec.name, len(described[spec.name]["partitions"]), configs.get(spec.name, {})) for spec in present)


def compare(spec: TopicSpec, state: TopicState) -> tuple[Mismatch, ...]:
    """Every setting of ``spec`` that ``state`` does not have."""
    wrong = [] if spec.partitions == state.partitions else [_partitions(spec, state.partitions)]
    for setting, wanted in spec.config.items():
        if (found := state.config.get(setting, "unset")) != wanted:
            wrong.append(Mismatch(spec.name, setting, found, wanted))
    return tuple(wrong)


def _partitions(spec: TopicSpec, found: int) -> Mismatch:
    return Mismatch(spec.name, "partitions", str(found), str(spec.partitions))


def _configs(answer: dict[str, Any]) -> dict[str, dict[str, str]]:
    # kafka-python 3.0.12 answers {"topic": {name: {setting: {"value": ...}}}}
    return {name: {setting: str(entry["value"]) for setting, entry in entries.items()} for name, entries in answer.get("topic", {}).items()}
