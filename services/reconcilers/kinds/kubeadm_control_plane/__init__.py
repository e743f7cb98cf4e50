"""KubeadmControlPlane: the Machines of a control plane, its certificates and its etcd.

``observed`` reads, ``reconcile`` orders the phases: ``certificates``, ``kubeconfigs`` (``declared_kubeconfigs``), ``machines`` (make, follow in place,
adopt), ``health`` (``components``, ``etcd``), ``leaving`` (etcd members, the hook), ``remediation`` (with ``chain``), ``rollout`` (with ``permissions``,
``cluster_configuration``), ``scale`` (with ``preflight``), ``addons`` (with ``corefile``, ``images``), ``delete``, ``status`` (with ``availability``). Each
phase gives a ``move``; ``quorum`` says what the control plane survives, ``up_to_date`` compares, ``looking`` reads single objects of the workload cluster.

Source: kinds.md §8, §16 (what wakes it); contracts.md §6.
"""

from fleetwake.kind import Kind
from schemas.api.controlplane.v1beta2 import KubeadmControlPlane
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed, observe
from services.reconcilers.kinds.kubeadm_control_plane.reconcile import reconcile
from services.reconcilers.kinds.kubeadm_control_plane.status import KCP_MANAGER
from services.reconcilers.kinds.kubeadm_control_plane.watches import WATCHES

KIND: Kind[Observed] = Kind(model=KubeadmControlPlane, observe=observe, reconcile=reconcile, manager=KCP_MANAGER, watches=WATCHES)
