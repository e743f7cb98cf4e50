"""Templates of a ClusterClass's patches: what Go's text/template and sprig make of the same text.

The texts in tests/golden/templates/values.json were rendered by Go (tests/integration/test_sprig_in_go.py renders them again).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleetwake.templating.go_template import TemplateError, render
from fleetwake.templating.sprig import FUNCTIONS

CORPUS = Path(__file__).parents[1] / "golden" / "templates" / "values.json"
FOUND = json.loads(CORPUS.read_text())


def data() -> dict[str, Any]:
    """The variables, all numbers as floats; functions may change maps, so each template has its own."""
    found: dict[str, Any] = json.loads(json.dumps(FOUND["data"]), parse_int=float)
    return found


@pytest.mark.parametrize("one", FOUND["templates"], ids=lambda one: one["template"][:48])
def test_a_template_is_rendered_as_by_go(one: dict[str, Any]) -> None:
    if "error" in one:
        with pytest.raises(TemplateError):
            render(one["template"], data(), FUNCTIONS)
    else:
        assert render(one["template"], data(), FUNCTIONS) == one["text"]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        pytest.param('{{ repeat 9999999 "abcd" }}', "more than", id="long text"),
        pytest.param("{{ until 100000 }}", "more than", id="long list"),
        pytest.param("{{ range 1000000 }}x{{ end }}", "more than", id="long range"),
        pytest.param('{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}', "inside one another", id="calls itself"),
        pytest.param("{{ range 400 }}{{ range 400 }}x{{ end }}{{ end }}", "takes more than", id="many steps"),
        pytest.param('{{ fail "no image for it" }}', "no image for it", id="fail"),
        pytest.param("{{ now }}", "now is not known", id="a clock"),
        pytest.param("{{ randAlpha 5 }}", "randAlpha is not known", id="chance"),
        pytest.param('{{ env "HOME" }}', "env is not known", id="environment"),
    ],
)
def test_what_must_not_be_is_refused(template: str, why: str) -> None:
    with pytest.raises(TemplateError, match=why):
        render(template, data(), FUNCTIONS)
