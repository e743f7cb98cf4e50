"""A small service run as a real process by the worker's tests: its kind over ConfigMaps writes down what it observed.

``python worker_under_test.py <settings as JSON> <journal file>``. Every run of a ConfigMap appends a line ``{"run": name, "n": …}``. What a run does
stands in the ConfigMap's data: ``seconds`` (work in flight that long), ``raise`` (as many runs end in a bug), ``write`` (patch the annotation
``counted`` to ``n``). The ConfigMap ``census`` is woken by every other and writes down all that its cluster holds.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake.kind import Change, Kind, Lookup, View, Watch
from fleetwake.plan import Local, Patch, Plan, Step
from fleetwake.settings import Settings
from fleetwake.shell.service import ServiceSpec, run_service
from schemas.api.meta import KubeObject
from schemas.keys import ClusterKey, GroupKind, ObjectKey

CONFIG_MAP = GroupKind("", "ConfigMap")
CENSUS = "census"
MANAGER = "capi-under-test"


class ConfigMap(KubeObject):
    """core/v1 ConfigMap."""

    GROUP, VERSION, KIND, PLURAL = "", "v1", "ConfigMap", "configmaps"
    data: Mapping[str, str] = {}


@dataclass(frozen=True)
class Observed:
    """One ConfigMap, and for the census all of its cluster."""

    config: ConfigMap
    all: Mapping[str, str]


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read the ConfigMap."""
    config = view.get(ConfigMap, key.namespace, key.name)
    if config is None:
        return None
    everyone = view.of_cluster(ConfigMap, ClusterKey(key.namespace, config.data["cluster"])) if key.name == CENSUS else ()
    return Observed(config, {one.name: one.data.get("n", "") for one in everyone if one.name != CENSUS})


_raised: Counter[str] = Counter()


def reconcile(observed: Observed) -> Plan:
    """Write down, work, write."""
    config = observed.config
    name, data = config.name, config.data
    if name == CENSUS:
        return Plan((Local("note", "census", {"census": dict(observed.all)}),))
    if _raised[name] < int(data.get("raise", "0")):
        _raised[name] += 1
        raise AttributeError(f"bug {_raised[name]} of {name}")
    steps: list[Step] = [Local("note", "run", {"run": name, "n": data.get("n", "")})]
    if "seconds" in data:
        steps += [Local("work", "busy", {"seconds": float(data["seconds"])}), Local("note", "worked", {"worked": name})]
    if "write" in data and config.metadata.annotations.get("counted") != data["n"]:
        key = ObjectKey("", "ConfigMap", config.namespace, name)
        steps.append(Patch(key, "v1", config.metadata.uid, {"metadata": {"annotations": {"counted": data["n"], "by": str(os.getpid())}}}, "count"))
    return Plan(tuple(steps))


def census_of(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The census of the changed ConfigMap's cluster."""
    if change.cluster is None or change.key.name == CENSUS:
        return ()
    return [key for key in lookup.cluster_keys(CONFIG_MAP, change.cluster) if key.name == CENSUS]


def main() -> int:
    """Run until SIGTERM."""
    settings, journal = Settings(**json.loads(sys.argv[1])), open(sys.argv[2], "a", buffering=1)  # noqa: SIM115 -- as long as the process
    logging.basicConfig(level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")

    async def note(arguments: Mapping[str, Any]) -> None:
        journal.write(json.dumps({"at": time.time(), "pid": os.getpid(), **arguments}) + "\n")

    async def work(arguments: Mapping[str, Any]) -> None:
        await asyncio.sleep(float(arguments["seconds"]))

    kind = Kind(ConfigMap, observe, reconcile, MANAGER, (Watch(CONFIG_MAP, census_of),))
    return run_service(ServiceSpec("under_test", (kind,), owns_workloads=False, actions={"note": note, "work": work}), settings)


if __name__ == "__main__":
    sys.exit(main())
