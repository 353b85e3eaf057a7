"""report.py as a person runs it: which files, which words, which exit codes."""

from __future__ import annotations

import pytest

from tests.page.reported import write_level
from tests.scripts.test_summarize import script
from tests.support.made_runs import write_gpu_rows

pytestmark = pytest.mark.process


@pytest.fixture
def results(tmp_path):
    """A results folder with two levels of one scenario."""
    for streams in (4, 8):
        write_level(tmp_path, streams, count=100)
    return tmp_path


def test_no_file_means_every_run_of_the_folder(results):
    done = script("report", "--results-dir", results)
    assert (done.returncode, done.stderr) == (0, "")
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "made-cc4-0" in page
    assert "made-cc8-0" in page
    assert done.stdout.startswith(f"{results / 'report.html'} (")


@pytest.mark.parametrize("named", ["made-cc8-0.csv", "made-cc8-0.json", "made-cc8-0", "*cc8*"])
def test_a_run_is_named_by_either_file_its_id_or_a_quoted_glob(results, named):
    done = script("report", named, cwd=results)
    assert (done.returncode, done.stderr) == (0, "")
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "made-cc8-0" in page
    assert "made-cc4-0" not in page


def test_out_names_the_page_and_makes_its_folder(results, tmp_path):
    done = script("report", "--results-dir", results, "--out", tmp_path / "new" / "page.html")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "new" / "page.html").exists()
    assert not (results / "report.html").exists()


def test_no_runs_is_one_line_and_exit_1(tmp_path):
    done = script("report", "--results-dir", tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"report.py: no runs in {tmp_path}: make some with make bench\n"


def test_what_does_not_exist_is_named_and_the_others_are_still_reported(results):
    done = script("report", "made-cc8-0", "nothing", cwd=results)
    assert done.returncode == 1
    assert "report.py: nothing: no such run" in done.stderr
    assert (results / "report.html").exists()


def test_damaged_samples_are_one_line_and_the_others_are_still_reported(results):
    write_gpu_rows(results / "made-cc4-0.csv", [])
    (results / "telemetry" / "made-cc4-0.csv").write_text("t_s,gpu_index\n1,2\n")
    done = script("report", "--results-dir", results)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "not GPU samples" in done.stderr
    assert "made-cc8-0" in (results / "report.html").read_text(encoding="utf-8")


def test_a_flag_that_it_does_not_know_is_exit_2():
    assert script("report", "--colour").returncode == 2


def test_a_folder_that_cannot_be_written_is_one_line(results):
    (results / "file").write_text("")
    done = script("report", "--results-dir", results, "--out", results / "file" / "page.html")
    assert done.returncode == 1
    assert "report not written" in done.stderr
    assert done.stderr.count("\n") == 1
