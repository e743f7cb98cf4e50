"""The templates of a topology's MachineDeployments: each goes when nothing makes Machines from it any more.

Two reconcilers, beside those of the objects themselves: ``machine_set`` takes the templates of a MachineSet away that goes, ``machine_deployment`` those of a
MachineDeployment that goes. Each holds its object by a finalizer of its own until that is done; ``references`` tells what is used by whom.

Source: kinds.md §10.1 (8), §0.6; Cluster API v1.14 (topology/machinedeployment, topology/machineset).
"""

from __future__ import annotations

from fleetwake.kind import Kind, Watch, members_of_cluster
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import GroupKind
from services.reconcilers.kinds.topology_templates import machine_deployment, machine_set
from services.reconcilers.kinds.topology_templates.references import CLUSTER, owned_change, pause_matters

MACHINE_DEPLOYMENT_KIND: Kind[machine_deployment.Observed] = Kind(
    model=MachineDeployment,
    observe=machine_deployment.observe,
    reconcile=machine_deployment.reconcile,
    manager=machine_deployment.MANAGER,
    watches=(Watch(CLUSTER, members_of_cluster(GroupKind(MachineDeployment.GROUP, MachineDeployment.KIND)), pause_matters),),
    own=owned_change,
    controller="topology/machinedeployment",
)
MACHINE_SET_KIND: Kind[machine_set.Observed] = Kind(
    model=MachineSet,
    observe=machine_set.observe,
    reconcile=machine_set.reconcile,
    manager=machine_set.MANAGER,
    watches=(Watch(CLUSTER, members_of_cluster(GroupKind(MachineSet.GROUP, MachineSet.KIND)), pause_matters),),
    own=owned_change,
    controller="topology/machineset",
)
