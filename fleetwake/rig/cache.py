"""Where the rig keeps what it built and what it runs: outside the checkout, shared by all checkouts of a user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetwake.rig.progress import Progress

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = CHECKOUT / "rig"
DIGEST_LENGTH = 16


def cache_dir() -> Path:
    """The cache folder: ``$FLEETWAKE_CACHE``, else ``~/.cache/fleetwake``."""
    return Path(os.environ.get("FLEETWAKE_CACHE") or Path.home() / ".cache" / "fleetwake")


def default_state_dir() -> Path:
    """The state folder of this checkout's rig: ``$FLEETWAKE_STATE``, else one in the cache folder named after the checkout's path."""
    chosen = os.environ.get("FLEETWAKE_STATE")
    return Path(chosen) if chosen else cache_dir() / "state" / digest(str(CHECKOUT))


def digest(*parts: str | Path) -> str:
    """Digest texts and files (each file by its name and bytes) into a short hexadecimal name."""
    total = hashlib.sha256()
    for part in parts:
        body = part.name.encode() + b"\0" + part.read_bytes() if isinstance(part, Path) else part.encode()
        total.update(len(body).to_bytes(8, "big") + body)
    return total.hexdigest()[:DIGEST_LENGTH]


@contextmanager
def locked(path: Path, *, blocking: bool = True) -> Iterator[None]:
    """Hold the lock file ``path``, which the kernel frees when the process dies.

    Raises:
        BlockingIOError: ``blocking`` is off and another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        yield
    finally:
        os.close(handle)


def artifact(name: str, build: Callable[[Path], None], progress: Progress) -> Path:
    """Return the folder ``name`` of the cache, made by ``build`` when it is not there.

    ``build`` fills an empty folder that is renamed when it is whole, so a build that was killed leaves nothing that is taken for
    finished; processes that want the same folder at the same time wait for the first.
    """
    folder = cache_dir() / name
    if folder.is_dir():
        return folder
    lock = cache_dir() / f"{name}.lock"
    try:
        with locked(lock, blocking=False):
            _build_under_lock(folder, build)
    except BlockingIOError:
        progress.step(f"another process builds {name}; waiting for it")
        with locked(lock):
            _build_under_lock(folder, build)
    return folder


def _build_under_lock(folder: Path, build: Callable[[Path], None]) -> None:
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    build(part)
    part.rename(folder)
