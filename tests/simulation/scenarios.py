"""What users do in simulations, and what the world must then come to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from fleetwake.sim.apiserver import PatchType, WriteOptions
from fleetwake.sim.oracle import CLUSTERS, CONTROL_PLANES, DEPLOYMENTS, MACHINES, Bounds, Oracle, condition
from fleetwake.stream.partition import partition_of
from fleetwake.views.verification import LogFacts, Message, Verification
from schemas.chain import key_id
from schemas.keys import GroupKind, ObjectKey
from schemas.sights import PRESENCE, ConnectionStatus, connection_key, connection_value, node_key, node_value
from tests.simulation.fleet import PARTITIONS, SEALING_KEY, Fleet, Setup, run
from tests.simulation.manifests import NEXT_VERSION, cluster
from tests.simulation.statuses import Statuses

Json = dict[str, Any]
CONVERGE_SECONDS = 900.0
REST_SECONDS = 40.0
WATCH_SECONDS = 120.0
AVAILABLE_SECONDS = 600.0
USER = WriteOptions(field_manager="kubectl-edit")
SECRET = GroupKind("", "Secret")
FORGOTTEN = "a key was forgotten: every worker is idle, and holds what the API server has"


@dataclass(frozen=True, slots=True)
class Scenario:
    """``act`` is what the user does while faults happen; ``done`` is what must come true afterwards, and stay."""

    name: str
    act: Callable[[Fleet, Oracle], Awaitable[None]]
    done: Callable[[Fleet], str]


def unfinished(fleet: Fleet, namespace: str = "default", name: str = "demo", workers: int = 3, control_planes: int = 1, version: str = "") -> str:
    """What keeps a cluster from being as wanted; "" when nothing does."""
    store = fleet.api.store
    found = {one.key.resource: one.obj for one in store if one.key.namespace == namespace and one.key.name in (name, f"{name}-cp", f"{name}-md")}
    if CLUSTERS not in found:
        return f"Cluster {namespace}/{name} is absent"
    if condition(found[CLUSTERS], "Available") != "True":
        return f"Cluster {namespace}/{name} is not Available"
    for resource, count in ((DEPLOYMENTS, workers), (CONTROL_PLANES, control_planes)):
        obj = found.get(resource)
        if obj is None:
            continue
        status = obj.get("status", {})
        counts = [status.get(field) for field in ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")]
        if [one or 0 for one in counts] != [count] * 4 or status.get("observedGeneration") != obj["metadata"]["generation"]:
            return f"{resource} {namespace}/{name} counts {counts} of {count}"
    machines = [one.obj for one in store if one.key.resource == MACHINES and one.key.namespace == namespace and one.obj["spec"]["clusterName"] == name]
    if len(machines) != workers + control_planes:
        return f"{len(machines)} Machines of {workers + control_planes}"
    for machine in machines:
        if "deletionTimestamp" in machine["metadata"] or condition(machine, "Ready") != "True":
            return f"Machine {machine['metadata']['name']} is not Ready"
        if version and machine["spec"]["version"] != version and "cluster.x-k8s.io/deployment-name" in machine["metadata"]["labels"]:
            return f"Machine {machine['metadata']['name']} is of {machine['spec']['version']}"
    return _nodes(fleet, namespace, name, {machine["metadata"]["name"] for machine in machines})


def _nodes(fleet: Fleet, namespace: str, name: str, machines: set[str]) -> str:
    for key, workload in fleet.provider.workloads.items():
        if (key.namespace, key.name) == (namespace, name):
            # a Node nobody ever knew of when its Machine went is the cloud's to remove, as upstream leaves it
            nodes = {item["metadata"]["name"] for item in workload.server.list("nodes")["items"]} & fleet.named_nodes
            return "" if nodes == machines else f"Nodes are {sorted(nodes)}, Machines {sorted(machines)}"
    return "there is no workload cluster"


def gone(fleet: Fleet, namespace: str = "default", name: str = "demo") -> str:
    """What a deleted cluster has left behind; "" when nothing."""
    for entry in fleet.api.store:
        kind = entry.obj["kind"]
        if entry.key.namespace != namespace or kind.endswith("Template") or fleet.claims.may_stay(entry, name):
            continue
        labels = entry.obj["metadata"].get("labels") or {}
        if kind == "Cluster" or labels.get("cluster.x-k8s.io/cluster-name") == name or "x-k8s.io" in entry.key.resource:
            return f"{entry.key} is left"
    return "" if not fleet.provider.workloads else "the emulated cluster is left"


def patch(fleet: Fleet, resource: str, name: str, body: Mapping[str, Any], namespace: str = "default") -> None:
    """Edit an object as kubectl does."""
    fleet.api.patch(resource, (namespace, name), body, PatchType.MERGE, USER)


async def _pause(fleet: Fleet, longest: float) -> None:
    await asyncio.sleep(fleet.random.uniform(0, longest))


async def _ready(fleet: Fleet, **wanted: Any) -> None:
    """Wait until a cluster stands; faults go on meanwhile, so give it time."""
    await fleet.until("the first state", lambda: not unfinished(fleet, **wanted), AVAILABLE_SECONDS)


async def create(fleet: Fleet, oracle: Oracle) -> None:
    """Create a cluster."""
    fleet.apply(cluster(startup_seconds=fleet.random.choice((0.0, 0.0, 2.0))))
    await _pause(fleet, 25)


async def scale(fleet: Fleet, oracle: Oracle) -> None:
    """Scale workers 3 → 10 → 2."""
    fleet.apply(cluster())
    await _pause(fleet, 8)
    patch(fleet, DEPLOYMENTS, "demo-md", {"spec": {"replicas": 10}})
    await _pause(fleet, 8)
    patch(fleet, DEPLOYMENTS, "demo-md", {"spec": {"replicas": 2}})
    await _pause(fleet, 8)


async def rollout(fleet: Fleet, oracle: Oracle) -> None:
    """Change the workers' version."""
    fleet.apply(cluster(startup_seconds=fleet.random.choice((0.0, 1.0))))
    await _ready(fleet)
    oracle.bounds = Bounds(oracle.bounds.strict, available=True)
    patch(fleet, DEPLOYMENTS, "demo-md", {"spec": {"template": {"spec": {"version": NEXT_VERSION}}}})
    await _pause(fleet, 25)


async def delete_machine(fleet: Fleet, oracle: Oracle) -> None:
    """Delete a Machine by hand."""
    fleet.apply(cluster())
    await _ready(fleet)
    machines = [one for one in fleet.objects("Machine") if "cluster.x-k8s.io/deployment-name" in one["metadata"]["labels"]]
    name = fleet.random.choice(machines)["metadata"]["name"]
    oracle.chosen.add(name)
    fleet.api.delete(MACHINES, "default", name)
    await _pause(fleet, 20)


async def delete_cluster(fleet: Fleet, oracle: Oracle) -> None:
    """Delete the Cluster, at any time of its life."""
    fleet.apply(cluster())
    await _pause(fleet, 12)
    fleet.api.delete(CLUSTERS, "default", "demo")
    await _pause(fleet, 20)


async def control_plane(fleet: Fleet, oracle: Oracle) -> None:
    """Scale the control plane 1 → 3 → 1."""
    fleet.apply(cluster(workers=1))
    await _ready(fleet, workers=1)
    patch(fleet, CONTROL_PLANES, "demo-cp", {"spec": {"replicas": 3}})
    await fleet.until("three control planes", lambda: not unfinished(fleet, workers=1, control_planes=3), AVAILABLE_SECONDS)
    patch(fleet, CONTROL_PLANES, "demo-cp", {"spec": {"replicas": 1}})
    await _pause(fleet, 20)


async def twins(fleet: Fleet, oracle: Oracle) -> None:
    """Two clusters of one name in two namespaces."""
    fleet.apply(cluster(workers=2), "east")
    await _pause(fleet, 2)
    fleet.apply(cluster(workers=2), "west")
    await _pause(fleet, 20)


def _twins_done(fleet: Fleet) -> str:
    found = unfinished(fleet, "east", workers=2) or unfinished(fleet, "west", workers=2)
    if found:
        return found
    digests = [
        orjson.dumps(entry.obj["data"]) for entry in fleet.api.store if entry.key.resource == "secrets" and entry.key.name in ("demo-ca", "demo-kubeconfig")
    ]
    return "" if len(set(digests)) == 4 else "the clusters share certificates"


async def paused(fleet: Fleet, oracle: Oracle) -> None:
    """Pause a cluster, change it, and see that nothing happens until it goes on."""
    fleet.apply(cluster())
    await _ready(fleet)
    patch(fleet, CLUSTERS, "demo", {"spec": {"paused": True}})
    await asyncio.sleep(60)
    patch(fleet, DEPLOYMENTS, "demo-md", {"spec": {"replicas": 5}})
    await asyncio.sleep(30)
    if len(fleet.objects("Machine")) != 4:
        fleet.violation("a paused cluster was scaled")
    patch(fleet, CLUSTERS, "demo", {"spec": {"paused": None}})
    await _pause(fleet, 10)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("create", create, unfinished),
    Scenario("scale", scale, lambda fleet: unfinished(fleet, workers=2)),
    Scenario("rollout", rollout, lambda fleet: unfinished(fleet, version=NEXT_VERSION)),
    Scenario("delete machine", delete_machine, unfinished),
    Scenario("delete cluster", delete_cluster, gone),
    Scenario("control plane", control_plane, lambda fleet: unfinished(fleet, workers=1)),
    Scenario("twins", twins, _twins_done),
    Scenario("paused", paused, lambda fleet: unfinished(fleet, workers=5)),
)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def caches_differ(fleet: Fleet, oracle: Oracle) -> list[str]:
    """Where a worker's cache is not what the API server has."""
    records, seen, found = oracle.last_records(), oracle.last_records(workloads=True), []
    for node in fleet.nodes.values():
        owned = {number for number, partition in node.worker.partitions.items() if partition.ready}
        wanted = {**records, **seen} if node.worker.options.reads_workloads else records
        expected = {key: record for key, (partition, record) in wanted.items() if partition in owned and key.group_kind != PRESENCE}
        held = {entry.key: entry for entry in node.worker.cache if entry.partition >= 0 and entry.key.group_kind != PRESENCE}
        for key in sorted(set(expected) | set(held)):
            if key not in held:
                found.append(f"{node.name} misses {key}")
            elif key not in expected:
                found.append(f"{node.name} holds {key}, which is gone (partition {partition_of(held[key].cluster, PARTITIONS)})")
            elif held[key].version != expected[key].version:
                found.append(f"{node.name} holds {key} at {held[key].version}, the topic has {expected[key].version}")
    return found


def sights_differ(fleet: Fleet, oracle: Oracle) -> list[str]:
    """Where the records of workload clusters are not what these clusters are."""
    told = {key: orjson.loads(record.value or b"{}") for key, (_, record) in oracle.last_records(workloads=True).items() if key.group_kind != PRESENCE}
    true: dict[ObjectKey, Json] = {}
    for key, workload in fleet.provider.workloads.items():
        if workload.serving:
            true[connection_key(key)] = connection_value(key, ConnectionStatus(connected=True))
            for node in workload.server.list("nodes")["items"]:
                true[node_key(key, node["metadata"]["name"])] = orjson.loads(orjson.dumps(node_value(node)))
    return [f"what is seen of {key}: told {told.get(key)}, true {true.get(key)}" for key in sorted(set(told) | set(true)) if told.get(key) != true.get(key)]


async def play(fleet: Fleet, scenario: Scenario) -> None:
    """Play a scenario to its end and judge it."""
    rates = fleet.setup.rates
    oracle = Oracle(fleet.api, fleet.bus, fleet.network, fleet.topics, fleet.violation, Bounds(strict=not rates.freeze_seconds))
    statuses = Statuses(fleet)
    await scenario.act(fleet, oracle)
    fleet.calm()
    last = ""

    def settled() -> bool:
        nonlocal last
        last = scenario.done(fleet)
        return not last

    if not await fleet.until(scenario.name, settled, CONVERGE_SECONDS):
        fleet.violation(f"{scenario.name}: {last}")
        _explain(fleet, oracle)
        return
    await asyncio.sleep(REST_SECONDS)
    # what came and went while no watcher looked is known to who made it alone
    blind = [key for node in fleet.nodes.values() for key in node.untold()]
    holes = "skipped" in fleet.faults.injected or bool(blind)
    if holes and caches_differ(fleet, oracle):
        # no record shows it: the next drift check of each worker must
        await asyncio.sleep(fleet.setup.drift_seconds)
        await fleet.until(f"{scenario.name} after the drift check", settled, CONVERGE_SECONDS)
        await asyncio.sleep(REST_SECONDS)
    sent: list[str] = []
    fleet.network.watching.append(lambda process, one: sent.append(f"{process.name} {one.request.method} {one.request.path} {one.status}"))
    await asyncio.sleep(WATCH_SECONDS)
    if sent:
        fleet.violation(f"{len(sent)} writes on a settled world: {', '.join(sent[:3])}")
    if scenario.done(fleet):
        fleet.violation(f"did not stay: {scenario.done(fleet)}")
    for node in fleet.nodes.values():
        if not node.worker.idle:
            fleet.violation(f"{node.name} is not idle")
        if node.process.failure is not None:
            fleet.violation(f"{node.name}: {node.process.failure!r}")
    if fleet.drift and not holes:
        fleet.violation(f"{fleet.drift} objects had drifted, although no delivery was skipped")
    statuses.finish()
    _judge(fleet, oracle)


def broken_seals(fleet: Fleet) -> list[str]:
    """What ``verify`` takes for tampering in the results: whatever faults there were, nobody tampered."""
    found: list[str] = []
    for number in range(PARTITIONS):
        verification = Verification(LogFacts(number), {key_id(SEALING_KEY): SEALING_KEY})
        for one in fleet.bus.log(fleet.topics.results, number).messages:
            found += [str(finding) for finding in verification.take(Message(number, one.offset, one.key, one.value, list(one.headers))) if finding.fault]
        found += [str(finding) for finding in verification.finish() if finding.fault]
        if verification.sealed != verification.records:
            found.append(f"{verification.records - verification.sealed} records of partition {number} are not sealed")
    return found


def _judge(fleet: Fleet, oracle: Oracle) -> None:
    oracle.finish()
    for broken in broken_seals(fleet):
        fleet.violation(broken)
    for difference in (*caches_differ(fleet, oracle), *sights_differ(fleet, oracle)):
        fleet.violation(difference)


def _explain(fleet: Fleet, oracle: Oracle) -> None:
    """Say why the world did not converge, as far as it shows."""
    if all(node.worker.idle for node in fleet.nodes.values()) and not caches_differ(fleet, oracle):
        fleet.violation(FORGOTTEN)
    _judge(fleet, oracle)


def simulate(setup: Setup, scenario: Scenario) -> Fleet:
    """Run one simulation; the fleet has the violations."""
    return run(setup, lambda fleet: play(fleet, scenario))


def owner_key(obj: Json) -> ObjectKey:
    """The key of an object."""
    meta = obj["metadata"]
    return ObjectKey(str(obj["apiVersion"]).rpartition("/")[0], obj["kind"], meta.get("namespace", ""), meta["name"])
