"""Read the results topic: whole, from a time on, with a plain consumer outside any group."""

from __future__ import annotations

from datetime import datetime

import orjson
from pydantic import ValidationError

from fleetwake.connections.kafka import Kafka
from fleetwake.errors import NotFoundError, UnavailableError
from fleetwake.stream.reading import TopicReader
from fleetwake.views.connection import ViewError
from schemas.results import RESULT_TYPES, Run

MODELS = {model.TYPE.encode(): model for model in RESULT_TYPES}


def decode(headers: list[tuple[str, bytes]], value: bytes | None) -> Run | None:
    """The record of one message; None for what is no result that this version knows."""
    model = MODELS.get(dict(headers).get("ce_type", b""))
    if model is None or value is None:
        return None
    try:
        return model.model_validate(orjson.loads(value))
    except (ValidationError, orjson.JSONDecodeError):
        return None


def read_results(kafka: Kafka, topic: str, since: datetime | None = None) -> list[Run]:
    """Every result on the topic up to its present end, in order of time.

    Args:
        kafka: where, and how to be let in.
        topic: the results topic's name.
        since: leave out what was produced earlier.

    Raises:
        ViewError: no broker answers, or the topic does not exist.
    """
    try:
        with TopicReader(kafka, topic, "fleetwake-views") as reader:
            numbers = reader.partitions()
            ends = reader.ends(numbers)
            starts = reader.starts(numbers) if since is None else reader.since(numbers, since)
            found = [run for message in reader.read(starts, ends) if (run := decode(message.headers, message.value)) is not None]
    except (UnavailableError, NotFoundError) as error:
        raise ViewError(error.message) from error
    return sorted(found, key=lambda run: run.at)  # type: ignore[attr-defined]
