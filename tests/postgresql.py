"""A PostgreSQL of the session: Debian's, as a plain process of an unprivileged user in a folder of its own, on a loopback port, with a password."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import wait_until
from fleetwake.rig.progress import Progress
from fleetwake.rig.toolchain import debian

PROGRAMS = Path("/usr/lib/postgresql")
USERS = ("postgres", "nobody")
USER = "fleetwake"
START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0
SETTINGS = (
    # a server that only tests write to: its own crash is not what they are about
    "fsync=off",
    "shared_buffers=32MB",
    "max_connections=40",
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "logging_collector=off",
)


def programs() -> Path:
    """The folder with ``initdb`` and ``postgres``; the package is installed when it is missing and we are root."""
    for _ in range(2):
        found = sorted(PROGRAMS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0]))
        if found:
            return found[-1].parent
        debian("pg_lsclusters", "postgresql", "is a database the audit trail is tested on", Progress())
    raise AssertionError(f"Debian's postgresql is installed and there is no initdb under {PROGRAMS}")


class Postgresql:
    """The running server."""

    def __init__(self) -> None:
        self._programs = programs()
        self._as = _unprivileged()
        self._folder = Path(tempfile.mkdtemp(prefix="fleetwake-postgresql-"))
        self._folder.chmod(0o755)
        self.password_file = self._folder / "password"
        self.password_file.write_text(secrets.token_urlsafe(24) + "\n")
        (self.port,) = free_ports(1)
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Make the cluster and serve."""
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        for path in (data, self.password_file):
            if "user" in self._as:
                shutil.chown(path, self._as["user"])
        self._run("initdb", "-D", str(data), "-U", USER, "-A", "scram-sha-256", f"--pwfile={self.password_file}", "-E", "UTF8", "--no-sync")
        settings = [part for setting in SETTINGS for part in ("-c", setting)]
        with (self._folder / "log").open("wb") as log:
            command = [str(self._programs / "postgres"), "-D", str(data), "-p", str(self.port), *settings]
            self._server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self._folder, **self._as)
        wait_until(self._answers, START_LIMIT_S, "PostgreSQL")

    def stop(self) -> None:
        """End it and remove its folder."""
        if self._server is not None:
            self._server.send_signal(2)  # SIGINT: fast shutdown
            try:
                self._server.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def url(self, database: str = "postgres") -> str:
        """Where a database is; the password is in ``password_file``."""
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def database(self) -> str:
        """Make a database that no other test has; returns its URL."""
        name = f"t{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def connect(self, database: str = "postgres") -> Any:
        """A connection outside any transaction."""
        import psycopg

        password = self.password_file.read_text().strip()
        return psycopg.connect(host="127.0.0.1", port=self.port, user=USER, dbname=database, password=password, autocommit=True)

    def _answers(self) -> bool:
        import psycopg

        if self._server is not None and self._server.poll() is not None:
            raise AssertionError(f"PostgreSQL ended: {(self._folder / 'log').read_text()[-2000:]}")
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self._programs / program), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=self._folder, **self._as)
        assert done.returncode == 0, done.stdout + done.stderr


def _unprivileged() -> dict[str, Any]:
    """Whom to run as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return {}
    for name in USERS:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise AssertionError(f"none of the users {USERS} is there")
