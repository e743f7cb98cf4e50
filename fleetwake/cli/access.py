"""``fleetwake topics access``: who may do what on Kafka and Redis, as a table, as JSON, or as the commands that set it up."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.table import Table

from schemas.access import ACCESS, Access
from schemas.topics import Topics

TOOL = 'kafka-acls.sh --bootstrap-server "$BOOTSTRAP" --command-config "$ADMIN"'


def page_part(prefix: str = Topics().prefix) -> str:
    """The tables of docs/security/transport.md."""
    lines = ["| who | user | Kafka | Redis |", "|---|---|---|---|"]
    for access in ACCESS:
        purpose = access.purpose.replace("|", "\\|")
        lines.append(f"| **{access.service}**: {purpose} | `{access.user}` | {'<br>'.join(_rules(access, prefix)) or 'nothing'} | {_redis(access)} |")
    return "\n".join([*lines, ""])


def table(prefix: str) -> Table:
    """The same for a terminal."""
    found = Table("who", "Kafka", "Redis", box=None, pad_edge=False, padding=(0, 2, 1, 0), header_style="bold")
    for access in ACCESS:
        rules = "\n".join(_rules(access, prefix)).replace("`", "") or "nothing"
        found.add_row(f"[bold]{access.service}[/]\n[dim]{access.user}[/]", rules, _redis(access))
    return found


def document(prefix: str) -> str:
    """All rules as JSON."""
    return json.dumps([_plain(access, prefix) for access in ACCESS], indent=2)


def commands(prefix: str) -> Iterator[str]:
    """The kafka-acls.sh commands that allow what the table says, and nothing else."""
    for access in ACCESS:
        for rule in access.rules(prefix):
            what = ["--cluster"] if rule.resource == "cluster" else [f"--{rule.resource}", rule.name]
            pattern = ["--resource-pattern-type", "prefixed"] if rule.prefixed else []
            operations = [part for operation in rule.operations for part in ("--operation", operation)]
            yield f"{TOOL} --add " + shlex.join(["--allow-principal", f"User:{access.user}", *what, *pattern, *operations])


def _plain(access: Access, prefix: str) -> dict[str, Any]:
    rules = [asdict(rule) for rule in access.rules(prefix)]
    return {"service": access.service, "purpose": access.purpose, "user": access.user, "kafka": rules, "redis": access.redis_rules()}


def _rules(access: Access, prefix: str) -> Iterator[str]:
    for rule in access.rules(prefix):
        name = "the cluster" if rule.resource == "cluster" else f"{rule.resource} `{rule.name}{'*' if rule.prefixed else ''}`"
        yield f"{name}: {', '.join(rule.operations)}"


def _redis(access: Access) -> str:
    return {"none": "nothing", "read": "reads", "write": "reads and writes"}[access.redis]
