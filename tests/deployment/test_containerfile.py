"""The image, as far as it can be known without an engine: its file read, its steps run outside a container, its result started as a pod starts it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetwake.rig.cache import CHECKOUT
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import http_ok, wait_until
from fleetwake.rig.records import Endpoints
from tests.deployment.containerfile import Copy, Stage, copies, stages

BUILDER, FINAL = stages(CHECKOUT / "Containerfile")
VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
UID = 65532
BUILD_LIMIT_S = 280
START_LIMIT_S = 60


def test_base_images_are_pinned_and_the_same() -> None:
    assert BUILDER.image == FINAL.image, "an interpreter's environment fits its own interpreter alone"
    assert re.fullmatch(r"[a-z/]+:\d+(\.\d+)+-slim(@sha256:[0-9a-f]{64})?", FINAL.image)


def test_it_runs_as_nobody_by_number() -> None:
    assert FINAL.all("USER") == [f"{UID}:{UID}"]
    assert BUILDER.all("USER") == []


def test_it_runs_fleetwake_and_asks_nothing_of_an_engine() -> None:
    assert [json.loads(one) for one in FINAL.all("ENTRYPOINT")] == [["/opt/fleetwake/bin/fleetwake"]]
    # the cluster probes; a port says nothing where policies decide
    assert not {"CMD", "HEALTHCHECK", "EXPOSE", "VOLUME", "ADD"} & {word for word, _ in FINAL.instructions}
    labels = " ".join(FINAL.all("LABEL"))
    assert f'org.opencontainers.image.version="{VERSION}"' in labels
    chart = (CHECKOUT / "deploy" / "k8s" / "chart" / "Chart.yaml").read_text()
    assert f"appVersion: {VERSION}" in chart


def test_nothing_that_installs_is_left_in_it() -> None:
    for step in FINAL.all("RUN"):
        assert not re.search(r"\b(pip|uv|curl|wget|git)\b", step), step
    assert [one.stage for one in copies(FINAL)] == ["builder"]
    assert "--without-pip /opt/fleetwake" in " ".join(BUILDER.all("RUN"))


def test_further_packages_come_only_when_the_build_asks_for_them() -> None:
    assert FINAL.all("ARG") == ["PACKAGES="]
    (install,) = [step for run in FINAL.all("RUN") for step in run.split(" && ") if "apt-get install" in step]
    assert install.split("--no-install-recommends ")[1].split() == ["python3", "ca-certificates", "$PACKAGES"]


def test_every_requirement_is_pinned_by_hash() -> None:
    installs = [step for run in BUILDER.all("RUN") for step in run.split(" && ") if " install " in step and "apt-get" not in step]
    assert len(installs) == 4
    for step in installs:
        assert "--require-hashes -r" in step or "--no-deps dist/" in step, step
    for name in ("requirements.txt", "requirements-dev.txt", "deploy/container/sbom.txt"):
        text = (CHECKOUT / name).read_text()
        pins = re.findall(r"^[A-Za-z0-9_.\[\]-]+==", text, re.MULTILINE)
        assert pins and len(re.findall(r"^    --hash=sha256:", text, re.MULTILINE)) >= len(pins)


@pytest.mark.parametrize("copy", copies(BUILDER), ids=lambda one: " ".join(one.sources))
def test_what_is_copied_is_there_and_sent_to_the_engine(copy: Copy) -> None:
    allowed = {line.removeprefix("!") for line in (CHECKOUT / ".containerignore").read_text().splitlines() if line.startswith("!")}
    for source in copy.sources:
        assert (CHECKOUT / source).exists(), source
        assert source in allowed


def _runnable(step: str, root: Path) -> str:
    """A step with the image's folders moved under ``root``, and without Debian's packages, which the machine has."""
    parts = [part for part in step.split(" && ") if "apt-get" not in part]
    moved = " && ".join(parts)
    for folder in ("/opt/fleetwake", "/build", "/sbom"):
        moved = re.sub(rf"(?<![\w.]){folder}(?=[/ ]|$)", f"{root}{folder}", moved)
    return moved


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the final stage copies, made by the builder's own steps."""
    # the whole of it must be readable to the user that the image runs as
    root = Path(tmp_path_factory.mktemp("image"))
    source = root / "src"
    source.mkdir()
    for word, arguments in BUILDER.instructions:
        if word == "COPY":
            _copy(Stage("", "", [(word, arguments)]), source)
        elif word == "RUN" and (step := _runnable(arguments, root)):
            done = subprocess.run(["sh", "-ec", step], cwd=source, capture_output=True, text=True, timeout=BUILD_LIMIT_S, check=False)
            assert done.returncode == 0, f"{step}\n{done.stdout}\n{done.stderr}"
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    yield root / "opt" / "fleetwake"
    shutil.rmtree(root)


def _copy(stage: Stage, source: Path) -> None:
    for one in copies(stage):
        for name in one.sources:
            found, target = CHECKOUT / name, source / one.target
            if found.is_dir():
                shutil.copytree(found, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(found, target if one.target != "./" else source / found.name)


@pytest.mark.apiserver
@pytest.mark.kafka
def test_the_result_serves_without_root_and_without_a_writable_root(image: Path, rig_endpoints: Endpoints, tmp_path: Path, topic_prefix: str) -> None:
    """As the pod runs it: another user, no capabilities, every file system read-only but a /tmp of its own."""
    kubeconfig = tmp_path / "kubeconfig"
    shutil.copy(rig_endpoints.kubeconfig, kubeconfig)
    kubeconfig.chmod(0o644)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/") and folder.stat().st_uid == os.getuid():
            folder.chmod(folder.stat().st_mode | 0o055)
    (port,) = free_ports(1)
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/scratch",
        "TMPDIR": "/scratch",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FLEETWAKE_KUBECONFIG": str(kubeconfig),
        "FLEETWAKE_KAFKA_BOOTSTRAP": rig_endpoints.bootstrap_servers,
        "FLEETWAKE_TOPIC_PREFIX": topic_prefix,
        "FLEETWAKE_PARTITIONS": "2",
        "FLEETWAKE_WEB_BIND": "127.0.0.1",
        "FLEETWAKE_WEB_PORT": str(port),
    }
    subprocess.run([image / "bin" / "fleetwake", "topics", "create"], env=env, check=True, capture_output=True, timeout=START_LIMIT_S)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    # a mount namespace of its own: everything that is mounted becomes read-only in it, and one tmpfs is the only place to write
    script = f"""
    mount --make-rprivate /
    mount -t tmpfs -o mode=1777 tmpfs {scratch}
    awk '$5 !~ "^/(proc|sys|dev)" && $5 != "{scratch}" {{print $5}}' /proc/self/mountinfo | while read -r point; do
        mount -o remount,bind,ro "$point" || exit 1
    done
    ! touch /usr/written 2>/dev/null && ! touch {image}/written 2>/dev/null
    exec setpriv --reuid {UID} --regid {UID} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all {image}/bin/fleetwake watch
    """
    env |= {"HOME": str(scratch), "TMPDIR": str(scratch)}
    log = tmp_path / "watcher.log"
    with log.open("wb") as out, subprocess.Popen(["unshare", "--mount", "sh", "-ec", script], env=env, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            wait_until(lambda: process.poll() is not None or http_ok(f"http://127.0.0.1:{port}/readyz"), START_LIMIT_S, "the watcher of the image")
            assert process.poll() is None, log.read_text()
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(rf"^Uid:\t{UID}\t{UID}\t", status, re.MULTILINE)
            assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE) and re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                assert b"fleetwake_" in answer.read()
        finally:
            process.terminate()
            process.wait(15)


@pytest.mark.apiserver
def test_every_command_is_in_the_result_and_nothing_that_installs(image: Path) -> None:
    said = subprocess.run([image / "bin" / "fleetwake", "--help"], capture_output=True, text=True, check=True, timeout=60, cwd="/").stdout
    assert {"watch", "reconcile", "dev-infrastructure", "schemas", "topics", "secrets"} <= set(re.findall(r"[a-z-]+", said))
    assert not list(image.rglob("site-packages/pip")) and not (image / "bin" / "pip").exists()
    assert list(image.rglob("site-packages/fleetwake/__pycache__/settings.*.pyc")), "bytecode is made where it can be written"


@pytest.mark.apiserver
def test_the_bill_of_materials_names_every_requirement_with_its_hashes(image: Path) -> None:
    document = json.loads((image / "share" / "sbom" / "fleetwake.cdx.json").read_text())
    assert document["bomFormat"] == "CycloneDX"
    named = {(component["name"].lower().replace("_", "-"), component["version"]) for component in document["components"]}
    pins = re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[a-z,]+\])?==(\S+)", (CHECKOUT / "requirements.txt").read_text(), re.MULTILINE)
    assert {(name.lower().replace("_", "-"), version) for name, version in pins} <= named
    assert "SHA-256" in json.dumps(document)
