"""Make the certificates and kubeconfigs of the compose deployment: ``certificates.py FOLDER``, one subfolder for each container that needs some.

Each subfolder is a volume of its own there, so that no container sees what is another's. What exists is kept: the authority and the tokens outlive every
`up`. A leaf that ends within RENEW_DAYS is made anew. fleetwake's accounts have the names of service accounts in a cluster, so that the audit log reads the
same; those names are longer than a certificate's subject may be, so they are tokens in a file of the API server's.
"""

from __future__ import annotations

import base64
import csv
import io
import secrets
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from fleetwake.kube.pki import (
    CertificateSpec,
    KeyPair,
    certificate_expiry,
    generate_key,
    render_kubeconfig,
    self_signed_ca,
    service_account_pair,
    sign_certificate,
)

API_SERVER, API_PORT = "kube-apiserver", 6443
CLUSTER = "fleetwake"
LOOPBACK = ("localhost", "127.0.0.1")
SYSTEM_ACCOUNT = "system:serviceaccount:fleetwake-system:fleetwake-"
SERVICES = ("watcher", "reconcilers", "remediation", "admission", "autoscaler-bridge", "dev-infrastructure")
GROUPS = ("system:serviceaccounts", "system:serviceaccounts:fleetwake-system")
TOKENS = "tokens.csv"
TOKEN_BYTES = 32
LEAF_VALIDITY, RENEW_DAYS = timedelta(days=365), 30
PRIVATE, READABLE = 0o600, 0o644


class Folder:
    """One container's subfolder."""

    def __init__(self, path: Path, mode: int = PRIVATE) -> None:
        self._path, self._mode = path, mode
        path.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, body: bytes) -> None:
        """Write a file that its readers see whole or not at all."""
        part = self._path / f".{name}.part"
        part.touch(self._mode)
        part.chmod(self._mode)
        part.write_bytes(body)
        part.rename(self._path / name)

    def read(self, name: str) -> bytes:
        """The file's bytes; none when it is not there."""
        path = self._path / name
        return path.read_bytes() if path.is_file() else b""

    def pair(self, name: str, pair: KeyPair) -> None:
        """Write a certificate and its key."""
        self.write(f"{name}.key", pair.key_pem)
        self.write(f"{name}.crt", pair.cert_pem)

    def lasting(self, name: str, now: datetime) -> bool:
        """Whether the certificate of that name is there and does not end soon."""
        found = self.read(name)
        return bool(found) and certificate_expiry(found) > now + timedelta(days=RENEW_DAYS)


def authority(folder: Folder, now: datetime) -> KeyPair:
    """The certificate authority, made the first time."""
    kept = KeyPair(folder.read("ca.crt"), folder.read("ca.key"))
    if kept.cert_pem and kept.key_pem:
        return kept
    made = self_signed_ca(f"{CLUSTER}-ca", generate_key("ECDSA-P256"), now=now)
    folder.pair("ca", made)
    return made


def signed(ca: KeyPair, spec: CertificateSpec, now: datetime) -> KeyPair:
    """A fresh leaf."""
    return sign_certificate(ca, spec, generate_key("ECDSA-P256"), now=now)


def servers(root: Path, ca: KeyPair, now: datetime) -> None:
    """What etcd and the API server show, and what the one shows the other."""
    etcd, api = Folder(root / "etcd"), Folder(root / API_SERVER)
    for folder in (etcd, api):
        folder.write("ca.crt", ca.cert_pem)
    if not etcd.lasting("server.crt", now):
        etcd.pair("server", signed(ca, CertificateSpec("etcd", sans=("etcd", *LOOPBACK), usages=("server", "client"), validity=LEAF_VALIDITY), now))
    if not api.lasting("server.crt", now):
        names = (API_SERVER, "kubernetes", "kubernetes.default", "kubernetes.default.svc", *LOOPBACK)
        api.pair("server", signed(ca, CertificateSpec(API_SERVER, sans=names, usages=("server",), validity=LEAF_VALIDITY), now))
        api.pair("etcd-client", signed(ca, CertificateSpec("kube-apiserver-etcd-client", validity=LEAF_VALIDITY), now))
    if not api.read("sa.key"):
        signer = service_account_pair(generate_key("RSA-2048"))
        api.write("sa.pub", signer.cert_pem)
        api.write("sa.key", signer.key_pem)


def certified(folder: Folder, ca: KeyPair, user: str, groups: tuple[str, ...], now: datetime) -> None:
    """Kubeconfigs for a user whom a certificate names, and the certificate beside them, which says how long they hold."""
    if folder.lasting("client.crt", now):
        return
    client = signed(ca, CertificateSpec(user, groups, validity=LEAF_VALIDITY), now)
    for name, host in (("kubeconfig", API_SERVER), ("kubeconfig-host", "127.0.0.1")):
        folder.write(name, render_kubeconfig(CLUSTER, f"https://{host}:{API_PORT}", ca.cert_pem, client))
    folder.write("client.crt", client.cert_pem)


def tokened(root: Path, ca: KeyPair) -> None:
    """A token for each service, in the API server's file of them and in the service's kubeconfig."""
    api = Folder(root / API_SERVER)
    known = {row[1]: row[0] for row in csv.reader(io.StringIO(api.read(TOKENS).decode()))}
    rows = io.StringIO()
    for service in SERVICES:
        user = SYSTEM_ACCOUNT + service
        token = known.get(user) or secrets.token_hex(TOKEN_BYTES)
        csv.writer(rows).writerow((token, user, user, ",".join(GROUPS)))
        Folder(root / service).write("kubeconfig", kubeconfig(user, token, ca))
    api.write(TOKENS, rows.getvalue().encode())


def kubeconfig(user: str, token: str, ca: KeyPair) -> bytes:
    """The kubeconfig of a token."""
    cluster = {"server": f"https://{API_SERVER}:{API_PORT}", "certificate-authority-data": base64.b64encode(ca.cert_pem).decode()}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CLUSTER,
        "clusters": [{"name": CLUSTER, "cluster": cluster}],
        "contexts": [{"name": CLUSTER, "context": {"cluster": CLUSTER, "user": user}}],
        "users": [{"name": user, "user": {"token": token}}],
    }
    return yaml.safe_dump(document).encode()


def main(root: Path) -> None:
    """Make what is missing or ends soon."""
    now = datetime.now(UTC)
    ca = authority(Folder(root / "ca"), now)
    servers(root, ca, now)
    certified(Folder(root / "admin"), ca, "admin", ("system:masters",), now)
    certified(Folder(root / "kube-controller-manager"), ca, "system:kube-controller-manager", (), now)
    certified(Folder(root / "kube-state-metrics"), ca, "fleetwake-kube-state-metrics", (), now)
    tokened(root, ca)
    # Prometheus runs as another user than the one who writes here, and sees nothing but this folder
    scraper = Folder(root / "prometheus", READABLE)
    scraper.write("ca.crt", ca.cert_pem)
    if not scraper.lasting("client.crt", now):
        scraper.pair("client", signed(ca, CertificateSpec("fleetwake-prometheus", validity=LEAF_VALIDITY), now))
    print(f"certificates and kubeconfigs for {len(SERVICES) + 3} accounts in {root}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
