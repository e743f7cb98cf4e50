"""What one phase does to the control plane's Machines; a run carries out the first phase that does, or forbids, anything.

Source: kinds.md §8.1 (one machine mutation per reconcile).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from fleetwake.conditions import ConditionValue
from fleetwake.plan import Step
from services.reconcilers.kinds.kubeadm_control_plane.etcd import Asking
from services.reconcilers.kinds.kubeadm_control_plane.preflight import PASSED, Preflight


@dataclass(frozen=True, slots=True)
class Move:
    """What a phase does to the Machines. ``ends``: later phases wait. ``guarded`` and ``rests_on_absence`` are those of a Plan.

    ``remediated``: what Machines are told of their remediation (OwnerRemediated), by name.
    """

    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None
    ends: bool = False
    guarded: bool = False
    rests_on_absence: bool = False
    preflight: Preflight = PASSED
    remediated: Mapping[str, ConditionValue] = field(default_factory=dict)

    @property
    def decides(self) -> bool:
        """Whether the phases after this one wait."""
        return bool(self.steps) or self.ends or not self.preflight.passed


def ask_first(asking: Asking) -> Move:
    """Ask etcd before anything is done to its membership."""
    return Move((asking.look,) if asking.look is not None else (), wait=asking.wait, ends=True)
