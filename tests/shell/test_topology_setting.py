"""The setting cluster_topology: with it the reconcilers have topologies and admission reads classes; without it neither, and both say so."""

from __future__ import annotations

from typing import Any

from fleetwake.settings import Settings
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from services.admission.lookups import NoTopologies, Reads
from services.reconcilers.app import spec_of
from tests.decide.topology_world import Json, cluster, cluster_class

TOPOLOGY = {"ClusterClass", "topology/cluster", "topology/machinedeployment", "topology/machineset"}


def names(settings: Settings) -> set[str]:
    return {kind.name for kind in spec_of(settings).kinds}


def test_the_reconcilers_have_topologies_only_where_they_are_wanted() -> None:
    assert not names(Settings()) & TOPOLOGY
    assert names(Settings(cluster_topology=True)) - names(Settings()) == TOPOLOGY
    assert Settings.from_env({"FLEETWAKE_CLUSTER_TOPOLOGY": "true"}).cluster_topology


class Answers:
    """An API server by the last part of the path; what was asked is kept."""

    def __init__(self, **by_name: Any) -> None:
        self.by_name, self.asked = by_name, []  # type: ignore[var-annotated]

    async def request(self, method: str, path: str, query: dict[str, str] | None = None) -> Any:
        self.asked.append((path, query))
        return Answer(self.by_name.get(path.rpartition("/")[2]), (query or {}).get("continue"))


class Answer:
    """An object, a page of a list, or 404."""

    def __init__(self, body: Any, rest: str | None) -> None:
        self.body = body[int(rest or 0)] if isinstance(body, list) else body
        self.status = 404 if body is None else 200

    def json(self) -> Json:
        found: Json = self.body
        return found


def request(new: Json | None, old: Json | None = None) -> Json:
    return {"operation": "UPDATE" if old else "CREATE", "object": new, "oldObject": old}


async def test_without_it_nothing_is_read() -> None:
    assert not (await NoTopologies().known(Cluster, request(cluster()))).topologies


async def test_the_class_of_a_cluster_is_read_and_the_former_one_where_it_is_another() -> None:
    answers = Answers(quick=cluster_class(), other={**cluster_class(), "metadata": {**cluster_class()["metadata"], "name": "other"}})
    reads = Reads(answers)  # type: ignore[arg-type]
    known = await reads.known(Cluster, request(cluster()))
    assert known.read and known.cluster_class is not None and known.cluster_class.name == "quick" and known.former_class is None
    known = await reads.known(Cluster, request(cluster(classRef={"name": "other"}), cluster()))
    assert known.cluster_class is not None and known.former_class is not None and known.former_class.name == "quick"
    absent = await reads.known(Cluster, request(cluster(classRef={"name": "none", "namespace": "classes"})))
    assert absent.read and absent.cluster_class is None
    assert answers.asked[-1][0].endswith("/namespaces/classes/clusterclasses/none")
    without = {**cluster(), "spec": {}}
    assert not (await reads.known(Cluster, request(without))).read


async def test_the_clusters_of_a_class_are_read_page_by_page() -> None:
    mine, others = cluster(), {**cluster(classRef={"name": "other"})}
    pages = [{"items": [others], "metadata": {"continue": "1"}}, {"items": [mine], "metadata": {}}]
    answers = Answers(clusters=pages)
    known = await Reads(answers).known(ClusterClass, request(None, cluster_class()))  # type: ignore[arg-type]
    assert [one.name for one in known.clusters] == ["my"] and len(answers.asked) == 2
    assert not (await Reads(answers).known(ClusterClass, request(cluster_class()))).read, "nothing uses a class that is made"  # type: ignore[arg-type]
