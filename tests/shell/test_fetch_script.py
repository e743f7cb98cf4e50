"""fetch.sh and apply.sh, run by a real shell against a real TLS server: what a host does that fetches its data."""

from __future__ import annotations

import gzip
import http.server
import os
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, load_key_pair, self_signed_ca, sign_certificate
from fleetwake.plan import SecretInputs
from services.reconcilers.bootstrap import archive, transports
from services.reconcilers.bootstrap.host import Host, HostFile, Layout
from services.reconcilers.bootstrap.request import FetchPoint
from tests.decide.bootstrap_world import AUTHORITY, inputs, request_of

LIMIT_SECONDS = 30
SHIM = """#!/bin/sh
# what cloud-init fills in, for one expression
tail -n +2 "$3" | sed 's/{{ ds.meta_data.local_hostname }}/node-1/'
"""


@dataclass
class Served:
    """A server that answers in turn with the statuses given, and with the archive at 200."""

    url: str
    authority: KeyPair
    statuses: list[int] = field(default_factory=lambda: [200])
    body: bytes = b""
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def served() -> Iterator[Served]:
    now = datetime.now(UTC)
    authority = self_signed_ca("test", generate_key("ECDSA-P256"), now=now)
    pair = sign_certificate(authority, CertificateSpec("127.0.0.1", sans=("127.0.0.1",), usages=("server",)), generate_key("ECDSA-P256"), now=now)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.seen.append(f"{self.path} {self.headers['Authorization']}")
            status = found.statuses.pop(0) if len(found.statuses) > 1 else found.statuses[0]
            self.send_response(status)
            self.end_headers()
            if status == 200:
                self.wfile.write(found.body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_key_pair(context, pair.cert_pem, pair.key_pem)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    found = Served(f"https://127.0.0.1:{server.server_address[1]}", authority)
    yield found
    server.shutdown()
    server.server_close()


@dataclass
class HostFolder:
    """The part of a host's disk that a test lets the scripts write to."""

    root: Path
    layout: Layout

    def lay_out(self, host: Host, served: Served) -> None:
        """Write what user data brings."""
        point = FetchPoint(served.url, AUTHORITY)
        given = SecretInputs({**inputs().secrets, AUTHORITY: {"ca.crt": served.authority.cert_pem}}, (), datetime.now(UTC))
        request = request_of("v1.34.2", {"fleetwake": {"secretTransport": {"type": "Fetch"}}}, point)
        stub = transports.without_secrets(host, self.layout, request, given)
        for file in stub.files:
            path = Path(file.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(file.text)
            path.chmod(int(file.permissions, 8))
        served.body = archive.archive(host, self.layout, templated=True)
        assert stub.first[0] == f"sh {self.layout.fetched}/fetch.sh || exit 1"

    def run(self) -> subprocess.CompletedProcess[str]:
        shims = self.root / "bin"
        environment = {**os.environ, "PATH": f"{shims}:{os.environ['PATH']}", "PASSWORDS": str(self.root / "passwords-seen")}
        command = ["sh", f"{self.layout.fetched}/fetch.sh"]
        return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_SECONDS, env=environment, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> HostFolder:
    for name, text in (("cloud-init", SHIM), ("chpasswd", '#!/bin/sh\ncat > "$PASSWORDS"\n'), ("sleep", "#!/bin/sh\n")):
        shim = tmp_path / "bin" / name
        shim.parent.mkdir(exist_ok=True)
        shim.write_text(text)
        shim.chmod(0o755)
    return HostFolder(tmp_path, Layout("", "", str(tmp_path / "fetched")))


def host_of(root: Path) -> Host:
    owner = f"{os.environ.get('USER', 'root')}:"
    files = (
        HostFile(f"{root}/etc/pki/ca.key", "-----BEGIN PRIVATE KEY-----\n", owner, "0600"),
        HostFile(f"{root}/etc/kubeadm.yaml", "name: '{{ ds.meta_data.local_hostname }}'\n", owner, "0640"),
        HostFile(f"{root}/etc/hosts", "10.0.0.1 api\n", append=True),
        HostFile(f"{root}/etc/deep/new", "{{ ds.meta_data.local_hostname }} is here", append=True),
        HostFile(f"{root}/etc/packed", "aGVsbG8=", encoding="base64"),
    )
    return Host(files, "kubeadm join", users=({"name": "capi", "passwd": "$6$hash"},))


def test_files_come_whole_and_once(served: Served, folder: HostFolder) -> None:
    (folder.root / "etc").mkdir()
    (folder.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    folder.lay_out(host_of(folder.root), served)
    token = (Path(folder.layout.fetched) / "authorization").read_text().strip().removeprefix("Authorization: ")
    served.statuses = [503, 200]
    done = folder.run()
    assert done.returncode == 0, done.stderr
    etc = folder.root / "etc"
    assert (etc / "pki/ca.key").read_text() == "-----BEGIN PRIVATE KEY-----\n" and stat.S_IMODE((etc / "pki/ca.key").stat().st_mode) == 0o600
    assert (etc / "kubeadm.yaml").read_text() == "name: 'node-1'\n" and stat.S_IMODE((etc / "kubeadm.yaml").stat().st_mode) == 0o640
    assert (etc / "hosts").read_text() == "127.0.0.1 localhost\n10.0.0.1 api\n"
    assert (etc / "deep/new").read_text() == "node-1 is here\n"
    assert (etc / "packed").read_text() == "hello"
    assert (folder.root / "passwords-seen").read_text() == "capi:$6$hash\n"
    assert served.seen == [f"/v1/bootstrap-data/default/demo-abcde {token}"] * 2
    # nothing secret is left beside what it is for, and a second run does nothing
    left = {path.name for path in Path(folder.layout.fetched).rglob("*") if path.is_file()}
    assert left == {"fetch.sh", "ca.crt", "fetched"}
    assert folder.run().returncode == 0 and len(served.seen) == 2


@pytest.mark.parametrize("status", [403, 410])
def test_a_refusal_ends_it_at_once(status: int, served: Served, folder: HostFolder) -> None:
    folder.lay_out(host_of(folder.root), served)
    served.statuses = [status]
    done = folder.run()
    assert done.returncode == 1 and f"refused: {status}" in done.stderr
    assert len(served.seen) == 1 and not (folder.root / "etc/pki/ca.key").exists()


def test_another_authority_is_not_believed(served: Served, folder: HostFolder) -> None:
    folder.lay_out(host_of(folder.root), served)
    other = self_signed_ca("other", generate_key("ECDSA-P256"), now=datetime.now(UTC))
    (Path(folder.layout.fetched) / "ca.crt").write_bytes(other.cert_pem)
    done = folder.run()
    assert done.returncode == 1 and "no bootstrap data after 180 tries" in done.stderr and not served.seen


def test_the_same_host_gives_the_same_archive(tmp_path: Path) -> None:
    layout = Layout("", "", "/run/fleetwake")
    first, second = (archive.archive(host_of(tmp_path), layout, templated=True) for _ in range(2))
    assert first == second and gzip.decompress(first)
