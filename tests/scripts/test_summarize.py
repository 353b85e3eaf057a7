"""summarize.py and plot.py as a person runs them: which files, which words, which exit codes."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.request_record import COLUMNS

from tests.support.made_runs import failed_record, made_info, made_record, write_run
from tests.support.reading import one_line
from tests.support.running import ROOT, run_script

pytestmark = pytest.mark.process


def script(name: str, *words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run bench/<name>.py."""
    return run_script(f"bench/{name}.py", *words, **more)


def healthy(run_id="made-cc4-a", count=80, **fields):
    return [made_record(i, run_id=run_id, **fields) for i in range(count)]


@pytest.fixture
def results(tmp_path):
    """A results folder with two levels of one scenario."""
    for level in (4, 8):
        records = healthy(f"made-cc{level}-a", count=100, concurrency=level)
        write_run(tmp_path, records, made_info(records))
    return tmp_path


def rows(folder: Path, name: str = "summary") -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open() as lines:
        return list(csv.DictReader(lines))


def test_no_file_means_every_run_of_the_folder(results):
    done = script("summarize", "--results-dir", results)
    assert (done.returncode, done.stderr) == (0, "")
    assert [r["run_id"] for r in rows(results)] == ["made-cc4-a", "made-cc8-a"]
    assert done.stdout.startswith("Verdict: 2 VALID")
    assert "100/100" in (results / "summary.md").read_text() + done.stdout


def test_a_second_time_the_summary_itself_is_not_taken_for_a_run(results):
    for words in (["--results-dir", results], [results / "*.csv"], [results]):
        done = script("summarize", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert len(rows(results)) == 2


@pytest.mark.parametrize(
    "named", ["made-cc8-a.csv", "made-cc8-a.json", "made-cc8-a", "made-cc8-*.csv", "made-cc8*"]
)
def test_a_run_is_named_by_either_file_its_id_or_a_quoted_glob(results, named):
    done = script("summarize", named, cwd=results)
    assert (done.returncode, done.stderr) == (0, "")
    assert [r["run_id"] for r in rows(results, "summaries/made-cc8-a")] == ["made-cc8-a"]


def test_an_id_is_looked_for_in_the_results_folder(results, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = script("summarize", "made-cc8-a", "--results-dir", results, cwd=elsewhere)
    assert done.returncode == 0
    assert len(rows(results, "summaries/made-cc8-a")) == 1


def test_a_run_named_twice_counts_once(results):
    done = script("summarize", "made-cc4-a.csv", "made-cc4-a.json", "./made-cc4*", cwd=results)
    assert done.returncode == 0
    assert len(rows(results, "summaries/made-cc4-a")) == 1


def test_a_shells_own_glob_may_name_the_summary(results):
    script("summarize", "--results-dir", results)
    named = sorted(results.glob("*.csv"))
    assert len(named) == 4
    done = script("summarize", *named)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_summary_named_alone_is_refused_by_name(results):
    script("summarize", "--results-dir", results)
    done = script("summarize", results / "summary.csv")
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"summarize.py: {results / 'summary.csv'}: ")


def test_results_go_where_the_first_run_lies_or_where_told(results, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    script("summarize", results / "made-cc4-a.csv", cwd=other)
    assert (results / "summaries" / "made-cc4-a.md").exists()
    assert list(other.iterdir()) == []
    script("summarize", results / "made-cc4-a.csv", "--results-dir", other / "new")
    assert (other / "new" / "summary.csv").exists()


@pytest.mark.parametrize("name", ["summarize", "plot", "report"])
def test_no_runs_is_one_line_and_exit_1(name, tmp_path):
    done = script(name, "--results-dir", tmp_path)
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert line.startswith(f"{name}.py: ")
    assert f"{tmp_path}: " in line
    assert line.endswith("make bench")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_runs_may_be_named_as_a_file(tmp_path):
    done = script("summarize", tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path}: " in one_line(done.stderr)


def test_a_folder_that_is_missing_is_said_to_be(tmp_path):
    gone = tmp_path / "gone"
    done = script("summarize", "--results-dir", gone)
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert line.startswith(f"summarize.py: {gone}: ")
    assert "make bench" in line
    done = script("summarize", "made-cc4-a", "--results-dir", gone)
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert line.startswith("summarize.py: made-cc4-a: ")
    assert str(gone) in line


def test_a_glob_is_looked_for_in_the_results_folder_too(results, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "made-notes.txt").write_text("not a run, though the glob matches it")
    done = script("summarize", "made-cc*", "--results-dir", results, cwd=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(rows(results, "summaries/made-cc4-a+1")) == 2
    none = script("summarize", "mad-*", "--results-dir", results, cwd=elsewhere)
    line = one_line(none.stderr)
    assert line.startswith("summarize.py: mad-*: ")
    assert str(results) in line


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n\0", b"# Title\n"])
def test_what_is_no_run_is_told_in_a_few_words(content, tmp_path):
    (tmp_path / "README.md").write_bytes(content)
    done = script("summarize", "README.md", cwd=tmp_path)
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert line.startswith("summarize.py: README.md: ")
    assert len(line) < 120


@pytest.mark.parametrize("given", ["nothing*.csv", "nothing.csv", "nothing"])
def test_what_does_not_exist_is_named_and_exit_1(given, results):
    done = script("summarize", given, cwd=results)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"summarize.py: {given}: ")


def damage(results: Path) -> None:
    (results / "torn.csv").write_text(",".join(COLUMNS) + "\nrubbish,1\nx" + ",y" * 40 + "\n")


@pytest.mark.parametrize("name", ["summarize", "plot"])
def test_a_damaged_run_is_one_line_and_the_others_are_still_done(name, results):
    damage(results)
    done = script(name, "--results-dir", results)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"{name}.py: {results / 'torn.csv'}: ")
    made = len(rows(results)) if name == "summarize" else len(list(results.glob("plots/*_cdf.png")))
    assert made == (2 if name == "summarize" else 4)


def test_a_file_of_another_kind_is_refused_where_named_and_passed_over_where_found(results):
    (results / "gpu.csv").write_text("t_s,power_w\n1,2\n")
    assert script("summarize", "--results-dir", results).returncode == 0
    done = script("summarize", results / "gpu.csv")
    assert done.returncode == 1
    assert "gpu.csv: " in one_line(done.stderr)


def test_an_older_run_is_not_passed_over_in_silence(results):
    (results / "old.csv").write_text(",".join(COLUMNS[:-1]) + "\n")
    done = script("summarize", "--results-dir", results)
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert "old.csv: " in line
    assert line.endswith(f": missing {COLUMNS[-1]}")


def test_a_torn_last_line_costs_only_that_line(results):
    path = results / "made-cc4-a.csv"
    path.write_bytes(path.read_bytes()[:-20])
    assert script("summarize", path).returncode == 0
    (row,) = rows(results, "summaries/made-cc4-a")
    assert (row["requests"], row["verdict"], row["reasons"]) == ("99", "SUSPECT", "interrupted")


def test_a_run_without_its_json_is_summed_up_and_says_so(results):
    (results / "made-cc4-a.json").unlink()
    done = script("summarize", results / "made-cc4-a.csv")
    assert done.returncode == 1
    assert "made-cc4-a.json: " in one_line(done.stderr)
    assert "no_run_info" in done.stdout
    assert rows(results, "summaries/made-cc4-a")[0]["verdict"] == "SUSPECT"


def test_a_damaged_json_is_one_line_and_the_rows_are_summed_up(results):
    (results / "made-cc4-a.json").write_text("{")
    done = script("summarize", results / "made-cc4-a.csv")
    assert done.returncode == 1
    assert "made-cc4-a.json: " in one_line(done.stderr)
    assert len(rows(results, "summaries/made-cc4-a")) == 1


def test_check_exits_4_where_a_run_is_invalid(results):
    assert script("summarize", "--check", "--results-dir", results).returncode == 0
    records = [failed_record(i, run_id="bad") for i in range(20)]
    write_run(results, records, made_info(records))
    assert script("summarize", "--results-dir", results).returncode == 0
    assert script("summarize", "--check", "--results-dir", results).returncode == 4


def with_objective(results: Path, limit_ms: float) -> None:
    for level in (4, 8):
        records = healthy(f"slo-cc{level}", count=100, concurrency=level, scenario="slo")
        info = made_info(records, scenario={"slo": {"ttft_ms": {"p50": limit_ms}}})
        write_run(results, records, info)


@pytest.mark.parametrize(("limit_ms", "status"), [(100.0, 0), (99.9, 3)])
def test_check_exits_3_where_an_objective_is_missed(results, limit_ms, status):
    with_objective(results, limit_ms)
    done = script("summarize", "--check", "--results-dir", results)
    assert done.returncode == status
    assert ("4 streams: MISSED" in done.stdout) == (status == 3)
    assert script("summarize", "--results-dir", results).returncode == 0


def test_check_exits_4_where_repeats_disagree(tmp_path):
    for name, ttft_ms in (("a", 100.0), ("b", 200.0)):
        records = healthy(name, count=100, ttft_ms=ttft_ms)
        write_run(tmp_path, records, made_info(records))
    done = script("summarize", "--check", "--results-dir", tmp_path)
    assert done.returncode == 4
    assert "repeats_disagree" in done.stdout
    assert script("summarize", "--check", tmp_path / "a.csv").returncode == 0


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_check_exits_4_where_a_run_is_not_whole(tmp_path, status):
    records = healthy("broken", count=100)
    write_run(tmp_path, records, made_info(records, status=status))
    assert script("summarize", "--results-dir", tmp_path).returncode == 0
    assert script("summarize", "--check", "--results-dir", tmp_path).returncode == 4


def test_check_exits_4_where_rows_are_fewer_than_planned(tmp_path):
    records = healthy("short", count=100)
    write_run(tmp_path, records, made_info(records, num_requests=101))
    assert script("summarize", "--check", "--results-dir", tmp_path).returncode == 4


def test_check_says_invalid_before_missed(results):
    with_objective(results, 99.9)
    records = [failed_record(i, run_id="bad") for i in range(20)]
    write_run(results, records, made_info(records))
    assert script("summarize", "--check", "--results-dir", results).returncode == 4


def test_all_files_are_written_and_named(results):
    with_objective(results, 100.0)
    done = script("summarize", "--results-dir", results, "--format", "vllm")
    assert done.returncode == 0
    names = ["summary.csv", "summary_levels.csv", "summary.md", "summary.json"]
    assert f"Wrote to {results}: {', '.join(names)}, vllm/" in done.stdout
    assert all((results / name).stat().st_size for name in names)
    assert len(list((results / "vllm").iterdir())) == 4
    with (results / "summary_levels.csv").open() as lines:
        levels = list(csv.DictReader(lines))
    assert [(r["scenario"], r["load"], r["objectives"]) for r in levels] == [
        ("made", "4", ""),
        ("made", "8", ""),
        ("slo", "4", "met"),
        ("slo", "8", "met"),
    ]
    headings = re.findall(r"^### (.*)", (results / "summary.md").read_text(), re.MULTILINE)
    assert {"Objectives", "TTFT over load"} <= set(headings)


def test_codes_are_printed_for_whoever_asks():
    printed = script("summarize", "--codes").stdout
    assert "| `ledger_mismatch` |" in printed
    assert "`repeats_disagree`" in printed


def test_columns_explains_every_column_of_both_files():
    done = script("summarize", "--columns")
    assert done.returncode == 0
    for name in (*COLUMNS, "whole_run_output_tokens_per_s", "ttft_p99_ms", "ttft_stability"):
        assert f"  {name} " in done.stdout


@pytest.mark.parametrize("name", ["summarize", "plot"])
def test_help_answers_without_the_heavy_libraries(name):
    code = (
        "import runpy, sys; path = sys.argv[1]; sys.argv = ['x', '--help']\n"
        "sys.path.insert(0, path.rpartition('/')[0])  # as Python does for a script\n"
        "try: runpy.run_path(path, run_name='__main__')\n"
        "except SystemExit as e: assert not e.code\n"
        "assert not {'pandas', 'numpy', 'matplotlib', 'rich'} & set(sys.modules)"
    )
    path = str(ROOT / "bench" / f"{name}.py")
    done = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--results-dir" in done.stdout


def test_a_folder_that_cannot_be_written_is_one_line(results):
    (results / "file").write_text("")
    for name in ("summarize", "plot"):
        done = script(name, results / "made-cc4-a.csv", "--results-dir", results / "file")
        assert done.returncode == 1
        assert f"{results / 'file'}" in one_line(done.stderr)


def test_a_terminal_without_the_characters_shows_question_marks(results):
    done = script("summarize", "--results-dir", results, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")


def test_plot_draws_every_picture_of_a_run_and_of_a_scenario(results):
    done = script("plot", "--results-dir", results)
    assert (done.returncode, done.stderr) == (0, "")
    of_a_run = ("latency_cdf", "timeline", "ttft_cdf", "waterfall")
    assert sorted(p.name for p in (results / "plots").iterdir()) == [
        *(f"made-cc4-a_{name}.png" for name in of_a_run),
        *(f"made-cc8-a_{name}.png" for name in of_a_run),
        *(f"made_{name}.png" for name in ("latency_overlay", "load", "pareto", "ttft_overlay")),
    ]
    assert "made-cc4-a_itl_cdf.png: " in done.stdout  # why there is none
    assert "tokens/made-cc4-a.npz" in done.stdout


def test_plot_names_pictures_after_labels_and_folders(tmp_path):
    for folder, label in (("old", "seqs16"), ("old", "seqs64"), ("new", None)):
        (tmp_path / folder).mkdir(exist_ok=True)
        for n in (4, 8):
            records = healthy(f"made-{label}-cc{n}", count=100, concurrency=n)
            info = made_info(records, scenario={"label": label})
            write_run(tmp_path / folder, records, info)
    done = script("plot", *tmp_path.glob("*/*.csv"), "--results-dir", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    drawn = {p.name for p in (tmp_path / "plots").iterdir() if p.name.endswith("_load.png")}
    assert drawn == {"made-seqs16_load.png", "made-seqs64_load.png", "made_load.png"}
    done = script("plot", *tmp_path.glob("*/made-None-*.csv"), tmp_path / "old", "--dark")
    assert done.returncode == 0


def test_plot_of_one_run_draws_its_pictures_and_says_why_no_more(results):
    done = script("plot", results / "made-cc4-a.csv", MPLBACKEND="no-such-backend")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list((results / "plots").iterdir())) == 4
    assert "made_*.png: " in done.stdout


def test_plot_writes_the_format_and_the_look_that_were_asked_for(results):
    words = (results / "made-cc4-a.csv", "--format", "svg")
    drawn = []
    for more in ((), (), ("--dark",)):
        assert script("plot", *words, *more).returncode == 0
        drawn.append({p.name: p.read_bytes() for p in (results / "plots").iterdir()})
    assert {name.rpartition(".")[2] for name in drawn[0]} == {"svg"}
    assert drawn[0] == drawn[1]  # to the byte
    assert all(drawn[2][name] != picture for name, picture in drawn[0].items())
    assert all(b"#14171c" in picture for picture in drawn[2].values())


def test_a_reader_that_has_seen_enough_ends_it_quietly():
    done = subprocess.run(
        f"{sys.executable} {ROOT / 'bench' / 'summarize.py'} --columns | head -1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout.startswith("<run_id>.csv")
