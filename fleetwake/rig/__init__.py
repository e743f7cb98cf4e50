"""The rig: a real Kafka, kube-apiserver with etcd, and Redis on this machine, without containers, and fleetwake's services beside them.

``Rig`` starts, watches, kills and stops them as plain processes of this user; the command line (``fleetwake dev``), the tests and the
benchmarks all use it. Nothing of the control plane imports this package.
"""

from fleetwake.rig.errors import RigError
from fleetwake.rig.progress import Progress
from fleetwake.rig.rig import Rig
from fleetwake.rig.status import ProcessStatus, RigStatus

__all__ = ["ProcessStatus", "Progress", "Rig", "RigError", "RigStatus"]
