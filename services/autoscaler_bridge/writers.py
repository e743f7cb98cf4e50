"""Who else writes the size of a group, as the API server's field managers say.

Records do not carry field managers, so the API server is asked: when a group is met first, when its spec has changed, and before a change that is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fleetwake.kind import Change
from fleetwake.kube.answers import body_of, error_of
from fleetwake.shell.ports import METADATA_ONLY, KubePort, Request
from fleetwake.shell.resources import Resources
from schemas.keys import ObjectKey
from services.autoscaler_bridge.kinds.node_group.observed import Writers
from services.autoscaler_bridge.kinds.node_group.standing import writers_of


class WriterBook:
    """What was read last of each group; ``known`` is what the kinds read."""

    def __init__(self, kube: KubePort, resources: Resources, wake: Callable[[ObjectKey], None], known: dict[ObjectKey, Writers]) -> None:
        self.known = known
        self._kube, self._resources, self._wake = kube, resources, wake

    async def look(self, key: ObjectKey) -> None:
        """Ask the API server.

        Raises:
            FleetwakeError: it did not tell.
        """
        response = await self._kube.send(Request("GET", self._resources.path(key), accept=METADATA_ONLY))
        error = error_of(response, f"get {key}")
        if error is not None:
            raise error
        meta = body_of(response)["metadata"]
        self.known[key] = Writers(str(meta["uid"]), int(meta.get("generation") or 0), writers_of(meta.get("managedFields")))

    async def looked(self, arguments: Mapping[str, Any]) -> None:
        """Step: ask, and let the group run with what is known then. Raises: FleetwakeError."""
        key = ObjectKey.parse(arguments["key"])
        await self.look(key)
        self._wake(key)

    def changed(self, change: Change) -> None:
        """Forget what is gone."""
        if change.after is None:
            self.known.pop(change.key, None)
