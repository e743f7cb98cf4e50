"""What the bridge measures beside its worker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fleetwake.exposition import Families, Value
from fleetwake.shell.cache import Cache
from schemas.keys import GroupKind
from services.autoscaler_bridge.kinds.node_group.observed import MODELS
from services.autoscaler_bridge.kinds.node_group.standing import NODE_GROUP_READY


class BridgeMetrics:
    """The families, on a process' own list; without a cache no group is counted."""

    def __init__(self, families: Families, cache: Cache | None = None) -> None:
        f, by = families, ("method",)
        self.requests = f.counter("fleetwake_autoscaler_requests_total", "Requests of cluster-autoscalers by gRPC status", (*by, "code"))
        self.seconds = f.histogram("fleetwake_autoscaler_request_seconds", "Time to answer a cluster-autoscaler; a change of size waits for its writes", by)
        self.expiry = f.gauge("fleetwake_autoscaler_certificate_expiry_seconds", "When the certificate shown to cluster-autoscalers ends, as Unix time")
        self.renewals = f.counter("fleetwake_autoscaler_certificate_renewals_total", "Certificates taken into use for cluster-autoscalers")
        groups = f.read("gauge", "fleetwake_autoscaler_node_groups", "Objects that ask to be node groups, by the reason of NodeGroupReady", ("reason",))
        if cache is not None:
            groups.source = lambda: _standing(cache)


def _standing(cache: Cache) -> Iterable[Value]:
    found: Counter[str] = Counter()
    for model in MODELS:
        for entry in cache.of_namespace(GroupKind(model.GROUP, model.KIND), ""):
            for condition in (entry.state.get("status") or {}).get("conditions") or ():
                if condition.get("type") == NODE_GROUP_READY:
                    found[str(condition.get("reason", ""))] += 1
    return [((reason,), count) for reason, count in sorted(found.items())]
