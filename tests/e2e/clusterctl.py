"""The real clusterctl, as a user runs it against the management cluster of a fleet."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fleetwake.rig.progress import Progress
from fleetwake.rig.tools import tool
from tests.e2e.fleet import Fleet

COMMAND_LIMIT_S = 120


def clusterctl(fleet: Fleet, home: Path, *arguments: str, code: int = 0) -> str:
    """Run it with a home of its own, and our commands on the PATH; what it prints.

    Raises:
        AssertionError: it did not end with ``code``.
    """
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("XDG_")},
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "KUBECONFIG": fleet.rig.endpoints().kubeconfig,
        "CLUSTERCTL_DISABLE_VERSIONCHECK": "true",
    }
    command = [str(tool("clusterctl", Progress())), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout
