"""The schemas of the older versions say what their users rely on, field by field."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

import pytest

from schemas import crd
from schemas.api import older
from schemas.api.meta import KubeObject
from tests.contract import digest

DIGESTS = Path(__file__).parent / "digests" / "older"
NOT_IN_DIGESTS = {"KubeadmConfigTemplate"}
"""test_a_template_holds_the_same_spec covers it."""


DEFAULTS = re.compile(r" default=(1|\{.*\})$")
"""Filled in by admission, in the hub. In the schema of an old version they would come with every edit in that version."""


def digests(version: str) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for path in sorted(DIGESTS.glob(f"*.{version}.txt")):
        kinds |= {kind: [DEFAULTS.sub("", line) for line in lines] for kind, lines in digest.read(path.read_text()).items()}
    return kinds


LATER = [model for model in older.VERSIONS if model.VERSION != "v1alpha4" and model.KIND not in NOT_IN_DIGESTS]


@pytest.mark.parametrize("model", LATER, ids=lambda model: f"{model.KIND}-{model.VERSION}")
def test_every_field_of_a_version_with_bounds_has_the_facts_of_its_digest(model: type[KubeObject]) -> None:
    wanted, generated = digests(model.VERSION)[model.KIND], digest.describe(crd.definition(model, additions=False))
    differences = "\n".join(difflib.unified_diff(wanted, generated, "digest", "generated", n=0, lineterm=""))
    assert not differences, differences


V1ALPHA4 = [model for model in older.VERSIONS if model.VERSION == "v1alpha4"]
BOUNDS = re.compile(r" (minLen|maxLen|min|max|minItems|maxItems|minProps)=\d+| (re|enum|each)[=(].*| atomic| listmap\(\S+\)| \[CEL x\d\]")
"""v1alpha4 had next to none of them: the upper ones of v1beta1 hold in it too, and the lower ones not."""


@pytest.mark.parametrize("model", [model for model in V1ALPHA4 if "Template" not in model.KIND], ids=lambda model: model.KIND)
def test_v1alpha4_has_the_fields_of_its_digest_and_no_other(model: type[KubeObject]) -> None:
    wanted, generated = (
        [BOUNDS.sub("", line) for line in lines] for lines in (digests("v1alpha4")[model.KIND], digest.describe(crd.definition(model, additions=False)))
    )
    differences = "\n".join(difflib.unified_diff(wanted, generated, "digest", "generated", n=0, lineterm=""))
    assert not differences, differences


@pytest.mark.parametrize("model", V1ALPHA4, ids=lambda model: model.KIND)
def test_v1alpha4_lets_through_the_zeros_that_its_clients_write(model: type[KubeObject]) -> None:
    assert not LOWER.search(json.dumps(crd.version(model)["schema"]))


LOWER = re.compile(r'"(minLength|minItems|minProperties|minimum)": [1-9]')
