"""Requests of cluster-autoscaler on their way through the reconcilers: asked of a group's key, answered by a step of its run.

Whoever asks waits here and writes nothing himself. A request whose asker has given up is taken back; what a run has begun for it then ends by itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fleetwake.tracing.types import Cause
from schemas.keys import ObjectKey
from services.autoscaler_bridge.kinds.node_group.wanted import Answer, Attempt, Wanted

ASKED_MAX = 16
"""Requests that wait for one group; cluster-autoscaler asks one at a time."""


class Requests:
    """See the module. ``asked`` is what the kinds read."""

    def __init__(self, wake: Callable[[ObjectKey, Cause], None]) -> None:
        self.asked: dict[ObjectKey, tuple[Wanted, ...]] = {}
        self._wake = wake
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}

    async def ask(self, key: ObjectKey, wanted: Wanted, seconds: float) -> Answer:
        """Have a request decided and carried out; waits at most so long. The id of ``wanted`` is given here."""
        waiting = self.asked.get(key, ())
        if len(waiting) >= ASKED_MAX:
            return Answer("FAILED_PRECONDITION", f"{len(waiting)} requests for {key.name} wait already")
        wanted = replace(wanted, id=next(self._ids))
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[wanted.id] = answer
        self.asked[key] = (*waiting, wanted)
        self._wake(key, Cause(change=wanted.text))
        try:
            async with asyncio.timeout(seconds):
                return await answer
        except TimeoutError:
            return Answer("DEADLINE_EXCEEDED", f"not done within {seconds:.1f} s: see condition NodeGroupReady of {key.kind} {key.name}, or the bridge's log")
        finally:
            del self._waiting[wanted.id]
            if self._take_back(key, wanted.id):
                # what was begun for it and did not end may have left marks
                self._wake(key, Cause(change=f"nobody waits any more: {wanted.text}"))

    def _take_back(self, key: ObjectKey, number: int) -> bool:
        before = self.asked.get(key, ())
        left = tuple(one for one in before if one.id != number)
        if left:
            self.asked[key] = left
        else:
            self.asked.pop(key, None)
        return len(left) != len(before)

    async def attempt(self, arguments: Mapping[str, Any]) -> None:
        """Step: note the numbers with which a change of size is begun."""
        key, number = ObjectKey.parse(arguments["key"]), arguments["id"]
        begun = Attempt(arguments["base"], arguments["target"])
        if key in self.asked:
            self.asked[key] = tuple(replace(one, attempt=begun) if one.id == number else one for one in self.asked[key])

    async def answer(self, arguments: Mapping[str, Any]) -> None:
        """Step: tell the asker what became of it, and go on with whatever else is asked of the group."""
        key, number = ObjectKey.parse(arguments["key"]), arguments["id"]
        self._take_back(key, number)
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(Answer(arguments["code"], arguments["message"]))
        if key in self.asked:
            self._wake(key, Cause(change=self.asked[key][0].text))
