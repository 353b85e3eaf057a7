"""What hasn't changed isn't read again, and no figure is another for it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.find_runs import find_runs
from vllm_bench.records.row import to_csv
from vllm_bench.script import each_run
from vllm_bench.summary import kept as kept_module
from vllm_bench.summary.kept import Kept
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import RunSummary, sorted_summaries, summarize
from vllm_bench.tables.columns import SUMMARY_COLUMNS
from vllm_bench.tables.document import to_json
from vllm_bench.tables.level_columns import LEVEL_COLUMNS, level_rows
from vllm_bench.tables.markdown import to_markdown

from tests.summary.test_broken_sets import write_whole


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two repeats of a level, whose files were written long ago."""
    for name in ("a", "b"):
        write_whole(tmp_path, name)
    later_ns = time.time_ns() + 10_000_000_000
    monkeypatch.setattr(kept_module.time, "time_ns", lambda: later_ns)
    return tmp_path


def summed_up(folder: Path) -> tuple[list[bytes], list[str]]:
    """Return every output as summarize.py makes it, and the runs that were read for it."""
    kept, read = Kept(), []

    def take(run: Any) -> RunSummary:
        read.append(run.run_id)
        summary = summarize(run)
        if not run.problems:
            kept.keep(run.path, summary)
        return summary

    runs, _ = each_run(find_runs([], folder).paths, take, kept.run)
    summaries = sorted_summaries(runs)
    series = series_of(summaries)
    levels = [level for one in series for level in one.levels]
    kept.take_levels(levels)
    outputs = [
        to_csv(SUMMARY_COLUMNS, summaries),
        to_csv(LEVEL_COLUMNS, level_rows(series)),
        to_markdown(summaries).encode(),
        to_json(summaries),
    ]
    kept.keep_levels(levels)
    return outputs, read


def test_the_second_time_nothing_is_read_and_the_output_is_the_same_to_the_byte(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, read = summed_up(results)
    assert read == ["a", "b"]

    def never(_: object) -> object:
        raise AssertionError("rows are read again")

    monkeypatch.setattr(kept_module, "load_run", never)
    assert summed_up(results) == (first, [])


@pytest.mark.parametrize(
    "name", ["a.csv", "a.json", "tokens/a.npz", "telemetry/a.csv", "server_metrics/a.csv"]
)
def test_a_run_of_whose_files_one_has_changed_is_read_again(results: Path, name: str) -> None:
    first, _ = summed_up(results)
    path = results / name
    path.write_bytes(path.read_bytes())  # the same, at another time
    assert summed_up(results) == (first, ["a"])


def test_a_new_file_beside_it_and_other_code_make_it_read_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summed_up(results)
    (results / "tokens" / "a.part").write_bytes(b"")
    assert summed_up(results)[1] == ["a"]
    monkeypatch.setattr(kept_module, "code_sha256", lambda: "other")
    assert summed_up(results)[1] == ["a", "b"]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"key": 1}', "\0", "[" * 9000, "null", '"x"'], ids=range(9)
)
def test_a_damaged_entry_is_no_entry(results: Path, text: str) -> None:
    first, _ = summed_up(results)
    for path in (results / "cache").iterdir():
        path.write_text(text)
    assert summed_up(results) == (first, ["a", "b"])
    assert summed_up(results) == (first, [])


def test_an_entry_of_the_right_key_and_the_wrong_shape_is_none(results: Path) -> None:
    first, _ = summed_up(results)
    for path in (results / "cache").iterdir():
        (key,) = json.loads(path.read_text())
        path.write_text(json.dumps({key: [["ttft_ms", [1, 2]]]}))
    assert summed_up(results) == (first, ["a", "b"])


def test_files_that_may_still_change_and_runs_with_a_problem_are_not_kept(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (results / "a.json").unlink()
    first, _ = summed_up(results)
    assert summed_up(results) == (first, ["a"])
    monkeypatch.setattr(
        kept_module.time, "time_ns", lambda: (results / "b.csv").stat().st_ctime_ns + 1
    )
    assert summed_up(results) == (first, ["a", "b"])


def test_without_a_folder_to_write_in_the_runs_are_read_each_time(results: Path) -> None:
    (results / "cache").write_text("not a folder")
    first, _ = summed_up(results)
    assert summed_up(results) == (first, ["a", "b"])
