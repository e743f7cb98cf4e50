"""What holds for every conversion, whatever the object: nothing is lost, nothing is made up, and what was edited in an old version is what changes."""

from __future__ import annotations

import os
import random
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from schemas.conversion import CONVERSION_DATA, Context, ConversionError, from_hub, to_hub
from schemas.conversion.catalog import CONVERSIONS, Conversion
from tests.conversion.objects import GROUPS, assert_valid, made, said, seeds

CONTEXT = Context(api_version=lambda group, _: f"{group}/{GROUPS.get(group, 'v1')}")
EXAMPLES = int(os.environ.get("CONVERSION_EXAMPLES", "5"))
"""Per law, kind and version; `make conversions` takes more."""
VERSIONS = [pytest.param(one, version, id=f"{one.kind}-{version}") for one in CONVERSIONS.values() for version in one.models]

per_version = pytest.mark.parametrize(("conversion", "version"), VERSIONS)
quickly = settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def without_data(obj: dict[str, Any]) -> dict[str, Any]:
    annotations = {name: value for name, value in obj["metadata"].get("annotations", {}).items() if name != CONVERSION_DATA}
    metadata = {name: value for name, value in obj["metadata"].items() if name != "annotations"}
    return {**obj, "metadata": metadata | ({"annotations": annotations} if annotations else {})}


@per_version
def test_what_was_only_read_and_written_back_is_what_it_was(conversion: Conversion, version: str) -> None:
    @quickly
    @given(seeds)
    def law(seed: tuple[int, float]) -> None:
        hub = made(conversion.hub_model, *seed)
        old = from_hub(hub, version, CONTEXT)
        assert without_data(old)["metadata"] == hub["metadata"]
        assert to_hub(old, CONTEXT) == hub

    law()


@per_version
def test_what_an_old_client_wrote_it_reads_again(conversion: Conversion, version: str) -> None:
    @quickly
    @given(seeds)
    def law(seed: tuple[int, float]) -> None:
        old = made(conversion.models[version], *seed)
        hub = to_hub(old, CONTEXT)
        assert hub["metadata"] == old["metadata"]
        assert without_data(from_hub(hub, version, CONTEXT)) == old

    law()


@per_version
def test_what_comes_out_is_valid_in_its_version(conversion: Conversion, version: str) -> None:
    @quickly
    @given(seeds)
    def law(seed: tuple[int, float]) -> None:
        hub, old = made(conversion.hub_model, *seed), made(conversion.models[version], *seed)
        assert_valid(hub, conversion.hub_model)
        assert_valid(old, conversion.models[version])
        assert_valid(from_hub(hub, version, CONTEXT), conversion.models[version])
        assert_valid(to_hub(old, CONTEXT), conversion.hub_model)

    law()


@per_version
def test_an_edit_in_an_old_version_arrives(conversion: Conversion, version: str) -> None:
    """Some field of the old object is replaced by one of another object, or taken away."""

    @quickly
    @given(seeds, seeds)
    def law(seed: tuple[int, float], other: tuple[int, float]) -> None:
        old = from_hub(made(conversion.hub_model, *seed), version, CONTEXT)
        donor = made(conversion.models[version], *other)
        edited = edit(old, donor, random.Random(seed[0] ^ other[0]))
        assert said(without_data(from_hub(to_hub(edited, CONTEXT), version, CONTEXT))) == said(without_data(edited))

    law()


def edit(old: dict[str, Any], donor: dict[str, Any], chosen: random.Random) -> dict[str, Any]:
    """The object with one field of its spec as the donor has it."""
    if "spec" not in donor:
        return old
    if "spec" not in old:
        return {**old, "spec": donor["spec"]}
    return {**old, "spec": _edited(old["spec"], donor["spec"], chosen)}


def _edited(old: dict[str, Any], donor: dict[str, Any], chosen: random.Random) -> dict[str, Any]:
    names = sorted(old.keys() | donor.keys())
    name = chosen.choice(names)
    if isinstance(old.get(name), dict) and isinstance(donor.get(name), dict) and chosen.random() < 0.8:
        return {**old, name: _edited(old[name], donor[name], chosen)}
    rest = {key: value for key, value in old.items() if key != name}
    return {**rest, name: donor[name]} if name in donor else rest


@per_version
def test_whatever_comes_is_converted_or_refused(conversion: Conversion, version: str) -> None:
    """Admission has objects converted before the API server has checked them, and managed fields are converted without the rest of their object."""

    @quickly
    @given(seeds)
    def law(seed: tuple[int, float]) -> None:
        chosen, hub = random.Random(seed[0]), made(conversion.hub_model, *seed)
        old = from_hub(hub, version, CONTEXT)
        for _ in range(5):
            with suppress(ConversionError):
                assert to_hub(torn(old, chosen), CONTEXT)["kind"] == conversion.kind
            with suppress(ConversionError):
                assert from_hub(torn(hub, chosen), version, CONTEXT)["kind"] == conversion.kind

    law()


def torn(obj: dict[str, Any], chosen: random.Random) -> dict[str, Any]:
    """The object with some of it missing, and some of it something else."""
    return {**obj, **{name: _torn(obj[name], chosen) for name in ("spec", "status") if name in obj}}


def _torn(value: Any, chosen: random.Random) -> Any:
    if chosen.random() < 0.04:
        return chosen.choice(["text", "", 7, True, None, [], {}, ["text"], [{}], {"name": None}])
    if isinstance(value, dict):
        return {name: _torn(one, chosen) for name, one in value.items() if chosen.random() > 0.04}
    return [_torn(one, chosen) for one in value] if isinstance(value, list) else value
