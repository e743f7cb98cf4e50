"""What stands for Docker where the compose file's containers run as plain processes: one explicit table, and the folder and ports of one run.

A container's own command line, environment, health check and configuration files are used as the file has them; only what names a place is exchanged: a host
and port of the network, a path in the container, a program of an image.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fleetwake.rig import Progress
from fleetwake.rig.ports import first_emulated_port, free_ports
from fleetwake.rig.servers import programs
from fleetwake.rig.toolchain import debian
from fleetwake.rig.tools import tool
from tests.deployment.compose.project import Container, Project

PORTS: Mapping[str, tuple[int, ...]] = {
    "etcd": (2379, 2380, 2381),
    "kube-apiserver": (6443,),
    "kube-controller-manager": (10257,),
    "kafka": (9092, 9093, 29092),
    "redis": (6379,),
    "watcher": (8080,),
    "reconcilers-0": (8080, 9443),
    "reconcilers-1": (8080, 9443),
    "remediation": (8080,),
    "admission": (8080, 9443),
    "autoscaler-bridge": (8080, 9444),
    "dev-infrastructure": (8080,),
    "kube-state-metrics": (8080, 8081),
    "otelcol": (4317, 4318, 8888, 13133),
    "tempo": (3200, 4318),
    "loki": (3100,),
    "prometheus": (9090,),
    "grafana": (3000,),
}
"""Every port on which a container listens; each gets a free one on loopback."""

IMAGE_ENTRYPOINTS: Mapping[str, tuple[str, ...]] = {
    "prepare": (),
    "accounts": ("kubectl",),
    "kubectl": ("kubectl",),
    "otelcol": ("otelcol",),
}
"""What an image runs where the file names no entrypoint."""

PARENTS: Mapping[str, str] = {"certificates": "/pki"}
"""A folder that a container is told of while only its subfolders are mounted."""

NOT_RUN: Mapping[str, str] = {
    "grafana": "no package registry has it as a program; its provisioning files are checked against the compose file and the dashboards",
    "tempo": "AGPL, not built here; what the collector sends it is received and read instead, its configuration is not loaded by anything",
    "loki": "AGPL, not built here; what the collector sends it is received and read instead, its configuration is not loaded by anything",
}
"""Services whose own program is not run, and why."""

OWN_ADDRESSES = ("0.0.0.0", "127.0.0.1", "localhost")
LOOPBACK = "127.0.0.1"
PLAIN_TEXT = (".yaml", ".yml", ".py")


def programs_of_images() -> dict[str, Callable[[], list[str]]]:
    """The program of this machine for each first word of a command line."""
    progress = Progress()
    control_plane = ("etcd", "kube-apiserver", "kube-controller-manager")
    return {
        **{f"/usr/local/bin/{name}": lambda name=name: [str(tool("control-plane", progress)), name] for name in control_plane},  # type: ignore[misc]
        "kubectl": lambda: [str(programs(progress).kube.kubectl)],
        "fleetwake": lambda: [str(Path(sys.executable).parent / "fleetwake")],
        "python": lambda: [sys.executable],
        "sh": lambda: [_busybox(), "sh"],
        "/kube-state-metrics": lambda: [str(tool("kube-state-metrics", progress))],
        "redis-server": lambda: [str(programs(progress).redis_server)],
        "prometheus": lambda: [str(debian("prometheus", "prometheus", "reads metrics in tests", progress))],
        "otelcol": lambda: [str(tool("otelcol", progress))],
    }


def _busybox() -> str:
    return str(debian("busybox", "busybox-static", "runs health checks in tests", Progress()))


@dataclass
class Ground:
    """The folder and ports of one run."""

    project: Project
    folder: Path
    ports: dict[tuple[str, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = [(name, port) for name, ports in PORTS.items() for port in ports]
        self.ports.update(zip(wanted, free_ports(len(wanted)), strict=True))
        self._programs = programs_of_images()

    # ---- paths ------------------------------------------------------------------------------------------------------------------------
    def paths(self, container: Container) -> dict[str, Path]:
        """Where each mounted folder or file of a container is here."""
        found = {"/bin/busybox": Path(_busybox())}
        for mount in container.mounts:
            kind = Path("volumes", mount.source) if mount.kind == "volume" else Path("binds", container.name, mount.target.lstrip("/"))
            found[mount.target] = self.folder / kind
        found.update({target: self.folder / "tmpfs" / container.name / target.lstrip("/") for target in container.tmpfs})
        if (parent := PARENTS.get(container.name)) is not None:
            found[parent] = self.folder / "parents" / container.name
        return found

    def lay_out(self, container: Container) -> None:
        """Make a container's volumes and folders, and copy what it mounts of the checkout, translated."""
        paths = self.paths(container)
        for mount in container.mounts:
            here = paths[mount.target]
            if mount.kind == "volume":
                here.mkdir(parents=True, exist_ok=True)
            elif Path(mount.source).is_dir():
                shutil.copytree(mount.source, here, dirs_exist_ok=True)
            else:
                here.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(mount.source, here)
            if mount.kind != "volume":
                self._translate_below(container, here)
        for target in container.tmpfs:
            paths[target].mkdir(parents=True, exist_ok=True)
        if (parent := PARENTS.get(container.name)) is not None:
            paths[parent].mkdir(parents=True, exist_ok=True)
            for target in (mount.target for mount in container.mounts if Path(mount.target).parent == Path(parent)):
                link = paths[parent] / Path(target).name
                link.unlink(missing_ok=True)
                link.symlink_to(paths[target])

    def translate_kubeconfigs(self) -> None:
        """Let the kubeconfigs that ``certificates`` has made name the API server's place here, as the network's names would."""
        for path in (self.folder / "volumes").glob("pki-*/kubeconfig*"):
            path.write_text(self.hosts("kube-apiserver", path.read_text()))

    def _translate_below(self, container: Container, here: Path) -> None:
        for path in [here] if here.is_file() else here.rglob("*"):
            if path.suffix in PLAIN_TEXT:
                path.write_text(self.text(container, path.read_text()))

    # ---- texts ------------------------------------------------------------------------------------------------------------------------
    def text(self, container: Container, text: str) -> str:
        """A text of a container with every place in it exchanged."""
        # no other user can be had here
        for user in {str(one.raw["user"]) for one in self.project.containers.values()}:
            text = re.sub(rf"\b{user}\b", f"{os.getuid()}:{os.getgid()}", text)
        paths = self.paths(container)
        # the longest first, and all in one pass: what was put in must not be taken for a path of the container
        names = "|".join(re.escape(target) for target in sorted(paths, key=len, reverse=True))
        text = re.sub(rf"(?<![\w./-])({names})(?![\w-])", lambda found: str(paths[found[1]]), text)
        return self.hosts(container.name, text)

    def hosts(self, own: str, text: str) -> str:
        """A text in which every host and port is where it is here."""
        for (name, port), here in self.ports.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(name)}:{port}\b", f"{LOOPBACK}:{here}", text)
        # a number behind an address that was just put in is not one of the container's own ports
        for port in PORTS.get(own, ()):
            text = re.sub(rf"(?<![\d.]){port}\b", str(self.ports[own, port]), text)
        return text.replace("0.0.0.0", LOOPBACK)

    # ---- processes --------------------------------------------------------------------------------------------------------------------
    def command(self, container: Container, words: list[str] | None = None) -> list[str]:
        """The command line of a container: the file's, or its entrypoint with other words behind it."""
        whole = container.words if words is None else [*(container.raw.get("entrypoint") or ()), *words]
        if not container.raw.get("entrypoint"):
            whole = [*IMAGE_ENTRYPOINTS.get(container.name, ()), *whole]
        return [*self._programs[whole[0]](), *(self.text(container, word) for word in whole[1:])]

    def environment(self, container: Container) -> dict[str, str]:
        """The variables of a container, and the few that any process of this machine needs."""
        found = {name: self.text(container, value) for name, value in container.environment.items()}
        if "FLEETWAKE_DEV_HOST" in found:
            # a container has its name and its ports to itself; here other rigs may run beside this one
            found |= {"FLEETWAKE_DEV_HOST": LOOPBACK, "FLEETWAKE_DEV_PORT_FIRST": str(first_emulated_port())}
        return {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **found}

    def health(self, container: Container) -> list[str]:
        """The command of a container's health check."""
        kind, *words = container.health
        translated = [self.text(container, word).replace("$$", "$") for word in words]
        return ["/bin/sh", "-c", translated[0]] if kind == "CMD-SHELL" else translated
