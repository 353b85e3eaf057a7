"""report.py as a person runs it: which files, which words, which exit codes."""

from __future__ import annotations

from functools import partial

import pytest

from tests.page.reported import write_level
from tests.support.made_runs import write_gpu_rows
from tests.support.reading import one_line
from tests.support.running import run_script

pytestmark = pytest.mark.process
report = partial(run_script, "bench/report.py")


@pytest.fixture
def results(tmp_path):
    """A results folder with two levels of one scenario."""
    for streams in (4, 8):
        write_level(tmp_path, streams, count=100)
    return tmp_path


def test_no_file_means_every_run_of_the_folder(results):
    done = report("--results-dir", results)
    assert (done.returncode, done.stderr) == (0, "")
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "made-cc4-0" in page
    assert "made-cc8-0" in page
    assert done.stdout.startswith(f"{results / 'report.html'} (")


def test_a_run_that_is_named_is_reported_alone(results):
    done = report("made-cc8-0", cwd=results)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (results / "report.html").exists()  # of all
    page = (results / "reports" / "made-cc8-0.html").read_text(encoding="utf-8")
    assert "made-cc8-0" in page
    assert "made-cc4-0" not in page


def test_out_names_the_page_and_makes_its_folder(results, tmp_path):
    done = report("--results-dir", results, "--out", tmp_path / "new" / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new" / "page.html").exists()
    assert not (results / "report.html").exists()


def test_what_does_not_exist_is_named_and_the_others_are_still_reported(results):
    done = report("made-cc8-0", "nothing", cwd=results)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("report.py: nothing: ")
    assert (results / "reports" / "made-cc8-0.html").exists()


def test_damaged_samples_are_one_line_and_the_others_are_still_reported(results):
    path = write_gpu_rows(results / "made-cc4-0.csv", [])
    path.write_text("t_s,gpu_index\n1,2\n")
    done = report("--results-dir", results)
    assert done.returncode == 1
    assert f"{path}: " in one_line(done.stderr)
    assert "made-cc8-0" in (results / "report.html").read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_is_one_line(results):
    (results / "file").write_text("")
    path = results / "file" / "page.html"
    done = report("--results-dir", results, "--out", path)
    assert done.returncode == 1
    assert f"{path}: " in one_line(done.stderr)
