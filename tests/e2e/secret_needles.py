"""By what a secret value would be found where it must not be."""

from __future__ import annotations

import base64
import re

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+(.*?)-----END", re.DOTALL)
TOKEN = re.compile(rb"\b[a-z0-9]{6}\.([a-z0-9]{16})\b")
INLINE_KEY = re.compile(rb"client-key-data: *\"?([A-Za-z0-9+/=]+)")
NEEDLE_BYTES = 32
ALIGNMENTS = 3


def needles_of(value: bytes) -> set[bytes]:
    """Byte strings by which a secret value would be found: a middle line of each key's body, plain and as base64 of any alignment; tokens."""
    found = {match[1] for match in TOKEN.finditer(value)}
    keys = [match[1] for match in PRIVATE_KEY.finditer(value)]
    for match in INLINE_KEY.finditer(value):
        keys += [inner[1] for inner in PRIVATE_KEY.finditer(base64.b64decode(match[1]))]
    for body in keys:
        line = [line.strip() for line in body.splitlines() if line.strip()][1][:NEEDLE_BYTES]
        found.add(line)
        # base64 of a text that holds the line at each of the three offsets, without the characters that its neighbours change
        found |= {base64.b64encode(b"\0" * offset + line)[4 : 4 * (NEEDLE_BYTES // 3) - 4] for offset in range(ALIGNMENTS)}
    return found
