"""Records of results one by one: which of them are wanted, as CloudEvents in JSON, and in one line for people. Pure: messages in, data or text out."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from rich.text import Text

from fleetwake.views.naming import short
from fleetwake.views.results import decode
from schemas.keys import GroupKind, ObjectKey
from schemas.results import Done, Planned, Recovered, Run, StepRecord, StepResult

ATTRIBUTE = "ce_"
CONTENT_TYPE = "content-type"
JSON_TYPE = "application/json"
WORD_WIDTH, CLUSTER_WIDTH = 9, 24
COLORS = {"done": "green", "failed": "red", "planned": "cyan", "recovered": "yellow"}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records: of a cluster (``<namespace>/<name>``), of runs for a kind, of a namespace; all that is given must hold."""

    cluster: str = ""
    kind: GroupKind | None = None
    namespace: str = ""

    def has(self, message: Any) -> bool:
        """Whether the record is wanted; told from its headers alone."""
        if not (self.cluster or self.kind or self.namespace):
            return True
        headers = attributes(message)
        cluster = headers.get("partitionkey", "")
        if self.cluster and cluster != self.cluster:
            return False
        try:
            key = ObjectKey.parse(headers.get("subject", ""))
        except ValueError:
            return False
        namespace = (key.cluster or cluster).partition("/")[0] if key.cluster else key.namespace
        return (self.kind is None or key.group_kind == self.kind) and (not self.namespace or namespace == self.namespace)


def attributes(message: Any) -> dict[str, str]:
    """The CloudEvents attributes of a message, and its other headers, as text."""
    return {name.removeprefix(ATTRIBUTE): value.decode(errors="replace") for name, value in message.headers}


def as_event(message: Any) -> dict[str, Any]:
    """A message as one CloudEvent in JSON format, with its place in Kafka as two extension attributes. Source: CloudEvents JSON event format 1.0.2."""
    found = attributes(message)
    event: dict[str, Any] = {"datacontenttype": found.pop(CONTENT_TYPE, JSON_TYPE), **found}
    event |= {"kafkapartition": message.partition, "kafkaoffset": message.offset}
    if message.value is None:
        return event
    try:
        event["data"] = orjson.loads(message.value)
    except orjson.JSONDecodeError:
        event["data_base64"] = base64.b64encode(message.value).decode()
    return event


def line(message: Any) -> Text:
    """A message as people read it: when, what became of it, whose, what was done and why."""
    run = decode(message.headers, message.value)
    if run is None:
        return Text(
            f"partition {message.partition} offset {message.offset}: {attributes(message).get('type') or 'no type'}, not known to this version", style="dim"
        )
    word, text = _told(run)
    at = run.at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]  # type: ignore[attr-defined]
    found = Text(f"{at}  ", style="dim")
    found.append(word.ljust(WORD_WIDTH), style=COLORS.get(word, ""))
    found.append((run.cluster or "-").ljust(CLUSTER_WIDTH) + "  ", style="not dim")
    found.append(short(run.key), style="not dim bold").append(f"  {text}", style="not dim")
    return found.append(f"  ({run.instance})")


def _told(run: Run) -> tuple[str, str]:
    match run:
        case Planned():
            why = f"; because of {run.cause.change}" if run.cause.change else ""
            return "planned", _steps(run.steps, run.key) + why
        case Done():
            error = f"; {run.error}" if run.error else ""
            return run.outcome, f"{_steps(run.steps, run.key)} in {run.duration_ms:.0f} ms{error}"
        case Recovered():
            return "recovered", f"closed by the next owner: the object is {run.found}"
    return "?", run.TYPE


def _steps(steps: tuple[StepRecord, ...], own: str) -> str:
    """Each verb with its target where that is another object; reasons that repeat are said once."""
    told: list[str] = []
    reason = ""
    for step in steps:
        what = step.verb if step.target == own else f"{step.verb} {short(step.target)}"
        if isinstance(step, StepResult) and step.outcome != "done":
            what += f" {step.outcome}"
        told.append(f"{what} ({step.reason})" if step.reason and step.reason != reason else what)
        reason = step.reason
    return ", ".join(told) or "nothing"


def plain(mapping: Mapping[str, Any]) -> bytes:
    """One JSON object as one line."""
    return orjson.dumps(mapping, default=str, option=orjson.OPT_APPEND_NEWLINE)
