"""Records stay readable: schemas are generated from the models, and messages recorded by earlier versions still parse."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import jsonschema
import orjson
import pytest

from schemas import documents
from schemas.keys import ObjectKey
from schemas.records import DELETED, Actor, ObjectRecord, Version
from schemas.results import RESULT_TYPES, Run

GENERATED = Path(str(resources.files("schemas"))) / "generated"
RECORDED = Path(__file__).parent / "recorded"


def test_generated_documents_are_what_the_models_say() -> None:
    for path, text in documents.rendered().items():
        assert (GENERATED / path).read_text() == text, f"{path}: run `fleetwake schemas generate`"


@pytest.mark.parametrize("model", RESULT_TYPES, ids=lambda model: model.TYPE)
def test_recorded_results_are_still_read_and_valid(model: type[Run]) -> None:
    found = sorted(RECORDED.glob(f"{model.TYPE}*.json"))
    assert found, f"no recorded message of {model.TYPE}"
    for path in found:
        message = orjson.loads(path.read_bytes())
        jsonschema.validate(message, documents.result_schema(model))
        run = model.model_validate(message)
        assert orjson.loads(run.model_dump_json(by_alias=True, exclude_unset=True)) == message


def test_an_object_record_survives_the_wire() -> None:
    key = ObjectKey("cluster.x-k8s.io", "Machine", "default", "m1")
    record = ObjectRecord(key, "MODIFIED", Version(3, 42), "default/demo", b"{}", 1.5, 2.5, Actor("kubectl", "Apply", "", "2026-01-01T00:00:00Z"), "00-1-2-01")
    assert ObjectRecord.decode(str(key).encode(), record.value, record.headers()) == record


def test_a_bare_tombstone_is_a_delete() -> None:
    record = ObjectRecord.decode(b"/Node//n1@default/demo", None, [])
    assert (record.type, record.version, record.key.cluster) == (DELETED, Version(0, 0), "default/demo")


@pytest.mark.parametrize(
    ("key", "value", "headers", "complaint"),
    [
        (None, b"{}", [], "without a key"),
        (b"nonsense", b"{}", [], "not enough values"),
        (b"g/K/n/a", b"{}", [], "missing or malformed"),
        (b"g/K/n/a", b"{}", [("type", b"RENAMED"), ("epoch", b"0"), ("rv", b"1")], "RENAMED"),
        (b"g/K/n/a", b"{}", [("type", b"ADDED"), ("epoch", b"0"), ("rv", b"x")], "malformed"),
    ],
    ids=["no key", "short key", "no headers", "unknown type", "bad version"],
)
def test_what_cannot_be_decoded_says_why(key: bytes | None, value: bytes, headers: list[tuple[str, bytes]], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        ObjectRecord.decode(key, value, headers)
