"""The definitions of third-party kinds as their projects publish them: in Go modules, and for Strimzi by the generator that it publishes with its classes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from fleetwake.rig.cache import SOURCES, artifact, digest
from fleetwake.rig.commands import follow
from fleetwake.rig.progress import Progress
from fleetwake.rig.toolchain import find_java, find_maven
from fleetwake.rig.tools import module_dir

IN_MODULES = {
    "github.com/kedacore/keda/v2": ("config/crd/bases/keda.sh_scaledobjects.yaml", "config/crd/bases/keda.sh_triggerauthentications.yaml"),
    "github.com/prometheus-operator/prometheus-operator": ("example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",),
}
STRIMZI_KINDS = {"topic": "io.strimzi.api.kafka.model.topic.KafkaTopic", "user": "io.strimzi.api.kafka.model.user.KafkaUser"}
STRIMZI_JAVA_MAJOR = 21
GENERATOR = (
    "io.strimzi.crdgenerator.CrdGenerator",
    "--target-kube",
    "1.30+",
    "--crd-api-version",
    "v1",
    "--api-versions",
    "v1",
    "--storage-version",
    "v1",
    "--yaml",
)


def definitions() -> Iterator[Path]:
    """The files of all definitions that the manifests need."""
    for module, names in IN_MODULES.items():
        folder = module_dir("schemas", module, Progress())
        yield from (folder / name for name in names)
    pom = SOURCES / "strimzi" / "pom.xml"
    made = artifact(f"strimzi-{digest(pom)}", lambda folder: _generate(folder, pom), Progress())
    yield from (made / f"{name}.yaml" for name in STRIMZI_KINDS)


def _generate(folder: Path, pom: Path) -> None:
    progress = Progress()
    progress.step("fetching Strimzi's published kinds and generating their definitions")
    shutil.copyfile(pom, folder / pom.name)
    follow([str(find_maven(progress)), "-B", "-q", "-f", str(folder / pom.name), "dependency:copy-dependencies", f"-DoutputDirectory={folder}"], progress, str)
    jars = ":".join(str(jar) for jar in sorted(folder.glob("*.jar")))
    wanted = [f"{kind}={folder / name}.yaml" for name, kind in STRIMZI_KINDS.items()]
    follow([str(find_java(progress, STRIMZI_JAVA_MAJOR)), "-cp", jars, *GENERATOR, *wanted], progress, str)
    progress.done("definitions generated")
