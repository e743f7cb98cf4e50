"""The labels, annotations and finalizers of Cluster API, spelled once.

Source: kinds.md §0.5, §0.6; Cluster API v1.14 (api/core/v1beta2). Names end in what they are: nothing is a label and an annotation at once except
where the field's own use says so (``CLUSTER_NAME`` is a label on objects and an annotation on Nodes: ``CLUSTER_NAME_ANNOTATION``).
"""

from __future__ import annotations

DOMAIN = "x-k8s.io"
"""In every label and annotation of Cluster API's, whatever stands before it (``machine.cluster.x-k8s.io/``, ``machinedeployment.clusters.x-k8s.io/``)."""
PREFIX = "cluster.x-k8s.io/"

# labels on objects of the management cluster
CLUSTER_NAME = PREFIX + "cluster-name"
CONTROL_PLANE = PREFIX + "control-plane"
CONTROL_PLANE_NAME = PREFIX + "control-plane-name"
SET_NAME = PREFIX + "set-name"
DEPLOYMENT_NAME = PREFIX + "deployment-name"
POOL_NAME = PREFIX + "pool-name"
PROVIDER = PREFIX + "provider"
WATCH_FILTER = PREFIX + "watch-filter"
MACHINE_TEMPLATE_HASH = "machine-template-hash"
TOPOLOGY_OWNED = "topology.cluster.x-k8s.io/owned"
TOPOLOGY_DEPLOYMENT_NAME = "topology.cluster.x-k8s.io/deployment-name"
TOPOLOGY_POOL_NAME = "topology.cluster.x-k8s.io/pool-name"

# labels on objects of a workload cluster
INTERRUPTIBLE = PREFIX + "interruptible"
DRAIN = PREFIX + "drain"
NODE_ROLE_PREFIX = "node-role.kubernetes.io"
NODE_RESTRICTION_DOMAIN = "node-restriction.kubernetes.io"
MANAGED_NODE_DOMAIN = "node.cluster.x-k8s.io"


def is_node_label(key: str) -> bool:
    """Whether a Machine's label is its Node's too: node roles, and the domains made for this purpose."""
    domain = key.partition("/")[0]
    return domain == NODE_ROLE_PREFIX or within(domain, NODE_RESTRICTION_DOMAIN) or within(domain, MANAGED_NODE_DOMAIN)


def within(domain: str, of: str) -> bool:
    """Whether a domain is another or one below it."""
    return domain == of or domain.endswith(f".{of}")


# annotations on objects of the management cluster
PAUSED = PREFIX + "paused"
DELETE_MACHINE = PREFIX + "delete-machine"
REMEDIATE_MACHINE = PREFIX + "remediate-machine"
SKIP_REMEDIATION = PREFIX + "skip-remediation"
CLONED_FROM_NAME = PREFIX + "cloned-from-name"
CLONED_FROM_GROUP_KIND = PREFIX + "cloned-from-groupkind"
BOOTSTRAP_TOKEN_ID = "fleetwake.io/bootstrap-token-id"
"""On a KubeadmConfig and on its bootstrap Secret: the public half of the token made for it. A token that a user brought has none and is left alone."""
MANAGED_BY = PREFIX + "managed-by"
REPLICAS_MANAGED_BY = PREFIX + "replicas-managed-by"
DISABLE_MACHINE_CREATE = PREFIX + "disable-machine-create"
AUTOSCALER_MIN_SIZE = PREFIX + "cluster-api-autoscaler-node-group-min-size"
AUTOSCALER_MAX_SIZE = PREFIX + "cluster-api-autoscaler-node-group-max-size"
AUTOSCALING_OPTIONS_PREFIX = PREFIX + "autoscaling-options-"
CAPACITY_PREFIX = "capacity.cluster-autoscaler.kubernetes.io/"
UPGRADE_CONCURRENCY = "topology.cluster.x-k8s.io/upgrade-concurrency"
DEFER_UPGRADE = "topology.cluster.x-k8s.io/defer-upgrade"
HOLD_UPGRADE_SEQUENCE = "topology.cluster.x-k8s.io/hold-upgrade-sequence"
UPGRADE_STEP = "topology.internal.cluster.x-k8s.io/upgrade-step"
TOPOLOGY_FIELDS = "fleetwake.io/topology-fields"
"""On an object that a topology owns: which fields of its spec came from there (``rotation``), so that one that is no longer wanted can be told from others'."""
TOPOLOGY_DRY_RUN = "topology.cluster.x-k8s.io/dry-run"
UNSAFE_UPDATE_CLASS_NAME = "unsafe.topology.cluster.x-k8s.io/disable-update-class-name-check"
UNSAFE_UPDATE_VERSION = "unsafe.topology.cluster.x-k8s.io/disable-update-version-check"
CONVERSION_DATA = PREFIX + "conversion-data"
EXCLUDE_NODE_DRAINING = "machine.cluster.x-k8s.io/exclude-node-draining"
EXCLUDE_WAIT_FOR_NODE_VOLUME_DETACH = "machine.cluster.x-k8s.io/exclude-wait-for-node-volume-detach"
CERTIFICATES_EXPIRY = "machine.cluster.x-k8s.io/certificates-expiry"
SKIP_PREFLIGHT_CHECKS = "machineset.cluster.x-k8s.io/skip-preflight-checks"
REVISION = "machinedeployment.clusters.x-k8s.io/revision"
DESIRED_REPLICAS = "machinedeployment.clusters.x-k8s.io/desired-replicas"
MAX_REPLICAS = "machinedeployment.clusters.x-k8s.io/max-replicas"
PRE_DRAIN_HOOK_PREFIX = "pre-drain.delete.hook.machine.cluster.x-k8s.io"
PRE_TERMINATE_HOOK_PREFIX = "pre-terminate.delete.hook.machine.cluster.x-k8s.io"
KCP_CLEANUP_HOOK = PRE_TERMINATE_HOOK_PREFIX + "/kcp-cleanup"
BEFORE_UPGRADE_HOOK_PREFIX = "before-upgrade.hook.cluster.cluster.x-k8s.io"
SKIP_COREDNS = "controlplane.cluster.x-k8s.io/skip-coredns"
SKIP_KUBE_PROXY = "controlplane.cluster.x-k8s.io/skip-kube-proxy"
REMEDIATION_IN_PROGRESS = "controlplane.cluster.x-k8s.io/remediation-in-progress"
REMEDIATION_FOR = "controlplane.cluster.x-k8s.io/remediation-for"
PENDING_HOOKS = "runtime.cluster.x-k8s.io/pending-hooks"
OK_TO_DELETE = "runtime.cluster.x-k8s.io/ok-to-delete"
UPDATE_IN_PROGRESS = "in-place-updates.internal.cluster.x-k8s.io/update-in-progress"
PENDING_ACKNOWLEDGE_MOVE = "in-place-updates.internal.cluster.x-k8s.io/pending-acknowledge-move"
ACKNOWLEDGED_MOVE = "in-place-updates.internal.cluster.x-k8s.io/acknowledged-move"
MOVE_MACHINES_TO_MACHINE_SET = "in-place-updates.internal.cluster.x-k8s.io/move-machines-to-machineset"
RECEIVE_MACHINES_FROM_MACHINE_SETS = "in-place-updates.internal.cluster.x-k8s.io/receive-machines-from-machinesets"
BLOCK_MOVE = "clusterctl.cluster.x-k8s.io/block-move"
DELETE_FOR_MOVE = "clusterctl.cluster.x-k8s.io/delete-for-move"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TRACEPARENT = "tracing.k8s.io/traceparent"

# annotations on Nodes
CLUSTER_NAME_ANNOTATION = PREFIX + "cluster-name"
CLUSTER_NAMESPACE_ANNOTATION = PREFIX + "cluster-namespace"
MACHINE_ANNOTATION = PREFIX + "machine"
OWNER_KIND_ANNOTATION = PREFIX + "owner-kind"
OWNER_NAME_ANNOTATION = PREFIX + "owner-name"
LABELS_FROM_MACHINE = PREFIX + "labels-from-machine"
ANNOTATIONS_FROM_MACHINE = PREFIX + "annotations-from-machine"
TAINTS_FROM_MACHINE = PREFIX + "taints-from-machine"

# taints on Nodes
UNINITIALIZED_TAINT = "node.cluster.x-k8s.io/uninitialized"
OUTDATED_REVISION_TAINT = "node.cluster.x-k8s.io/outdated-revision"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"

# finalizers
CLUSTER_FINALIZER = "cluster.cluster.x-k8s.io"
MACHINE_FINALIZER = "machine.cluster.x-k8s.io"
MACHINE_SET_FINALIZER = PREFIX + "machineset"
MACHINE_DEPLOYMENT_FINALIZER = PREFIX + "machinedeployment"
MACHINE_POOL_FINALIZER = "machinepool.cluster.x-k8s.io"
TOPOLOGY_MACHINE_DEPLOYMENT_FINALIZER = "machinedeployment.topology.cluster.x-k8s.io"
TOPOLOGY_MACHINE_SET_FINALIZER = "machineset.topology.cluster.x-k8s.io"
KUBEADM_CONTROL_PLANE_FINALIZER = "kubeadm.controlplane.cluster.x-k8s.io"
CLUSTER_RESOURCE_SET_FINALIZER = "addons.cluster.x-k8s.io"
DEV_CLUSTER_FINALIZER = "dockercluster.infrastructure.cluster.x-k8s.io"
DEV_MACHINE_FINALIZER = "dockermachine.infrastructure.cluster.x-k8s.io"
DEV_MACHINE_POOL_FINALIZER = "dockermachinepool.infrastructure.cluster.x-k8s.io"

SECRET_TYPE = PREFIX + "secret"
