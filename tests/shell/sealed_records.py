"""Sealed records as writers leave them, made without a broker: for tests that then do to them what nobody should."""

from __future__ import annotations

from dataclasses import dataclass, field

from fleetwake.views.verification import Finding, LogFacts, Message, Verification
from schemas.chain import Acknowledged, Head, Link, SealedContent, key_id, sealed

KEY = b"k" * 32
KEYS = {key_id(KEY): KEY}


@dataclass
class Partition:
    """One partition of results."""

    number: int = 0
    messages: list[Message] = field(default_factory=list)
    base: int = 0

    @property
    def end(self) -> int:
        """The next offset."""
        return self.base + len(self.messages)

    def append(self, value: bytes, headers: list[tuple[str, bytes]]) -> Message:
        """Append a record as it is."""
        message = Message(self.number, self.end, b"default/demo", value, headers)
        self.messages.append(message)
        return message

    def verify(self, start: int = 0, copied: bool = False, keys: dict[str, bytes] | None = None) -> list[Finding]:
        """What verify says of the partition from an offset on."""
        verification = Verification(LogFacts(self.number, start, copied), KEYS if keys is None else keys)
        kept = [message for message in self.messages if message.offset >= start]
        return [finding for message in kept for finding in verification.take(message)] + list(verification.finish())


class Writer:
    """One life of one writer: each record is acknowledged before the next is made."""

    def __init__(self, partition: Partition, name: str, service: str = "reconcilers", key: bytes = KEY) -> None:
        self._partition, self._name, self._service, self._key = partition, name, service, key
        self.head: Head | None = None
        self._begun = (partition.base, partition.end)
        self.heads: tuple[Head, ...] = ()

    def write(self, text: str = "", count: int = 1) -> Message:
        """Append records; returns the last."""
        for _ in range(count):
            said = text or f"{self._name} {self._partition.end}"
            headers = [("ce_id", said.encode()), ("ce_source", f"/fleetwake/{self._service}/w0".encode())]
            message = self.put(f'{{"text":"{said}"}}'.encode(), headers)
        return message

    def put(self, value: bytes, headers: list[tuple[str, bytes]]) -> Message:
        """Seal and append a record."""
        head = self.head
        acknowledged = Acknowledged(head.sequence, head.offset) if head is not None else None
        first = (None, ()) if head is not None else (self._begun, self.heads)
        link = Link(self._name, head.sequence + 1 if head is not None else 1, head.mac if head is not None else "", acknowledged, *first)
        content = SealedContent(self._partition.number, b"default/demo", value, headers)
        with_seal, mac = sealed(self._key, content, link)
        message = self._partition.append(value, with_seal)
        self.head = Head(self._name, link.sequence, message.offset, mac)
        return message
