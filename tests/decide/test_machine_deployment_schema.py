"""Whatever MachineDeployment and MachineSet write fits the CustomResourceDefinitions, through a whole life of changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema

from fleetwake.plan import Apply, Create, Delete, Patch, SyncMetadata
from schemas import crd
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from tests.decide.workers_world import DEPLOYMENT, Workers, cluster, control_plane, deployment, machine_template, templates


def validator(model: type[Any]) -> jsonschema.Draft7Validator:
    """The validator of a kind's v1beta2 schema."""
    [version] = [one for one in crd.definition(model)["spec"]["versions"] if one["name"] == "v1beta2"]
    return jsonschema.Draft7Validator(version["schema"]["openAPIV3Schema"])


VALIDATORS = {model.KIND: validator(model) for model in (MachineDeployment, MachineSet, Machine)}


class Validated(Workers):
    """A world that checks every object after each write, and the bodies of creates and applies themselves."""

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        """Apply one write and check what it leaves."""
        super().write(step)
        if step.key.kind not in VALIDATORS:
            return
        if isinstance(step, Create):
            self.check(step.key.kind, self._resolved(step.body))
        if step.key in self.store:
            found = self.store[step.key]
            self.check(step.key.kind, found)
            if isinstance(step, Apply):
                self.check(step.key.kind, {**found, **{name: value for name, value in step.body.items() if name != "metadata"}})

    def check(self, kind: str, obj: Mapping[str, Any]) -> None:
        """Assert that an object fits its schema."""
        errors = [f"{list(error.absolute_path)}: {error.message}" for error in VALIDATORS[kind].iter_errors(dict(obj))]
        assert not errors, (kind, errors)


def test_a_whole_life_writes_only_what_the_schemas_allow() -> None:
    world = Validated(objects=(cluster(), control_plane(), *templates(), deployment(3)))
    world.converge()
    taints = [{"key": "a", "effect": "NoSchedule", "propagation": "Always"}]
    for fields in ({"minReadySeconds": 4, "taints": taints, "deletion": {"nodeDrainTimeoutSeconds": 3}}, {}, {"version": "v1.34.0"}):
        world.change(MachineDeployment, DEPLOYMENT, template=machine_template(**fields))
        world.judge()
        world.converge()
        assert all(
            [one.model_dump(by_alias=True, exclude_none=True) for one in machine.spec.taints] == fields.get("taints", []) for machine in world.machines()
        )
    sick = world.machines()[0].name
    world.condition(sick, "HealthCheckSucceeded", False)
    world.condition(sick, "OwnerRemediated", False)
    world.converge()
    assert sick not in [one.name for one in world.machines()]
    world.change(MachineDeployment, DEPLOYMENT, replicas=0)
    world.converge()
    assert (world.sizes(), world.machines()) == ("0", ())
