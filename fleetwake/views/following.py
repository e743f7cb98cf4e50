"""Following results as they come: where to begin, which records, and a file of offsets to go on from another time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from fleetwake.stream.reading import TopicReader
from fleetwake.views.connection import ViewError
from fleetwake.views.events import Wanted

NOW, EARLIEST = "now", "earliest"


class OffsetsFile:
    """The next offset of each partition of one topic, in a small JSON file that is replaced as a whole."""

    def __init__(self, path: Path, topic: str) -> None:
        self._path, self._topic = path, topic

    def load(self) -> dict[int, int]:
        """What was saved; empty when there is no file.

        Raises:
            ViewError: the file is no such file, or of another topic.
        """
        try:
            held = orjson.loads(self._path.read_bytes())
            topic, found = held["topic"], {int(number): int(offset) for number, offset in held["offsets"].items()}
        except FileNotFoundError:
            return {}
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ViewError(f"{self._path} is no file of offsets ({error!r}): name another, or remove it to begin anew") from error
        if topic != self._topic:
            raise ViewError(f"{self._path} holds offsets of topic {topic}, not of {self._topic}: name another file")
        return found

    def save(self, offsets: Mapping[int, int]) -> None:
        """Replace the file."""
        part = self._path.with_name(f".{self._path.name}.part")
        part.write_bytes(orjson.dumps({"topic": self._topic, "offsets": {str(number): offset for number, offset in sorted(offsets.items())}}))
        os.replace(part, self._path)


def beginning(reader: TopicReader, begin: str, now: datetime, saved: Mapping[int, int] | None = None) -> dict[int, int]:
    """The offsets to begin at: those saved; for other partitions ``now``, ``earliest``, a time (RFC 3339) or a duration back (``30m``).

    Raises:
        ViewError: ``begin`` is none of these.
    """
    numbers = reader.partitions()
    if begin == NOW:
        found = reader.ends(numbers)
    elif begin == EARLIEST:
        found = reader.starts(numbers)
    else:
        found = reader.since(numbers, instant(begin, now))
    if saved:
        starts = reader.starts(numbers)
        found |= {number: max(offset, starts[number]) for number, offset in saved.items() if number in starts}
    return found


def instant(text: str, now: datetime) -> datetime:
    """A time: RFC 3339 (``2026-01-31``, ``2026-01-31T10:00:00Z``), or a duration back from now.

    Raises:
        ViewError: it is neither.
    """
    back = duration(text, strict=False)
    if back is not None:
        return now - back
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ViewError(f"{text!r} is no time: write now, earliest, 30m, 12h, 7d, 2026-01-31 or 2026-01-31T10:00:00Z") from None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration(text: str, *, strict: bool = True) -> timedelta | None:
    """Read a duration such as ``90s`` or ``1h30m``; None for an empty text, and for what is none unless ``strict``.

    Raises:
        ViewError: it is none.
    """
    digits, total, parts = "", timedelta(), 0
    for character in text:
        if character.isascii() and character.isdigit():
            digits += character
        elif digits and character in _UNITS:
            total += timedelta(**{_UNITS[character]: int(digits)})
            digits, parts = "", parts + 1
        else:
            parts, digits = 0, "?"
            break
    if parts and not digits:
        return total
    if text and strict:
        raise ViewError(f"--since {text!r} is no duration: write 90s, 30m, 12h or 7d")
    return None


def follow(reader: TopicReader, positions: dict[int, int], wanted: Wanted, batch_done: Callable[[], None]) -> Iterator[Any]:
    """Wanted records as they come, for ever. ``positions`` moves on with them; ``batch_done`` is called whenever all that came has been taken."""
    reader.seek(positions)
    while True:
        for message in reader.poll():
            if wanted.has(message):
                yield message
            positions[message.partition] = message.offset + 1
        batch_done()
