"""docs/topics.md, from the topics, the records and their headers: generated, committed, checked for drift."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from schemas.documents import HEADERS_OF_DEADLETTERS, HEADERS_OF_OBJECT_RECORDS, HEADERS_OF_RESULTS
from schemas.examples import DEADLETTER, EXAMPLES, OBJECT, Example
from schemas.records import ADDED, DELETED, MODIFIED, MOVED
from schemas.results import RESULT_TYPES
from schemas.topics import ACCESS, MESSAGE_BYTES_MAX, PARTITIONS_DEFAULT, Topics, TopicSpec

ORDER = ("objects", "shared", "results", "deadletter")
ABOUT: Mapping[str, str] = {
    "objects": "Every object of every cluster, of whatever kind: the last record of a key is the object's present state. The partition is the cluster's, "
    "`murmur2(<namespace>/<clusterName>) mod partitions`, so that one worker of a service has all of a cluster, in one order.",
    "shared": "Objects of no one cluster: templates, ClusterClasses, ClusterResourceSets and their data, drain rules, extension configurations, "
    "CustomResourceDefinitions.",
    "results": "The audit trail: what each run that writes was going to do, what came of it, and how an interrupted one was closed. CloudEvents 1.0 in Kafka's "
    "binary mode; the partition is the cluster's. Each record is sealed into a chain: [audit.md](audit.md).",
    "deadletter": "Records of the other topics that cannot be decoded, as they came. Nothing else is put here: what can be decoded and cannot be done "
    "is retried, or told in a condition. No service reads it; people do.",
}
KEYS: Mapping[str, str] = {
    "objects": "`group/kind/namespace/name`; an object of a workload cluster has `@<namespace>/<cluster>` behind it",
    "shared": "`group/kind/namespace/name`",
    "results": "`<namespace>/<cluster>`, or the object's key where it belongs to no cluster",
    "deadletter": "as the record's",
}
RECORDS: Mapping[str, str] = {
    "objects": f"`{ADDED}`, `{MODIFIED}`; `{DELETED}` with the final object and `{MOVED}` (it lives in another partition now), each followed by a tombstone. "
    "The value is the object's JSON without managedFields; secret values are replaced by keyed hashes.",
    "shared": "as of `objects`",
    "results": "by `ce_type`; JSON Schemas are in [schemas/generated/json](../schemas/generated/json)",
    "deadletter": "the record as it came, its headers kept and these added",
}
HEADERS: Mapping[str, Mapping[str, str]] = {
    "objects": HEADERS_OF_OBJECT_RECORDS,
    "shared": HEADERS_OF_OBJECT_RECORDS,
    "results": HEADERS_OF_RESULTS,
    "deadletter": HEADERS_OF_DEADLETTERS,
}
DAY_MS, MINUTE_MS = 24 * 3600 * 1000, 60 * 1000

HEAD = f"""# Topics

Generated from `schemas/` by `fleetwake schemas generate`: do not edit. The same for programs: [asyncapi.json](../schemas/generated/asyncapi.json).

Names begin with `FLEETWAKE_TOPIC_PREFIX` (here `capi`). Clustered topics have `FLEETWAKE_PARTITIONS` partitions (default {PARTITIONS_DEFAULT}), which is the
most workers of one service that can share the work; it cannot change later. Records have up to {MESSAGE_BYTES_MAX // 1024 // 1024} MiB, end to end.
`fleetwake topics create` makes and verifies them; the replication factor is `FLEETWAKE_REPLICATION` (default: the broker's).

"""


def rendered() -> str:
    """The page."""
    topics = Topics()
    specs = {spec.name: spec for spec in topics.specs()}
    named = {name: specs[getattr(topics, name)] for name in ORDER}
    return HEAD + "\n".join([*_overview(named), *(line for name in ORDER for line in _topic(name, named[name]))]) + "\n"


def _overview(named: Mapping[str, TopicSpec]) -> Iterator[str]:
    yield "| topic | partitions | kept | written by | read by |"
    yield "|---|---|---|---|---|"
    for name, spec in named.items():
        access = ACCESS[name]
        yield f"| [`{spec.name}`](#{spec.name.replace('.', '')}) | {spec.partitions} | {_kept(spec)} | {_names(access.writes)} | {_names(access.reads)} |"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "people"


def _kept(spec: TopicSpec) -> str:
    if spec.config["cleanup.policy"] == "compact":
        return f"compacted, nothing younger than {int(spec.config['min.compaction.lag.ms']) // MINUTE_MS} min"
    return f"{int(spec.config['retention.ms']) // DAY_MS} days"


def _topic(name: str, spec: TopicSpec) -> Iterator[str]:
    yield f"\n## {spec.name}"
    yield ABOUT[name]
    yield ""
    yield "| | |"
    yield "|---|---|"
    yield f"| key | {KEYS[name]} |"
    yield f"| partitions | {spec.partitions} |"
    yield f"| settings | {', '.join(f'`{setting}={value}`' for setting, value in sorted(spec.config.items()))} |"
    yield f"| written by | {_names(ACCESS[name].writes)} |"
    yield f"| read by | {_names(ACCESS[name].reads)} |"
    yield f"| records | {RECORDS[name]} |"
    if name == "shared":
        yield "\nHeaders as of `objects`."
        return
    yield "\n| header | is |"
    yield "|---|---|"
    for header, text in HEADERS[name].items():
        yield f"| `{header}` | {text.replace('|', chr(92) + '|')} |"
    yield from _examples(name)


def _examples(name: str) -> Iterator[str]:
    if name == "results":
        for model in RESULT_TYPES:
            yield f"\n### {model.TYPE}"
            yield (model.__doc__ or "").strip().splitlines()[0]
            yield from _example(EXAMPLES[model.TYPE])
    else:
        yield "\nFor example:"
        yield from _example(EXAMPLES[OBJECT if name == "objects" else DEADLETTER])


def _example(example: Example) -> Iterator[str]:
    yield "\n```"
    yield f"key      {example.key}"
    yield from (f"{header}: {value}" for header, value in example.text_headers.items())
    yield ""
    yield json.dumps(example.json, indent=2) if example.json is not None else example.text
    yield "```"
