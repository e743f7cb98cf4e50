"""Every path of a control plane's kubeadmConfigSpec, as its CRD has them: which Machines it makes outdated, and that a rollout ends UpToDate."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fleetwake import yaml_text
from schemas.keys import ObjectKey
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from services.reconcilers.kinds.kubeadm_control_plane.up_to_date import outdated
from tests.decide.control_plane_fleet import Fleet, running
from tests.decide.world import Json, merge_patch

CRD = Path(__file__).parents[2] / "schemas" / "generated" / "crds" / "controlplane.cluster.x-k8s.io_kubeadmcontrolplanes.yaml"
Steps = tuple[str, ...]

IN_PLACE: tuple[Steps, ...] = (
    ("clusterConfiguration", "controlPlaneEndpoint"),
    ("clusterConfiguration", "dns"),
    ("joinConfiguration", "discovery"),
    ("joinConfiguration", "timeouts", "controlPlaneComponentHealthCheckSeconds"),
    ("initConfiguration",),
)
"""What makes no Machine outdated: it is applied elsewhere, or would only matter to a Machine that initializes a cluster. Source: kinds.md §8.2."""
IMMUTABLE: tuple[Steps, ...] = (
    ("clusterConfiguration", "certificatesDir"),
    ("clusterConfiguration", "controlPlaneEndpoint"),
    ("clusterConfiguration", "caCertificateValidityPeriodDays"),
    ("clusterConfiguration", "etcd", "external"),
)
"""What admission refuses to change: no rollout can follow it. Source: roadmap.md row 10."""

TEXTS = ("abc", "http://proxy.example:3128", "2027-01-02T03:04:05Z")


def leaves(schema: Json) -> Iterator[tuple[Steps, Any]]:
    """The paths that a user can set, each with a document that sets it to what no default is, and besides only what must be there."""
    if schema.get("type") != "object" or "properties" not in schema:
        yield (), sample(schema)
        return
    parts = schema["properties"]
    for name, part in parts.items():
        others = {other: sample(parts[other]) for other in schema.get("required", ()) if other != name}
        for at, value in leaves(part):
            yield (name, *at), {**others, name: value}


def sample(schema: Json) -> Any:
    """A value of a type: of an object what it must have, or else its first field."""
    if "enum" in schema:
        return schema["enum"][-1]
    match schema.get("type"):
        case "object" if "properties" in schema:
            names = schema.get("required") or [next(iter(schema["properties"]))]
            return {name: sample(schema["properties"][name]) for name in names}
        case "object":
            return {"a": sample(schema["additionalProperties"])}
        case "array":
            return [sample(schema["items"])]
        case "boolean":
            return True
        case "integer":
            return max(int(schema.get("minimum", 0)), 7)
        case _:
            return next(text for text in TEXTS if fits(text, schema))


def fits(text: str, schema: Json) -> bool:
    """Whether a string field may hold a text."""
    return bool(re.search(schema.get("pattern", ""), text)) and (schema.get("format") == "date-time") == (text == TEXTS[-1])


@cache
def paths() -> dict[Steps, Any]:
    """All of them."""
    crd = yaml_text.load(CRD.read_bytes())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return dict(leaves(spec["properties"]["kubeadmConfigSpec"]))


def nested(at: Steps) -> Json:
    """The patch of a control plane that sets a path."""
    return {"spec": {"kubeadmConfigSpec": paths()[at]}}


def under(at: Steps, prefixes: tuple[Steps, ...]) -> bool:
    """Whether a path is one of these, or below one."""
    return any(at[: len(prefix)] == prefix for prefix in prefixes)


@pytest.fixture(scope="module")
def settled() -> Fleet:
    """Three Machines: the first initialized, the others joined. Tests leave it as it was."""
    return running(3)


def test_the_schema_was_walked_to_its_leaves() -> None:
    assert len(paths()) > 80
    assert ("clusterConfiguration", "apiServer", "extraArgs") in paths()
    assert {at[0] for at in paths()} >= {"files", "users", "ntp", "diskSetup", "mounts", "ignition", "initConfiguration", "joinConfiguration"}
    assert all(any(at[: len(prefix)] == prefix for at in paths()) for prefix in (*IN_PLACE, *IMMUTABLE)), "a list names what is not there"


@pytest.mark.parametrize("at", paths(), ids=".".join)
def test_which_machines_a_field_makes_outdated(settled: Fleet, at: Steps) -> None:
    key = ObjectKey(KIND.model.GROUP, KIND.model.KIND, "default", "demo-cp")
    before = copy.deepcopy(settled.store[key])
    try:
        settled.edit("KubeadmControlPlane", "demo-cp", nested(at))
        observed = KIND.observe(settled, key)
    finally:
        settled.store[key] = before
    assert observed is not None
    found = {member.name for member in observed.members if outdated(observed, member)}
    first, *joined = settled.names()
    if under(at, IN_PLACE):
        assert found == set()
    elif at[0] == "joinConfiguration":
        # the first one initialized: what only a join reads makes no difference to it
        assert found == set(joined)
    else:
        assert found == {first, *joined}


@pytest.mark.parametrize("part", sorted({at[0] for at in paths()}))
def test_a_rollout_of_all_fields_of_a_part_ends_up_to_date(part: str) -> None:
    world, change = running(3), dict[str, Any]()
    for at in paths():
        if at[0] == part and not under(at, IMMUTABLE):
            merge_patch(change, nested(at))
    world.edit("KubeadmControlPlane", "demo-cp", change)
    before = set(world.names())
    world.live()
    left = {"initConfiguration": 3, "joinConfiguration": 1}.get(part, 0)
    assert len(before & set(world.names())) == left
    assert len(world.names()) == 3
    assert world.told("MachinesUpToDate")[0] == "True"
    assert world.told("RollingOut")[0] == "False"
