"""Clusters: names, and which changes of a topology are allowed.

What needs the ClusterClass (variables, versions, workers) is in ``topology``.
Source: contracts.md §11; kinds.md §1, §10; Cluster API v1.14.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleetwake import defaults, labels
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.topology import MachineDeploymentTopology, MachinePoolTopology
from services.admission.rules import fields, topology
from services.admission.rules.rule import Admission, Asked, Default, Rule, Violation, forbidden

TOPOLOGY = "spec.topology"
SOURCE = "contracts.md §11; Cluster API v1.14, Cluster webhook"


def _name(asked: Asked[Cluster]) -> Iterator[Violation]:
    yield from fields.label_name("metadata.name", asked.new.name)


def _class(asked: Asked[Cluster]) -> Iterator[Violation]:
    old, new = asked.old, asked.new
    if old is None or old.spec.topology is not None or new.spec.topology is None or new.annotated(labels.UNSAFE_UPDATE_CLASS_NAME):
        return
    yield forbidden(f"{TOPOLOGY}.classRef", "cannot be set on a Cluster that was made without a topology")


def _concurrency(asked: Asked[Cluster]) -> Iterator[Violation]:
    text = asked.new.metadata.annotations.get(labels.UPGRADE_CONCURRENCY)
    if asked.new.spec.topology is not None and text is not None and not (text.isascii() and text.isdecimal() and int(text) >= 1):
        yield Violation(f"metadata.annotations[{labels.UPGRADE_CONCURRENCY}]", "must be a number, at least 1")


def _metadata(asked: Asked[Cluster]) -> Iterator[Violation]:
    wanted = asked.new.spec.topology
    if wanted is None:
        return
    yield from fields.metadata(f"{TOPOLOGY}.controlPlane.metadata", wanted.control_plane.metadata)
    for path, worker in _workers(asked.new):
        yield from fields.metadata(f"{path}.metadata", worker.metadata)


def _autoscaled(asked: Asked[Cluster]) -> Iterator[Violation]:
    for path, worker in _workers(asked.new):
        annotations = worker.metadata.annotations
        if worker.replicas is not None and (labels.AUTOSCALER_MIN_SIZE in annotations or labels.AUTOSCALER_MAX_SIZE in annotations):
            yield forbidden(f"{path}.replicas", "cannot be set together with the autoscaler's annotations: both would decide")


def _workers(cluster: Cluster) -> Iterator[tuple[str, MachineDeploymentTopology | MachinePoolTopology]]:
    workers = cluster.spec.topology.workers if cluster.spec.topology else None
    for place, deployment in enumerate(workers.machine_deployments if workers else ()):
        yield f"{TOPOLOGY}.workers.machineDeployments[{place}]", deployment
    for place, pool in enumerate(workers.machine_pools if workers else ()):
        yield f"{TOPOLOGY}.workers.machinePools[{place}]", pool


ADMISSION = Admission(
    Cluster,
    rules=(
        Rule("metadata.name", "is a valid label value, of at most 63 characters", SOURCE, _name),
        Rule(f"{TOPOLOGY}.classRef", "cannot be set on a Cluster without a topology, unless an annotation says that this is meant", SOURCE, _class),
        Rule(TOPOLOGY, "is set only where the setting cluster_topology is on", SOURCE, topology.gate),
        Rule(f"{TOPOLOGY}.classRef", "names a class with templates of the same kinds, if it is another than before", SOURCE, topology.rebase),
        Rule(
            f"{TOPOLOGY}.version",
            "goes up, one minor version at a time or as the class lists versions, and not during an upgrade, unless an annotation says that this is meant",
            SOURCE,
            topology.version,
        ),
        Rule(f"{TOPOLOGY}.**.variables", "are what the class's schemas and rules allow", SOURCE, topology.variables),
        Rule(f"{TOPOLOGY}.workers.**", "are of classes that there are, with names that can be values of labels", SOURCE, topology.workers),
        Rule(f"metadata.annotations[{labels.UPGRADE_CONCURRENCY}]", "is a number, at least 1", SOURCE, _concurrency),
        Rule(f"{TOPOLOGY}.**.metadata", "has valid labels and annotations", SOURCE, _metadata),
        Rule(f"{TOPOLOGY}.workers.**.replicas", "is not set together with the autoscaler's annotations", SOURCE, _autoscaled),
    ),
    policy="Fail",
    why="people make it, and a wrong name or version cannot be taken back later",
    default=Default(
        ((f"{TOPOLOGY}.version", "a leading v"), (f"{TOPOLOGY}.**.variables", "the defaults of the class's variables")),
        lambda new, old: defaults.cluster(new),
        complete=topology.completed,
    ),
    warns=topology.warnings,
    annotations=(labels.UPGRADE_CONCURRENCY,),
)
