"""The fleet at a glance after Redis lost everything: said to be stale, and brought back by a command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from fleetwake.connections.redis import Redis
from fleetwake.views.fleet import read_fleet
from tests.e2e import manifests
from tests.e2e.fleet import Fleet, left_of

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

FLUSHES_MAX = 30


def _fleetwake(fleet: Fleet, *arguments: str) -> str:
    command = [str(Path(sys.executable).with_name("fleetwake")), *arguments, "--state", str(fleet.rig.state_dir)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "COLUMNS": "200"}).stdout


def test_a_flushed_read_model_is_stale_until_it_is_rebuilt(fleet: Fleet) -> None:
    namespace, name = fleet.namespace("glance"), "shown"
    fleet.apply(*manifests.cluster(name, namespace, workers=1))
    fleet.settle(namespace, name)
    url = fleet.rig.endpoints().redis_url
    place = f"{namespace}/{name}"
    for _ in range(FLUSHES_MAX):
        # a cluster that has just settled may be written once more, and is then back by itself
        with redis.Redis.from_url(url) as client:
            client.flushall()
        shown = _fleetwake(fleet, "describe", "--fleet")
        if "stale since" in shown and place not in read_fleet(Redis(url)):
            break
    else:
        pytest.fail(f"{place} is written again and again, or nobody says that it is missing: {shown}")
    assert " written" in _fleetwake(fleet, "readmodel", "rebuild")
    shown = _fleetwake(fleet, "describe", "--fleet")
    assert name in shown and "stale since" not in shown
    assert read_fleet(Redis(url))[place]["condition:Available"].startswith("True/")
    fleet.kubectl("-n", namespace, "delete", "cluster", name, "--wait=false")
    fleet.recorder.wait(lambda world: left_of(world, namespace, name), 60.0, f"{name} gone")
