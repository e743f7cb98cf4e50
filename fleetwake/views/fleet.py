"""The fleet at a glance from Redis' read model. It is trusted by nobody for ever: what is behind the API server is shown as stale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from redis.exceptions import RedisError
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from fleetwake.connections.redis import Redis
from fleetwake.kube.client import METADATA_LIST, ApiClient, raise_for, resource_path
from fleetwake.shell.readmodel import CLUSTERS_SET, hash_key
from fleetwake.views.connection import ViewError
from fleetwake.views.objects import CORE, resource_of
from fleetwake.views.terminal import age
from fleetwake.views.tree import COLORS

TIMEOUT_SECONDS = 2.0
BEHIND_SECONDS_MAX = 3.0
"""The writers flush every 0.2 s: what is older than this and still not there is stale."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What the API server says of a Cluster: its version and when it was last changed."""

    resource_version: str
    changed: datetime | None


def read_fleet(redis: Redis) -> dict[str, dict[str, str]]:
    """The hash of every cluster, by ``namespace/name``, in order.

    Raises:
        ViewError: Redis does not answer.
    """
    client = redis.client(TIMEOUT_SECONDS)
    try:
        names: list[str] = sorted(client.smembers(CLUSTERS_SET))  # type: ignore[arg-type]
        with client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(hash_key(name))
            return dict(zip(names, pipe.execute(), strict=True))
    except (RedisError, OSError) as error:
        raise ViewError(f"{redis.told(error)} (the rig of this checkout: `fleetwake dev status`)") from error
    finally:
        client.close()


async def read_truth(client: ApiClient) -> dict[str, Truth]:
    """What the API server says of every Cluster, by ``namespace/name``, without their bodies.

    Raises:
        FleetwakeError: it refused or did not answer.
    """
    clusters = resource_of(CORE, "Cluster")
    answer = await client.request("GET", resource_path(clusters.api_version, clusters.plural), accept=METADATA_LIST)
    raise_for(answer, "list Clusters")
    found = {}
    for item in answer.json().get("items") or ():
        meta = item["metadata"]
        times = [entry["time"] for entry in meta.get("managedFields") or () if "time" in entry]
        changed = datetime.fromisoformat(max(times)) if times else None
        found[f"{meta['namespace']}/{meta['name']}"] = Truth(meta["resourceVersion"], changed)
    return found


def stale_since(fleet: Mapping[str, Mapping[str, str]], truth: Mapping[str, Truth], now: datetime) -> datetime | None:
    """Since when the read model misses a change that the API server has; None when it misses none, small delays aside."""
    behind = []
    for name in fleet.keys() | truth.keys():
        held, real = fleet.get(name), truth.get(name)
        if real is None:
            behind.append(now)  # deleted since; the API server does not say when
        elif (held is None or held.get("rv") != real.resource_version) and (now - (real.changed or now)).total_seconds() > BEHIND_SECONDS_MAX:
            behind.append(real.changed or now)
    return min(behind, default=None)


def render(fleet: Mapping[str, Mapping[str, str]], now: datetime, notes: Iterable[str] = ()) -> RenderableType:
    """One row per cluster, those that need attention first, under a line of sums."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("NAMESPACE", "CLUSTER", "AVAILABLE", "SINCE", "PHASE", "CONTROL PLANE", "WORKERS", "VERSIONS", "DOING", "ENDPOINT"):
        table.add_column(heading, no_wrap=True)
    counts = {"True": 0, "False": 0, "Unknown": 0}
    for name, fields in sorted(fleet.items(), key=lambda item: (_part(item[1], "Available", 0) == "True", item[0])):
        namespace, _, cluster = name.partition("/")
        status = _part(fields, "Available", 0) or "Unknown"
        counts[status] = counts.get(status, 0) + 1
        since = _part(fields, "Available", 2)
        shown_age = age(now - datetime.fromisoformat(since.replace("Z", "+00:00"))) if since else ""
        versions = ", ".join(dict.fromkeys(part for role in ("controlPlane", "workers") for part in fields.get(f"{role}:versions", "").split(",") if part))
        table.add_row(
            namespace,
            Text(cluster, style="bold"),
            Text(status, style=COLORS.get(status, "yellow")),
            shown_age,
            fields.get("phase", ""),
            _replicas(fields, "controlPlane"),
            _replicas(fields, "workers"),
            versions,
            _doing(fields),
            fields.get("endpoint", ""),
        )
    sums = Text(f"{len(fleet)} cluster{'' if len(fleet) == 1 else 's'}: ", style="bold")
    sums.append(f"{counts['True']} available", style="green").append(f", {counts['False']} not", style="red" if counts["False"] else "dim")
    sums.append(f", {counts['Unknown']} unknown", style="yellow" if counts["Unknown"] else "dim")
    return Group(sums, *(Text(note, style="yellow") for note in notes), "", table)


def note_of(since: datetime | None, now: datetime) -> list[str]:
    """What to say about the read model's age."""
    if since is None:
        return []
    when = since.astimezone(UTC).strftime("%H:%M:%S")
    return [f"stale since {when} UTC ({age(now - since)}): the reconcilers or Redis are behind or away; `fleetwake describe cluster` asks the API server"]


def _part(fields: Mapping[str, str], kind: str, index: int) -> str:
    parts = fields.get(f"condition:{kind}", "").split("/", 2)
    return parts[index] if index < len(parts) else ""


def _replicas(fields: Mapping[str, str], role: str) -> str:
    desired = fields.get(f"{role}:desiredReplicas", "")
    return f"{fields.get(f'{role}:availableReplicas', '0')}/{desired}" if desired else "-"


def _doing(fields: Mapping[str, str]) -> str:
    doing = [word for kind, word in (("Deleting", "deleting"), ("RollingOut", "rolling out"), ("ScalingUp", "scaling up"), ("ScalingDown", "scaling down"),
             ("Remediating", "remediating")) if _part(fields, kind, 0) == "True"]  # fmt: skip
    return ", ".join([*(["paused"] if fields.get("paused") == "true" else []), *doing])
