"""Whether a token opens a bootstrap Secret's data: a pure judgement of the Secret's annotations.

Source: docs/security/bootstrap-data.md.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from services.reconcilers.bootstrap import transports

_TOKEN = re.compile(rf"^Bearer ([0-9A-Za-z_-]{{{transports.TOKEN_LETTERS}}})$")


class Verdict(Enum):
    """What becomes of a request; the value is told to nobody but the audit trail."""

    GRANTED = "granted"
    NOT_FETCHED = "this data is not fetched: its Secret has no fetch token"
    WRONG = "the token is not the one of this data"
    USED = "the token has been used before"
    EXPIRED = "the token has expired"

    @property
    def status(self) -> int:
        """The HTTP status: a wrong token learns nothing, a right one learns why it works no more."""
        return {Verdict.GRANTED: 200, Verdict.USED: 410, Verdict.EXPIRED: 410}.get(self, 403)


def presented(header: str) -> str:
    """The token of an Authorization header, "" if it is none of ours."""
    match = _TOKEN.match(header)
    return match[1] if match is not None else ""


def judge(secret: Mapping[str, Any], token: str, now: datetime) -> Verdict:
    """Judge a token by the Secret it shall open (its JSON)."""
    annotations: Mapping[str, str] = secret["metadata"].get("annotations") or {}
    wanted = annotations.get(transports.TOKEN_HASH)
    if not wanted:
        return Verdict.NOT_FETCHED
    if not hmac.compare_digest(wanted, transports.token_hash(token)):
        return Verdict.WRONG
    if annotations.get(transports.FETCHED_AT):
        return Verdict.USED
    try:
        expires = datetime.fromisoformat(annotations[transports.TOKEN_EXPIRES_AT])
    except (KeyError, ValueError):
        return Verdict.EXPIRED
    return Verdict.GRANTED if expires.tzinfo is not None and now < expires else Verdict.EXPIRED
