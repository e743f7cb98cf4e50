"""What the development provider measures beside its worker: the clusters and hosts that it emulates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from fleetwake.exposition import Families, Value
from services.dev_infrastructure.balancing.implementations import LOAD_BALANCERS
from services.dev_infrastructure.emulation.emulator import Emulator


def emulation_metrics(families: Families, emulator: Emulator | None = None) -> None:
    """Add the families; without an emulator they have no series."""
    clusters = families.read("gauge", "fleetwake_emulated_clusters", "Workload clusters that this process emulates")
    hosts = families.read("gauge", "fleetwake_emulated_hosts", "Hosts that this process emulates, switched-on Machines of the development provider")
    balancers = families.read("gauge", "fleetwake_load_balancers", "Load balancers before emulated clusters, by whether they run", ("type", "state"))
    backends = families.read("gauge", "fleetwake_load_balancer_backends", "API servers behind load balancers, by whether they listen", ("type", "state"))
    connections = families.read("gauge", "fleetwake_load_balancer_connections", "Connections through load balancers that API servers have", ("type",))
    if emulator is not None:
        clusters.source = lambda: [((), len(emulator.clusters))]
        hosts.source = lambda: [((), sum(len(cluster.hosts) for cluster in emulator.clusters.values()))]
        balancers.source = lambda: _balancers(emulator)
        backends.source = lambda: _backends(emulator)
        connections.source = lambda: _connections(emulator)


def _balancers(emulator: Emulator) -> Iterator[Value]:
    found = Counter((one.balancer, "failed" if one.balancer_failure else "running") for one in emulator.clusters.values())
    yield from (((kind, state), found[kind, state]) for kind in LOAD_BALANCERS for state in ("running", "failed"))


def _backends(emulator: Emulator) -> Iterator[Value]:
    doors = [(one.balancer, one.door) for one in emulator.clusters.values() if one.door is not None]
    found = Counter((kind, "up" if listener.serving else "down") for kind, door in doors for listener in door.listeners())
    yield from (((kind, state), found[kind, state]) for kind in LOAD_BALANCERS for state in ("up", "down"))


def _connections(emulator: Emulator) -> Iterator[Value]:
    found: Counter[str] = Counter()
    for one in emulator.clusters.values():
        found[one.balancer] += sum(listener.connections for listener in one.door.listeners()) if one.door is not None else 0
    yield from (((kind,), found[kind]) for kind in LOAD_BALANCERS)
