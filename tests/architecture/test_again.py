"""What a second run takes: a test that failed, or the whole file where its tests build on each other."""

from __future__ import annotations

from pathlib import Path

from tests.again import ROOT, again


def test_a_test_of_a_history_is_run_again_with_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "story.py").write_text("pytestmark = [pytest.mark.history, pytest.mark.e2e]\n")
    (tmp_path / "single.py").write_text("pytestmark = pytest.mark.e2e\n")
    failed = ["story.py::test_end", "single.py::test_one[a b]", "story.py::test_begin", "single.py::test_two"]
    assert again(failed, tmp_path) == ["single.py::test_one[a b]", "single.py::test_two", "story.py"]


def test_a_file_that_could_not_be_read_is_run_again(tmp_path: Path) -> None:
    assert again(["gone.py"], tmp_path) == ["gone.py"]


def test_the_marked_file_is_one() -> None:
    file = "tests/observability/test_prometheus.py"
    assert again([f"{file}::test_panels_of_faults_have_data_now"], ROOT) == [file]
