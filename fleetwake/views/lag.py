"""How far the workers of each service are behind the topic of objects, partition by partition, and whose each partition is.

Offsets are counted, not records: what compaction took away in between is waited for by nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from rich.table import Table
from rich.text import Text

from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import refusal, unavailable
from fleetwake.errors import NotFoundError, UnavailableError
from fleetwake.stream.reading import TopicReader
from fleetwake.views.connection import ViewError
from schemas.access import dashed, group_of
from schemas.topics import WORKERS

CLIENT = "fleetwake-lag"
STABLE = "Stable"
OPTIONAL = frozenset({"dev_infrastructure"})
"""Services that an installation may do without."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition as a group reads it: whose it is ("": nobody's), how far it was acknowledged, where it ends."""

    number: int
    owner: str
    acknowledged: int
    end: int

    @property
    def lag(self) -> int:
        """Offsets not acknowledged yet."""
        return max(self.end - self.acknowledged, 0)


@dataclass(frozen=True, slots=True)
class Group:
    """One consumer group. ``state`` is Kafka's word for it."""

    name: str
    state: str
    partitions: tuple[Partition, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """The workers that own partitions."""
        return tuple(sorted({one.owner for one in self.partitions if one.owner}))

    @property
    def lag(self) -> int:
        """Of all partitions."""
        return sum(one.lag for one in self.partitions)

    @property
    def wrong(self) -> tuple[str, ...]:
        """What keeps the group from its work, a sentence each."""
        if not self.members:
            return (f"no worker is in group {self.name}: nothing is reconciled there until one starts",)
        if self.state != STABLE:
            return (f"group {self.name} is {self.state}: its partitions are being shared out anew",)
        nobodys = [str(one.number) for one in self.partitions if not one.owner]
        return (f"partitions {', '.join(nobodys)} are nobody's in group {self.name}",) if nobodys else ()


def read_groups(kafka: Kafka, topic: str, prefix: str) -> tuple[Group, ...]:
    """The groups of all services that take objects in, whether somebody is in them or not, by name.

    Raises:
        ViewError: no broker answers, or the topic is not there.
    """
    if why := refusal(kafka):
        raise ViewError(f"no Kafka broker serves us at {kafka}: {why}")
    try:
        with TopicReader(kafka, topic, CLIENT) as reader:
            numbers = reader.partitions()
            starts, ends = reader.starts(numbers), reader.ends(numbers)
        return _groups(kafka, topic, prefix, {number: (starts[number], ends[number]) for number in numbers})
    except (UnavailableError, NotFoundError) as error:
        raise ViewError(error.message) from error
    except KafkaError as error:
        raise ViewError(f"the consumer groups at {kafka} cannot be read: {unavailable(kafka, error, 'read groups').message}") from error


def _groups(kafka: Kafka, topic: str, prefix: str, extents: Mapping[int, tuple[int, int]]) -> tuple[Group, ...]:
    admin = KafkaAdminClient(**kafka.client(), client_id=CLIENT)
    try:
        there = {str(entry["group_id"]) for entry in admin.list_groups()}
        names = _named(there, prefix)
        described = admin.describe_groups(names)
        offsets = admin.list_group_offsets(names)
    finally:
        admin.close()
    found = []
    for name in names:
        owners = _owners(described[name], topic)
        partitions = tuple(
            Partition(number, owners.get(number, ""), _acknowledged(offsets.get(name, {}), topic, number, start), end)
            for number, (start, end) in extents.items()
        )
        found.append(Group(name, str(described[name]["group_state"]), partitions))
    return tuple(found)


def _named(there: Iterable[str], prefix: str) -> list[str]:
    """The groups of ours: one for each service that must have one, and those that services by shard have."""
    ours = {group_of(service, prefix) for service in WORKERS if service not in OPTIONAL}
    sharded = tuple(f"{prefix}-{dashed(service)}" for service in OPTIONAL)
    return sorted(ours | {name for name in there if name.startswith(sharded)})


def _owners(described: Mapping[str, Any], topic: str) -> dict[int, str]:
    found = {}
    for member in described["members"]:
        name = str(member["group_instance_id"] or member["member_id"])
        for assigned in (member["member_assignment"] or {}).get("assigned_partitions", ()):
            if assigned["topic"] == topic:
                found.update(dict.fromkeys(assigned["partitions"], name))
    return found


def _acknowledged(offsets: Mapping[TopicPartition, Any], topic: str, number: int, start: int) -> int:
    told = offsets.get(TopicPartition(topic, number))
    # a group that has acknowledged nothing begins where the topic does; Kafka says -1 for none
    return max(int(told.offset) if told is not None else start, start)


def render(groups: Iterable[Group], *, all_partitions: bool) -> Table:
    """A row for each group; with ``all_partitions`` one for each of its partitions below it, else for those that lag."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading, justify in (("GROUP", "left"), ("PARTITION", "right"), ("WORKER", "left"), ("ACKNOWLEDGED", "right"), ("END", "right"), ("LAG", "right")):
        table.add_column(heading, no_wrap=True, justify=justify)  # type: ignore[arg-type]
    for group in groups:
        workers = Text(", ".join(group.members) or "nobody", style="" if group.members else "red")
        table.add_row(Text(group.name, style="bold"), f"{len(group.partitions)} in all", workers, "", "", _shown(group.lag))
        for one in group.partitions:
            if all_partitions or one.lag:
                table.add_row("", str(one.number), one.owner or "nobody", str(one.acknowledged), str(one.end), _shown(one.lag))
    return table


def overview(groups: Iterable[Group]) -> Table:
    """A row for each group, with the lag of each of its partitions in their order."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("GROUP", "WORKERS", "LAG", "BY PARTITION"):
        table.add_column(heading, no_wrap=heading != "BY PARTITION")
    for group in groups:
        parts = Text(" ").join(_shown(one.lag) for one in group.partitions)
        table.add_row(Text(group.name, style="bold"), ", ".join(group.members) or Text("nobody", style="red"), _shown(group.lag), parts)
    return table


def _shown(lag: int) -> Text:
    return Text(str(lag), style="yellow" if lag else "green")


def as_json(groups: Iterable[Group]) -> list[dict[str, Any]]:
    """The same for programs."""
    return [
        {
            "group": group.name,
            "state": group.state,
            "lag": group.lag,
            "partitions": [
                {"partition": one.number, "worker": one.owner, "acknowledged": one.acknowledged, "end": one.end, "lag": one.lag} for one in group.partitions
            ],
        }
        for group in groups
    ]
