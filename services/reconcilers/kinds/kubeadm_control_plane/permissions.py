"""What kubeadm of a version needs to be allowed in a workload cluster that an older kubeadm made.

Source: kinds.md §8.2 (before acting); workload.md §2; kubeadm 1.29 (kubeadm:cluster-admins), Cluster API v1.14 (kubeadm:apiserver-kubelet-client, before
1.38), which makes them on every upgrade and never changes one that is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fleetwake.plan import Create, Look, Step, soonest
from services.reconcilers.kinds.kubeadm_control_plane.looking import seen
from services.reconcilers.kinds.kubeadm_control_plane.move import Move
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kubeadm.versions import Release, known_release

RBAC = "rbac.authorization.k8s.io"
KIND = "ClusterRoleBinding"
_ALWAYS: Release = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Binding:
    """A ClusterRoleBinding of kubeadm's: the role it gives to a subject, and the versions ``since`` and ``until`` (exclusive) it is made for."""

    name: str
    role: str
    subject_kind: str
    subject: str
    since: Release = _ALWAYS
    until: Release | None = None

    @property
    def query(self) -> str:
        """The look that tells whether it is there."""
        return f"get/{RBAC}/v1/{KIND}//{self.name}"

    def body(self) -> dict[str, Any]:
        """The object."""
        return {
            "apiVersion": f"{RBAC}/v1",
            "kind": KIND,
            "metadata": {"name": self.name},
            "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": self.role},
            "subjects": [{"apiGroup": RBAC, "kind": self.subject_kind, "name": self.subject}],
        }


BINDINGS = (
    Binding("kubeadm:cluster-admins", "cluster-admin", "Group", "kubeadm:cluster-admins", since=(1, 29, 0)),
    Binding("kubeadm:apiserver-kubelet-client", "system:kubelet-api-admin", "User", "kube-apiserver-kubelet-client", until=(1, 38, 0)),
)


def grant_permissions(observed: Observed) -> Move | None:
    """Make the bindings that are missing; None when none is. What is not known is asked for first."""
    release = known_release(observed.version)
    steps: list[Step] = []
    wait: timedelta | None = None
    for one in BINDINGS:
        if release < one.since or (one.until is not None and release >= one.until):
            continue
        found = seen(observed, one.query, "kubeadm of the new version needs a permission")
        if found.known and found.value is None:
            reason = f"kubeadm of {observed.version} needs the permissions of {one.role}"
            steps += [Create(one.body(), reason, cluster=str(observed.cluster_key)), Look(observed.cluster_key, one.query, "the binding was made")]
        elif found.look is not None:
            steps.append(found.look)
        wait = soonest(wait, found.wait)
    if not steps and wait is None:
        return None
    return Move(tuple(steps), wait=wait, ends=True, guarded=any(isinstance(step, Create) for step in steps))
