"""The seal on a result: which chain it stands in, what stood before it, and a keyed hash over all of it.

Every life of a writer keeps one chain per partition. Its records are numbered from 1, each names the hash of the one before it, and all carry a hash
of their own (HMAC-SHA256 with the installation's key) over partition, key, headers and value: a record that is changed, taken out or put elsewhere is
found, and nobody without the key can make one that is not. The first record of a chain names the newest records of the chains that were there, so that
their ends are held too. The attributes are CloudEvents extensions: headers ``ce_chain...``. What this proves, and what not: docs/audit.md.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.records import Headers

CHAIN, SEQUENCE, PREVIOUS = "ce_chain", "ce_chainseq", "ce_chainprev"
ACKNOWLEDGED, LOOKED, HEADS = "ce_chainack", "ce_chainlooked", "ce_chainheads"
KEY_ID, MAC = "ce_chainkey", "ce_chainmac"

HEADS_MAX = 8
"""Chains that the first record of a new one names, the newest."""
KEY_BYTES_MIN = 32
KEY_ID_HEX = 16
DOMAIN = b"fleetwake/seal/1"
"""Begins what is hashed: hashes made for another purpose with the same key, or by another rule, are never equal."""

_LENGTH = struct.Struct(">I")
_NO_VALUE = _LENGTH.pack(0xFFFFFFFF)


class Head(NamedTuple):
    """A record as another names it: its chain, its number in it, its offset and its hash (hex)."""

    chain: str
    sequence: int
    offset: int
    mac: str

    def __str__(self) -> str:
        return f"{self.chain}:{self.sequence}@{self.offset}:{self.mac}"

    @classmethod
    def parse(cls, text: str) -> Head:
        """Read what ``str`` wrote.

        Raises:
            ValueError: it is none.
        """
        chain, place, mac = text.rsplit(":", 2)
        sequence, offset = place.split("@")
        return cls(chain, int(sequence), int(offset), mac)


class Acknowledged(NamedTuple):
    """The newest record of the chain that the brokers had taken, with all before it, when a later one was made."""

    sequence: int
    offset: int


@dataclass(frozen=True, slots=True)
class Link:
    """A record's place in its chain.

    ``previous`` is the hash of the record before it, empty for the first. ``looked`` is the range of offsets [from, to) in which the writer looked for
    other chains before it began this one, ``heads`` what it found there; both stand on every record until one that has them is acknowledged.
    """

    chain: str
    sequence: int
    previous: str
    acknowledged: Acknowledged | None = None
    looked: tuple[int, int] | None = None
    heads: tuple[Head, ...] = ()

    def headers(self, key_id: str) -> Headers:
        """The link as headers, without the seal."""
        headers: Headers = [
            (CHAIN, self.chain.encode()),
            (SEQUENCE, b"%d" % self.sequence),
            (PREVIOUS, self.previous.encode()),
            (KEY_ID, key_id.encode()),
        ]
        if self.acknowledged is not None:
            headers.append((ACKNOWLEDGED, b"%d@%d" % self.acknowledged))
        if self.looked is not None:
            headers.append((LOOKED, b"%d-%d" % self.looked))
        if self.heads:
            headers.append((HEADS, ",".join(map(str, self.heads)).encode()))
        return headers

    @classmethod
    def of(cls, headers: Mapping[str, bytes]) -> Link | None:
        """The link that a record's headers tell; None for a record that stands in no chain.

        Raises:
            ValueError: there is one, and it cannot be read.
        """
        if CHAIN not in headers:
            return None
        try:
            acknowledged, looked = headers.get(ACKNOWLEDGED), headers.get(LOOKED)
            return cls(
                chain=headers[CHAIN].decode(),
                sequence=int(headers[SEQUENCE]),
                previous=headers[PREVIOUS].decode(),
                acknowledged=Acknowledged(*_two(acknowledged, b"@")) if acknowledged is not None else None,
                looked=_two(looked, b"-") if looked is not None else None,
                heads=tuple(Head.parse(text) for text in headers.get(HEADS, b"").decode().split(",") if text),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(f"the chain's header {error} is missing or malformed") from error


def _two(text: bytes, between: bytes) -> tuple[int, int]:
    first, second = text.split(between)
    return int(first), int(second)


class SealedContent(NamedTuple):
    """What a seal covers: the record as it lies in Kafka, but for topic, offset and Kafka's own timestamp."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Iterable[tuple[str, bytes]]


def key_id(key: bytes) -> str:
    """What a key is called on the records it seals; tells nothing of the key."""
    return hashlib.sha256(DOMAIN + b"/key id" + key).hexdigest()[:KEY_ID_HEX]


def mac(key: bytes, content: SealedContent) -> str:
    """The hash of a record, hex: over its partition, key, value and every header but the hash itself, whatever their order."""
    parts = [DOMAIN, _LENGTH.pack(content.partition)]
    for blob in (content.key, content.value):
        parts += (_NO_VALUE,) if blob is None else (_LENGTH.pack(len(blob)), blob)
    for name, held in sorted((name.encode(), held) for name, held in content.headers if name != MAC):
        parts += (_LENGTH.pack(len(name)), name, _LENGTH.pack(len(held)), held)
    return hmac.digest(key, b"".join(parts), "sha256").hex()


def sealed(key: bytes, content: SealedContent, link: Link) -> tuple[Headers, str]:
    """The headers of a record with its link and its seal, and the seal: the next record of the chain names it."""
    headers = [*content.headers, *link.headers(key_id(key))]
    found = mac(key, content._replace(headers=headers))
    return [*headers, (MAC, found.encode())], found


def genuine(keys: Mapping[str, bytes], content: SealedContent) -> bool | None:
    """Whether the seal of a record fits it; None when it was made with a key that is not among ``keys`` (by their ids)."""
    headers = dict(content.headers)
    key = keys.get(headers.get(KEY_ID, b"").decode(errors="replace"))
    if key is None:
        return None
    return hmac.compare_digest(mac(key, content).encode(), headers.get(MAC, b""))
