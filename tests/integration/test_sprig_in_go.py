"""Go's own text/template with sprig renders the corpus of tests/golden/templates: the recorded texts are Go's."""

from __future__ import annotations

import json
import subprocess

from fleetwake.rig.progress import Progress
from fleetwake.rig.tools import tool
from tests.decide.test_sprig import FOUND


def test_go_renders_the_corpus() -> None:
    texts = [one["template"] for one in FOUND["templates"]]
    command = [str(tool("sprigtemplate", Progress())), json.dumps(FOUND["data"])]
    ran = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, check=True, timeout=60)
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    rendered = [
        {"template": text, **({"error": True} if answer.get("error") else {"text": answer["text"]})} for text, answer in zip(texts, answers, strict=True)
    ]
    assert rendered == FOUND["templates"]
