"""Settings: what contradicts itself or cannot be read is one line that names the variable and the remedy, and never shows a secret."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleetwake.cli.main import app
from fleetwake.cli.settings import described, page
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, self_signed_ca, sign_certificate
from fleetwake.settings import GROUPS, Settings, SettingsError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "open-sesame-4711"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files that settings name: good ones, and every kind of bad one."""
    folder = tmp_path_factory.mktemp("secrets")
    key = generate_key("ECDSA-P256")
    ca = self_signed_ca("ca", key, now=NOW)
    pair = sign_certificate(ca, CertificateSpec("client"), generate_key("ECDSA-P256"), now=NOW)
    contents = {
        "ca": ca.cert_pem,
        "certificate": pair.cert_pem,
        "key": pair.key_pem,
        "other_key": generate_key("ECDSA-P256"),
        "encrypted_key": _encrypted(pair),
        "password": SECRET.encode() + b"\n",
        "headers": f"Authorization: Bearer {SECRET}\nX-Scope-OrgID: fleet\n".encode(),
        "no_headers": f"{SECRET}\n".encode(),
        "empty": b"\n",
        "binary": b"\xff\xfe" + SECRET.encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {**{name: str(folder / name) for name in contents}, "missing": str(folder / "missing"), "folder": str(folder)}


def _encrypted(pair: KeyPair) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key_pem, password=None)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(SECRET.encode()))


def read(files: dict[str, str], variables: str) -> Settings:
    """Settings of an environment written as ``NAME=value NAME=@file``."""
    pairs = (part.partition("=") for part in variables.split())
    return Settings.from_env({f"FLEETWAKE_{name}": files[value[1:]] if value.startswith("@") else value for name, _, value in pairs})


TLS = "KAFKA_SECURITY_PROTOCOL=SSL KAFKA_CA_FILE=@ca"
SASL = "KAFKA_SECURITY_PROTOCOL=SASL_SSL KAFKA_CA_FILE=@ca KAFKA_USERNAME=u KAFKA_PASSWORD_FILE=@password"


@pytest.mark.parametrize(
    "variables",
    [
        "",
        TLS,
        f"{TLS} KAFKA_CERTIFICATE_FILE=@certificate KAFKA_KEY_FILE=@key",
        SASL,
        f"{SASL} KAFKA_SASL_MECHANISM=PLAIN",
        "KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT KAFKA_USERNAME=u KAFKA_PASSWORD_FILE=@password",
        "REDIS_URL=redis://redis:6379/0 REDIS_PASSWORD_FILE=@password",
        "REDIS_URL=rediss://redis:6379/0 REDIS_USERNAME=u REDIS_PASSWORD_FILE=@password",
        "REDIS_URL=rediss://redis:6379/0 REDIS_CA_FILE=@ca REDIS_CERTIFICATE_FILE=@certificate REDIS_KEY_FILE=@key",
        "REDIS_URL=",
        "REDIS_URL=unix:///run/redis.sock",
        "OTLP_ENDPOINT=https://collector:4318 OTLP_CA_FILE=@ca OTLP_HEADERS_FILE=@headers",
        "OTLP_ENDPOINT=http://collector:4318 OTLP_HEADERS_FILE=@headers",
    ],
)
def test_what_fits_together_is_taken(files: dict[str, str], variables: str) -> None:
    settings = read(files, variables)
    assert SECRET not in repr(settings) and SECRET not in repr(settings.kafka.client())


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ("KAFKA_SECURITY_PROTOCOL=TLS", "FLEETWAKE_KAFKA_SECURITY_PROTOCOL: Input should be 'PLAINTEXT', 'SSL'"),
        ("KAFKA_SECURITY_PROTOCOL=SASL_SSL", "FLEETWAKE_KAFKA_USERNAME and FLEETWAKE_KAFKA_PASSWORD_FILE is not set"),
        ("KAFKA_SECURITY_PROTOCOL=SASL_SSL KAFKA_USERNAME=u", "but FLEETWAKE_KAFKA_PASSWORD_FILE is not set; set it"),
        ("KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT KAFKA_SASL_MECHANISM=PLAIN KAFKA_USERNAME=u KAFKA_PASSWORD_FILE=@password", "SASL_MECHANISM PLAIN would send"),
        (f"{TLS} KAFKA_USERNAME=u", "FLEETWAKE_KAFKA_USERNAME is set but FLEETWAKE_KAFKA_SECURITY_PROTOCOL is SSL"),
        ("KAFKA_PASSWORD_FILE=@password", "FLEETWAKE_KAFKA_PASSWORD_FILE is set but FLEETWAKE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT"),
        ("KAFKA_CA_FILE=@ca", "FLEETWAKE_KAFKA_CA_FILE is set but FLEETWAKE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT, without TLS; set .*=SSL"),
        (f"{TLS} KAFKA_CERTIFICATE_FILE=@certificate", "FLEETWAKE_KAFKA_CERTIFICATE_FILE is set but FLEETWAKE_KAFKA_KEY_FILE is not"),
        (f"{TLS} KAFKA_KEY_FILE=@key", "FLEETWAKE_KAFKA_KEY_FILE is set but FLEETWAKE_KAFKA_CERTIFICATE_FILE is not"),
        ("KAFKA_SECURITY_PROTOCOL=SSL KAFKA_CA_FILE=@missing", "FLEETWAKE_KAFKA_CA_FILE: .*missing cannot be read .No such file.*; mount the Secret"),
        ("KAFKA_SECURITY_PROTOCOL=SSL KAFKA_CA_FILE=@folder", "FLEETWAKE_KAFKA_CA_FILE: .* cannot be read .Is a directory."),
        ("KAFKA_SECURITY_PROTOCOL=SSL KAFKA_CA_FILE=@key", "FLEETWAKE_KAFKA_CA_FILE: .* holds no certificate in PEM form"),
        ("KAFKA_SECURITY_PROTOCOL=SSL KAFKA_CA_FILE=@binary", "FLEETWAKE_KAFKA_CA_FILE: .* holds no certificate in PEM form"),
        (f"{TLS} KAFKA_CERTIFICATE_FILE=@key KAFKA_KEY_FILE=@key", "FLEETWAKE_KAFKA_CERTIFICATE_FILE: .* holds no certificate"),
        (f"{TLS} KAFKA_CERTIFICATE_FILE=@certificate KAFKA_KEY_FILE=@certificate", "FLEETWAKE_KAFKA_KEY_FILE: .* holds no private key"),
        (f"{TLS} KAFKA_CERTIFICATE_FILE=@certificate KAFKA_KEY_FILE=@other_key", "FLEETWAKE_KAFKA_KEY_FILE: .* is not the key of the certificate in"),
        (f"{TLS} KAFKA_CERTIFICATE_FILE=@certificate KAFKA_KEY_FILE=@encrypted_key", "FLEETWAKE_KAFKA_KEY_FILE: .* is encrypted"),
        (SASL.replace("@password", "@empty"), "FLEETWAKE_KAFKA_PASSWORD_FILE: .* is empty; put the secret into it"),
        (SASL.replace("@password", "@missing"), "FLEETWAKE_KAFKA_PASSWORD_FILE: .* cannot be read"),
        (SASL.replace("@password", "@binary"), "FLEETWAKE_KAFKA_PASSWORD_FILE: .* is no UTF-8 text"),
        (f"KAFKA_PASSWORD={SECRET}", "FLEETWAKE_KAFKA_PASSWORD is no setting: secrets come from files; .* set FLEETWAKE_KAFKA_PASSWORD_FILE"),
        (f"REDIS_PASSWORD={SECRET}", "FLEETWAKE_REDIS_PASSWORD is no setting: secrets come from files"),
        (f"REDIS_URL=redis://:{SECRET}@redis:6379/0", "FLEETWAKE_REDIS_URL holds a user name or a password, .* set FLEETWAKE_REDIS_PASSWORD_FILE"),
        (f"REDIS_URL=redis://{SECRET}@redis:6379/0", "FLEETWAKE_REDIS_URL holds a user name or a password"),
        (f"REDIS_URL=rediss://redis:6379/0?password={SECRET}", "FLEETWAKE_REDIS_URL holds options"),
        ("REDIS_URL=rediss://redis:6379/0?ssl_cert_reqs=none", "FLEETWAKE_REDIS_URL holds options"),
        (f"REDIS_URL=https://redis/{SECRET}", "FLEETWAKE_REDIS_URL begins with none of redis://, rediss://"),
        (f"REDIS_URL=redis://redis:{SECRET}", "FLEETWAKE_REDIS_URL is no URL"),
        ("REDIS_USERNAME=u", "FLEETWAKE_REDIS_USERNAME is set but FLEETWAKE_REDIS_PASSWORD_FILE is not"),
        ("REDIS_CA_FILE=@ca", "FLEETWAKE_REDIS_CA_FILE is set but FLEETWAKE_REDIS_URL is without TLS; write rediss://"),
        ("REDIS_PASSWORD_FILE=@missing", "FLEETWAKE_REDIS_PASSWORD_FILE: .* cannot be read"),
        ("REDIS_URL=rediss://redis:6379/0 REDIS_CA_FILE=@missing", "FLEETWAKE_REDIS_CA_FILE: .* cannot be read"),
        (f"OTLP_ENDPOINT=https://u:{SECRET}@collector", "FLEETWAKE_OTLP_ENDPOINT holds a user name or a password"),
        ("OTLP_ENDPOINT=collector:4317", "FLEETWAKE_OTLP_ENDPOINT is no http:// or https:// URL"),
        ("OTLP_ENDPOINT=http://collector:4318 OTLP_CA_FILE=@ca", "FLEETWAKE_OTLP_CA_FILE is set but FLEETWAKE_OTLP_ENDPOINT is without TLS"),
        ("OTLP_ENDPOINT=http://collector:4318 OTLP_HEADERS_FILE=@no_headers", "FLEETWAKE_OTLP_HEADERS_FILE: line 1 of .* is no header"),
        (f"WEB_PORT={SECRET}", "FLEETWAKE_WEB_PORT: Input should be a valid integer"),
        (f"KAFKA_BOOTSTRP={SECRET}", "FLEETWAKE_KAFKA_BOOTSTRP is no setting; did you mean FLEETWAKE_KAFKA_BOOTSTRAP"),
    ],
)  # fmt: skip
def test_what_does_not_is_one_line_that_names_variable_and_remedy(files: dict[str, str], variables: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        read(files, variables)
    text = str(caught.value)
    assert "\n" not in text and SECRET not in text
    causes = [caught.value.__cause__, caught.value.__context__ if not caught.value.__suppress_context__ else None]
    assert SECRET not in " ".join(map(str, causes)), "a traceback would show it"


def test_other_variables_with_the_prefix_are_kubernetes_own(files: dict[str, str]) -> None:
    assert Settings.from_env({"FLEETWAKE_ADMISSION_SERVICE_HOST": "10.0.0.1", "FLEETWAKE_ADMISSION_PORT": "tcp://10.0.0.1:443"}) == Settings()


@pytest.mark.parametrize("command", [["watch"], ["reconcile"], ["dev-infrastructure"], ["topics", "verify"], ["settings", "--check"]], ids=" ".join)
def test_a_command_ends_with_that_line(monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("FLEETWAKE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        f"fleetwake {' '.join(command[:1])}: settings: FLEETWAKE_KAFKA_SECURITY_PROTOCOL is SASL_SSL but FLEETWAKE_KAFKA_USERNAME and "
        "FLEETWAKE_KAFKA_PASSWORD_FILE is not set; set it, or choose SSL to authenticate by certificate"
    ]


def test_the_list_has_every_setting_with_words_and_a_group() -> None:
    found = described()
    assert [one.variable.removeprefix("FLEETWAKE_").lower() for one in found] == list(Settings.model_fields)
    assert all(one.group and one.purpose.endswith(".") and one.accepts for one in found)
    assert list(dict.fromkeys(one.group for one in found)) == [title for title, _ in GROUPS]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == page(), "run: fleetwake settings --markdown > docs/settings.md"


@pytest.mark.parametrize("width", [80, 160])
def test_the_list_can_be_read_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("FLEETWAKE_WEB_PORT", "9090")
    monkeypatch.setenv("FLEETWAKE_REDIS_URL", f"redis://:{SECRET}@redis/0")
    done = CliRunner().invoke(app, ["settings"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and max(map(len, lines)) <= width
    assert "FLEETWAKE_WEB_PORT = 8080" in lines and "    set here: 9090" in lines
    assert SECRET not in done.stdout
    assert all(line.startswith(("FLEETWAKE_", "    ")) or line.strip() in ("", *(title for title, _ in GROUPS)) for line in lines)


def test_the_list_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETWAKE_WEB_PORT", "9090")
    found = {one["variable"]: one for one in json.loads(CliRunner().invoke(app, ["settings", "--json"]).stdout)}
    assert found["FLEETWAKE_WEB_PORT"] == {
        "variable": "FLEETWAKE_WEB_PORT", "group": "Process", "default": "8080", "accepts": "whole number from 0 to 65535",
        "purpose": "Port of the same; 0 picks a free one.", "set": "9090",
    }  # fmt: skip
    assert found["FLEETWAKE_INSTANCE"]["default"] == "the host's name"
