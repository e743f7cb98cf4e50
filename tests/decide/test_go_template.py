"""Go templates of files: what Go's text/template makes of the same text."""

from __future__ import annotations

import pytest

from fleetwake.templating.go_template import TemplateError, render

DATA = {"controlPlane": {"version": "v1.34.2"}}

RENDERED = [
    pytest.param("plain } {text", "plain } {text", id="text"),
    pytest.param("v={{ .controlPlane.version }}", "v=v1.34.2", id="field"),
    pytest.param("a \n {{- .controlPlane.version -}} \n b", "av1.34.2b", id="trim"),
    pytest.param("a {{- /* a comment */ -}} b", "ab", id="comment"),
    pytest.param("{{ .unknown }}", "<no value>", id="unknown key"),
    pytest.param("{{ .unknown.field }}", "<no value>", id="field of nothing"),
    pytest.param('{{ if eq .controlPlane.version "v1.34.2" "v1.35.0" }}yes{{ else }}no{{ end }}', "yes", id="eq any"),
    pytest.param('{{ if ne .controlPlane.version "v1.34.2" }}yes{{ else if .controlPlane }}other{{ else }}no{{ end }}', "other", id="else if"),
    pytest.param("{{ with .controlPlane }}{{ .version }}{{ end }}", "v1.34.2", id="with"),
    pytest.param("{{ with .missing }}x{{ else }}none{{ end }}", "none", id="with else"),
    pytest.param("{{ $v := .controlPlane.version }}{{ if true }}{{ $v = slice $v 1 }}{{ end }}{{ $v }}", "1.34.2", id="variables"),
    pytest.param('{{ if true }}{{ $v := "inner" }}{{ end }}{{ $.controlPlane.version }}', "v1.34.2", id="dollar"),
    pytest.param('{{ .controlPlane.version | printf "%q %s" "x" }}', '"x" v1.34.2', id="pipeline"),
    pytest.param('{{ printf "%-5s|%5s|%03d|%t|%%" "ab" "cd" 7 true }}', "ab   |   cd|007|true|%", id="printf"),
    pytest.param('{{ print 1 2 "x" 3 4 }}', "1 2x3 4", id="print"),
    pytest.param('{{ println "a" 1 }}', "a 1\n", id="println"),
    pytest.param("{{ len .controlPlane.version }}{{ len .controlPlane }}", "71", id="len"),
    pytest.param('{{ index .controlPlane "version" }}{{ index "abc" 1 }}', "v1.34.298", id="index"),
    pytest.param('{{ and true "" "x" }}|{{ or "" "y" }}|{{ not 0 }}', "|y|true", id="and or not"),
    pytest.param("{{ and .missing .missing.field }}", "<no value>", id="and stops"),
    pytest.param('{{ (index .controlPlane "version") }}{{ (.controlPlane).version }}', "v1.34.2v1.34.2", id="parentheses"),
    pytest.param('{{ `raw "quotes" }}` }}', 'raw "quotes" }}', id="raw"),
    pytest.param('{{ "a\\"b}}" }}', 'a"b}}', id="quoted"),
    pytest.param('{{ if lt "v1.33.0" .controlPlane.version }}newer{{ end }}{{ if and (ge 2 2) (le 1 2) (gt 3 2) }}!{{ end }}', "newer!", id="order"),
    pytest.param("{{ .controlPlane }}", "map[version:v1.34.2]", id="map"),
    pytest.param("{{ 1.50 }} {{ -3 }} {{ false }}", "1.5 -3 false", id="numbers"),
    pytest.param("{{if .controlPlane}}a{{end}}", "a", id="tight"),
    pytest.param("{{ range $key, $value := .controlPlane }}{{ $key }}={{ $value }}{{ end }}", "version=v1.34.2", id="range over a map"),
    pytest.param("{{ range .missing }}x{{ else }}none{{ end }}", "none", id="range over nothing"),
    pytest.param("{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}", "02", id="break and continue"),
    pytest.param('{{ define "x" }}<{{ .version }}>{{ end }}{{ template "x" .controlPlane }}', "<v1.34.2>", id="define"),
    pytest.param('{{ block "x" .controlPlane }}{{ .version }}{{ end }}', "v1.34.2", id="block"),
    pytest.param("{{ with .missing }}a{{ else with .controlPlane }}{{ .version }}{{ end }}", "v1.34.2", id="else with"),
]


@pytest.mark.parametrize(("template", "wanted"), RENDERED)
def test_rendered(template: str, wanted: str) -> None:
    assert render(template, DATA) == wanted


REFUSED = [
    ("{{ .controlPlane.version", "not closed"),
    ("{{ if .controlPlane }}x", "has no end"),
    ("{{ end }}", "without a beginning"),
    ("{{ else }}", "without a beginning"),
    ("{{ if true }}a{{ else }}b{{ else }}c{{ end }}", "two else"),
    ("{{ range .controlPlane.version }}{{ end }}", "a range over"),
    ('{{ template "x" }}', "not defined"),
    ("{{ nil }}", "nil is no command"),
    ("{{ with nil }}{{ end }}", "nil is no command"),
    ("{{ break }}", "outside a range"),
    ("{{ if true }}{{ continue }}{{ end }}", "outside a range"),
    ('{{ if true }}{{ define "x" }}{{ end }}{{ end }}', "inside a block"),
    ("{{ range $a, $b, $c := .controlPlane }}{{ end }}", "one or two variables"),
    ("{{ template }}", "no name"),
    ("{{ .controlPlane.version | upper }}", "function upper is not known"),
    ("{{ upper }}", "function upper is not known"),
    ('{{ eq 1 "1" }}', "eq cannot be called"),
    ("{{ lt nil 1 }}", "lt cannot be called"),
    ("{{ slice .controlPlane.version 9 }}", "slice cannot be called"),
    ("{{ .controlPlane.version.major }}", "no field major"),
    ("{{ $x }}", "not declared"),
    ("{{ $x = 1 }}", "not declared"),
    ("{{ (1 }}", "not closed"),
    ("{{ 1) }}", "not opened"),
    ('{{ "a" "b" }}', "has arguments"),
    ("{{ & }}", "means nothing"),
    ("{{ }}", "empty"),
    ("{{ | print }}", "empty"),
    ("{{ if }}x{{ end }}", "empty"),
]


@pytest.mark.parametrize(("template", "message"), REFUSED)
def test_refused(template: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        render(template, DATA)


def test_a_verb_that_does_not_fit_is_an_error_where_go_prints_it() -> None:
    with pytest.raises(TemplateError, match="printf cannot be called"):
        render('{{ printf "%d" "x" }}', DATA)


def test_a_message_repeats_no_content() -> None:
    with pytest.raises(TemplateError) as caught:
        render('{{ "s3cr3t" | upper }}', DATA)
    assert "s3cr3t" not in str(caught.value)


def test_blocks_have_a_limit() -> None:
    with pytest.raises(TemplateError, match="more than 64"):
        render("{{ if true }}" * 65 + "{{ end }}" * 65, DATA)
