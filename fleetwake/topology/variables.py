"""Variables of a topology: their defaults, and whether they are what the class's schemas ask.

Definitions are those of the ClusterClass's status: what the class says itself and what extensions add. All definitions of a name are alike, or the
class is not ready; the first therefore speaks for it.

Source: kinds.md §10.3; contracts.md §11 (Cluster); Cluster API v1.14 (variables).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleetwake.patches import wire
from fleetwake.topology.rules import rule_violations
from fleetwake.topology.schema import Wrong, defaulted, shown, unknown_fields, violations
from schemas.api.core.v1beta2.cluster_class import ClusterClassStatusVariable
from schemas.api.core.v1beta2.topology import ClusterVariable, Topology, TopologyVariables

TOPOLOGY = "spec.topology"
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class Definition:
    """What a variable must be."""

    name: str
    required: bool
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """A field of a Cluster that is wrong, and how to mend it."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


Definitions = Mapping[str, Definition]


def definitions_of(variables: Iterable[ClusterClassStatusVariable]) -> Definitions:
    """The definitions by name, in the order of the status."""
    return {one.name: Definition(one.name, one.definitions[0].required, wire(one.definitions[0].schema_.open_api_v3_schema)) for one in variables}


# --- defaults --------------------------------------------------------------------------------------------------------------------------------


def defaulted_topology(topology: Topology, definitions: Definitions) -> Topology:
    """The topology with the defaults of its variables: those of its own that are absent too, those of overrides only inside what they give.

    Values keep their order, and new ones follow in the order of the class, so that the same topology never comes out in another order.
    """
    workers = topology.workers
    update: dict[str, Any] = {"variables": _defaulted_values(topology.variables, definitions, complete=True)}
    update["control_plane"] = _defaulted_part(topology.control_plane, definitions)
    update["workers"] = workers.model_copy(
        update={
            "machine_deployments": tuple(_defaulted_part(one, definitions) for one in workers.machine_deployments),
            "machine_pools": tuple(_defaulted_part(one, definitions) for one in workers.machine_pools),
        }
    )
    return topology.model_copy(update={name: value for name, value in update.items() if value != getattr(topology, name)})


def _defaulted_part(part: Any, definitions: Definitions) -> Any:
    overrides = _defaulted_values(part.variables.overrides, definitions, complete=False)
    if overrides == part.variables.overrides:
        return part
    return part.model_copy(update={"variables": TopologyVariables(overrides=overrides)})


def _defaulted_values(values: Sequence[ClusterVariable], definitions: Definitions, *, complete: bool) -> tuple[ClusterVariable, ...]:
    found = [_defaulted_value(one, definitions.get(one.name)) for one in values]
    given = {one.name for one in values}
    if complete:
        for name, definition in definitions.items():
            if name not in given and definition.schema.get("default") is not None:
                found.append(ClusterVariable(name=name, value=defaulted(definition.schema["default"], definition.schema)))
    return tuple(found)


def _defaulted_value(variable: ClusterVariable, definition: Definition | None) -> ClusterVariable:
    if definition is None:
        return variable
    value = variable.value
    if value is None and definition.schema.get("default") is not None:
        value = definition.schema["default"]
    value = defaulted(value, definition.schema)
    return variable if value == variable.value else variable.model_copy(update={"value": value})


# --- validation ------------------------------------------------------------------------------------------------------------------------------


def topology_problems(topology: Topology, old: Topology | None, definitions: Definitions) -> tuple[Problem, ...]:
    """What is wrong with the variables of a topology, and with those that hold in one part of it."""
    workers, before = topology.workers, old.workers if old is not None else None
    found = list(value_problems(topology.variables, old.variables if old else (), definitions, f"{TOPOLOGY}.variables"))
    found += _required(topology.variables, definitions)
    parts = [(f"{TOPOLOGY}.controlPlane", topology.control_plane, old.control_plane if old else None)]
    for kind, wanted, stored in (
        ("machineDeployments", workers.machine_deployments, before.machine_deployments if before else ()),
        ("machinePools", workers.machine_pools, before.machine_pools if before else ()),
    ):
        named = {one.name: one for one in stored}
        parts += [(f"{TOPOLOGY}.workers.{kind}[{one.name}]", one, named.get(one.name)) for one in wanted]  # type: ignore[misc]
    for field, part, was in parts:
        overrides = was.variables.overrides if was is not None else ()
        found += value_problems(part.variables.overrides, overrides, definitions, f"{field}.variables.overrides")
    return tuple(found)


def _required(values: Iterable[ClusterVariable], definitions: Definitions) -> Iterator[Problem]:
    given = {one.name for one in values}
    for name, definition in definitions.items():
        if definition.required and name not in given:
            yield Problem(f"{TOPOLOGY}.variables", f'the ClusterClass requires the variable "{name}"; add it with a value of type {_type(definition)}')


def value_problems(values: Sequence[ClusterVariable], old: Sequence[ClusterVariable], definitions: Definitions, field: str) -> Iterator[Problem]:
    """What is wrong with a list of values."""
    before = {one.name: one.value for one in old}
    seen: set[str] = set()
    for one in values:
        place = f"{field}[{one.name}]"
        definition = definitions.get(one.name)
        if one.name in seen:
            yield Problem(place, f'the variable "{one.name}" is there twice; keep one')
        elif definition is None:
            yield Problem(place, f'the ClusterClass has no variable "{one.name}"; remove it{_similar(one.name, definitions)}')
        else:
            for wrong in _value_wrongs(one.value, before.get(one.name, _ABSENT), definition):
                yield Problem(f"{place}.value{wrong.path}", f'variable "{one.name}": {wrong.message}')
        seen.add(one.name)


def _value_wrongs(value: Any, old: Any, definition: Definition) -> tuple[Wrong, ...]:
    """What is wrong with a value: its form first, then fields that nobody asked for, then the class's rules."""
    schema = definition.schema
    found = tuple(violations(value, schema))
    if not found:
        found = tuple(Wrong(path, "the schema has no such field; remove it") for path in unknown_fields(value, schema))
    if found:
        return found
    return tuple(rule_violations(value, schema) if old is _ABSENT else rule_violations(value, schema, old))


def _type(definition: Definition) -> str:
    allowed = definition.schema.get("enum")
    return str(definition.schema.get("type") or "any") + (f", one of {', '.join(shown(one) for one in allowed)}" if allowed else "")


def _similar(name: str, definitions: Definitions) -> str:
    """A hint at a variable whose name differs in spelling alone."""
    bare = name.replace("-", "").replace("_", "").lower()
    found = next((one for one in definitions if one.replace("-", "").replace("_", "").lower() == bare), None)
    return f', or name it "{found}"' if found else ""
