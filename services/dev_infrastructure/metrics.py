"""What the development provider measures beside its worker: the clusters and hosts that it emulates."""

from __future__ import annotations

from fleetwake.exposition import Families
from services.dev_infrastructure.emulation.emulator import Emulator


def emulation_metrics(families: Families, emulator: Emulator | None = None) -> None:
    """Add the families; without an emulator they have no series."""
    clusters = families.read("gauge", "fleetwake_emulated_clusters", "Workload clusters that this process emulates")
    hosts = families.read("gauge", "fleetwake_emulated_hosts", "Hosts that this process emulates, switched-on Machines of the development provider")
    if emulator is not None:
        clusters.source = lambda: [((), len(emulator.clusters))]
        hosts.source = lambda: [((), sum(len(cluster.hosts) for cluster in emulator.clusters.values()))]
