"""Admission as a process of the test, under its own account."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import http_ok, wait_until
from fleetwake.rig.records import Endpoints
from fleetwake.rig.services import fleetwake_command

LIMIT_S = 60.0


@dataclass
class Service:
    """``fleetwake admit`` as the rig runs it, under its own account."""

    endpoints: Endpoints
    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    """Variables that it has besides."""

    @property
    def url(self) -> str:
        """Where the API server asks."""
        return f"https://127.0.0.1:{self.ports[1]}"

    def start(self) -> None:
        """Start and wait until it is ready."""
        web, webhook = self.ports
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLEETWAKE_")},
            "FLEETWAKE_KUBECONFIG": f"{self.endpoints.kubeconfig}-admission",
            "FLEETWAKE_WEB_PORT": str(web),
            "FLEETWAKE_WEBHOOK_PORT": str(webhook),
            "FLEETWAKE_WEBHOOK_BIND": "127.0.0.1",
            "FLEETWAKE_WEBHOOK_URL": self.url,
            **self.settings,
        }
        with (self.folder / "admission.log").open("ab") as log:
            self.process = subprocess.Popen([fleetwake_command(), "admit"], env=env, stdout=log, stderr=log)
        wait_until(lambda: http_ok(f"http://127.0.0.1:{web}/readyz"), LIMIT_S, "admission")

    async def asked_about(self, kind: str) -> float:
        """How many requests it has answered about a kind."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.ports[0]}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        counted = [line for line in lines if line.startswith("controller_runtime_webhook_requests_total{") and f'-{kind}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in counted)

    def kill(self) -> None:
        """Kill it as a lost node would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(LIMIT_S)


def command(endpoints: Endpoints, *arguments: str, account: str = "prepare", settings: Mapping[str, str] | None = None) -> str:
    """Run a command to its end; returns what it prints."""
    env = {**os.environ, "FLEETWAKE_KUBECONFIG": f"{endpoints.kubeconfig}-{account}", **(settings or {})}
    done = subprocess.run([fleetwake_command(), *arguments], env=env, check=False, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, f"fleetwake {' '.join(arguments)}: {done.stderr}"
    return done.stdout
