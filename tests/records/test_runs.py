"""runs.py as a person runs it; what summarize.py, plot.py and report.py choose of a history."""

from __future__ import annotations

import csv
import dataclasses
import os
import re
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.run_files import YOUNG_S, files_of
from vllm_bench.records.run_info import ClockPair, read_run_info
from vllm_bench.records.safe_file import locked

from tests.support.made_runs import NOON_S, failed_record, made_info, made_record, write_run
from tests.support.reading import one_line
from tests.support.running import run_script

pytestmark = pytest.mark.process

runs = partial(run_script, "bench/runs.py")
READERS = ("summarize", "plot", "report")


def name_of(streams: int, at: int, label: str | None = None) -> str:
    return f"made{f'-{label}' if label else ''}-cc{streams}-pref256-max20-20251124T12{at:02}00Z"


def add(folder: Path, streams: int, at: int, session: str, **changes: Any) -> str:
    """Write a run that began so many minutes after noon, with samples beside it; return its id."""
    label = changes.pop("label", None)
    run_id = name_of(streams, at, label)
    make = changes.pop("make", made_record)
    records = [make(i, run_id=run_id, concurrency=streams) for i in range(100)]
    info = made_info(records, scenario={"label": label}, **changes)
    clock = ClockPair(wall_s=NOON_S + 60 * at, monotonic_ns=0)
    write_run(folder, records, dataclasses.replace(info, session=session, clock_start=clock))
    for place, end in (("plans", ".csv"), ("plots", "_timeline.png")):
        (folder / place).mkdir(exist_ok=True)
        (folder / place / f"{run_id}{end}").write_text("x")
    return run_id


@pytest.fixture
def history(tmp_path: Path) -> Path:
    """Two sessions at 4 streams, the second of them at 8 too, and one with a label."""
    for streams, at, session, label in (
        (4, 1, "s1", None),
        (4, 2, "s2", None),
        (8, 3, "s2", None),
        (8, 4, "s3", "seqs64"),
    ):
        add(tmp_path, streams, at, session, label=label)
    return tmp_path


OLD, NEW4, NEW8, LABELLED = name_of(4, 1), name_of(4, 2), name_of(8, 3), name_of(8, 4, "seqs64")


def do(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return runs(*words, "--results-dir", folder)


def ids(text: str) -> list[str]:
    """Return the run ids that a listing shows, in its order."""
    return re.findall(r"^  (\S+)", text, re.MULTILINE)


def left(folder: Path) -> set[str]:
    return {p.stem for p in folder.glob("*.json")}


# ---- the list ----


def test_the_list_has_every_run_the_newest_last_in_80_columns(history: Path) -> None:
    done = do(history)
    assert (done.returncode, done.stderr) == (0, "")
    assert ids(done.stdout) == [OLD, NEW4, NEW8, LABELLED]
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[7].split()[:7] == [
        "2025-11-24",
        "12:04",
        "made",
        "8",
        "streams",
        "seqs64",
        "VALID",
    ]
    assert lines[7].split()[7:] == ["150", "100"]


def test_the_list_of_some_and_of_none(history: Path, tmp_path: Path) -> None:
    assert ids(do(history, "made-cc4*").stdout) == [OLD, NEW4]
    done = do(tmp_path / "nowhere")
    assert done.returncode == 1
    assert str(tmp_path / "nowhere") in one_line(done.stderr)


def test_the_list_says_what_is_damaged_invalid_or_goes_on(history: Path) -> None:
    (history / f"{OLD}.csv").write_text("rubbish\n")
    add(history, 16, 5, "s4", make=failed_record)
    add(history, 32, 6, "s5", status="running")
    add(history, 64, 7, "s6", status="running")  # its process was killed
    with locked(history / f"{name_of(32, 6)}.csv"):
        done = do(history)
    assert done.returncode == 1
    assert OLD in one_line(done.stderr)
    words = dict(zip(ids(done.stdout), done.stdout.splitlines()[1::2], strict=True))
    said = {run_id: line.split() for run_id, line in words.items()}
    assert "damaged" in said[OLD]
    assert "INVALID" in said[name_of(16, 5)]
    assert "running" in said[name_of(32, 6)]
    assert "SUSPECT" in said[name_of(64, 7)]


def test_the_list_fits_whatever_runs_are_called(tmp_path: Path) -> None:
    run_id = "r" * 70
    records = [made_record(i, run_id=run_id, request_rate=0.77461234) for i in range(100)]
    told = {"name": "n" * 60, "label": "l" * 32}
    info = made_info(records, scenario=told, plan={"speed": 1.25})
    write_run(tmp_path, records, info)
    done = do(tmp_path)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "trace x1.25" in done.stdout


# ---- --rm and --label ----


def test_rm_removes_all_files_of_the_runs_that_are_named(history: Path) -> None:
    done = do(history, "--rm", OLD, history / f"{NEW8}.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert left(history) == {NEW4, LABELLED}
    assert not any(OLD in path.name or NEW8 in path.name for path in history.rglob("*"))
    assert len(files_of(history, NEW4)) == 4


def test_rm_takes_globs_and_goes_on_after_a_name_that_is_none(history: Path) -> None:
    done = do(history, "--rm", "nothing", "made-cc*")
    assert done.returncode == 1
    assert one_line(done.stderr).startswith("runs.py: nothing: ")
    assert left(history) == {LABELLED}


def test_rm_never_takes_a_folder(history: Path) -> None:
    done = do(history, "--rm", history)
    assert done.returncode == 1
    assert f"{history}: " in one_line(done.stderr)
    assert len(left(history)) == 4


@pytest.mark.parametrize("words", [["--rm", OLD], ["--label", "seqs16", OLD], ["--prune", "--yes"]])
def test_a_run_that_goes_on_is_left_alone(history: Path, words: Sequence[str]) -> None:
    for path in (history / f"{OLD}.csv", history / f"{OLD}.json"):
        path.unlink()
    add(history, 4, 1, "s1", status="running")
    before = {path: path.read_bytes() for path in files_of(history, OLD)}
    with locked(history / f"{OLD}.csv"):
        done = do(history, *words)
    assert done.returncode == 1
    assert OLD in one_line(done.stderr)
    assert {path: path.read_bytes() for path in files_of(history, OLD)} == before


def test_label_sets_it_and_leaves_everything_else(history: Path) -> None:
    before = read_run_info(history / f"{OLD}.json")
    assert do(history, "--label", "seqs16", OLD, NEW4).returncode == 0
    after = read_run_info(history / f"{OLD}.json")
    assert after.scenario == {**before.scenario, "label": "seqs16"}
    assert dataclasses.replace(after, scenario=before.scenario) == before
    assert [line.split()[5] for line in do(history, "made-cc4*").stdout.splitlines()[1::2]] == [
        "seqs16",
        "seqs16",
    ]
    assert do(history, "--label", "", OLD).returncode == 0
    assert read_run_info(history / f"{OLD}.json").scenario["label"] is None


def test_label_leaves_a_json_that_it_would_lose_something_of(history: Path) -> None:
    path = history / f"{OLD}.json"
    path.write_text(path.read_text().replace('"repeat": 1', '"repeat": "first"'))
    before = path.read_bytes()
    done = do(history, "--label", "seqs16", OLD)
    assert done.returncode == 1
    assert str(path) in one_line(done.stderr)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        ["--rm"],
        ["--label", "b"],
        ["--label", "../b", OLD],
        ["--label", "x" * 40, OLD],
        ["--prune", OLD],
        ["--yes"],
        ["--rm", OLD, "--yes"],
        ["--rm", "--prune"],
        ["--label"],
    ],
)
def test_wrong_usage_is_one_line_and_changes_nothing(history: Path, words: list[str]) -> None:
    done = do(history, *words)
    assert done.returncode == 2
    assert one_line(done.stderr).startswith("runs.py: ")
    assert left(history) == {OLD, NEW4, NEW8, LABELLED}


# ---- --prune ----


def orphaned(folder: Path) -> list[Path]:
    """Leave files of a run that is gone, long ago, and a person's own beside them."""
    gone = name_of(4, 0)
    found = [folder / "tokens" / f"{gone}.npz", folder / "plots" / f"{gone}_ttft_cdf.png"]
    for path in (*found, folder / "plots" / "mine.png"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
        os.utime(path, (time.time() - 2 * YOUNG_S,) * 2)
    return found


def test_prune_only_lists_and_with_yes_it_removes_what_it_listed(history: Path) -> None:
    lost = orphaned(history)
    everything = sorted(history.rglob("*"))
    done = do(history, "--prune")
    assert (done.returncode, done.stderr) == (0, "")
    assert ids(done.stdout) == [f"{OLD}:", f"{name_of(4, 0)}:"]
    assert sorted(history.rglob("*")) == everything
    done = do(history, "--prune", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert left(history) == {NEW4, NEW8, LABELLED}
    assert not any(path.exists() for path in lost)
    assert (history / "plots" / "mine.png").exists()
    again = do(history, "--prune")
    assert (again.returncode, ids(again.stdout)) == (0, [])


def test_orphans_can_be_removed_by_their_runs_id_and_the_list_counts_them(history: Path) -> None:
    lost = orphaned(history)
    assert "2 files" in do(history).stdout.splitlines()[-1]
    assert do(history, "--rm", name_of(4, 0)).returncode == 0
    assert not any(path.exists() for path in lost)
    assert len(left(history)) == 4


def test_orphans_alone_can_be_pruned_too(tmp_path: Path) -> None:
    lost = orphaned(tmp_path)
    done = do(tmp_path, "--prune", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert not any(path.exists() for path in lost)


# ---- what the others read ----


def summed_up(folder: Path, name: str = "summary") -> set[str]:
    with (folder / f"{name}.csv").open(encoding="utf-8") as lines:
        return {row["run_id"] for row in csv.DictReader(lines)}


@pytest.mark.parametrize("reader", READERS)
def test_by_default_the_newest_are_read_and_what_else_lies_there_is_counted(
    history: Path, reader: str
) -> None:
    done = run_script(f"bench/{reader}.py", "--results-dir", history)
    assert done.returncode == 0
    assert "1 older run" in one_line(done.stderr)
    assert "--all" in done.stderr
    done = run_script(f"bench/{reader}.py", "--results-dir", history, "--all")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_flags_choose_what_is_summed_up(history: Path) -> None:
    summarize = partial(run_script, "bench/summarize.py", "--results-dir", history)
    summarize()
    assert summed_up(history) == {NEW4, NEW8, LABELLED}
    summarize("--last")
    assert summed_up(history) == {LABELLED}
    summarize("--all")
    assert summed_up(history) == {OLD, NEW4, NEW8, LABELLED}
    summarize("--label", "seqs64")
    assert summed_up(history, "summaries/seqs64") == {LABELLED}
    assert len(summed_up(history)) == 4  # of all, as it was
    done = summarize("--label", "seqs46")
    assert done.returncode == 1
    assert "seqs64" in one_line(done.stderr)
    assert summarize("--last", "--all").returncode == 2


@pytest.mark.parametrize(
    ("reader", "own"), [("summarize", "summary.md"), ("report", "report.html")]
)
def test_what_is_written_on_one_run_never_replaces_what_there_is_on_all(
    history: Path, reader: str, own: str
) -> None:
    (history / own).write_text("of all")
    done = run_script(f"bench/{reader}.py", OLD, "--results-dir", history)
    assert (done.returncode, done.stderr) == (0, "")
    assert (history / own).read_text() == "of all"
    written = [
        path for path in files_of(history, OLD) if path.parent.name in ("summaries", "reports")
    ]
    assert len(written) == (4 if reader == "summarize" else 1)
    assert OLD in written[0].read_text(encoding="utf-8")
    assert do(history, "--rm", OLD).returncode == 0
    assert not any(path.exists() for path in written)


def test_plot_names_the_pictures_of_runs_that_are_gone(history: Path) -> None:
    _, picture = orphaned(history)
    done = run_script("bench/plot.py", NEW4, "--results-dir", history)
    assert done.returncode == 0
    line = one_line(done.stderr)
    assert picture.name in line
    assert "mine.png" not in line
    assert picture.exists()


def test_plot_names_what_is_left_of_earlier_runs_where_it_draws_nothing(history: Path) -> None:
    pictures = ("made_load.png", "made_pareto.png", "made_load.svg")
    for name in pictures:
        (history / "plots" / name).write_text("x")
    done = run_script("bench/plot.py", NEW4, "--results-dir", history)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("no made_*")]
    assert [name in line for name in pictures] == [True, True, False]


def test_plot_of_some_levels_leaves_the_picture_of_all(history: Path) -> None:
    of_all = history / "plots" / "made_load.png"
    of_all.write_text("of all")
    done = run_script("bench/plot.py", NEW4, NEW8, "--results-dir", history)
    assert done.returncode == 0
    assert of_all.read_text() == "of all"
    assert (history / "plots" / f"{NEW4}+1" / "made_load.png").exists()
    assert (history / "plots" / f"{NEW4}_timeline.png").exists()
