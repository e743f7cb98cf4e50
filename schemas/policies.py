"""ValidatingAdmissionPolicies that hold requests made in older versions to the rules that our definitions have beyond Cluster API's.

The API server checks a request by the schema of the version it was made in. Policies see it converted to the hub, as webhooks do, and are the API server's
own: so each rule of the hub's definition, written again from its place in the schema, holds for older versions whether a webhook answers or not.
Requests in the hub's version are not asked about: the definition has seen to them.
Source: Kubernetes "Validating Admission Policy" (1.36: matchPolicy Equivalent, matchConditions); contracts.md §11.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas import crd, served
from schemas.api.meta import KubeObject

API_VERSION: Final = "admissionregistration.k8s.io/v1"
POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
PLURALS: Final[Mapping[str, str]] = {POLICY: "validatingadmissionpolicies", BINDING: "validatingadmissionpolicybindings"}
ITEM, VALUE = "[]", "{}"
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OLD: Final = re.compile(r"\boldSelf\b")
_UNCHANGED: Final = "request.operation == 'UPDATE' && has(object.spec) == has(oldObject.spec) && (!has(object.spec) || object.spec == oldObject.spec)"


@dataclass(frozen=True)
class _Added:
    """A rule over ``self`` at a place of the schema."""

    place: tuple[str, ...]
    rule: str
    message: str


def name(model: type[KubeObject]) -> str:
    """The name of a kind's policy, and of its binding."""
    return f"fleetwake-{served.name(model)}"


def policies() -> list[dict[str, Any]]:
    """The policy and the binding of every kind that has older versions and rules of ours."""
    return [document for model in served.converted() for document in _of(model)]


def _of(model: type[KubeObject]) -> Iterator[dict[str, Any]]:
    validations = [_validation(one) for one in _additions(crd.marked(model), ())]
    if not validations:
        return
    rule = {"apiGroups": [model.GROUP], "apiVersions": [model.VERSION], "operations": ["CREATE", "UPDATE"], "resources": [model.PLURAL]}
    conditions = {
        "older": f"request.requestKind.version != '{model.VERSION}'",
        "stays": "!has(object.metadata.deletionTimestamp)",
        # who edits something else is not held to what was there before the rule
        "changes": f"!({_UNCHANGED})",
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"matchPolicy": "Equivalent", "resourceRules": [rule]},
        "matchConditions": [{"name": name, "expression": expression} for name, expression in conditions.items()],
        "validations": validations,
    }
    yield {"apiVersion": API_VERSION, "kind": POLICY, "metadata": {"name": name(model)}, "spec": spec}
    yield {"apiVersion": API_VERSION, "kind": BINDING, "metadata": {"name": name(model)}, "spec": {"policyName": name(model), "validationActions": ["Deny"]}}


def _additions(schema: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[_Added]:
    rules = schema.get(crd.RULES)
    # a list: the kinds that model schemas have a field of that name too
    for rule in rules if isinstance(rules, list) else ():
        if rule.get(crd.ADDED):
            below = tuple(filter(None, rule.get("fieldPath", "").split(".")))
            yield _Added(place, rule["rule"], f"{_dotted((*place, *below))}: {rule['message']}")
    keywords = schema.get(crd.ADDITIONS)
    if isinstance(keywords, dict):
        yield from _keywords(keywords, place)
    for field, one in schema.get("properties", {}).items():
        yield from _additions(one, (*place, field))
    for key, step in (("items", ITEM), ("additionalProperties", VALUE)):
        if isinstance(schema.get(key), dict):
            yield from _additions(schema[key], (*place, step))


def _keywords(keywords: Mapping[str, Any], place: tuple[str, ...]) -> Iterator[_Added]:
    """Bounds of the schema as rules; defaults are filled in by the hub's definition whenever an object is read."""
    if "minimum" in keywords:
        yield _Added(place, f"type(self) != int || self >= {keywords['minimum']}", f"{_dotted(place)}: must be at least {keywords['minimum']}")
    if "pattern" in keywords:
        pattern = keywords["pattern"].replace("\\", "\\\\").replace("'", "\\'")
        yield _Added(place, f"type(self) != string || self.matches('{pattern}')", f"{_dotted(place)}: must be like {keywords['pattern']}")


def _validation(added: _Added) -> dict[str, str]:
    compared = _OLD.search(added.rule) is not None
    # ``self`` is no variable of a policy: a list of one gives the name
    inner = f"[{{}}].all(self, {added.rule})"
    if compared:
        expression = f"oldObject == null || {_at('oldObject', added.place, '[{}].all(oldSelf, ' + _at('object', added.place, inner) + ')')}"
    else:
        expression = _at("object", added.place, inner)
    # 422, as the definition's own rules are refused, whatever their reason
    return {"expression": expression, "message": added.message, "reason": "Invalid"}


def _at(root: str, place: tuple[str, ...], inner: str, depth: int = 0) -> str:
    """The expression ``inner`` with its braces standing for the value at a place, wherever there is one.

    Raises:
        ValueError: a field's name is none in CEL.
    """
    if not place:
        return inner.replace("{}", root)
    step, rest = place[0], place[1:]
    each = f"v{depth}"
    if step == ITEM:
        return f"{root}.all({each}, {_at(each, rest, inner, depth + 1)})"
    if step == VALUE:
        return f"{root}.all({each}, {_at(f'{root}[{each}]', rest, inner, depth + 1)})"
    if not _FIELD.fullmatch(step):
        raise ValueError(f"{_dotted(place)} cannot be said in CEL")
    return f"(!has({root}.{step}) || {_at(f'{root}.{step}', rest, inner, depth)})"


def _dotted(place: tuple[str, ...]) -> str:
    text = ".".join(place)
    return text.replace(f".{ITEM}", "[*]").replace(f".{VALUE}", "[*]")
