"""Objects of every kind and version, made at random from the schemas of the definitions.

A seed and a density make an object: hypothesis draws both, and shrinks the density toward objects that have hardly more than what is required. Drawing every
field from hypothesis would be a hundred times slower.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import jsonschema
from hypothesis import strategies as st

from schemas import crd
from schemas.api.meta import KubeObject
from schemas.api.older import VERSIONS
from schemas.api.registry import KINDS
from schemas.conversion.codecs import go_duration
from schemas.conversion.values import MISSING

NAMESPACE = "fleet"
GROUPS = {"infrastructure.cluster.x-k8s.io": "v1beta7", "bootstrap.cluster.x-k8s.io": "v1beta2", "controlplane.other.example": "v1"}
"""Groups of providers, and the version that their definitions' labels give: no two alike."""

TIMES = ("2026-02-03T04:05:06Z", "2027-01-01T00:00:00Z")
TEXTS = ("name", "zulu", "a/v1", "[1-2]", "a", "KubeadmThing", "http://name:1", "10Gi")

Schema = Mapping[str, Any]
Special = Callable[["Maker", tuple[str, ...]], Any]

DURATIONS = re.compile(r"^(timeout|ttl|retryPeriod|minHealthyPeriod|node\w*Timeout|timeoutForControlPlane)$")
NO_EFFECT = {
    ("spec", "topology", "rolloutAfter"),
    ("spec", "revisionHistoryLimit"),
    ("spec", "progressDeadlineSeconds"),
    ("clusterConfiguration", "networking"),
    ("clusterConfiguration", "kubernetesVersion"),
    ("clusterConfiguration", "clusterName"),
    ("clusterConfiguration", "apiVersion"),
    ("clusterConfiguration", "kind"),
    ("initConfiguration", "apiVersion"),
    ("initConfiguration", "kind"),
    ("joinConfiguration", "apiVersion"),
    ("joinConfiguration", "kind"),
    ("useExperimentalRetryJoin",),
    ("definitionFrom",),
}
"""Ends of paths of v1beta1 that have no effect, and that nothing keeps."""

ZERO_SAYS_NOTHING = {
    *("paused", "infrastructureReady", "controlPlaneReady", "bootstrapReady", "ready", "initialized", "readOnly", "append", "strict"),
    *("unsafeSkipCAVerification", "insecureSkipTLSVerify", "provideClusterInfo", "minReadySeconds", "definitionsConflict", "infrastructureCluster"),
    *("uniqueItems", "exclusiveMaximum", "exclusiveMinimum", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"),
}
"""Flags and numbers of v1beta1 that its clients write whether anybody set them or not."""


OF_HEALTH_CHECKS = ("expectedMachines", "currentHealthy", "remediationsAllowed", "timeoutSeconds")
"""Their zeros say nothing either, nor does that of an extension's handler."""

SAYS_NOTHING = [("retryPeriod", "0s"), ("type", "RollingUpdate")]


@dataclass
class Maker:
    """Makes values of a schema."""

    random: random.Random
    density: float
    hub: bool
    all_fields: bool = False

    def object(self, model: type[KubeObject]) -> dict[str, Any]:
        """An object of the kind, with metadata."""
        schema = schema_of(model)
        made = {"apiVersion": f"{model.GROUP}/{model.VERSION}", "kind": model.KIND, "metadata": self._metadata()}
        for name in ("spec", "status"):
            if name in schema["properties"] and (name == "spec" or self.chance()):
                made[name] = self._something(schema["properties"][name], (name,))
        if model.KIND == "Machine" and model.VERSION == "v1alpha4" and not self.all_fields:
            made.get("status", {}).pop("version", None)
        if model.KIND == "ClusterResourceSetBinding" and model.VERSION == "v1beta1":
            # what is left out is the binding's own name
            made["spec"].setdefault("clusterName", "name")
        if model.KIND == "ClusterResourceSet" and not self.hub:
            made["spec"].setdefault("resources", [{"kind": "Secret", "name": "name"}])
        if model.KIND == "KubeadmControlPlane" and not self.hub and "status" in made:
            made["status"]["ready"] = bool(made["status"].get("readyReplicas"))
        return made

    def chance(self) -> bool:
        """Whether an optional field is there."""
        return self.random.random() < self.density

    def value(self, schema: Schema, where: tuple[str, ...]) -> Any:
        """A value of the schema at a path; MISSING where nothing is left to say."""
        special = self._special(schema, where)
        if special is not None:
            return special
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return self.random.choice(["text", "", 0, False, [], {}, {"any": ["json", 1, None]}])
        if schema.get("x-kubernetes-int-or-string"):
            return self.random.choice([1, 3, "10Gi" if "[KMGTPE]i" in schema.get("pattern", "") else "30%"])
        if "enum" in schema:
            return self.random.choice(schema["enum"])
        match schema["type"]:
            case "object":
                return self._object(schema, where)
            case "array":
                return self._list(schema, where)
            case "boolean":
                unsaid = where[-1] in ZERO_SAYS_NOTHING or where[-2:] == ("matchResources", "controlPlane")
                return True if unsaid and not self.hub else self.random.choice([True, False])
            case "integer":
                return self._number(schema, where)
        return self._text(schema)

    def _object(self, schema: Schema, where: tuple[str, ...]) -> Any:
        if "additionalProperties" in schema:
            names = self.random.sample(["alpha", "bravo", "charlie"], self.random.randint(1, 3))
            return {name: self._something(schema["additionalProperties"], (*where, name)) for name in names}
        required = {*schema.get("required", ()), *self._required_in_the_hub(schema, where)}
        made = {}
        for name, field in schema.get("properties", {}).items():
            if name in required or self.chance():
                value = self._something(field, (*where, name)) if name in required else self.value(field, (*where, name))
                if value is not MISSING:
                    made[name] = value
        return self._consistent(made, where) if made or required else MISSING

    def _required_in_the_hub(self, schema: Schema, where: tuple[str, ...]) -> set[str]:
        names = {("template",): {"spec"}, ("spec",): {"template", "infrastructure", "controlPlane"}}.get(where[-1:], set())
        return names & schema.get("properties", {}).keys()

    def _something(self, schema: Schema, where: tuple[str, ...]) -> Any:
        """A value where there must be one; with few fields at first, then with more."""
        density = self.density
        try:
            while (value := self.value(schema, where)) is MISSING or (value == {} and schema.get("type") == "object"):
                self.density = min(1.0, self.density + 0.2)
            return value
        finally:
            self.density = density

    def _list(self, schema: Schema, where: tuple[str, ...]) -> Any:
        items = [self.value(schema["items"], where) for _ in range(self.random.randint(1, 3))]
        items = [item for item in items if item is not MISSING]
        if keys := schema.get("x-kubernetes-list-map-keys"):
            names = {"name"} if keys == ["name", "value"] else set(keys)
            items = list({tuple(str(item.get(key)) for key in sorted(names)): item for item in items}.values())
        return items or MISSING

    def _number(self, schema: Schema, where: tuple[str, ...]) -> int:
        least = max(7 if where[-1] == "certificatesExpiryDays" else 1, schema.get("minimum", 0))
        zero_may_be = schema.get("minimum", 0) == 0 and (
            self.hub or not (where[-1] in ZERO_SAYS_NOTHING or where[-1] in OF_HEALTH_CHECKS or where[-1] == "observedGeneration")
        )
        # the bounds of the hub are narrower: what v1beta1 lets through must not be refused there
        zero_may_be = zero_may_be and where[-1] not in ("apiServerPort", "port", "bindPort", "certificatesExpiryDays")
        return self.random.choice([least, least + 9, *([0] if zero_may_be else [])])

    def _text(self, schema: Schema) -> str:
        if schema.get("format") == "date-time":
            return self.random.choice(TIMES)
        # names that the hub allows wherever it has a pattern and v1beta1 has none
        texts = TEXTS if self.hub or "pattern" in schema else TEXTS[:2]
        fitting = [text for text in texts if re.search(schema.get("pattern", ""), text)]
        return self.random.choice([*fitting, *([""] if self.hub and schema.get("minLength") == 0 else [])])

    def _metadata(self) -> dict[str, Any]:
        made: dict[str, Any] = {"name": "one", "namespace": NAMESPACE, "uid": "u", "resourceVersion": "7", "generation": 2}
        if self.chance():
            made["annotations"] = {"team": "blue"}
        if self.chance():
            made |= {"labels": {"tier": ""}, "finalizers": ["a/b"], "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}]}
        return made

    def _special(self, schema: Schema, where: tuple[str, ...]) -> Any:
        properties = schema.get("properties", {})
        if {"apiGroup", "kind", "name"} == set(properties):
            return {"apiGroup": self.random.choice(list(GROUPS)), "kind": "KubeadmThing", "name": "name"}
        if self.hub:
            return None
        if not self.all_fields and any(where[-len(end) :] == end for end in NO_EFFECT):
            return MISSING
        if "fieldPath" in properties and "resourceVersion" in properties:
            return self._reference(where)
        if where[-2:] == ("selector", "apiVersion"):
            return "a/v1"
        if schema.get("type") == "string" and DURATIONS.match(where[-1]):
            return go_duration(self.random.choice([1, 59, 90, 3600, 86400 + 61]))
        return None

    def _reference(self, where: tuple[str, ...]) -> dict[str, str]:
        group = self.random.choice(list(GROUPS))
        if where[-1].startswith("nodeRef"):
            return {"apiVersion": "v1", "kind": "Node", "name": "name"}
        return {"apiVersion": f"{group}/{GROUPS[group]}", "kind": "KubeadmThing", "name": "name", "namespace": NAMESPACE}

    def _consistent(self, made: dict[str, Any], where: tuple[str, ...]) -> dict[str, Any]:
        """What the definitions ask of several fields together."""
        if "partitions" in where[-1:] or {"device", "layout"} <= made.keys():
            made.pop("diskLayout" if self.random.random() < 0.5 or not self.hub else "layout", None)
            if "diskLayout" not in made:
                made["layout"] = self.random.choice([True, False])
        if "rollingUpdate" in made or where[-1] in ("strategy", "rolloutStrategy"):
            made.setdefault("type", "RollingUpdate")
        if self.hub and ("initConfiguration" in made or "joinConfiguration" in made):
            self._same_timeouts(made)
        return made

    def _same_timeouts(self, made: dict[str, Any]) -> None:
        name = "controlPlaneComponentHealthCheckSeconds"
        seconds = made.get("initConfiguration", {}).get("timeouts", {}).get(name)
        for part in ("initConfiguration", "joinConfiguration"):
            if seconds is not None:
                made.setdefault(part, {}).setdefault("timeouts", {})[name] = seconds
            elif name in made.get(part, {}).get("timeouts", {}):
                del made[part]["timeouts"][name]
                for empty in ("timeouts",):
                    if not made[part][empty]:
                        del made[part][empty]
                if not made[part]:
                    del made[part]


@cache
def schema_of(model: type[KubeObject]) -> dict[str, Any]:
    """The schema of a version of a kind."""
    found: dict[str, Any] = crd.version(model, additions=False)["schema"]["openAPIV3Schema"]
    return found


def made(model: type[KubeObject], seed: int, density: float) -> dict[str, Any]:
    """The object of a seed."""
    return Maker(random.Random(seed), density, model.VERSION == "v1beta2").object(model)


def without_effect(model: type[KubeObject], seed: int) -> dict[str, Any]:
    """An object of an older version with all its fields, those of no effect too."""
    return Maker(random.Random(seed), 1.0, hub=False, all_fields=True).object(model)


seeds = st.tuples(st.integers(min_value=0, max_value=2**32), st.sampled_from([0.05, 0.3, 0.6, 0.9, 1.0]))


def said(value: Any) -> Any:
    """What a client of an old version says: nothing by an empty object or list, by a zero of what it always writes, by the only usual strategy."""
    if isinstance(value, dict):
        kept = {name: said(one) for name, one in value.items() if (one or name not in ZERO_SAYS_NOTHING) and (name, one) not in SAYS_NOTHING}
        return {name: one for name, one in kept.items() if one not in ({}, []) or isinstance(one, (bool, int))}
    return [said(one) for one in value] if isinstance(value, list) else value


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema, and no field beside those it names."""
    new = {name: strict(one) if isinstance(one, dict) else one for name, one in schema.items() if name != "properties"}
    if "properties" in schema:
        new |= {"properties": {name: strict(one) for name, one in schema["properties"].items()}, "additionalProperties": False}
    return new


def assert_valid(obj: dict[str, Any], model: type[KubeObject]) -> None:
    """Fail if the object is not of its schema."""
    error = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(strict(schema_of(model))).iter_errors(obj))
    assert error is None, f"{error.json_path}: {error.message}"


def model_of(obj: dict[str, Any]) -> type[KubeObject]:
    """The model of an object's kind and version."""
    group, _, version = obj["apiVersion"].partition("/")
    return next(model for model in (*KINDS, *VERSIONS) if (group, version, obj["kind"]) == (model.GROUP, model.VERSION, model.KIND))
