"""Generate everything by which the services are watched: ``python -m deploy.observability [--check]``.

Dashboards, alert rules, kube-state-metrics' configuration and docs/metrics.md come from code, and a test fails when a committed file is not what it says.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deploy.grafana import dashboards
from deploy.prometheus import reference, rules, state_metrics

ROOT = Path(__file__).parents[1]
LEFT_OVER = ("deploy/grafana/dashboards/*.json", "deploy/k8s/kube-state-metrics/*.yaml", "deploy/prometheus/*.yaml")
"""Folders that hold generated files only."""


def rendered() -> dict[str, str]:
    """The text of every generated file, by its path from the project's root."""
    return dashboards.rendered() | rules.rendered() | state_metrics.rendered() | reference.rendered()


def differing() -> list[str]:
    """Committed files that are missing, other than generated, or left over, sorted."""
    wanted = rendered()
    changed = [path for path, text in wanted.items() if not (ROOT / path).exists() or (ROOT / path).read_text() != text]
    there = {str(path.relative_to(ROOT)) for pattern in LEFT_OVER for path in ROOT.glob(pattern)}
    return sorted({*changed, *(there - wanted.keys())})


def main() -> int:
    """Write the files, or with ``--check`` only say what differs; returns the exit code."""
    found = differing()
    if "--check" in sys.argv[1:]:
        for path in found:
            print(f"{path} is not what its source says: run `make dashboards`", file=sys.stderr)  # noqa: T201 -- a command's output
        return 1 if found else 0
    wanted = rendered()
    for path in found:
        if path in wanted:
            (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
            (ROOT / path).write_text(wanted[path])
        else:
            (ROOT / path).unlink()
    print(f"{len(wanted)} generated files, {len(found)} of them written or removed")  # noqa: T201 -- a command's output
    return 0


if __name__ == "__main__":
    sys.exit(main())
