"""The real Prometheus on the rig: what it scrapes, what it is asked, and the alerts it sends to somebody who waits for them."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from fleetwake.rig import Rig
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import http_ok, wait_until
from fleetwake.rig.processes import spawn, stop
from fleetwake.rig.progress import Progress
from fleetwake.rig.toolchain import debian

START_LIMIT_S = 30.0
STOP_LIMIT_S = 5.0
SCRAPE_S = 1
PURPOSE = "scrapes the services in the tests"


def prometheus_command(name: str) -> str:
    """``prometheus`` or ``promtool``, both of Debian's package."""
    return str(debian(name, "prometheus", PURPOSE, Progress()))


class Alertmanager:
    """Takes the alerts that Prometheus sends, and wakes who waits for one."""

    def __init__(self) -> None:
        self.fired: dict[str, dict[str, str]] = {}
        """The labels of the first firing of each alert."""
        self.seen: set[str] = set()
        """Names of alerts that fired before they were forgotten."""
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="alertmanager", daemon=True).start()

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def forget(self) -> None:
        """What fires from now on is of what happens from now on."""
        with self._changed:
            self.seen |= self.fired.keys()
            self.fired.clear()

    def wait_for(self, *names: str, limit_s: float) -> None:
        """Wait until each of these alerts has fired.

        Raises:
            AssertionError: one has not; the message names it.
        """
        if not self.have_fired(*names, limit_s=limit_s):
            raise AssertionError(f"not fired within {limit_s:g} s: {sorted(set(names) - self.fired.keys())}; fired: {sorted(self.fired)}")

    def have_fired(self, *names: str, limit_s: float) -> bool:
        """Whether each of these alerts has fired, waited for that long."""
        with self._changed:
            return self._changed.wait_for(lambda: self.fired.keys() >= set(names), limit_s)

    def _take(self, alerts: list[dict[str, Any]]) -> None:
        with self._changed:
            for alert in alerts:
                self.fired.setdefault(alert["labels"]["alertname"], alert["labels"])
            self._changed.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                take(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        return Handler


@dataclass(frozen=True)
class Target:
    """Something to scrape: the value of its label ``service``, and its address."""

    service: str
    address: str


class Prometheus:
    """One Prometheus with a scrape a second; it ends with the rig."""

    def __init__(self, rig: Rig, folder: Path, targets: list[Target], rules: str, alertmanager: Alertmanager) -> None:
        folder.mkdir(parents=True)
        (folder / "rules.yaml").write_text(rules)
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(_configuration(targets, alertmanager.address)))
        port = free_ports(1)[0]
        self.url = f"http://127.0.0.1:{port}"
        self.started = time.time()
        command = [
            prometheus_command("prometheus"),
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
            # alerts whose cause goes on are sent again at once: nobody here forgets them
            "--rules.alert.resend-delay=1s",
        ]
        self._process = spawn(command, {}, folder / "prometheus.log", str(rig.state_dir))
        wait_until(lambda: http_ok(f"{self.url}/-/ready"), START_LIMIT_S, "Prometheus")
        # it begins to scrape some seconds after it is ready: what happened before has no rate
        wait_until(lambda: len(self.now("up == 1")) == len(targets), START_LIMIT_S, "the first scrape of every target")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            stop({self._process: STOP_LIMIT_S})

    def api(self, path: str, query: Mapping[str, str]) -> Any:
        """The data of an answer of its API.

        Raises:
            AssertionError: the query was refused.
        """
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", urllib.parse.urlencode(query).encode())
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def now(self, expr: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series now; a scalar has no labels."""
        data = self.api("query", {"query": expr})
        found = [{"metric": {}, "value": data["result"]}] if data["resultType"] == "scalar" else data["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def values(self, expr: str) -> list[float]:
        """Every number that a query has given since the start, of all its series, NaN left out."""
        data = self.api("query_range", {"query": expr, "start": f"{self.started:.3f}", "end": f"{time.time():.3f}", "step": "1"})
        numbers = [float(value) for series in data["result"] for _, value in series["values"]]
        return [number for number in numbers if number == number]

    def exemplars(self, expr: str) -> list[dict[str, Any]]:
        """The exemplars of the series of a query since the start."""
        data = self.api("query_exemplars", {"query": expr, "start": f"{self.started:.3f}", "end": f"{time.time():.3f}"})
        return [exemplar for series in data for exemplar in series["exemplars"]]

    def rules(self) -> list[dict[str, Any]]:
        """The rules as loaded, with what became of their last evaluation."""
        return [rule for group in self.api_get("rules")["groups"] for rule in group["rules"]]

    def api_get(self, path: str) -> Any:
        """The data of a plain GET."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}", timeout=20) as response:
            return json.load(response)["data"]


def _configuration(targets: list[Target], alertmanager: str) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {
                "job_name": "fleetwake",
                "static_configs": [{"targets": [target.address], "labels": {"service": target.service}} for target in targets],
            }
        ],
    }
