"""An upgrade strategy as a small HTTPS server: a few Machines of the new revision first, then a wait, then the rest.

    python canary.py --certificate tls.crt --key tls.key --port 9444

It keeps nothing: every answer follows from the question alone, so that it may be restarted, and run twice, at any time. ``plan`` decides; what it asks
for is reached only as far as the MachineDeployment's maxSurge and maxUnavailable allow, and that is not its care. See docs/rollouts.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import ssl
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Json = Mapping[str, Any]

HOOKS = "hooks.fleetwake.io/v1alpha1"
PLAN_PATH = f"/{HOOKS}/planrollout/canary"
DISCOVERY = "hooks.runtime.cluster.x-k8s.io/v1alpha1"
DISCOVERY_PATH = f"/{DISCOVERY}/discovery"
MACHINES, WAIT_SECONDS = "machines", "waitSeconds"
"""Settings of the ExtensionConfig: how many Machines go first, and how long they must have been available."""
REQUEST_BYTES_MAX = 4 << 20
SECONDS_MAX = 10.0
"""For a request to come in whole."""


def plan(request: Json, now: datetime) -> dict[str, Any]:
    """The next replicas of a rollout, as a PlanRolloutResponse."""
    settings, deployment = request.get("settings") or {}, request["machineDeployment"]
    wanted, sets = int(deployment["replicas"]), request["machineSets"]
    current, old = next(one for one in sets if one["current"]), [one for one in sets if not one["current"]]
    first = min(max(int(settings.get(MACHINES, "1")), 1), wanted)
    wait = timedelta(seconds=int(settings.get(WAIT_SECONDS, "300")))
    rest = _answer("the canary has held; the rest follows", _to(current, wanted, old, wanted, "the canary has held"))
    if current["replicas"] > first:
        return rest
    since = sorted(datetime.fromisoformat(one["availableSince"].replace("Z", "+00:00")) for one in current["machines"] if one.get("available"))
    canary = _to(current, first, old, wanted, f"{first} of {wanted} go first")
    if len(since) < first:
        return _answer(f"{len(since)} of {first} Machines that go first are available", canary)
    until = since[first - 1] + wait
    if now < until:
        return _answer(f"{first} of {wanted} Machines are of the new revision; the rest follows at {until:%Y-%m-%dT%H:%M:%SZ}", canary, until - now)
    return rest


def _to(current: Json, replicas: int, old: Iterable[Json], wanted: int, reason: str) -> list[dict[str, Any]]:
    """The current MachineSet with so many replicas, and what is left of those wanted with the others, newest first."""
    left = wanted - replicas
    found = [{"name": current["name"], "replicas": replicas, "reason": reason}]
    for one in reversed([*old]):
        kept = min(one["replicas"], left)
        left -= kept
        found.append({"name": one["name"], "replicas": kept, "reason": reason})
    return found


def _answer(message: str, machine_sets: list[dict[str, Any]], again: timedelta = timedelta(0)) -> dict[str, Any]:
    return {
        "apiVersion": HOOKS,
        "kind": "PlanRolloutResponse",
        "status": "Success",
        "message": message,
        "retryAfterSeconds": math.ceil(again.total_seconds()),
        "machineSets": machine_sets,
    }


def discovery() -> dict[str, Any]:
    """What Cluster API's own discovery is told: one handler."""
    hook = {"apiVersion": HOOKS, "hook": "PlanRollout"}
    handler = {"name": "canary", "requestHook": hook, "timeoutSeconds": 10, "failurePolicy": "Fail"}
    return {"apiVersion": DISCOVERY, "kind": "DiscoveryResponse", "status": "Success", "message": "", "handlers": [handler]}


class Handler(BaseHTTPRequestHandler):
    """Answers POSTs on two paths."""

    timeout = SECONDS_MAX
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one question."""
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 <= length <= REQUEST_BYTES_MAX:
            self.close_connection = True
            return self._send(413, {})
        body = self.rfile.read(length)
        if self.path == DISCOVERY_PATH:
            return self._send(200, discovery())
        if self.path != PLAN_PATH:
            return self._send(404, {})
        try:
            answer = plan(json.loads(body), datetime.now(UTC))  # noqa: TID251 -- a server of its own, no decision of ours
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            failure = {"apiVersion": HOOKS, "kind": "PlanRolloutResponse", "status": "Failure", "message": f"not a question that can be answered: {error!r}"}
            return self._send(200, failure)
        logging.info("%s: %s", json.loads(body)["machineDeployment"]["name"], answer["message"])
        return self._send(200, answer)

    def _send(self, status: int, answer: Json) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing per request: what was decided is logged."""


class Server(ThreadingHTTPServer):
    """TLS whose handshakes are made in each connection's own thread, so that a silent client holds up nobody."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], certificate: str, key: str) -> None:
        super().__init__(address, Handler)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)


def main(arguments: list[str]) -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description="A canary upgrade strategy for fleetwake.")
    parser.add_argument("--bind", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=9444)
    parser.add_argument("--certificate", required=True, help="PEM, chain included")
    parser.add_argument("--key", required=True, help="PEM, not encrypted")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with Server((chosen.bind, chosen.port), chosen.certificate, chosen.key) as server:
        logging.info("canary listens at %s:%d", *server.server_address[:2])
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1:])
