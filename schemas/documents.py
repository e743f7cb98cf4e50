"""JSON Schemas of the records and the AsyncAPI document of the topics, from the models; committed under ``generated/`` and checked for drift."""

from __future__ import annotations

import json
from typing import Any

from schemas import chain
from schemas.examples import EXAMPLES
from schemas.records import RECORD_TYPES
from schemas.results import RESULT_TYPES, Run
from schemas.sights import ConnectionStatus, PresenceStatus
from schemas.topics import MESSAGE_BYTES_MAX, PARTITIONS_DEFAULT, Topics

DIALECT = "https://json-schema.org/draft/2020-12/schema"

HEADERS_OF_OBJECT_RECORDS: dict[str, str] = {
    "type": f"One of {', '.join(RECORD_TYPES)}. A tombstone (no value) follows DELETED and MOVED and carries the same headers.",
    "epoch": "The history of the API server that the resourceVersion belongs to; greater is newer.",
    "rv": "metadata.resourceVersion; ordered within one epoch.",
    "cluster": "<namespace>/<name> of the Cluster the object belongs to, which decides the partition; empty on the shared topic.",
    "received": "Unix seconds when the watch line was read.",
    "produced": "Unix seconds when the record was handed to the producer.",
    "actor": "Who wrote last: field manager, operation, subresource, RFC 3339 time, separated by the unit separator (0x1f).",
    "traceparent": "W3C trace context, where one is known.",
}

HEADERS_OF_RESULTS: dict[str, str] = {
    "ce_specversion": "1.0",
    "ce_id": "<plan id>/<planned|done|recovered>: drop repeats by it.",
    "ce_source": "/fleetwake/<service>/<instance>",
    "ce_type": "One of " + ", ".join(model.TYPE for model in RESULT_TYPES),
    "ce_subject": "The key of the object: group/kind/namespace/name.",
    "ce_time": "RFC 3339.",
    "ce_partitionkey": "<namespace>/<name> of the Cluster.",
    "content-type": "application/json",
    "traceparent": "The span of the run.",
    chain.CHAIN: "The chain the record stands in: one life of one writer in one partition.",
    chain.SEQUENCE: "Its number in the chain, from 1.",
    chain.PREVIOUS: "The hash (ce_chainmac) of the record before it in the chain; empty for the first.",
    chain.ACKNOWLEDGED: "<number>@<offset> of the newest record of the chain that was known to be in Kafka, with all before it.",
    chain.LOOKED: "<from>-<to>, offsets: where the writer looked for other chains before it began this one. On the first records of a chain.",
    chain.HEADS: "<chain>:<number>@<offset>:<hash>, ...: the newest record of each chain it found there. On the first records of a chain.",
    chain.KEY_ID: "Which key sealed the record.",
    chain.MAC: "HMAC-SHA256 (hex) over partition, key, value and every other header. See docs/audit.md.",
}

HEADERS_OF_DEADLETTERS: dict[str, str] = {
    "source": "<topic>[<partition>]@<offset> of the record.",
    "error": "Why it could not be decoded.",
    "remedy": "What would make it readable.",
    "cut": "From how many bytes the value was cut, where it was too large to be kept whole.",
}


def result_schema(model: type[Run]) -> dict[str, Any]:
    """The JSON Schema of one kind of result."""
    return {"$schema": DIALECT, "$id": f"urn:fleetwake:{model.TYPE}", **model.model_json_schema(by_alias=True)}


def object_headers_schema() -> dict[str, Any]:
    """The JSON Schema of an object record's headers; its value is the Kubernetes object itself."""
    return {
        "$schema": DIALECT,
        "$id": "urn:fleetwake:object-record-headers",
        "type": "object",
        "required": ["type", "epoch", "rv"],
        "properties": {name: {"type": "string", "description": text} for name, text in HEADERS_OF_OBJECT_RECORDS.items()},
    }


def _headers(described: dict[str, str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string", "description": text} for name, text in described.items()}}


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document of every topic under the default prefix."""
    topics = Topics()
    key = {"type": "string", "description": "group/kind/namespace/name; objects of a workload cluster carry @<namespace>/<cluster> behind it"}
    object_message = {
        "name": "object",
        "summary": "One state of one Kubernetes object, without managedFields and without secret values",
        "contentType": "application/json",
        "headers": _headers(HEADERS_OF_OBJECT_RECORDS),
        "payload": {"type": "object", "required": ["apiVersion", "kind", "metadata"]},
        "bindings": {"kafka": {"key": key}},
    }
    sights = {
        name: {
            "name": name,
            "summary": (model.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/json",
            "headers": _headers(HEADERS_OF_OBJECT_RECORDS),
            "payload": {"type": "object", "required": ["metadata", "status"], "properties": {"status": model.model_json_schema(by_alias=True)}},
            "bindings": {"kafka": {"key": key}},
        }
        for name, model in (("connection", ConnectionStatus), ("presence", PresenceStatus))
    }
    results = {
        model.TYPE.rpartition(".")[2]: {
            "name": model.TYPE,
            "summary": (model.__doc__ or "").strip().splitlines()[0],
            "contentType": "application/json",
            "headers": _headers(HEADERS_OF_RESULTS),
            "payload": {"$ref": f"json/{model.TYPE}.json"},
            "examples": [{"name": model.TYPE, "headers": EXAMPLES[model.TYPE].text_headers, "payload": EXAMPLES[model.TYPE].json}],
        }
        for model in RESULT_TYPES
    }
    letter = {
        "name": "deadletter",
        "summary": "A record that could not be decoded, as it came, with headers added",
        "headers": _headers(HEADERS_OF_DEADLETTERS),
        "payload": {},
    }
    described = {
        topics.objects: (
            "Objects of clusters, and what the reconcilers see in workload clusters; partition = cluster; compacted.",
            {"object": object_message, **sights},
        ),
        topics.shared: ("Objects of no one cluster (templates, classes, CRDs); one partition; compacted.", {"object": object_message}),
        topics.results: ("The audit trail, CloudEvents 1.0 in Kafka binary mode; kept 30 days.", results),
        topics.deadletter: ("Records that could not be decoded.", {"deadletter": letter}),
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "fleetwake",
            "version": "1",
            "description": f"Records of up to {MESSAGE_BYTES_MAX} bytes; clustered topics have {PARTITIONS_DEFAULT} partitions by default.",
        },
        "defaultContentType": "application/json",
        "channels": {
            name: {"address": name, "description": text, "messages": messages, "bindings": {"kafka": {"topic": name}}}
            for name, (text, messages) in described.items()
        },
        "operations": {f"produce-{name}": {"action": "send", "channel": {"$ref": f"#/channels/{name.replace('/', '~1')}"}} for name in described},
    }


def rendered() -> dict[str, str]:
    """The text of every generated document by its path under ``generated/``."""
    documents = {f"json/{model.TYPE}.json": result_schema(model) for model in RESULT_TYPES}
    documents["json/object-record-headers.json"] = object_headers_schema()
    documents["asyncapi.json"] = asyncapi()
    return {path: json.dumps(document, indent=2, sort_keys=True) + "\n" for path, document in documents.items()}
