"""An etcd of three members on this machine, as kubeadm sets one up: TLS between members and for clients, one CA, a member per node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetwake.kube.etcd import ETCD_PORT
from fleetwake.kube.pki import CertificateSpec, generate_key, self_signed_ca, sign_certificate
from fleetwake.kube.port_forward import CHUNK_BYTES_MAX
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import wait_until
from fleetwake.rig.progress import Progress
from fleetwake.rig.tools import tool
from fleetwake.sim.port_forward import ForwardTarget

NODES = ("cp-0", "cp-1", "cp-2")
START_LIMIT_S = 30.0
REQUEST_LIMIT_S = 30.0
READY = b"ready to serve client requests"
HEARTBEAT_MS, ELECTION_MS = 50, 500


class RealEtcd:
    """See the module. ``stop`` must be called; ``ca`` signs members and clients."""

    def __init__(self, folder: Path) -> None:
        self.ca = self_signed_ca("etcd-ca", generate_key("ECDSA-P256"), now=datetime.now(UTC))
        self._folder, self._binary = folder, tool("etcd", Progress())
        ports = free_ports(2 * len(NODES))
        self.ports = dict(zip(NODES, ports, strict=False))
        self._peers = dict(zip(NODES, ports[len(NODES) :], strict=True))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        (folder / "ca.crt").write_bytes(self.ca.cert_pem)
        for name in NODES:
            self._write(name, CertificateSpec(name, sans=(name, "localhost", "127.0.0.1"), usages=("client", "server")))
        self._write("test", CertificateSpec("test", usages=("client",)))

    def _write(self, name: str, spec: CertificateSpec) -> None:
        pair = sign_certificate(self.ca, spec, generate_key("ECDSA-P256"), now=datetime.now(UTC))
        (self._folder / f"{name}.crt").write_bytes(pair.cert_pem)
        key = self._folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(pair.key_pem)

    def start(self) -> None:
        """Start all members and wait until each serves."""
        for name in NODES:
            self._processes[name] = subprocess.Popen(self._command(name), cwd=self._folder, stdout=subprocess.DEVNULL, stderr=self._log(name).open("wb"))
        for name in NODES:
            wait_until(lambda name=name: READY in self._log(name).read_bytes(), START_LIMIT_S, f"etcd {name}")  # type: ignore[misc]

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _command(self, name: str) -> list[str]:
        client, peer = f"https://127.0.0.1:{self.ports[name]}", f"https://127.0.0.1:{self._peers[name]}"
        options = {
            "name": name,
            "data-dir": str(self._folder / name),
            "initial-cluster": ",".join(f"{node}=https://127.0.0.1:{port}" for node, port in self._peers.items()),
            "initial-advertise-peer-urls": peer,
            "listen-peer-urls": peer,
            "advertise-client-urls": client,
            "listen-client-urls": client,
            "heartbeat-interval": str(HEARTBEAT_MS),
            "election-timeout": str(ELECTION_MS),
        }
        for part in ("", "peer-"):
            files = {"cert-file": f"{name}.crt", "key-file": f"{name}.key", "trusted-ca-file": "ca.crt"}
            options |= {f"{part}{option}": file for option, file in files.items()}
        switches = ("--client-cert-auth", "--peer-client-cert-auth", "--unsafe-no-fsync")
        return [str(self._binary), *(f"--{option}={value}" for option, value in options.items()), *switches]

    def kill(self, name: str) -> None:
        """End a member as a host that dies does."""
        process = self._processes[name]
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End all members."""
        for name, process in self._processes.items():
            if process.poll() is None:
                self.kill(name)

    def gateway(self, name: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What a member answers a request that our client does not know, in JSON; a refusal has ``code`` and ``message``."""
        context = ssl.create_default_context(cafile=str(self._folder / "ca.crt"))
        context.load_cert_chain(self._folder / "test.crt", self._folder / "test.key")
        request = urllib.request.Request(f"https://127.0.0.1:{self.ports[name]}/v3/{path}", json.dumps(body).encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_LIMIT_S, context=context) as answer:
                return dict(json.loads(answer.read()))
        except urllib.error.HTTPError as error:
            return dict(json.loads(error.read()))

    @property
    def pods(self) -> dict[tuple[str, str], dict[int, ForwardTarget]]:
        """The members' ports, as those of kubeadm's static pods."""
        return {("kube-system", f"etcd-{name}"): {ETCD_PORT: TcpPort(port)} for name, port in self.ports.items()}


class TcpPort:
    """A port of a pod that is one of this machine."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def accept(self, sock: socket.socket) -> None:
        """Carry one connection until either side ends it. Raises: ConnectionRefusedError if nobody listens."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        near_reader, near_writer = await asyncio.open_unix_connection(sock=sock)
        pumps = [asyncio.create_task(_pump(near_reader, writer)), asyncio.create_task(_pump(reader, near_writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            writer.close()
            near_writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(CHUNK_BYTES_MAX):
            writer.write(chunk)
            await writer.drain()


@contextlib.contextmanager
def real_etcd(folder: Path) -> Iterator[RealEtcd]:
    """Three members that run, ended at the end."""
    etcd = RealEtcd(folder)
    try:
        etcd.start()
        yield etcd
    finally:
        etcd.stop()
