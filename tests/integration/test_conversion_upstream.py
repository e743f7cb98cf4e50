"""Cluster API's own conversion code (rig/tools/conversion) says of the same objects what ours says, in both directions."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from fleetwake.rig.progress import Progress
from fleetwake.rig.tools import tool
from schemas.conversion import from_hub, to_hub
from schemas.conversion.catalog import CONVERSIONS, Conversion
from tests.conversion.objects import GROUPS, made
from tests.conversion.test_laws import CONTEXT, without_data

pytestmark = pytest.mark.e2e

LIMIT_SECONDS = 60
SEEDS = 12
DENSITIES = (0.3, 0.7, 1.0)
TOKEN = "abcdef.0123456789abcdef"
FREE_FORM = ("items", "properties", "additionalProperties", "not", "allOf", "anyOf", "oneOf")
"""Schemas within a variable's schema: any JSON for us, of a Go type there."""

Document = dict[str, Any]


THEIRS = [(one, version) for one in CONVERSIONS.values() for version in one.models if version != "v1alpha4"]
"""v1alpha4 went with Cluster API 1.13."""


@pytest.mark.parametrize(("conversion", "version"), THEIRS, ids=[f"{one.kind}-{version}" for one, version in THEIRS])
def test_ours_is_theirs(conversion: Conversion, version: str) -> None:
    kind = conversion.kind if version == "v1beta1" else f"{conversion.kind} {version}"
    asked: list[tuple[bool, Document, Document]] = []
    for seed in range(SEEDS):
        for density in DENSITIES:
            old, hub = (typed(made(model, seed, density), ()) for model in (conversion.models[version], conversion.hub_model))
            asked += [(True, old, to_hub(old, CONTEXT)), (False, hub, without_data(from_hub(hub, version, CONTEXT)))]
    lines = "".join(json.dumps({"up": up, "kind": kind, "obj": obj}) + "\n" for up, obj, _ in asked)
    command = [str(tool("conversion", Progress())), json.dumps(GROUPS)]
    answer = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS)
    for (up, obj, ours), line in zip(asked, answer.stdout.splitlines(), strict=True):
        theirs = json.loads(line)
        assert "error" not in theirs, (theirs, obj)
        said, wanted = (meant({part: one.get(part) for part in ("spec", "status")}) for one in (ours, theirs))
        assert said == wanted, f"{'up' if up else 'down'}: {json.dumps(obj)}"


def typed(value: Any, where: tuple[str, ...]) -> Any:
    """The object with what Go's types ask of it beyond the schema; and with distinct paths and names, by which their code finds what it wants to keep."""
    if isinstance(value, list):
        items = [typed(one, where) for one in value]
        return list({_name(one, number, where): one for number, one in enumerate(items)}.values())
    if not isinstance(value, dict):
        return TOKEN if where[-2:] == ("bootstrapTokens", "token") else "eA==" if where[-1:] in (("certificateAuthorityData",), ("caBundle",)) else value
    fields = {name: typed(one, (*where, name)) for name, one in value.items() if name not in ("divisor", "fleetwake")}
    return {name: one for name, one in fields.items() if "openAPIV3Schema" not in where or name not in FREE_FORM}


def _name(item: Any, number: int, where: tuple[str, ...]) -> Any:
    name = {"files": "path", "extraVolumes": "hostPath", "variables": "name", "definitions": "from", "patches": "name"}.get(where[-1])
    return item[name] if name and isinstance(item, dict) and name in item else number


def meant(value: Any) -> Any:
    """What an object means, whether zeros are written or not, and in whatever order what is a map in v1beta1."""
    if isinstance(value, dict):
        fields = {name: meant(one) for name, one in value.items() if name != "divisor"}
        return {name: one for name, one in fields.items() if one not in (None, "", 0, False, "0s") and one != {} and one != []}
    if isinstance(value, list):
        items = [meant(one) for one in value]
        by_name = all(isinstance(one, dict) and one.keys() <= {"name", "value", "controlPlane", "attributes"} and "name" in one for one in items)
        return sorted(items, key=lambda one: one["name"]) if by_name else items
    return value
