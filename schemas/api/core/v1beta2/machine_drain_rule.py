"""MachineDrainRule: how Pods are treated when a Node is drained (cluster.x-k8s.io/v1beta2)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from schemas.api.core.v1beta2.shared import GROUP, VERSION
from schemas.api.meta import Frozen, KubeObject, LabelSelector
from schemas.cel import added
from schemas.markers import AGE, ATOMIC, Column, Rule

_UNIQUE = "self.all(x, self.exists_one(y, x == y))"


class MachineDrainRuleDrain(Frozen):
    """What a drain does with the Pods."""

    RULES: ClassVar[tuple[Rule, ...]] = (added("self.behavior == 'Drain' || !has(self.order)", "may only be set with behavior Drain", field_path=".order"),)

    behavior: Literal["Drain", "Skip", "WaitCompleted"]
    """Evict the Pods, leave them, or wait until they complete."""
    order: int | None = None
    """Pods of a lower order are drained first; 0 by default, only with Drain."""


class MachineDrainRuleMachineSelector(Frozen):
    """Machines a rule applies to; both selectors must match."""

    MIN_PROPERTIES: ClassVar[int] = 1

    selector: LabelSelector | None = None
    """Labels of the Machine; unset matches all."""
    cluster_selector: LabelSelector | None = None
    """Labels of the Machine's Cluster; unset matches all."""


class MachineDrainRulePodSelector(Frozen):
    """Pods a rule applies to; both selectors must match."""

    MIN_PROPERTIES: ClassVar[int] = 1

    selector: LabelSelector | None = None
    """Labels of the Pod; unset matches all."""
    namespace_selector: LabelSelector | None = None
    """Labels of the Pod's Namespace; unset matches all."""


class MachineDrainRuleSpec(Frozen):
    """Which Pods of which Machines are treated how."""

    drain: MachineDrainRuleDrain
    """What a drain does with the Pods."""
    machines: Annotated[
        tuple[MachineDrainRuleMachineSelector, ...],
        Field(min_length=1, max_length=32),
        ATOMIC,
        Rule(_UNIQUE, "entries in machines must be unique"),
    ] = ()
    """Machines the rule applies to, any entry; empty means all of the namespace."""
    pods: Annotated[
        tuple[MachineDrainRulePodSelector, ...],
        Field(min_length=1, max_length=32),
        ATOMIC,
        Rule(_UNIQUE, "entries in pods must be unique"),
    ] = ()
    """Pods the rule applies to, any entry; empty means all."""


class MachineDrainRule(KubeObject):
    """How Pods are treated when a Machine's Node is drained."""

    GROUP: ClassVar[str] = GROUP
    VERSION: ClassVar[str] = VERSION
    KIND: ClassVar[str] = "MachineDrainRule"
    PLURAL: ClassVar[str] = "machinedrainrules"
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (
        Column("Behavior", ".spec.drain.behavior"),
        Column("Order", ".spec.drain.order"),
        AGE,
    )

    spec: MachineDrainRuleSpec
    """Which Pods of which Machines are treated how."""
