"""The files that people edit: no key twice, and one image of each program whichever way it is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = sorted(path for path in (ROOT / "deploy").rglob("*.yaml") if "templates" not in path.parts)
"""Templates of the chart are no YAML before they are rendered."""
IMAGES = {"apache/kafka", "redis"}


class OnceLoader(yaml.CSafeLoader):
    """One that refuses what YAML forbids and PyYAML lets pass: the same key twice in a mapping."""


def _mapping(loader: OnceLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    if twice := {str(key) for key in keys if keys.count(key) > 1}:
        raise yaml.constructor.ConstructorError(None, None, f"twice: {', '.join(sorted(twice))}", node.start_mark)
    loader.flatten_mapping(node)
    return {loader.construct_object(key, deep=True): loader.construct_object(value, deep=True) for key, value in node.value}


OnceLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_mapping_has_a_key_twice(path: Path) -> None:
    list(yaml.load_all(path.read_text(), OnceLoader))


def test_compose_and_the_chart_run_the_same_images() -> None:
    compose = yaml.safe_load((ROOT / "deploy/compose/compose.yaml").read_text())
    composed = {service["image"] for service in compose["services"].values() if "image" in service}
    values = yaml.safe_load((ROOT / "deploy/k8s/chart/values.yaml").read_text())
    charted = {values[name]["image"] for name in ("kafka", "redis")}
    assert {image.split(":")[0] for image in charted} == IMAGES
    assert charted <= composed
