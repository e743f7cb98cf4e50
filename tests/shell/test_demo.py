"""``fleetwake demo --once --json``: from nothing to Available and back, and the line it ends with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetwake.cli.demonstration import clusters_of
from schemas.keys import ClusterKey

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMAND = Path(sys.executable).parent / "fleetwake"
LIMIT_S = 240


@pytest.mark.parametrize(("name", "cluster"), [("cluster.yaml", "demo"), ("small.yaml", "small")])
def test_examples_make_one_cluster(name: str, cluster: str) -> None:
    assert clusters_of(EXAMPLES / name) == [ClusterKey("default", cluster)]


def test_a_manifest_without_a_cluster_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.yaml").write_text("kind: Secret\n")
    with pytest.raises(ValueError, match="has no Cluster"):
        clusters_of(tmp_path / "none.yaml")


@pytest.mark.e2e
def test_the_demo_ends_available_with_every_write_explained() -> None:
    done = subprocess.run([str(COMMAND), "demo", "--once", "--json"], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["ok"] and last["complete"], last
    assert (last["write_coverage"], last["orphan_spans"]) == (1.0, 0), last
    assert last["trace_coverage"] >= 0.99, last
    assert last["spans"] > last["api_writes"] > 0


@pytest.mark.e2e
def test_a_demo_that_fails_says_so_in_its_last_line(tmp_path: Path) -> None:
    manifest = tmp_path / "missing.yaml"
    manifest.write_text((EXAMPLES / "small.yaml").read_text().split("---\n")[0])
    command = [str(COMMAND), "demo", "--once", "--json", "--timeout", "5", "--example", str(manifest)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1 and last["ok"] is False
    assert "Cluster small is Available=" in last["error"]
