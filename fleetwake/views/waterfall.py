"""The waterfall of one intent: every run in order, its steps, who did it, why, how long it took, and the gaps between.

Times of runs come from their records; a step has no time of its own there. Stretches in which nothing ran are cut out of the axis and told as rows,
so that a wait of a minute does not flatten the work of milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleetwake.views.naming import short
from fleetwake.views.runs import IntentView, RunView, failed, sent
from fleetwake.views.terminal import took
from schemas.results import StepRecord, StepResult

BAR_CELLS = 24
EIGHTHS = " ▏▎▍▌▋▊▉█"
GAP = timedelta(milliseconds=250)
"""A stretch without a run is told as a gap from this length on."""

COLORS = {"done": "green", "failed": "red", "recovered": "yellow", "open": "yellow"}


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch in which no run of the intent was under way."""

    after: datetime
    length: timedelta


def rows_of(runs: Sequence[RunView]) -> list[RunView | Gap]:
    """The runs in order of their start, with the gaps between them."""
    rows: list[RunView | Gap] = []
    until: datetime | None = None
    for run in runs:
        if until is not None and run.started - until >= GAP:
            rows.append(Gap(until, run.started - until))
        rows.append(run)
        until = run.ended if until is None else max(until, run.ended)
    return rows


class Axis:
    """Maps instants to cells of the bar, gaps left out."""

    def __init__(self, rows: Sequence[RunView | Gap]) -> None:
        self._gaps = [row for row in rows if isinstance(row, Gap)]
        runs = [row for row in rows if isinstance(row, RunView)]
        self._zero = runs[0].started
        self._span = max(self._active(max(run.ended for run in runs)), 1e-6)

    def _active(self, at: datetime) -> float:
        idle = sum((gap.length for gap in self._gaps if gap.after < at), timedelta())
        return (at - self._zero - idle).total_seconds()

    def bar(self, run: RunView) -> str:
        """BAR_CELLS characters: blank up to the run's start, then as long as it took, at least an eighth of a cell."""
        begin = min(self._active(run.started) / self._span, 1.0) * BAR_CELLS
        cells = min(int(begin), BAR_CELLS - 1)
        length = max((self._active(run.ended) - self._active(run.started)) / self._span * BAR_CELLS, 1 / 8)
        full, rest = divmod(round(length * 8), 8)
        drawn = "█" * full + (EIGHTHS[rest] if rest else "")
        return f"{' ' * cells}{drawn[: BAR_CELLS - cells]}".ljust(BAR_CELLS)


def waterfall(intent: IntentView, *, steps: bool = True, rows_max: int | None = None) -> RenderableType:
    """Draw an intent: a heading and one row per run, with a row per step below it unless ``steps`` is false.

    ``rows_max`` keeps the first rows and says how many more there are.
    """
    rows = rows_of(intent.runs)
    axis = Axis(rows)
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), expand=True, header_style="bold")
    table.add_column("AT", justify="right", no_wrap=True, min_width=9)
    table.add_column("", width=BAR_CELLS, no_wrap=True)
    table.add_column("TOOK", justify="right", no_wrap=True, min_width=7)
    table.add_column("WHO", no_wrap=True, style="dim")
    table.add_column("WHAT", no_wrap=True, ratio=4, overflow="ellipsis")
    table.add_column("WHY", no_wrap=True, ratio=5, overflow="ellipsis")
    shown = 0
    for row in rows:
        if rows_max is not None and shown >= rows_max:
            break
        shown += 1
        if isinstance(row, Gap):
            table.add_row(f"+{took(row.after - intent.started)}", "", took(row.length), "", Text("· · · nothing ran", style="dim"), "")
        else:
            _add_run(table, row, axis.bar(row), intent, steps)
    parts: list[RenderableType] = [heading(intent), "", table]
    if shown < len(rows):
        parts.append(Text(f"… and {len(rows) - shown} more rows", style="dim"))
    return Group(*parts)


def heading(intent: IntentView) -> Text:
    """What opened the intent, when, and its sums."""
    faults = sum(run.outcome != "done" for run in intent.runs)
    idle = sum((row.length for row in rows_of(intent.runs) if isinstance(row, Gap)), timedelta())
    when = intent.started.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    text = Text("intent ", style="dim")
    text.append(intent.trace, style="cyan")
    text.append(f"\n{intent.change or 'no record of what opened it'}\n", style="bold")
    text.append(f"{when} UTC · {took(intent.ended - intent.started)} in all, {took(idle)} of it idle · ")
    text.append(f"{len(intent.runs)} runs · {intent.writes} requests")
    if faults:
        text.append(f" · {faults} not done", style="red")
    return text


def _add_run(table: Table, run: RunView, bar: str, intent: IntentView, steps: bool) -> None:
    color = COLORS[run.outcome]
    name = Text(short(run.record.key), style="bold" if run.outcome == "done" else f"bold {color}")
    if not steps:
        name.append(f"  {verbs(run)}", style="dim")
    why = Text(run.cause or "what the runs before it changed", style="" if run.cause else "dim")
    if run.outcome != "done":
        error = run.done.error if run.done is not None else "no record of its end" if run.outcome == "open" else "closed by the next owner"
        why = Text(f"{run.outcome}: {error}", style=color)
    offset = f"+{took(run.started - intent.started)}"
    table.add_row(offset, Text(bar, style=color), took(run.ended - run.started) if run.done is not None else "?", run.record.instance, name, why)
    if steps:
        for last, step in _with_last(run.steps):
            table.add_row("", "", "", "", _step_text(step, last, run.record.key), Text(_step_why(step), style="red" if failed(step) else "dim"))


def _step_text(step: StepRecord, last: bool, own: str) -> Text:
    text = Text(f"{'└' if last else '├'}─ ", style="dim")
    text.append(f"{step.verb} ", style="red" if failed(step) else "" if sent(step) else "dim")
    if step.target != own:
        text.append(short(step.target))
    if isinstance(step, StepResult) and step.outcome == "skipped":
        text.append("  skipped", style="yellow")
    return text


def _step_why(step: StepRecord) -> str:
    if isinstance(step, StepResult) and step.outcome == "failed":
        return f"{step.status or 'no answer'}: {step.error}"
    return step.reason


def _with_last(steps: Sequence[StepRecord]) -> Iterator[tuple[bool, StepRecord]]:
    for number, step in enumerate(steps, 1):
        yield number == len(steps), step


def verbs(run: RunView) -> str:
    """The steps of a run in few words: ``create 6, apply status``."""
    counts: dict[str, int] = {}
    for step in run.steps:
        counts[step.verb] = counts.get(step.verb, 0) + 1
    return ", ".join(f"{verb} {count}" if count > 1 else verb for verb, count in counts.items())


def as_json(intent: IntentView) -> Mapping[str, Any]:
    """The intent as plain data: times ISO 8601, durations in milliseconds."""
    return {
        "intent": intent.trace,
        "change": intent.change,
        "started": intent.started.isoformat(),
        "ended": intent.ended.isoformat(),
        "requests": intent.writes,
        "runs": [_run_json(run) for run in intent.runs],
    }


def _run_json(run: RunView) -> Mapping[str, Any]:
    record = run.record
    return {
        "plan_id": record.plan_id,
        "key": record.key,
        "service": record.service,
        "instance": record.instance,
        "trace": record.trace,
        "started": run.started.isoformat(),
        "duration_ms": round((run.ended - run.started).total_seconds() * 1000, 3),
        "outcome": run.outcome,
        "cause": run.cause,
        "steps": [step.model_dump(mode="json", exclude_defaults=True) for step in run.steps],
    }
