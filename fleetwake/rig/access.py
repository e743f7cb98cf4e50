"""What fleetwake's accounts may do on the rig: exactly what an installation lets them, from the committed manifests.

Applied by kubectl as an operator would, before anything acts under an account.
"""

from __future__ import annotations

import subprocess

from fleetwake.rig.cache import CHECKOUT
from fleetwake.rig.errors import RigError
from fleetwake.rig.records import Endpoints

MANIFESTS = CHECKOUT / "deploy" / "k8s"
APPLIED = ("base/namespace.yaml", "base/rbac", "components/dev-infrastructure/rbac", "components/topology/rbac")
OLDER_VERSIONS = "components/older-versions/rbac"
"""What converting and migrating needs beyond that."""

# Filled in by the aggregation controller from what providers grant, the development provider here.
AGGREGATED = tuple(f"clusterrole/fleetwake-{service}-providers" for service in ("reconcilers", "watcher", "remediation"))
LIMIT_S = 30


def grant_access(endpoints: Endpoints, *, older_versions: bool = False) -> None:
    """Apply accounts, roles and bindings, and wait until the aggregated roles hold what was granted.

    Raises:
        RigError: the API server refused them, or a role stayed empty.
    """
    files = [argument for name in (*APPLIED, *((OLDER_VERSIONS,) if older_versions else ())) for argument in ("--filename", str(MANIFESTS / name))]
    _kubectl(endpoints, "apply", "--server-side", *files)
    _kubectl(endpoints, "wait", "--for=jsonpath={.rules[0].verbs[0]}=get", *AGGREGATED, f"--timeout={LIMIT_S}s")


def _kubectl(endpoints: Endpoints, *arguments: str) -> None:
    command = [endpoints.kubectl, "--kubeconfig", endpoints.kubeconfig, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * LIMIT_S, check=False)
    if done.returncode != 0:
        raise RigError(f"`kubectl {arguments[0]}` of the services' permissions ended with {done.returncode}:\n{done.stderr.strip()}")
