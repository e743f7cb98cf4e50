"""What is written down of the rules: docs/admission.md, and the chart's webhook configurations. Both from the code, so neither can say something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from schemas import crd
from schemas.api.meta import KubeObject
from schemas.api.registry import KINDS
from services.admission.catalog import ADMISSIONS
from services.admission.configurations import TIMEOUT_SECONDS, Address, configurations
from services.admission.rules.changes import ANY, dotted
from services.admission.rules.kubeadm_control_plane import MUTABLE
from services.admission.rules.rule import Admission

CHART_FILE = "chart/access/webhooks.yaml"
RULES = "x-kubernetes-validations"
ADDED_KEYWORDS = {"default": "filled in: {}", "minimum": "a number is at least {}", "pattern": "a text is like `{}`"}
HEAD = f"""# Admission

<!-- made by `fleetwake schemas generate`; a test fails when it is not up to date -->

What the API server refuses or fills in before it stores an object of ours, where each rule is enforced, and what happens when nobody answers.

**Where.** A rule stands in one place only, the strictest that can say it:
- *schema*: types, bounds, enums, patterns and required fields of the definition. Too many to list; the files in `schemas/generated/crds` are their list. Below
  are those that Cluster API's own definitions do not have.
- *CEL*: rules of the definition over several fields, or over old and new. Schema and CEL are the API server's own: they hold whether a webhook answers or not,
  also through the scale subresource, and cost no request. The API server checks a request by the schema of its own version: where older versions are served,
  ValidatingAdmissionPolicies made from the same rules (`schemas/policies.py`) hold requests in them to what is below, converted to v1beta2.
- *webhook*: what neither can say: selectors against labels, versions against what runs, lists of what may change,
  names that become labels (CEL cannot tell `metadata.name` as the field).

**When a webhook is asked.** On create, and on an update that changes the spec or an annotation that a rule reads. Never for status or scale, never for labels,
finalizers or owners alone, never for an object that is being deleted, never for kinds of others; about a Machine only if it lacks a default or has something
that a rule speaks of, so that those our services make cost nothing. So with admission down a fleet goes on reporting and
scaling, and everything can be deleted.

**When nobody answers.** `Fail`: create and changes of the spec are refused until somebody does ({TIMEOUT_SECONDS["Fail"]} s for one that hangs).
`Ignore`: let through, without waiting long ({TIMEOUT_SECONDS["Ignore"]} s). Defaults have the policy of their kind; the reconcilers read an object without them
as if it had them. The reasons are with each kind.

**Refusals** are 422 Invalid with a cause for each field, as the API server's own. Rules know nothing of who asks: `userInfo` is for the API server's audit log,
which has the name; a refusal is logged with user, object and fields, never with values.

**Certificates.** `fleetwake secrets keys` makes a CA (Secret `fleetwake-admission`, a year). Each replica signs itself a certificate (7 days) and tells the API
server whom to believe, in the webhook configurations. After two thirds of its life each is followed by another, without a restart; the API server
believes the former CA until it ends. With `services.admission.webhooks.certificates: cert-manager` the certificate comes from mounted files, read again
within 10 s of a change, and the service has no rights in the API. `fleetwake_admission_certificate_expiry_seconds` says when the one in use ends.

**Other objects.** Whether a Cluster's topology fits its ClusterClass, and whether a class is used, is asked of the API server at that moment, with the setting
`cluster_topology` on. A Cluster whose class is not there or not ready is stored with a warning.

**Deliberately missing.** That the pool of an IPAddress is its claim's: it takes a read of another object.
Conversion between versions: only v1beta2 is served.
"""


def rendered() -> str:
    """The text of docs/admission.md."""
    of = {admission.model: admission for admission in ADMISSIONS}
    parts = [HEAD]
    for model in KINDS:
        parts.append("\n".join([f"## {model.KIND}", "", *_kind(model, of.get(model)), ""]))
    parts.append("\n".join(["## What may change in a KubeadmControlPlane", "", *_mutable(), ""]))
    return "\n".join(parts)


def _kind(model: type[KubeObject], admission: Admission[Any] | None) -> Iterator[str]:
    if admission is None:
        yield "No webhook: its definition says all there is."
    else:
        yield f"Webhook: `{admission.policy}`, because {admission.why}."
    rows = [(f"`{path}`", says, where) for path, says, where in _of_definition(model)]
    if admission is not None:
        if admission.default is not None:
            rows += [(f"`{path}`", f"filled in: {value}", "webhook") for path, value in admission.default.fills]
        rows += [(f"`{rule.path}`", rule.says, "webhook") for rule in (*admission.rules, *admission.deletion)]
    if rows:
        yield ""
        yield "| field | rule | where |"
        yield "|---|---|---|"
        yield from (f"| {path} | {_cell(says)} | {where} |" for path, says, where in rows)


def _of_definition(model: type[KubeObject]) -> Iterator[tuple[str, str, str]]:
    """CEL rules of the definition, and what it has beyond Cluster API's own schema: path, rule, where."""
    (whole,), (own,) = (crd.definition(model, additions=additions)["spec"]["versions"] for additions in (True, False))
    yield from dict.fromkeys(_walk(whole["schema"]["openAPIV3Schema"], own["schema"]["openAPIV3Schema"], ""))


def _walk(whole: Any, own: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if path.startswith(".status"):
        return
    place = path.removeprefix(".")
    for keyword in ADDED_KEYWORDS:
        if keyword in whole and keyword not in own:
            yield (place, ADDED_KEYWORDS[keyword].format(whole[keyword]), "schema")
    rules = whole.get(RULES, ())
    for rule in rules if isinstance(rules, list) else ():
        yield (f"{place}{rule.get('fieldPath', '')}", rule["message"], "CEL")
    for name, field in whole.get("properties", {}).items():
        yield from _walk(field, own["properties"][name], f"{path}.{name}")
    if isinstance(whole.get("items"), dict):
        yield from _walk(whole["items"], own["items"], f"{path}[*]")


def _mutable() -> Iterator[str]:
    yield "Each of these, and everything below it; every other field of the spec is refused with its path (`cannot be modified`)."
    yield ""
    yield from (f"- `{dotted(path)}`" for path in MUTABLE if path[-1] != ANY)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def chart_text() -> str:
    """The chart's file of webhook configurations: a list, with the release's names filled in by helm."""
    address = Address(service='{{ include "fleetwake.name" . }}-admission', namespace="{{ .Release.Namespace }}")
    head = "# Generated from the rules (services/admission) by `make deploy`. Do not edit. Rendered where cert-manager has the certificates.\n"
    return head + yaml.safe_dump(list(configurations(address, b"")), sort_keys=False, width=200)
