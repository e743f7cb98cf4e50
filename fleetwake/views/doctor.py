"""Whether an installation works: every part of it is asked once, side by side, and what is wrong is told with its remedy.

A part that cannot be asked is a finding of its own; the others are told all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.text import Text

from fleetwake.errors import FleetwakeError
from fleetwake.kube import config
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.settings import Settings
from fleetwake.stream.topics import TopicAdmin
from fleetwake.views import fleet, lag, stuck
from fleetwake.views.connection import Connection, connect
from fleetwake.views.terminal import age
from schemas.api.meta import KubeObject
from schemas.api.registry import KINDS

PAGE = 500
LEASE_SLACK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not work: which part, and what is wrong with it and what to do."""

    part: str
    text: str


@dataclass
class Report:
    """What was found: ``well`` tells of each part that works."""

    at: datetime
    after: timedelta
    well: list[Finding] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    groups: Sequence[lag.Group] = ()
    stuck: Sequence[stuck.Stuck] = ()

    def judge(self, part: str, works: str, wrong: Sequence[str]) -> None:
        """Note how a part stands."""
        self.findings.extend(Finding(part, text) for text in wrong)
        if not wrong:
            self.well.append(Finding(part, works))

    def render(self) -> RenderableType:
        """For people: what works, what does not, the lag, and the objects that are stuck."""
        lines: list[RenderableType] = [Text.assemble(("ok     ", "green"), (f"{one.part}: ", "bold"), one.text) for one in self.well]
        lines += [Text.assemble(("WRONG  ", "red"), (f"{one.part}: ", "bold"), one.text) for one in self.findings]
        if self.groups:
            lines += ["", lag.overview(self.groups)]
        longer = f"for longer than {age(self.after)}"
        lines += ["", Text(f"{len(self.stuck)} objects stuck {longer}" if self.stuck else f"no object is stuck {longer}", style="bold")]
        return Lines(*lines, *([stuck.render(self.stuck, self.at)] if self.stuck else []))

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "well": [{"part": one.part, "text": one.text} for one in self.well],
            "findings": [{"part": one.part, "text": one.text} for one in self.findings],
            "groups": lag.as_json(self.groups),
            "stuck": stuck.as_json(self.stuck),
        }


async def examine(connection: Connection, report: Report, namespace: str, state: Path | None) -> None:
    """Ask every part, and note it in the report. ``namespace`` limits the objects that are looked at; ``state`` is the rig's folder, where there is one.

    Raises:
        SettingsError: a setting of how to reach them cannot be used.
    """
    settings = connection.settings
    # another identity: who may see groups may see nothing else, where Kafka asks
    seen_by = connect("kafka_bootstrap", state_dir=state, identity="lag").settings
    async with ApiClient(config.load(settings.kubeconfig), service="doctor") as client:
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "topics": lambda: _topics(report, settings),
            "workers": lambda: _workers(report, seen_by),
            "watcher": lambda: _watcher(report, client, settings),
            "kinds": lambda: _kinds(report, client, namespace),
            "read model": lambda: _read_model(report, client, settings),
        }
        await asyncio.gather(*(_asked(report, part, ask) for part, ask in parts.items()))
    order = list(parts)
    for found in (report.well, report.findings):
        found.sort(key=lambda one: order.index(one.part))


async def _asked(report: Report, part: str, ask: Callable[[], Awaitable[None]]) -> None:
    try:
        await ask()
    except FleetwakeError as error:
        report.findings.append(Finding(part, str(error)))


# ---- Kafka --------------------------------------------------------------------------------------------------------------------------------
async def _topics(report: Report, settings: Settings) -> None:
    specs = settings.topics.specs(settings.partitions)

    def lacking() -> tuple[str, ...]:
        with TopicAdmin(settings.kafka) as admin:
            return admin.lacking(specs)

    wrong = await asyncio.to_thread(lacking)
    report.judge("topics", f"{len(specs)} are there, with {settings.partitions} partitions", [f"{text}: run `fleetwake topics create`" for text in wrong])


async def _workers(report: Report, settings: Settings) -> None:
    report.groups = await asyncio.to_thread(lag.read_groups, settings.kafka, settings.topics.objects, settings.topic_prefix)
    members, behind = sum(len(group.members) for group in report.groups), sum(group.lag for group in report.groups)
    told = f"{members} in {len(report.groups)} groups, {behind} offsets not acknowledged yet"
    report.judge("workers", told, [text for group in report.groups for text in group.wrong])


# ---- API server ---------------------------------------------------------------------------------------------------------------------------
async def _watcher(report: Report, client: ApiClient, settings: Settings) -> None:
    name, namespace = settings.watcher_lease, settings.system_namespace
    answer = await client.request("GET", resource_path("coordination.k8s.io/v1", "leases", namespace, name))
    if answer.status == 404:
        report.judge("watcher", "", [f"Lease {namespace}/{name} does not exist: no watcher has ever led, so no change reaches Kafka; start one"])
        return
    raise_for(answer, f"get Lease {namespace}/{name}")
    spec = answer.json()["spec"]
    holder, renewed = spec.get("holderIdentity") or "", spec.get("renewTime")
    since = report.at - datetime.fromisoformat(renewed) if renewed else timedelta.max
    if not holder or since.total_seconds() > spec.get("leaseDurationSeconds", 0) + LEASE_SLACK_SECONDS:
        ago = f"since {renewed}" if renewed else "yet"
        report.judge("watcher", "", [f"nobody holds Lease {namespace}/{name} {ago}: no change reaches Kafka; see the watcher's log"])
        return
    report.judge("watcher", f"{holder} leads, and said so {max(since.total_seconds(), 0):.1f} s ago", [])


async def _kinds(report: Report, client: ApiClient, namespace: str) -> None:
    found: list[stuck.Stuck] = []
    missing, count = [], 0
    for model in KINDS:
        try:
            async for items in _pages(client, model, namespace):
                count += len(items)
                found += stuck.stuck(({"kind": model.KIND, **item} for item in items), report.at, report.after)
        except _NotServedError:
            missing.append(f"{model.KIND}.{model.GROUP}/{model.VERSION} is not served: run `fleetwake schemas apply`")
    report.stuck = stuck.in_order(found)
    report.judge("kinds", f"{len(KINDS)} are served, with {count} objects", missing)


class _NotServedError(Exception):
    """The API server has no such kind."""


async def _pages(client: ApiClient, model: type[KubeObject], namespace: str) -> AsyncIterator[list[Any]]:
    where = namespace if model.SCOPE == "Namespaced" else ""
    path, query = resource_path(f"{model.GROUP}/{model.VERSION}", model.PLURAL, where), {"limit": str(PAGE)}
    while True:
        answer = await client.request("GET", path, query=query)
        if answer.status == 404:
            raise _NotServedError
        raise_for(answer, f"list {model.PLURAL}")
        body = answer.json()
        yield body.get("items") or []
        more = body["metadata"].get("continue")
        if not more:
            return
        query = {"limit": str(PAGE), "continue": more}


# ---- Redis --------------------------------------------------------------------------------------------------------------------------------
async def _read_model(report: Report, client: ApiClient, settings: Settings) -> None:
    held, truth = await asyncio.to_thread(fleet.read_fleet, settings.redis), await fleet.read_truth(client)
    report.judge("read model", f"{len(held)} clusters, all current", fleet.note_of(fleet.stale_since(held, truth, report.at), report.at))
