"""Whose a line is comes from the run it is written in, under the same keys everywhere; nobody passes it along."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest

from fleetwake.cli.logs import JsonLines
from fleetwake.tracing.current import CURRENT, CurrentRun, Lasting
from schemas.keys import ClusterKey, ObjectKey

TRACE = "0af7651916cd43dd8448eb211c80319c"
MACHINE = ObjectKey("cluster.x-k8s.io", "Machine", "default", "m1")
DEMO = ClusterKey("default", "demo")
KEYS = ("kind", "namespace", "name", "cluster", "trace_id")


def line(message: str = "hello", **extra: Any) -> dict[str, Any]:
    """What a record logged now would be written as."""
    record = logging.getLogger("test").makeRecord("test", logging.INFO, "f", 1, message, (), None, extra=extra or None)
    text = JsonLines("reconcilers", "r-0").format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


async def test_a_line_of_a_run_and_of_what_it_awaits_says_whose_it_is() -> None:
    async def run() -> list[dict[str, Any]]:
        CURRENT.set(CurrentRun(MACHINE, DEMO, lambda: TRACE))

        async def below() -> dict[str, Any]:
            return line()

        return [line(), await asyncio.create_task(below())]

    lines = await asyncio.create_task(run())
    assert [[found[key] for key in KEYS] for found in lines] == [["Machine", "default", "m1", "default/demo", TRACE]] * 2
    assert not set(KEYS) & line().keys(), "outside of runs a line is nobody's"


async def test_two_runs_beside_each_other_keep_their_lines_apart() -> None:
    async def run(name: str) -> str:
        CURRENT.set(CurrentRun(MACHINE._replace(name=name), DEMO, lambda: TRACE))
        await asyncio.sleep(0)
        return str(line()["name"])

    assert await asyncio.gather(run("a"), run("b"), run("c")) == ["a", "b", "c"]


def test_a_run_of_no_trace_names_one_of_its_own_and_keeps_it() -> None:
    token = CURRENT.set(CurrentRun(MACHINE, None, lambda: ""))
    try:
        first, second = line(), line()
    finally:
        CURRENT.reset(token)
    assert len(first["trace_id"]) == 32 and first["trace_id"] == second["trace_id"]


def test_what_outlives_its_run_is_of_no_trace() -> None:
    run = CurrentRun(MACHINE, DEMO, lambda: TRACE)
    token = CURRENT.set(run)
    try:
        run.ended = True
        assert "trace_id" not in line() and line()["name"] == "m1"
        CURRENT.set(Lasting(DEMO))
        found = line()
    finally:
        CURRENT.reset(token)
    assert [found.get(key) for key in KEYS] == ["Cluster", "default", "demo", "default/demo", None]


@pytest.mark.parametrize(
    ("about", "wanted"),
    [
        (MACHINE, ["Machine", "default", "m1", ""]),
        (ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo"), ["Cluster", "default", "demo", "default/demo"]),
        (ObjectKey("", "Node", "", "n1", "default/demo"), ["Node", "", "n1", "default/demo"]),
        (DEMO, ["Cluster", "default", "demo", "default/demo"]),
    ],
    ids=["object", "cluster object", "object of a workload cluster", "cluster"],
)
def test_a_call_outside_of_runs_may_say_what_its_line_is_about(about: ObjectKey | ClusterKey, wanted: list[str]) -> None:
    found = line(about=about)
    assert [found[key] for key in KEYS[:4]] == wanted


def test_a_traceback_stays_on_its_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.getLogger("test").makeRecord("test", logging.ERROR, "f", 1, "failed: %s", (error,), (type(error), error, error.__traceback__))
    text = JsonLines("reconcilers", "r-0").format(record)
    assert "\n" not in text and "Traceback" in json.loads(text)["error"]


DYING = """
import threading, warnings
from fleetwake.cli.logs import configure
from fleetwake.settings import Settings
configure(Settings(instance="r-0"), "reconcilers")
warnings.warn("old", UserWarning)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
raise RuntimeError("the end")
"""


def test_what_python_itself_says_is_a_line_too() -> None:
    done = subprocess.run([sys.executable, "-c", DYING], capture_output=True, text=True, timeout=60, check=False)
    lines = [json.loads(text) for text in done.stderr.splitlines()]
    assert done.returncode != 0
    assert [found["level"] for found in lines] == ["WARNING", "CRITICAL", "CRITICAL"]
    assert "old" in lines[0]["message"] and "ZeroDivisionError" in lines[1]["message"] and "the end" in lines[2]["message"]
    assert all("Traceback" in found["error"] for found in lines[1:])
