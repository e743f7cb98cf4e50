"""Whole upgrades of a topology as logs: what is written, why, and what the Cluster tells meanwhile."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fleetwake import labels
from fleetwake.plan import Apply
from tests.decide.topology_world import TopologyWorld, cluster, cluster_class, created
from tests.decide.world import plan_writes

LOGS = Path(__file__).with_name("topologies")
VERSIONS = ["v1.30.0", "v1.31.5", "v1.32.1", "v1.33.0", "v1.34.2"]
TURNS_MAX = 60


def worker(name: str, **annotations: str) -> dict[str, Any]:
    """A MachineDeployment of the topology."""
    return {"class": "default-worker", "name": name, "replicas": 1, **({"metadata": {"annotations": annotations}} if annotations else {})}


def play(found: TopologyWorld, version: str) -> list[str]:
    """Ask for a version and let control plane and workers follow one step at a time, until nothing moves."""
    lines = [f"asked: {version}"]
    found.topology["version"] = version
    for name in sorted(one["name"] for one in found.topology["workers"]["machineDeployments"]):
        found.machine(name, VERSIONS[0])
    told = ""
    for _ in range(TURNS_MAX):
        writes = plan_writes(found.run_topology())
        lines += [_line(step) for step in writes if not (isinstance(step, Apply) and step.subresource)]
        status, reason, message = found.condition()
        if told != message or (status, reason) == ("True", "ReconcileSucceeded"):
            told = message
            lines += [f"  {status}/{reason}", *(f"  {line}" for line in message.splitlines())]
        if not writes and not _progress(found, lines):
            return lines
    raise AssertionError("the upgrade does not end")


def _line(step: Any) -> str:
    return f"{type(step).__name__.lower()} {step.key.kind} {step.key.name}: {step.reason}"


def _progress(found: TopologyWorld, lines: list[str]) -> bool:
    """The next part that reaches the version it was given: the control plane, else the first worker that is behind."""
    control_plane = found.one("KubeadmControlPlane")
    if control_plane["status"]["version"] != control_plane["spec"]["version"]:
        found.control_plane_runs()
        lines.append(f"- the control plane runs {control_plane['spec']['version']}")
        return True
    for one in found.all("MachineDeployment"):
        name, wanted = one["metadata"]["labels"][labels.TOPOLOGY_DEPLOYMENT_NAME], one["spec"]["template"]["spec"]["version"]
        machine = next(each for each in found.all("Machine") if each["metadata"]["name"] == f"m-{name}")
        if machine["spec"]["version"] != wanted:
            machine["spec"]["version"] = wanted
            lines.append(f"- the Machines of {name} run {wanted}")
            return True
    return False


@pytest.mark.parametrize(
    ("name", "workers", "annotations"),
    [
        pytest.param("chain", [worker("a"), worker("b")], {}, id="four minors, two deployments"),
        pytest.param("together", [worker("a"), worker("b"), worker("c")], {labels.UPGRADE_CONCURRENCY: "2"}, id="two at a time"),
        pytest.param("held", [worker("a"), worker("b", **{labels.HOLD_UPGRADE_SEQUENCE: ""}), worker("c")], {}, id="the sequence is held"),
    ],
)
def test_an_upgrade(name: str, workers: list[dict[str, Any]], annotations: dict[str, str], regolden: bool) -> None:
    asked = cluster(version=VERSIONS[0], workers={"machineDeployments": workers})
    asked["metadata"]["annotations"] = annotations
    found = created(cluster_class(kubernetesVersions=VERSIONS), asked)
    text = re.sub(r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-#####", "\n".join(play(found, VERSIONS[-1]))) + "\n"
    path = LOGS / f"{name}.txt"
    if regolden:
        path.write_text(text)
    assert text == path.read_text()
