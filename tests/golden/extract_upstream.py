"""Read the replica numbers out of Cluster API's rollout logs, as facts to replay: ``python extract_upstream.py <git dir or checkout>``.

Only numbers are kept: per planning pass the wanted replicas and, per MachineSet, status.replicas, status.availableReplicas and
spec.replicas before and after. Logs of in-place rollouts are left out (they move Machines between sets, behind a feature gate).
Source: core/reconcilers/machinedeployment/testdata of Cluster API (main, August 2026).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

TESTDATA = "core/reconcilers/machinedeployment/testdata/"
BLOCK = "[MD controller] - Result of rollout planner"
DEPLOYMENT = re.compile(r"^    md: md: \d+/(\d+) replicas")
SCALED = re.compile(r"^    (ms\d+): from (\d+)/(\d+) to \d+/(\d+) replicas, (\d+) available")
KEPT = re.compile(r"^    (ms\d+): (\d+)/(\d+) replicas, (\d+) available")
CREATED = re.compile(r"^      - MachineSet (ms\d+) created")
CURRENT = re.compile(r"current MachineSet (ms\d+)")
SIZES = re.compile(r"maxsurge (\d+), maxunavailable (\d+)")


def passes(text: str) -> list[dict[str, object]]:
    """All planning passes of one log, in order."""
    found: list[dict[str, object]] = []
    current = ""
    lines = text.splitlines()
    for start in [number for number, line in enumerate(lines) if line == BLOCK]:
        wanted, sets = 0, {}
        for line in lines[start + 1 :]:
            if not line.startswith("    "):
                break
            if match := DEPLOYMENT.match(line):
                wanted = int(match[1])
            elif match := SCALED.match(line):
                sets[match[1]] = [int(match[2]), int(match[5]), int(match[3]), int(match[4])]
            elif match := KEPT.match(line):
                sets[match[1]] = [int(match[2]), int(match[4]), int(match[3]), int(match[3])]
            elif match := CREATED.match(line):
                current = match[1]
                sets[current][2] = 0
            elif match := CURRENT.search(line):
                current = match[1]
        found.append({"wanted": wanted, "new": current, "sets": sets})
    return found


def main(checkout: str) -> None:
    """Write ``upstream_passes.json`` beside this file."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", checkout, *arguments], check=True, capture_output=True, text=True).stdout

    logs = []
    for path in git("ls-tree", "-r", "--name-only", "-z", "HEAD", TESTDATA).split("\0"):
        name = path.removeprefix(TESTDATA).removesuffix(".test.log.golden")
        if not path.endswith(".golden") or "in-place" in name:
            continue
        sizes = SIZES.search(name)
        logs.append(
            {
                "log": name,
                "strategy": "OnDelete" if name.startswith("ondelete") else "RollingUpdate",
                "surge": int(sizes[1]) if sizes else 0,
                "unavailable": int(sizes[2]) if sizes else 0,
                "passes": passes(git("show", f"HEAD:{path}")),
            }
        )
    target = Path(__file__).with_name("upstream_passes.json")
    body = ",\n".join(json.dumps(log, separators=(",", ":")) for log in logs)
    target.write_text(f"[\n{body}\n]\n")
    sys.stdout.write(f"{len(logs)} logs, {sum(len(log['passes']) for log in logs)} passes\n")


if __name__ == "__main__":
    main(sys.argv[1])
