"""What a version has no words for: read as a list, and reviewed when it changes. Whatever of the hub is on it lives in the annotation only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from schemas.api.meta import KubeObject
from schemas.conversion import from_hub, to_hub
from schemas.conversion.catalog import CONVERSIONS, Conversion
from tests.conversion.objects import made, without_effect
from tests.conversion.test_laws import CONTEXT, without_data

LOSSES = Path(__file__).parent / "conversion_losses.txt"
SEEDS = 6
"""So many objects with every field: what is lost of each of them is lost always, and not by some zero that says nothing."""


def test_what_each_version_cannot_say(regolden: bool) -> None:
    text = "".join(f"{line}\n" for one in CONVERSIONS.values() for version in one.models for line in losses(one, version))
    if regolden:
        LOSSES.write_text(text)
    assert text == LOSSES.read_text(), "what a version can say has changed: read the diff of `pytest tests/golden --regolden`"


def losses(conversion: Conversion, version: str) -> Iterator[str]:
    def through_the_old(hub: dict[str, Any]) -> dict[str, Any]:
        return to_hub(without_data(from_hub(hub, version, CONTEXT)), CONTEXT)

    def through_the_hub(old: dict[str, Any]) -> dict[str, Any]:
        return without_data(from_hub(to_hub(old, CONTEXT), version, CONTEXT))

    yield f"{conversion.kind} {version}"
    for place in _lost(conversion.hub_model, through_the_old):
        yield f"  cannot say {place}"
    for place in _lost(conversion.models[version], through_the_hub):
        yield f"  of no effect: {place}"


def _lost(model: type[KubeObject], way: Any) -> list[str]:
    present: set[str] = set()
    survived: set[str] = set()
    for seed in range(SEEDS):
        before = made(model, seed, 1.0) if model.VERSION == "v1beta2" else without_effect(model, seed)
        present |= set(_places(before, ""))
        survived |= set(_places(way(before), ""))
    lost = present - survived
    return sorted(place for place in lost if place.rpartition(".")[0] not in lost)


def _places(value: Any, where: str) -> Iterator[str]:
    if where:
        yield where
    if isinstance(value, dict):
        for name, one in value.items():
            if where or name in ("spec", "status"):
                yield from _places(one, f"{where}.{name}" if where else name)
    for one in value if isinstance(value, list) else ():
        yield from _places(one, where)
