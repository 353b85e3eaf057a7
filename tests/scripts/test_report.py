"""report.py as a person runs it: which files, which words, which exit codes."""

from __future__ import annotations

from functools import partial

import pytest
from vllm_bench.page import pdf

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


@pytest.mark.browser
def test_a_pdf_is_printed_by_a_browser(results):
    if pdf.browser() is None:
        pytest.skip("no Chromium here")
    done = report("--results-dir", results, "--out", results / "new folder" / "report.PDF")
    assert (done.returncode, done.stderr) == (0, "")
    (made,) = (results / "new folder").iterdir()  # nothing else is left there
    assert made.read_bytes().startswith(b"%PDF")
    assert made.stat().st_size > 50_000  # its charts are drawn
    assert not (results / "report.html").exists()


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("a.pdf", ("Chromium", "install", ".html")),
        ("a.png", (".html", ".pdf", "plot.py")),
        ("a.docx", (".html", ".pdf")),
        (".", ("folder",)),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(results, out, words):
    done = report("--results-dir", results, "--out", out, cwd=results, PATH="/nowhere")
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert [word for word in (f"--out {out}", *words) if word not in line] == []
    assert not list(results.glob("a.*"))


@pytest.mark.parametrize(
    "script", ["exit 1", "exec sleep 60", "exit 0"], ids=["fails", "hangs", "writes nothing"]
)
def test_a_browser_that_prints_nothing_is_told(results, monkeypatch, script):
    browser = results / "chromium"
    browser.write_text(f"#!/bin/sh\n{script}\n")
    browser.chmod(0o755)
    monkeypatch.setattr(pdf, "LIMIT_S", 0.5)
    with pytest.raises(pdf.PdfError, match="printed no PDF"):
        pdf.to_pdf(b"<html></html>", str(browser), results)
    assert not list(results.glob("pdf-*"))
