"""Verify before harm: confirm by live reads exactly what a plan was decided from.

A cache can be stale by construction (the previous owner's last writes are not in it). So where a wrong belief would do harm, every object that was read
is compared by version, every absence is confirmed, every collection is listed. Whatever differs goes into the cache and the decision is made again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fleetwake.errors import NotFoundError
from fleetwake.kube.answers import body_of, error_of
from fleetwake.shell.carry_out import CarryOut, Hands, RunContext
from fleetwake.shell.ports import METADATA_LIST_ONLY, METADATA_ONLY, Request
from fleetwake.shell.view import CacheView, ListRead
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import Version

LIVE_READS_MAX = 8
"""Live reads of one confirmation under way at a time."""

CLUSTER_NAME_LABEL = "cluster.x-k8s.io/cluster-name"


class Verifier:
    """See the module."""

    def __init__(self, hands: Hands, carry_out: CarryOut) -> None:
        self._hands, self._carry_out = hands, carry_out

    async def confirm(self, run: RunContext, view: CacheView) -> bool:
        """True when everything read is what the API server has now; otherwise the cache has been brought up to date."""
        limit = asyncio.Semaphore(LIVE_READS_MAX)

        async def bounded(check: Any) -> bool:
            async with limit:
                return bool(await check)

        objects = [self._object(run, key, version) for key, version in view.reads.items() if not key.cluster and self._hands.resources.find(key.group_kind)]
        lists = [self._list(run, read) for read in _distinct(view.lists) if self._hands.resources.find(read.ref)]
        return all(await asyncio.gather(*(bounded(check) for check in [*objects, *lists])))

    async def _object(self, run: RunContext, key: ObjectKey, version: Version | None) -> bool:
        path = self._hands.resources.path(key)
        response = await self._hands.ports.kube.send(Request("GET", path, accept=METADATA_ONLY))
        error = error_of(response, f"get {key}")
        if isinstance(error, NotFoundError):
            if version is None:
                return True
            held = self._hands.cache.get(key)
            self._carry_out.gone(run, key, held.uid if held else "", held.version if held else None)
            return False
        if error is not None:
            raise error
        meta = body_of(response)["metadata"]
        held = self._hands.cache.get(key)
        if version is not None and held is not None and held.uid == meta["uid"] and self._same(key, held.version, meta):
            return held.version == version
        await self._refresh(run, key, held.uid if held else "", meta)
        return False

    def _same(self, key: ObjectKey, version: Version, meta: Mapping[str, Any]) -> bool:
        return version.resource_version >= int(meta["resourceVersion"])

    async def _refresh(self, run: RunContext, key: ObjectKey, held_uid: str, meta: Mapping[str, Any]) -> None:
        if held_uid and held_uid != meta["uid"]:
            self._carry_out.gone(run, key, held_uid)
        response = await self._hands.ports.kube.send(Request("GET", self._hands.resources.path(key)))
        error = error_of(response, f"get {key}")
        if error is None:
            self._carry_out.take(run, key, body_of(response), None)
        elif not isinstance(error, NotFoundError):
            raise error

    async def _list(self, run: RunContext, read: ListRead) -> bool:
        place = ObjectKey(read.ref.group, read.ref.kind, read.namespace, "")
        query = {"labelSelector": f"{CLUSTER_NAME_LABEL}={ClusterKey.parse(read.cluster).name}"} if read.cluster else {}
        path = self._hands.resources.path(place, collection=True)
        response = await self._hands.ports.kube.send(Request("GET", path, query, accept=METADATA_LIST_ONLY))
        error = error_of(response, f"list {read.ref}")
        if error is not None:
            raise error
        items = [item["metadata"] for item in body_of(response).get("items") or ()]
        live = {ObjectKey(read.ref.group, read.ref.kind, read.namespace, meta["name"]): meta for meta in items}
        same = True
        for key, meta in live.items():
            held = self._hands.cache.get(key)
            if held is None or held.uid != meta["uid"] or not self._same(key, held.version, meta):
                await self._refresh(run, key, held.uid if held else "", meta)
                same = False
        for key in read.found:
            if key not in live:
                same = await self._object(run, key, read.found[key]) and same
        return same


def _distinct(lists: list[ListRead]) -> list[ListRead]:
    return list({(read.ref, read.namespace, read.cluster): read for read in lists}.values())
