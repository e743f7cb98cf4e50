"""The reflector against a server of its own making: lines in odd chunks, an expired watch, a history that went back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import orjson
import pytest
from aiohttp import web

from fleetwake.errors import DecodeError, WatchExpiredError
from fleetwake.kube.client import ApiClient
from fleetwake.kube.config import ApiConfig
from fleetwake.kube.discovery import CONFIG_MAPS
from fleetwake.kube.reflector import Changed, Interrupted, LineSplitter, Listed, Page, Reflector, Resumed, Selection, WatchEvent

LARGE = "x" * 1_400_000


class FakeApi:
    """Lists and watches of one kind, scripted: each list takes the next version, each watch the next chunks (then it stays open)."""

    def __init__(self) -> None:
        self.lists: list[tuple[int, list[str]]] = []
        self.watches: list[list[bytes]] = []
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            version, names = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
            items = [{"metadata": {"name": name, "resourceVersion": "1"}} for name in names]
            return web.json_response({"metadata": {"resourceVersion": str(version)}, "items": items})
        self.asked.append(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if not self.watches:
            await asyncio.Event().wait()
        for chunk in self.watches.pop(0):
            await response.write(chunk)
        return response


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    found = FakeApi()
    app = web.Application()
    app.router.add_get("/{path:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


def line(kind: str, version: int, **fields: object) -> bytes:
    return orjson.dumps({"type": kind, "object": {"metadata": {"name": f"o{version}", "resourceVersion": str(version)}, **fields}}) + b"\n"


async def take(api: FakeApi, count: int, *, floor: int = 0) -> list[WatchEvent]:
    found: list[WatchEvent] = []
    async with (
        ApiClient(ApiConfig(api.url)) as client,
        asyncio.timeout(20),
        aclosing(Reflector(client, Selection(CONFIG_MAPS), floor=lambda: floor).events()) as events,
    ):
        async for event in events:
            found.append(event)
            if len(found) == count:
                break
    return found


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536, 131_072, 5_000_000], ids=str)
def test_lines_are_the_same_whatever_the_chunks(size: int) -> None:
    lines = [b"a" * 10, b"b" * 200_000, b"c", b"d" * 70_000] if size > 1 else [b"a" * 10, b"b" * 300]
    text = b"\n".join(lines) + b"\n"
    splitter = LineSplitter()
    assert [found for start in range(0, len(text), size) for found in splitter.feed(text[start : start + size])] == lines


def test_a_line_without_end_is_refused() -> None:
    splitter = LineSplitter(line_bytes_max=100)
    splitter.feed(b"x" * 60)
    with pytest.raises(DecodeError, match="passes 100 bytes"):
        splitter.feed(b"x" * 60)


async def test_a_line_of_1_4_megabytes_in_odd_chunks(api: FakeApi) -> None:
    text = line("MODIFIED", 11, data=LARGE) + line("BOOKMARK", 12) + line("DELETED", 13)
    api.lists, api.watches = [(10, ["a"])], [[text[start : start + 99_991] for start in range(0, len(text), 99_991)]]
    page, listed, changed, deleted = await take(api, 4)
    assert isinstance(page, Page) and page.first and [item["kind"] for item in page.items] == ["ConfigMap"]
    assert listed == Listed(10, page.received)
    assert isinstance(changed, Changed) and changed.object["data"] == LARGE and changed.line + b"\n" == line("MODIFIED", 11, data=LARGE)
    assert isinstance(deleted, Changed) and deleted.type == "DELETED"


async def test_an_expired_watch_lists_again(api: FakeApi) -> None:
    gone = orjson.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}) + b"\n"
    api.lists, api.watches = [(10, ["a", "b"]), (20, ["b"])], [[line("ADDED", 11), gone]]
    events = await take(api, 6)
    assert [type(event) for event in events] == [Page, Listed, Changed, Interrupted, Page, Listed]
    assert isinstance(events[3], Interrupted) and isinstance(events[3].error, WatchExpiredError)
    assert isinstance(events[4], Page) and events[4].first and [item["metadata"]["name"] for item in events[4].items] == ["b"]


async def test_a_watch_resumes_from_the_last_bookmark(api: FakeApi) -> None:
    api.lists = [(10, []), (10, [])]
    api.lists = [(10, []), (30, [])]
    api.watches = [[line("BOOKMARK", 25)], [line("ADDED", 31)]]
    events = await take(api, 5)
    assert [type(event) for event in events] == [Page, Listed, Interrupted, Resumed, Changed], "who was told of the loss is told of its end"
    assert api.asked == ["10", "25"]


async def test_a_server_restored_from_a_backup_is_listed_again(api: FakeApi) -> None:
    api.lists, api.watches = [(10, []), (5, []), (5, ["old"])], [[line("ADDED", 11)]]
    events = await take(api, 7)
    kinds = [type(event) for event in events]
    assert kinds == [Page, Listed, Changed, Interrupted, Interrupted, Page, Listed]
    assert isinstance(events[5], Page) and events[5].resource_version == 5


async def test_a_list_older_than_what_was_seen_says_so(api: FakeApi) -> None:
    api.lists = [(10, [])]
    (page,) = await take(api, 1, floor=11)
    assert isinstance(page, Page) and page.rewound
