"""A process that is to end ends, also when what it waits for never comes."""

from __future__ import annotations

import subprocess
import sys
import textwrap

LIMIT_S = 30.0


def _run(body: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(body)], capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_a_process_that_waits_for_ever_ends_and_says_so() -> None:
    ended = _run("""
        import asyncio, threading
        from fleetwake.shell.ending import end_within
        threading.Thread(target=threading.Event().wait).start()
        end_within(0.1)
        asyncio.run(asyncio.Event().wait())
    """)
    assert ended.returncode == 1
    assert "the orderly end has not come within 0 s" in ended.stderr


def test_an_orderly_end_is_not_disturbed() -> None:
    ended = _run("""
        from fleetwake.shell.ending import end_within
        end_within(3600)
        print("done")
    """)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "done\n", "")
