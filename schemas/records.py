"""The records of the topics: an object record (one state of one object) and its headers.

The value of an object record is the object's JSON without managedFields and with sensitive values replaced (``schemas.sensitive``);
everything a consumer needs before parsing it stands in the headers. A delete is a last record ``DELETED`` with the final object,
then a tombstone (no value). ``MOVED`` says that the object now lives in another partition; a tombstone follows it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from schemas.keys import ObjectKey

ADDED, MODIFIED, DELETED, MOVED = "ADDED", "MODIFIED", "DELETED", "MOVED"
RECORD_TYPES = (ADDED, MODIFIED, DELETED, MOVED)

Headers: TypeAlias = list[tuple[str, bytes]]


class Version(NamedTuple):
    """A place in the history of an object. *Newer* means greater; epochs separate histories whose resourceVersions cannot be compared."""

    epoch: int
    resource_version: int


class Actor(NamedTuple):
    """Who wrote the object last, from the newest managedFields entry: field manager, operation, subresource, RFC 3339 time."""

    manager: str = ""
    operation: str = ""
    subresource: str = ""
    time: str = ""


NOBODY = Actor()


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """One state of one object on ``objects`` or ``objects.shared``.

    ``value`` is the JSON text, ``None`` for a tombstone. ``received`` and ``produced`` are Unix seconds: when the watch line was read
    and when the record was handed to the producer. ``cluster`` is ``<namespace>/<name>`` or ``""`` for a kind of no cluster.
    """

    key: ObjectKey
    type: str
    version: Version
    cluster: str
    value: bytes | None
    received: float = 0.0
    produced: float = 0.0
    actor: Actor = NOBODY
    traceparent: str = ""

    def headers(self) -> Headers:
        """The Kafka headers of the record."""
        headers: Headers = [
            ("type", self.type.encode()),
            ("epoch", str(self.version.epoch).encode()),
            ("rv", str(self.version.resource_version).encode()),
            ("cluster", self.cluster.encode()),
            ("received", repr(self.received).encode()),
            ("produced", repr(self.produced).encode()),
            ("actor", "\x1f".join(self.actor).encode()),
        ]
        if self.traceparent:
            headers.append(("traceparent", self.traceparent.encode()))
        return headers

    @classmethod
    def decode(cls, key: bytes | None, value: bytes | None, headers: Iterable[tuple[str, bytes]]) -> ObjectRecord:
        """Read a record from the wire. A bare tombstone decodes to type DELETED, version (0, 0).

        Raises:
            ValueError: the key or a header is missing or malformed; the message says which.
        """
        if not key:
            raise ValueError("record without a key")
        object_key = ObjectKey.parse(key.decode())
        found: Mapping[str, bytes] = dict(headers)
        if value is None and "rv" not in found:
            return cls(object_key, DELETED, Version(0, 0), "", None)
        try:
            kind = found["type"].decode()
            version = Version(int(found["epoch"]), int(found["rv"]))
            actor = Actor(*found["actor"].decode().split("\x1f")) if found.get("actor") else NOBODY
            received, produced = float(found.get("received", b"0")), float(found.get("produced", b"0"))
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"record {object_key}: header {error} is missing or malformed") from error
        if kind not in RECORD_TYPES:
            raise ValueError(f"record {object_key}: type {kind!r} is none of {', '.join(RECORD_TYPES)}")
        return cls(object_key, kind, version, found.get("cluster", b"").decode(), value, received, produced, actor, found.get("traceparent", b"").decode())


JsonDict: TypeAlias = dict[str, Any]
