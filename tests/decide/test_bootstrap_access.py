"""Which token opens which data, and when."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from services.reconcilers.bootstrap import transports
from services.reconcilers.bootstrap_data.access import Verdict, judge, presented
from tests.decide.bootstrap_world import inputs, request_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOKEN = transports.token(request_of("v1.34.2"), inputs())


def secret(**annotations: str) -> dict[str, object]:
    standard = {transports.TOKEN_HASH: transports.token_hash(TOKEN), transports.TOKEN_EXPIRES_AT: "2026-01-02T04:04:05Z"}
    return {"metadata": {"annotations": standard | {f"fleetwake.io/{name.replace('_', '-')}": value for name, value in annotations.items()}}}


@pytest.mark.parametrize(
    ("held", "token", "later", "verdict"),
    [
        (secret(), TOKEN, 0, Verdict.GRANTED),
        (secret(), TOKEN, 3599, Verdict.GRANTED),
        (secret(), TOKEN, 3600, Verdict.EXPIRED),
        (secret(fetch_expires_at="soon"), TOKEN, 0, Verdict.EXPIRED),
        (secret(fetch_expires_at="2027-01-01T00:00:00"), TOKEN, 0, Verdict.EXPIRED),
        (secret(), TOKEN[::-1], 0, Verdict.WRONG),
        (secret(fetched_at="2026-01-02T03:00:00Z"), TOKEN, 0, Verdict.USED),
        (secret(fetched_at="2026-01-02T03:00:00Z"), TOKEN[::-1], 0, Verdict.WRONG),
        ({"metadata": {}}, TOKEN, 0, Verdict.NOT_FETCHED),
    ],
)
def test_judgement(held: dict[str, object], token: str, later: int, verdict: Verdict) -> None:
    assert judge(held, token, NOW + timedelta(seconds=later)) is verdict


def test_statuses_tell_a_wrong_token_nothing() -> None:
    assert {verdict: verdict.status for verdict in Verdict} == {
        Verdict.GRANTED: 200,
        Verdict.NOT_FETCHED: 403,
        Verdict.WRONG: 403,
        Verdict.USED: 410,
        Verdict.EXPIRED: 410,
    }


@pytest.mark.parametrize("header", ["", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", f"Bearer {TOKEN[1:]}", f"bearer {TOKEN}", f"Bearer {TOKEN} "])
def test_what_is_no_token(header: str) -> None:
    assert presented(header) == ""


def test_a_token_is_the_same_each_time_and_differs_by_host() -> None:
    assert presented(f"Bearer {TOKEN}") == TOKEN == transports.token(request_of("v1.34.2"), inputs())
    other = dataclasses.replace(request_of("v1.34.2"), config_uid="uid-other")
    assert transports.token(other, inputs()) != TOKEN
