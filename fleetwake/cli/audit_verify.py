"""``fleetwake audit verify``: whether results, and a trail made of them, are what their writers wrote."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetwake.cli.looking import StateDir, looking

if TYPE_CHECKING:
    from fleetwake.settings import Settings
    from services.audit_trail.compare import TrailReader

FAILED = 1
FINDINGS_SHOWN_MAX = 200
ROWS_COMPARED_AT_ONCE = 200


def verify(
    database: Annotated[str, typer.Option(help="Also hold the topic against this trail, and the trail against itself.")] = "",
    password_file: Annotated[str, typer.Option(metavar="FILE", help="File with the PostgreSQL user's password.")] = "",
    database_only: Annotated[bool, typer.Option("--database-only", help="Verify the trail alone, without Kafka.")] = False,
    copy: Annotated[bool, typer.Option("--copy", help="The topic is a copy (mirrored, restored): its offsets are not those the writers saw.")] = False,
    key_file: Annotated[
        list[Path] | None, typer.Option("--key-file", metavar="FILE", help="Keys as files, raw or base64, instead of the installation's Secret.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a finding, and a last one with the sums.")] = False,
    state: StateDir = None,
) -> None:
    """Find records that were altered, removed or reordered since they were sealed. Exits 1 when there is one.

    What a seal proves, and what it does not, is in docs/audit.md.
    """
    with looking("audit verify"):
        raise typer.Exit(_verify((database, password_file, database_only), key_file or [], (copy, as_json), state))


def _verify(trail: tuple[str, str, bool], key_files: list[Path], options: tuple[bool, bool], state: Path | None) -> int:
    from fleetwake.views.connection import ViewError, connect
    from fleetwake.views.events import plain

    database, password_file, database_only = trail
    copy, as_json = options
    if database_only and not database:
        raise ViewError("--database-only needs --database")
    needed = [] if database_only else ["kafka_bootstrap"]
    settings = connect(*needed, *([] if key_files else ["kubeconfig"]), state_dir=state, identity="audit").settings
    keys = _keys(key_files) if key_files else asyncio.run(_secret_keys(settings))
    sums: Counter[str] = Counter()
    faults = 0
    with _opened(database, password_file) as reader:
        found_in_topic = iter(()) if database_only else _topic(settings, keys, copy, sums, reader)
        found_in_trail = iter(()) if reader is None else _trail(reader, keys, sums)
        faults = _tell(chain(found_in_topic, found_in_trail), sums, as_json)
    if as_json:
        typer.echo(plain({"faults": faults, **sums}).decode(), nl=False)
    else:
        typer.echo(_summary(sums, faults))
    return FAILED if faults else 0


@contextmanager
def _opened(database: str, password_file: str) -> Generator[TrailReader | None, None, None]:
    if not database:
        yield None
        return
    from services.audit_trail.compare import opened

    with opened(database, password_file) as reader:
        yield reader


def _tell(findings: Iterable[Any], sums: Counter[str], as_json: bool) -> int:
    """Print what was found as it comes; returns how many faults it was."""
    from fleetwake.views.events import plain

    faults = 0
    for number, found in enumerate(findings):
        faults += found.fault
        sums[f"finding {found.kind.value}"] += 1
        if as_json:
            typer.echo(plain(_plain(found)).decode(), nl=False)
        elif number < FINDINGS_SHOWN_MAX:
            typer.echo(f"{'FAULT' if found.fault else 'note '}  {found}")
        elif number == FINDINGS_SHOWN_MAX:
            typer.echo("… more findings: --json has all")
    return faults


def _plain(found: Any) -> Mapping[str, Any]:
    return {"fault": found.fault, "kind": found.kind.value, "partition": found.partition, "offset": found.offset, "text": found.text}


def _summary(sums: Mapping[str, int], faults: int) -> str:
    parts = [f"{sums['records']} records on the topic, {sums['sealed']} of them sealed, in {sums['chains']} chains of {sums['partitions']} partitions"]
    if sums["rows"]:
        parts.append(f"{sums['rows']} records of the trail")
    return f"{'; '.join(parts)}: {'no fault' if not faults else f'{faults} FAULTS'}"


def _keys(files: Iterable[Path]) -> dict[str, bytes]:
    import base64
    import binascii

    from fleetwake.views.connection import ViewError
    from schemas.chain import KEY_BYTES_MIN, key_id

    found: dict[str, bytes] = {}
    for path in files:
        try:
            held = path.read_bytes()
        except OSError as error:
            raise ViewError(f"key file {path}: {error.strerror}") from error
        try:
            key = base64.b64decode(held.strip(), validate=True)
        except binascii.Error:
            key = held
        if len(key) < KEY_BYTES_MIN:
            key = held
        if len(key) < KEY_BYTES_MIN:
            raise ViewError(f"key file {path}: a key has {KEY_BYTES_MIN} bytes or more, this has {len(held)}")
        found[key_id(key)] = key
    return found


async def _secret_keys(settings: Settings) -> dict[str, bytes]:
    from fleetwake.errors import FleetwakeError
    from fleetwake.kube import config
    from fleetwake.kube.client import ApiClient
    from fleetwake.kube.sealing import SEALING_SECRET, verifying_keys
    from fleetwake.views.connection import ViewError

    async with ApiClient(config.load(settings.kubeconfig), service="audit") as client:
        try:
            return dict(await verifying_keys(client, settings.system_namespace))
        except FleetwakeError as error:
            place = f"Secret {settings.system_namespace}/{SEALING_SECRET}"
            raise ViewError(f"the key that records are sealed with could not be read from {place} ({error.message}): give it as --key-file") from error


def _topic(settings: Settings, keys: Mapping[str, bytes], copy: bool, sums: Counter[str], trail: TrailReader | None) -> Iterator[Any]:
    """The topic's records, partition by partition, each also against the trail's rows where there is one."""
    from fleetwake.stream.reading import TopicReader
    from fleetwake.views.verification import LogFacts, Message, Verification

    topic = settings.topics.results
    reached = trail.positions(topic) if trail is not None else {}
    with TopicReader(settings.kafka, topic, "fleetwake-audit-verify") as reader:
        numbers = reader.partitions()
        starts, ends = reader.starts(numbers), reader.ends(numbers)
        for number in numbers:
            verification = Verification(LogFacts(number, starts[number], copy), keys)
            waiting: list[Message] = []
            for found in reader.read({number: starts[number]}, {number: ends[number]}):
                message = Message(found.partition, found.offset, found.key, found.value, list(found.headers))
                yield from verification.take(message)
                if trail is not None and message.offset < reached.get(number, 0):
                    waiting.append(message)
                    if len(waiting) >= ROWS_COMPARED_AT_ONCE:
                        yield from trail.compare(topic, waiting)
                        waiting = []
            if trail is not None and waiting:
                yield from trail.compare(topic, waiting)
            yield from verification.finish()
            for name in ("records", "sealed", "chains"):
                sums[name] += getattr(verification, name)
            sums["partitions"] += 1


def _trail(trail: TrailReader, keys: Mapping[str, bytes], sums: Counter[str]) -> Iterator[Any]:
    """The trail against itself, also what the topic no longer has."""
    yield from trail.heads()
    for number in trail.partitions():
        for found in trail.seals(number, keys):
            # what is no fault of the topic's was told of the topic
            if found.fault:
                yield replace(found, text=f"in the database: {found.text}")
        sums["rows"] += trail.verified
