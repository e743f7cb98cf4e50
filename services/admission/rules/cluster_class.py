"""ClusterClasses: what would stop every Cluster of the class is refused with the class, and what would stop those there are with its change.

Source: contracts.md §11; kinds.md §10.3, §10.5; Cluster API v1.14, ClusterClass webhook.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from fleetwake import labels, versions
from fleetwake.patches import wire
from fleetwake.templating.go_reading import TemplateError, read
from fleetwake.topology.blueprint import references
from fleetwake.topology.class_patches import patch_problems
from fleetwake.topology.class_variables import variable_problems
from fleetwake.topology.compatibility import incompatible
from fleetwake.topology.variables import Definition, Definitions, defaulted_topology, topology_problems
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from services.admission.rules import fields
from services.admission.rules.rule import Admission, Asked, Rule, Violation, forbidden

SOURCE = "contracts.md §11; Cluster API v1.14, ClusterClass webhook"
TEMPLATE = "Template"
CLUSTERS_SHOWN = 3


def _gate(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    if asked.old is None and not asked.known.topologies:
        yield forbidden("spec", "can be set only where the setting cluster_topology is on (Cluster API's feature gate ClusterTopology)")


def _templates(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    for ref in references(asked.new):
        if not ref.kind.endswith(TEMPLATE):
            yield Violation("spec", f"{ref.kind} {ref.name} is named as a template: the kind of a template ends with {TEMPLATE}")
    if asked.old is not None:
        yield from (forbidden(where, why) for where, why in incompatible(asked.old, asked.new))


def _variables(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    yield from (Violation(one.path, one.message) for one in variable_problems(asked.new.spec.variables))


def _patches(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    # what an extension defines is not known before it was asked
    later = _discovered(asked.new)
    for one in patch_problems(asked.new):
        if not (later and one.path.endswith(".valueFrom.variable")):
            yield Violation(one.path, one.message)


def _discovered(one: ClusterClass) -> bool:
    return any(patch.external is not None and patch.external.discover_variables_extension for patch in one.spec.patches)


def _versions(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    path, listed = "spec.kubernetesVersions", asked.new.spec.kubernetes_versions
    for place, one in enumerate(listed):
        if not versions.readable(one) or not one.startswith("v"):
            yield Violation(f"{path}[{place}]", f"{one!r} is no version; write it as v1.31.2")
            return
    for before, after in pairwise(listed):
        (_, major, minor, *_), (_, other_major, other_minor, *_) = versions.version_key(before), versions.version_key(after)
        if not versions.newer(after, before):
            yield Violation(path, f"{after} comes after {before}: versions must ascend")
        elif other_major != major or other_minor > minor + 1:
            yield Violation(path, f"{after} comes after {before}: no minor version may be left out")


def _metadata(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    spec = asked.new.spec
    yield from fields.metadata("spec.controlPlane.metadata", spec.control_plane.metadata)
    for place, deployment in enumerate(spec.workers.machine_deployments):
        yield from fields.metadata(f"spec.workers.machineDeployments[{place}].metadata", deployment.metadata)
    for place, pool in enumerate(spec.workers.machine_pools):
        yield from fields.metadata(f"spec.workers.machinePools[{place}].metadata", pool.metadata)


def _naming(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    spec = asked.new.spec
    found = [("spec.infrastructure.naming", spec.infrastructure.naming.template), ("spec.controlPlane.naming", spec.control_plane.naming.template)]
    found += [(f"spec.workers.machineDeployments[{one.class_}].naming", one.naming.template) for one in spec.workers.machine_deployments]
    found += [(f"spec.workers.machinePools[{one.class_}].naming", one.naming.template) for one in spec.workers.machine_pools]
    for path, template in found:
        try:
            read(template or "")
        except TemplateError as error:
            yield Violation(f"{path}.template", f"cannot be read: {error}")


def _removed(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    """Classes of workers, and versions, that Clusters use."""
    new, clusters = asked.new, asked.known.clusters
    if asked.old is None:
        return
    deployments = {one.class_ for one in new.spec.workers.machine_deployments}
    pools = {one.class_ for one in new.spec.workers.machine_pools}
    listed = new.spec.kubernetes_versions
    for name in sorted({one.class_ for one in asked.old.spec.workers.machine_deployments} - deployments):
        using = [one for one in clusters if one.spec.topology and any(each.class_ == name for each in one.spec.topology.workers.machine_deployments)]
        if using:
            yield forbidden(f"spec.workers.machineDeployments[{name}]", f"cannot be removed: {_named(using)} use it")
    for name in sorted({one.class_ for one in asked.old.spec.workers.machine_pools} - pools):
        using = [one for one in clusters if one.spec.topology and any(each.class_ == name for each in one.spec.topology.workers.machine_pools)]
        if using:
            yield forbidden(f"spec.workers.machinePools[{name}]", f"cannot be removed: {_named(using)} use it")
    for gone in sorted(set(asked.old.spec.kubernetes_versions) - set(listed) if listed else ()):
        using = [one for one in clusters if one.spec.topology is not None and one.spec.topology.version == gone]
        if using:
            yield forbidden("spec.kubernetesVersions", f"{gone} cannot be removed: {_named(using)} have it")


def _still_valid(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    """A change of the variables leaves the values valid that Clusters have; what was wrong before is no reason."""
    if asked.old is None or _discovered(asked.new) or asked.old.spec.variables == asked.new.spec.variables:
        return
    before, after = _definitions(asked.old), _definitions(asked.new)
    for cluster in asked.known.clusters:
        worse = [text for text in _problems(cluster, after) if text not in _problems(cluster, before)]
        if worse:
            yield forbidden("spec.variables", f"Cluster {cluster.namespace}/{cluster.name} would not be valid any more: {worse[0]}")


def _definitions(one: ClusterClass) -> Definitions:
    return {each.name: Definition(each.name, each.required, wire(each.schema_.open_api_v3_schema)) for each in one.spec.variables}


def _problems(cluster: Cluster, definitions: Definitions) -> list[str]:
    topology = cluster.spec.topology
    return [] if topology is None else [str(one) for one in topology_problems(defaulted_topology(topology, definitions), None, definitions)]


def _unused(asked: Asked[ClusterClass]) -> Iterator[Violation]:
    if asked.known.clusters and not asked.new.annotated(labels.DELETE_FOR_MOVE):
        yield forbidden("metadata.name", f"cannot be deleted: {_named(asked.known.clusters)} use it")


def _named(clusters: Sequence[Cluster]) -> str:
    shown = ", ".join(f"{one.namespace}/{one.name}" for one in clusters[:CLUSTERS_SHOWN])
    more = f" and {len(clusters) - CLUSTERS_SHOWN} more" if len(clusters) > CLUSTERS_SHOWN else ""
    return f"{'Clusters' if len(clusters) > 1 else 'Cluster'} {shown}{more}"


ADMISSION = Admission(
    ClusterClass,
    rules=(
        Rule("spec", "is set only where the setting cluster_topology is on", SOURCE, _gate),
        Rule("spec.**.templateRef", "is of a kind that ends with Template, and keeps its group and kind (but for bootstrap)", SOURCE, _templates),
        Rule("spec.variables", "have readable names, schemas and rules, and defaults that these allow", SOURCE, _variables),
        Rule("spec.patches", "mean a template of the class, with paths, values and templates that can be read", SOURCE, _patches),
        Rule("spec.kubernetesVersions", "ascend, and leave no minor version out", SOURCE, _versions),
        Rule("spec.**.metadata", "has valid labels and annotations", SOURCE, _metadata),
        Rule("spec.**.naming.template", "can be read", SOURCE, _naming),
        Rule("spec.workers, spec.kubernetesVersions", "keep what Clusters use", SOURCE, _removed),
        Rule("spec.variables", "leave the values of Clusters valid", SOURCE, _still_valid),
    ),
    policy="Fail",
    why="a class that is wrong stops all its Clusters at once",
    deletion=(Rule("metadata.name", "is not deleted while a Cluster uses it, unless clusterctl moves it", SOURCE, _unused),),
)
