"""What the compose file promises: pinned images, no root, nothing listening for other machines, an order in which everything it starts can start.

The file is read by compose-go, the library that Docker Compose itself reads it with.
"""

from __future__ import annotations

import difflib
import logging
import re
from pathlib import Path

import pytest

from fleetwake.settings import ENV_PREFIX, Settings
from tests.deployment.compose.ground import NOT_RUN, PORTS
from tests.deployment.compose.project import CHECKOUT, COMPOSE, ENDS_WELL, HEALTHY, Container, Project, load

log = logging.getLogger(__name__)
pytestmark = pytest.mark.e2e

ROOT = "prepare"
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?")
OWN_IMAGE = "fleetwake:local"
FLEETWAKE = {"watcher", "reconcilers-0", "reconcilers-1", "remediation", "admission", "autoscaler-bridge", "dev-infrastructure"}


@pytest.fixture(scope="module")
def project() -> Project:
    return load()


@pytest.fixture(scope="module")
def containers(project: Project) -> dict[str, Container]:
    return project.containers


def test_everything_the_issue_names_is_there(containers: dict[str, Container]) -> None:
    assert {*FLEETWAKE, "kafka", "redis", "etcd", "kube-apiserver", "otelcol", "tempo", "prometheus", "loki", "grafana"} <= containers.keys()
    once = [["fleetwake", *words] for words in (("schemas", "apply"), ("topics", "create"), ("secrets", "keys"))]
    assert [containers[name].words for name in ("schemas", "topics", "keys")] == once


def test_a_file_that_docker_compose_would_refuse_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text("services:\n  one:\n    image: a:1\n    depends_on: {two: {condition: service_healthy}}\n")
    with pytest.raises(AssertionError, match="two"):
        load(broken)
    broken.write_text("services:\n  one:\n    image: a:1\n    comand: [x]\n")
    with pytest.raises(AssertionError, match="comand"):
        load(broken)


def test_images_are_pinned_and_ours_is_built_from_this_checkout(containers: dict[str, Container]) -> None:
    images = {one.raw["image"] for one in containers.values()}
    assert [image for image in images if image != OWN_IMAGE and not PINNED.fullmatch(image)] == []
    builds = {name: one.raw["build"] for name, one in containers.items() if one.raw.get("build")}
    assert {name: (Path(build["context"]), build["dockerfile"]) for name, build in builds.items()} == {"certificates": (CHECKOUT, "Containerfile")}
    # who does not build it starts behind the one that does
    for name, one in containers.items():
        if one.raw["image"] == OWN_IMAGE and name != "certificates" and not one.by_hand:
            assert "certificates" in _before(containers, name), name


def test_nothing_runs_as_root_nor_writes_to_its_image(containers: dict[str, Container]) -> None:
    for name, one in containers.items():
        user = str(one.raw["user"])
        assert re.fullmatch(r"\d+:\d+", user), name
        assert (user.startswith("0:")) == (name == ROOT), name
        assert one.raw["read_only"] is True, name
        assert one.raw["cap_drop"] == ["ALL"], name
        assert one.raw["security_opt"] == ["no-new-privileges:true"], name
        assert not one.raw.get("privileged") and not one.raw.get("pid") and not one.raw.get("ipc"), name
    added = {name: one.raw["cap_add"] for name, one in containers.items() if one.raw.get("cap_add")}
    assert added == {ROOT: ["CHOWN"], "kube-apiserver": ["NET_BIND_SERVICE"]}


def test_every_container_has_limits(containers: dict[str, Container]) -> None:
    for name, one in containers.items():
        limits = one.raw["deploy"]["resources"]["limits"]
        assert limits["cpus"] and int(limits["memory"]) and limits["pids"], name
        assert one.raw["logging"]["options"]["max-size"], name


def test_only_the_machine_itself_reaches_what_is_published(containers: dict[str, Container]) -> None:
    published = {name: one.raw["ports"] for name, one in containers.items() if one.raw.get("ports")}
    assert published.keys() == {"kube-apiserver", "kafka", "prometheus", "grafana"}
    assert {port["host_ip"] for ports in published.values() for port in ports} == {"127.0.0.1"}


def test_all_are_in_one_network_or_in_none(project: Project, containers: dict[str, Container]) -> None:
    assert list(project.raw["networks"]) == ["default"]
    alone = {name for name, one in containers.items() if one.raw.get("network_mode") == "none"}
    assert alone == {ROOT, "certificates"}
    assert all(list(one.raw["networks"]) == ["default"] for name, one in containers.items() if name not in alone)


def test_what_is_mounted_is_there(project: Project, containers: dict[str, Container]) -> None:
    used = set()
    for name, one in containers.items():
        for mount in one.mounts:
            if mount.kind == "volume":
                used.add(mount.source)
            else:
                assert Path(mount.source).exists() and Path(mount.source).is_relative_to(CHECKOUT), (name, mount.source)
                assert mount.read_only, (name, mount.target)
    assert used == project.raw["volumes"].keys()


def test_a_key_is_seen_by_the_one_whose_it_is(containers: dict[str, Container]) -> None:
    """The volumes of keys and kubeconfigs: written by one, read by those of one name."""
    seen: dict[str, set[str]] = {}
    for name, one in containers.items():
        for mount in one.mounts:
            if mount.source.startswith("pki-") and name not in (ROOT, "certificates"):
                assert mount.read_only, name
                seen.setdefault(mount.source, set()).add(name)
    assert seen.pop("pki-admin") == {"accounts", "schemas", "keys", "kubectl", "cli"}
    assert seen.pop("pki-reconcilers") == {"reconcilers-0", "reconcilers-1"}
    assert seen == {
        f"pki-{name}": {name}
        for name in (
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "watcher",
            "remediation",
            "admission",
            "autoscaler-bridge",
            "dev-infrastructure",
            "prometheus",
            "kube-state-metrics",
        )
    }


def test_every_service_that_stays_has_a_health_check(containers: dict[str, Container]) -> None:
    for name, one in containers.items():
        assert bool(one.health) != one.once, name
        if one.health:
            assert one.raw["healthcheck"]["timeout"] and one.raw["healthcheck"]["retries"], name
            # a program of the image, or the one that `prepare` puts there
            assert one.health[1].startswith(("/probe/busybox", "redis-cli")), name


def test_the_start_order_is_sound(project: Project, containers: dict[str, Container]) -> None:
    order = [one.name for one in project.start_order()]
    assert len(order) == len(set(order))
    for one in containers.values():
        for needed, condition in one.needs.items():
            assert (condition == ENDS_WELL) == containers[needed].once, (one.name, needed)
            assert condition != HEALTHY or containers[needed].health, (one.name, needed)
    for name in FLEETWAKE - {"admission"}:
        assert {"accounts", "schemas", "keys", "topics", "kube-apiserver", "kafka", "redis"} <= _before(containers, name), name
    assert {"accounts", "schemas", "keys", "kube-apiserver"} <= _before(containers, "admission")
    for name in FLEETWAKE - {"watcher", "admission"}:
        assert containers[name].needs["watcher"] == HEALTHY


def _before(containers: dict[str, Container], name: str) -> set[str]:
    direct = set(containers[name].needs)
    return direct.union(*(_before(containers, needed) for needed in direct))


def test_every_setting_in_it_is_one(containers: dict[str, Container]) -> None:
    names = {f"{ENV_PREFIX}{field.upper()}" for field in Settings.model_fields}
    used = {name for one in containers.values() for name in one.environment if name.startswith(ENV_PREFIX)}
    assert used <= names, {name: difflib.get_close_matches(name, names) for name in used - names}
    for one in containers.values():
        Settings.from_env(one.environment)


def test_the_name_of_a_worker_is_its_own(containers: dict[str, Container]) -> None:
    """Static membership: two that share a name would throw each other out of the group."""
    instances = [containers[name].environment["FLEETWAKE_INSTANCE"] for name in sorted(FLEETWAKE)]
    assert len(set(instances)) == len(instances)


def test_ports_can_be_moved(containers: dict[str, Container]) -> None:
    moved = load(variables=("API_PORT=1", "KAFKA_PORT=2", "PROMETHEUS_PORT=3", "GRAFANA_PORT=4")).containers
    assert [moved[name].raw["ports"][0]["published"] for name in ("kube-apiserver", "kafka", "prometheus", "grafana")] == ["1", "2", "3", "4"]
    assert moved["kafka"].environment["KAFKA_ADVERTISED_LISTENERS"].endswith("HOST://localhost:2")


def test_what_is_not_run_here_is_said(containers: dict[str, Container]) -> None:
    """The table of this folder knows every service that listens, and the README names those whose program no test runs."""
    listening = {name for name, one in containers.items() if one.health}
    assert listening == PORTS.keys()
    readme = (COMPOSE.parent / "README.md").read_text()
    section = readme.partition("## What was checked")[2]
    assert [name for name in NOT_RUN if name not in section.lower()] == []
    log.info("not run: %s", NOT_RUN)
