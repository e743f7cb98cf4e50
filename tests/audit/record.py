"""Record ``recorded_run`` anew: ``python -m tests.audit.record``. A rig of its own does the deeds; what the topic and the audit log then hold is kept."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path

import orjson

from fleetwake.connections.kafka import Kafka
from fleetwake.rig import Rig
from fleetwake.stream.reading import TopicReader
from fleetwake.views.events import as_event, plain
from tests.audit.deeds import NAME, Deeds
from tests.audit.recorded import FOLDER, REQUESTS, RESULTS, SCRIPT
from tests.e2e.api import Api
from tests.e2e.fleet import ACCOUNTS, Fleet
from tests.e2e.recorder import Recorder
from tests.e2e.topics import TOPICS

NAMESPACE = "shop"
KEPT = ("auditID", "stage", "verb", "user", "impersonatedUser", "userAgent", "objectRef", "responseStatus", "requestURI", "requestReceivedTimestamp")
READS = ("get", "list", "watch")


def main() -> None:
    """Do, read, write."""
    FOLDER.mkdir(exist_ok=True)
    rig = Rig.up(Path(tempfile.mkdtemp(prefix="fleetwake-record-")) / "rig", workers=1, bound_to=os.getpid())
    try:
        api = Api(rig.endpoints().kubeconfig)
        recorder = Recorder(api)
        fleet = Fleet(rig, api, recorder)
        fleet.kubectl("create", "namespace", NAMESPACE)
        deeds = Deeds(fleet, NAMESPACE).all()
        fleet.fall_silent()
        recorder.stop()
        RESULTS.write_bytes(gzip.compress(b"".join(_results(rig.kafka())), mtime=0))
        REQUESTS.write_bytes(gzip.compress(b"".join(_requests(fleet)), mtime=0))
        SCRIPT.write_text(json.dumps({"namespace": NAMESPACE, "cluster": NAME, "deeds": [deed.as_json() for deed in deeds]}, indent=1) + "\n")
    finally:
        rig.down()


def _results(kafka: Kafka) -> list[bytes]:
    with TopicReader(kafka, TOPICS.results, "record") as reader:
        numbers = reader.partitions()
        messages = sorted(reader.read(reader.starts(numbers), reader.ends(numbers)), key=lambda message: (message.partition, message.offset))
    return [plain(as_event(message)) for message in messages]


def _requests(fleet: Fleet) -> list[bytes]:
    """The writes of others, as far as they tell anything."""
    found = []
    for event in fleet.audit():
        if event["verb"] in READS or event["user"]["username"].startswith(ACCOUNTS) or not event.get("objectRef"):
            continue
        if event["objectRef"].get("namespace") == NAMESPACE:
            kept = {name: event[name] for name in KEPT if name in event}
            found.append(orjson.dumps(kept, option=orjson.OPT_APPEND_NEWLINE))
    return found


if __name__ == "__main__":
    main()
