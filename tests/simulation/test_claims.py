"""What may outlive a deleted Cluster: only what its user made and no controller ever touched."""

from __future__ import annotations

from typing import Any

from fleetwake.sim.apiserver import PatchType, WriteOptions
from fleetwake.sim.oracle import CLUSTERS
from tests.simulation.fleet import Fleet, Setup, fleet
from tests.simulation.manifests import cluster
from tests.simulation.scenarios import gone

HOSTS = "devclusters.infrastructure.cluster.x-k8s.io"
CONTROLLER = WriteOptions(field_manager="capi-cluster")


def touch(made: Fleet, resource: str, metadata: dict[str, Any]) -> None:
    made.api.patch(resource, ("default", "demo"), {"metadata": metadata}, PatchType.MERGE, CONTROLLER)


def test_what_a_user_made_stays_when_no_controller_ever_saw_its_cluster() -> None:
    with fleet(Setup()) as made:
        made.apply(cluster())
        made.api.delete(CLUSTERS, "default", "demo")
        assert made.objects("DevCluster")
        assert not gone(made)


def test_what_ever_had_an_owner_must_go() -> None:
    with fleet(Setup()) as made:
        made.apply(cluster())
        owner = {"apiVersion": "v1", "kind": "Cluster", "name": "demo", "uid": made.objects("Cluster")[0]["metadata"]["uid"]}
        touch(made, HOSTS, {"ownerReferences": [owner]})
        touch(made, HOSTS, {"ownerReferences": None})
        made.api.delete(CLUSTERS, "default", "demo")
        assert HOSTS in gone(made)


def test_what_a_controller_made_must_go() -> None:
    with fleet(Setup()) as made:
        made.apply(cluster()[:1])
        made.api.create(HOSTS, cluster()[1], "default", CONTROLLER)
        made.api.delete(CLUSTERS, "default", "demo")
        assert HOSTS in gone(made)


def test_everything_must_go_with_a_cluster_that_had_its_finalizer() -> None:
    with fleet(Setup()) as made:
        made.apply(cluster())
        touch(made, CLUSTERS, {"finalizers": ["cluster.cluster.x-k8s.io"]})
        made.api.delete(CLUSTERS, "default", "demo")
        touch(made, CLUSTERS, {"finalizers": None})
        assert not made.objects("Cluster")
        assert HOSTS in gone(made)
