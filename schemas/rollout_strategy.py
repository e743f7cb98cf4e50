"""What is asked of an external upgrade strategy, and what it answers: ``POST <url>/hooks.fleetwake.io/v1alpha1/planrollout/<handler>``.

Shaped like the documents of Cluster API's runtime hooks: apiVersion and kind name the version, settings come from the ExtensionConfig, an answer has
status, message and retryAfterSeconds. Additions keep the version; anything else gets a new one.

Source: Cluster API v1.14 runtime SDK (request and response conventions); docs/rollouts.md is made for people from what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StrictInt

from schemas.api.meta import Frozen

HOOK = "PlanRollout"
API_VERSION: Literal["hooks.fleetwake.io/v1alpha1"] = "hooks.fleetwake.io/v1alpha1"
PATH = f"/{API_VERSION}/{HOOK.lower()}"
"""Between the server's URL and the handler's name."""
RETRY_SECONDS_MAX = 86_400
REASON_LENGTH_MAX, MESSAGE_LENGTH_MAX, MACHINE_SETS_MAX = 512, 2048, 1000


class RolloutMachine(Frozen):
    """One Machine of a MachineSet."""

    name: str
    """Name of the Machine."""
    creation_timestamp: AwareDatetime | None = None
    """When it was made."""
    available: bool = False
    """Whether it is Available and not being deleted."""
    available_since: AwareDatetime | None = None
    """Since when it is Available, without a break."""
    deleting: bool = False
    """Whether it is being deleted."""
    failure_domain: str | None = None
    """Where it is."""


class RolloutMachineSet(Frozen):
    """One MachineSet of the MachineDeployment."""

    name: str
    """Name of the MachineSet."""
    current: bool
    """Whether it is the revision that the MachineDeployment now asks for."""
    revision: str = ""
    """Number of the revision."""
    version: str | None = None
    """Kubernetes version of its Machines."""
    replicas: int
    """Its spec.replicas."""
    creation_timestamp: AwareDatetime | None = None
    """When it was made."""
    machines: tuple[RolloutMachine, ...] = ()
    """Its Machines, by name."""


class RolloutDeployment(Frozen):
    """The MachineDeployment, and what its rollout must respect."""

    namespace: str
    """Namespace."""
    name: str
    """Name."""
    uid: str
    """Identity."""
    cluster_name: str
    """Cluster it belongs to."""
    replicas: int
    """Machines wanted."""
    max_surge: int
    """How many more may exist."""
    max_unavailable: int
    """How many of them may be unavailable."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """Labels of the MachineDeployment."""


class PlanRolloutRequest(Frozen):
    """A rollout as it stands: which MachineSets shall have how many replicas next?"""

    api_version: Literal["hooks.fleetwake.io/v1alpha1"] = API_VERSION
    """Version of this document."""
    kind: Literal["PlanRolloutRequest"] = "PlanRolloutRequest"
    """Kind of this document."""
    settings: Mapping[str, str] = Field(default_factory=dict)
    """Settings of the ExtensionConfig."""
    machine_deployment: RolloutDeployment
    """The MachineDeployment."""
    machine_sets: tuple[RolloutMachineSet, ...]
    """Its MachineSets, oldest first; those being deleted are left out."""


class PlannedMachineSet(Frozen):
    """The replicas a MachineSet shall have."""

    name: str
    """Name of a MachineSet of the request."""
    replicas: Annotated[StrictInt, Field(ge=0)]
    """Replicas it shall have; reached as far as the MachineDeployment's bounds allow."""
    reason: Annotated[str, Field(max_length=REASON_LENGTH_MAX)] = ""
    """Why, for people."""


class PlanRolloutResponse(Frozen):
    """The answer; a MachineSet that it does not name keeps its replicas."""

    api_version: Literal["hooks.fleetwake.io/v1alpha1"]
    """Version of this document."""
    kind: Literal["PlanRolloutResponse"]
    """Kind of this document."""
    status: Literal["Success", "Failure"]
    """Whether the strategy could decide."""
    message: Annotated[str, Field(max_length=MESSAGE_LENGTH_MAX)] = ""
    """What it waits for, or why it could not; shown in a condition."""
    retry_after_seconds: Annotated[StrictInt, Field(ge=0, le=RETRY_SECONDS_MAX)] = 0
    """When it wants to be asked again though nothing has changed; 0: never."""
    machine_sets: Annotated[tuple[PlannedMachineSet, ...], Field(max_length=MACHINE_SETS_MAX)] = ()
    """Replicas wanted."""
