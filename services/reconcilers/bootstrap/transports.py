"""How key material reaches the host: in the user data, or fetched by the host with a token that works once.

With ``Fetch`` the user data holds everything but files and passwords; in their place stand a script, the token, the certificate authority to believe and the
command that runs the script before anything else. The host tries until it is answered; a refusal ends its bootstrapping, loudly.

Source: roadmap rows 17 and 29; docs/security/bootstrap-data.md.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fleetwake.errors import InvalidError
from fleetwake.plan import Computed, SecretInputs
from services.reconcilers.bootstrap import archive
from services.reconcilers.bootstrap.host import Host, HostFile, Json, Layout, Role
from services.reconcilers.bootstrap.request import Request, fetches, settings
from services.reconcilers.kubeadm import secrets

TOKEN_HASH = "fleetwake.io/fetch-token-sha256"
"""Annotation on a bootstrap Secret whose host fetches: SHA-256 of the one token that opens it."""
TOKEN_EXPIRES_AT = "fleetwake.io/fetch-expires-at"
ROLE = "fleetwake.io/bootstrap-role"
"""Annotation on a bootstrap Secret whose host fetches: which of the three ways its data is made for."""
FETCHED_AT, FETCHED_BY = "fleetwake.io/fetched-at", "fleetwake.io/fetched-by"
"""Annotations written when the token is used: from then on it opens nothing."""
LIFETIME_SECONDS = 3600
TOKEN_LETTERS = 43
"""222 bits."""
TRIES_MAX = 180
PAUSE_SECONDS = 5
_CURL = "--silent --show-error --cacert ca.crt --max-time 60 --output data.tar.gz --write-out '%{http_code}'"
PATH = "/v1/bootstrap-data"
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"


def refusal(request: Request) -> str:
    """Why the wanted transport cannot be had, "" if it can."""
    if fetches(request.spec) and request.fetch is None:
        return "spec.fleetwake.secretTransport: this installation serves no bootstrap data (FLEETWAKE_BOOTSTRAP_DATA_URL is not set)"
    return ""


def token(request: Request, inputs: SecretInputs) -> str:
    """The token of a host: derived from the cluster CA's private key, so that making it twice makes one. Raises: as ``secrets.key_pair``."""
    key = secrets.key_pair(inputs, request.ca).key_pem
    digest = hmac.new(key, f"bootstrap-data/{request.config_uid}".encode(), hashlib.sha256).digest()
    number, letters = int.from_bytes(digest, "big"), ""
    for _ in range(TOKEN_LETTERS):
        number, index = divmod(number, len(_ALPHABET))
        letters += _ALPHABET[index]
    return letters


def token_hash(text: str) -> str:
    """What a bootstrap Secret says of its token."""
    return hashlib.sha256(text.encode()).hexdigest()


def lifetime(spec: Json) -> timedelta:
    """How long the token works that a host fetches with."""
    return timedelta(seconds=(settings(spec).get("secretTransport") or {}).get("tokenLifetimeSeconds") or LIFETIME_SECONDS)


def notes(request: Request, role: Role) -> dict[str, Any]:
    """The annotations of a bootstrap Secret whose host fetches; none for any other."""
    if not fetches(request.spec):
        return {}
    return {
        ROLE: role.name,
        TOKEN_HASH: Computed("hash of the fetch token", lambda inputs: token_hash(token(request, inputs)), secrets=(request.ca,)),
        TOKEN_EXPIRES_AT: secrets.time_of_sending("end of the fetch token", lifetime(request.spec)),
    }


def without_secrets(host: Host, layout: Layout, request: Request, inputs: SecretInputs) -> Host:
    """The host as its user data tells it when it fetches the rest.

    Raises:
        InvalidError: what stays would hold a private key, or cannot be fetched.
        RetryableError: the service's certificate authority does not exist yet.
    """
    point = request.fetch
    if point is None:
        raise InvalidError(refusal(request))
    authority = secrets.secret_data(inputs, point.ca).get("ca.crt")
    if not authority:
        raise InvalidError(f"Secret {point.ca.namespace}/{point.ca.name} has no ca.crt")
    url = f"{point.url.rstrip('/')}{PATH}/{request.config.namespace}/{request.config.name}"
    stub = _windows(host, layout, url) if layout.windows else _linux(layout, url)
    join = "\\" if layout.windows else "/"
    beside = (
        HostFile(f"{layout.fetched}{join}authorization", f"Authorization: Bearer {token(request, inputs)}", "root:root", "0600"),
        HostFile(f"{layout.fetched}{join}ca.crt", authority.decode(), "root:root", "0644"),
    )
    users: tuple[Json, ...] = tuple({name: value for name, value in user.items() if name != "passwd"} for user in host.users)
    command = stub[1]
    return replace(host, files=(stub[0], *beside), users=users, first=(command, *host.first), spent=(stub[0].path, *host.spent))


def refuse_keys(rendered: bytes) -> None:
    """Raises: InvalidError if user data that is to hold no private key holds one (in a command, say, or an additional configuration)."""
    if b"PRIVATE KEY" in rendered:
        raise InvalidError("with the transport Fetch no private key may stand in the user data, but one is in its commands, users or additional configuration")


def _linux(layout: Layout, url: str) -> tuple[HostFile, str]:
    path = f"{layout.fetched}/fetch.sh"
    script = f"""#!/bin/sh
# Fetches what is secret for this host, once, and puts it in place.
set -eu
umask 077
cd {layout.fetched}
chmod 700 .
[ ! -e fetched ] || exit 0
tries=0
while :; do
  status=$(curl {_CURL} --header @authorization '{url}') || status=000
  case "$status" in
    200) break ;;
    4*) echo "the bootstrap data is refused: $status" >&2; exit 1 ;;
  esac
  tries=$((tries + 1))
  [ "$tries" -lt {TRIES_MAX} ] || {{ echo "no bootstrap data after $tries tries" >&2; exit 1; }}
  sleep {PAUSE_SECONDS}
done
rm authorization
umask 022
tar --extract --gzip --file data.tar.gz --directory / --preserve-permissions --same-owner --no-overwrite-dir
rm data.tar.gz
sh {layout.fetched}/{archive.APPLY}
rm {layout.fetched}/{archive.APPLY}
touch fetched
"""
    return HostFile(path, script, "root:root", "0700"), f"sh {path} || exit 1"


def _windows(host: Host, layout: Layout, url: str) -> tuple[HostFile, str]:
    folder, path = layout.fetched, rf"{layout.fetched}\fetch.ps1"
    lines = [
        "# Fetches what is secret for this host, once, and puts it in place.",
        "$ErrorActionPreference = 'Stop'",
        "$utf8 = New-Object Text.UTF8Encoding $false",
        *archive.values_table(archive.expressions(host.files)),
        f"Set-Location {folder}",
        f"foreach ($try in 1..{TRIES_MAX}) {{",
        f"  $status = curl.exe {_CURL} --header '@authorization' {url}",
        "  if ($status -eq '200') { break }",
        "  if ($status -like '4*') { Write-Error \"the bootstrap data is refused: $status\"; exit 1 }",
        f"  Start-Sleep {PAUSE_SECONDS}",
        "}",
        "if ($status -ne '200') { exit 1 }",
        "Remove-Item authorization",
        "tar.exe -xzf data.tar.gz -C C:\\",
        "if ($LASTEXITCODE -ne 0) { exit 1 }",
        "Remove-Item data.tar.gz",
        rf". {folder}\{archive.WINDOWS_APPLY}",
        rf"Remove-Item {folder}\{archive.WINDOWS_APPLY}",
    ]
    return HostFile(path, "\n".join(lines) + "\n"), f"powershell -NoProfile -ExecutionPolicy Bypass -File {path} || exit /b 1"
