"""``docs/security/rbac.md``: who may do what in the Kubernetes API, and why, from the roles of the rendered manifests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleetwake import yaml_text
from fleetwake.rig.access import MANIFESTS
from fleetwake.rig.cache import CHECKOUT
from fleetwake.rig.rendering import CHART, RELEASE

PAGE = CHECKOUT / "docs" / "security" / "rbac.md"
ROLES = (
    "base/rbac",
    "components/dev-infrastructure/rbac",
    "components/topology/rbac",
    "components/redis/rbac",
    "components/older-versions/rbac",
)
SCOPES: Mapping[str, str] = {
    "namespaced": "in every namespace, or with `settings.common.namespace` in that one alone",
    "cluster": "kinds without namespaces",
    "topology": "likewise, with `settings.common.cluster_topology` alone",
    "own": "in its own namespace",
    "older": "with `settings.common.served_versions`, kinds in every namespace",
}
_COMPUTED = re.compile(r"'\{\{.*?\}\}'")
SUFFIXES: Mapping[str, str] = {"namespaced": "", "cluster": "-cluster", "topology": "-topology", "own": "-own", "older": "-older"}
HEAD = CHART / "access" / "rbac.head.md"


@dataclass(frozen=True)
class Grant:
    """One rule of a role, and what is said of it."""

    service: str
    scope: str
    groups: tuple[str, ...]
    resources: tuple[str, ...]
    names: tuple[str, ...]
    verbs: tuple[str, ...]
    why: str
    rare: tuple[str, ...] = ()
    admission: bool = False


def grants() -> tuple[Grant, ...]:
    """Every rule of every rendered role, in the order of access/rbac.yaml.

    Raises:
        LookupError: a role has other rules than the file says: the manifests are to be rendered anew.
    """
    said: Mapping[str, Mapping[str, Any]] = yaml_text.load(_COMPUTED.sub("computed", (CHART / "access" / "rbac.yaml").read_text()))
    roles = {document["metadata"]["name"]: document for document in _documents() if document["kind"] in ("ClusterRole", "Role")}
    return tuple(grant for service, parts in said.items() for grant in _of_service(service, parts, roles))


def _of_service(service: str, parts: Mapping[str, Any], roles: Mapping[str, Mapping[str, Any]]) -> Iterator[Grant]:
    for scope, entries in parts.items():
        if scope != "grants":
            yield from _of_role(roles[f"{RELEASE}-{service}{SUFFIXES[scope]}"], service, scope, entries)
    for label, entries in parts.get("grants", {}).items():
        yield from _of_role(roles[f"{RELEASE}-{service}-{label.rpartition('/')[2]}"], service, label, entries)


def _of_role(role: Mapping[str, Any], service: str, scope: str, entries: Sequence[Mapping[str, Any]]) -> Iterator[Grant]:
    rules = role["rules"]
    if len(rules) != len(entries):
        raise LookupError(f"{role['metadata']['name']} has {len(rules)} rules, access/rbac.yaml says {len(entries)}: run `make deploy`")
    for rule, entry in zip(rules, entries, strict=True):
        yield Grant(
            service,
            scope,
            tuple(rule["apiGroups"]),
            tuple(rule["resources"]),
            tuple(rule.get("resourceNames", ())),
            tuple(rule["verbs"]),
            str(entry["why"]),
            tuple(entry.get("rare", ())),
            bool(entry.get("admission")),
        )


def _documents() -> Iterator[Mapping[str, Any]]:
    for folder in ROLES:
        for path in sorted((MANIFESTS / folder).glob("*.yaml")):
            yield from yaml_text.load_all(path.read_text())


def rendered_page() -> str:
    """The text of the page."""
    found = grants()
    lines = [HEAD.read_text()]
    for service in dict.fromkeys(grant.service for grant in found):
        lines.append(f"\n## {service}\n")
        for scope in dict.fromkeys(grant.scope for grant in found if grant.service == service):
            title = SCOPES.get(scope) or f"granted to whoever aggregates `{scope}`"
            lines += [f"{title}:\n", "| API group | resources | verbs | why |", "|---|---|---|---|"]
            lines += [_row(grant) for grant in found if (grant.service, grant.scope) == (service, scope)]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def _row(grant: Grant) -> str:
    names = f", only {_listed(grant.names)}" if grant.names else ""
    asked = " (asked by admission of owner references)" if grant.admission else ""
    return f"| {_listed(group or 'core' for group in grant.groups)} | {_listed(grant.resources)}{names} | {', '.join(grant.verbs)} | {grant.why}{asked} |"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)
