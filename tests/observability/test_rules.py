"""The rules as promtool sees them: they parse, and fire for what they should and for nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy.prometheus.alerts import alerts
from deploy.prometheus.durations import Durations
from deploy.prometheus.rules import rule_file
from tests.observability.prometheus import prometheus_command

# promtool is no server, but Debian's package has to be installed
pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def promtool(*arguments: str) -> str:
    """What it prints; a failure fails the test."""
    done = subprocess.run([prometheus_command("promtool"), *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_are_accepted_as_installed_and_shortened(tmp_path: Path) -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(ROOT / "deploy/prometheus/rules.yaml"))
    shortened = tmp_path / "rules.yaml"
    shortened.write_text(rule_file(Durations(360)))
    promtool("check", "rules", str(shortened))


def test_rules_fire_for_what_they_should_and_nothing_else() -> None:
    promtool("test", "rules", str(Path(__file__).parent / "rules_test.yaml"))
