"""The files of a run: all of them, no others, and none of a run that goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from vllm_bench.records.run_files import (
    FORMATS,
    MADE,
    PICTURES,
    WRITTEN,
    YOUNG_S,
    files_of,
    orphans,
    remove,
)
from vllm_bench.records.safe_file import locked

from tests.support.made_runs import made_info, made_record, write_run

OWN = "made-cc4-pref256-max20-20261128T115526Z"
OTHER = "made-cc4-pref256-max20-20261128T115527Z"


def whole(folder: Path, run_id: str, status: str = "complete") -> list[Path]:
    """Write a run with every file that a run can have."""
    records = [made_record(0, run_id=run_id)]
    rows = write_run(folder, records, made_info(records, status=status))
    others = [folder / place / f"{run_id}{end}" for place, end in (*WRITTEN, *MADE)]
    for path in others:
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    return [*others, rows, rows.with_suffix(".json")]


def left(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir()}


def age(paths: list[Path]) -> None:
    long_ago = time.time() - 2 * YOUNG_S
    for path in paths:
        os.utime(path, (long_ago, long_ago), follow_symlinks=False)


def test_all_files_of_a_run_go_and_no_others(tmp_path: Path) -> None:
    mine, others = whole(tmp_path, OWN), whole(tmp_path, OTHER)
    foreign = [
        tmp_path / "notes.txt",
        tmp_path / "plots" / f"{OWN}_mine.png",
        tmp_path / "tokens" / f"{OWN}.npz.bak",
        tmp_path / "summary.csv",
    ]
    for path in foreign:
        path.write_text("mine")
    found = files_of(tmp_path, OWN)
    assert set(found) == set(mine)
    assert [path.suffix for path in found[-2:]] == [".csv", ".json"]  # last
    assert remove(tmp_path, OWN, found)
    assert left(tmp_path) == {str(p.relative_to(tmp_path)) for p in (*others, *foreign)}
    assert orphans(tmp_path) == {}


def test_no_folder_stays_where_its_last_file_went(tmp_path: Path) -> None:
    assert remove(tmp_path, OWN, whole(tmp_path, OWN))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_locked_stays_and_goes_when_it_has_ended(tmp_path: Path) -> None:
    mine = whole(tmp_path, OWN, status="running")
    age(mine)
    with locked(tmp_path / f"{OWN}.csv"):
        assert not remove(tmp_path, OWN, mine)
        assert all(path.exists() for path in mine)
    assert remove(tmp_path, OWN, mine)  # it was killed
    assert left(tmp_path) == set()


@pytest.mark.parametrize("status", ["complete", "interrupted", "failed"])
def test_a_run_whose_json_says_how_it_ended_goes(tmp_path: Path, status: str) -> None:
    mine = whole(tmp_path, OWN, status=status)
    assert remove(tmp_path, OWN, mine)


@pytest.mark.parametrize("lacking", ["rows", "both"])
def test_a_run_that_may_only_be_beginning_stays(tmp_path: Path, lacking: str) -> None:
    whole(tmp_path, OWN, status="running")
    (tmp_path / f"{OWN}.csv").unlink()
    if lacking == "both":  # its plan's file comes first
        (tmp_path / f"{OWN}.json").unlink()
    mine = files_of(tmp_path, OWN)
    assert not remove(tmp_path, OWN, mine)
    age([path for path in mine if path.parent.name not in dict(MADE)])  # by these it may go on
    assert remove(tmp_path, OWN, mine)
    assert left(tmp_path) == set()


@pytest.mark.parametrize("text", ["", "{", '{"status": "complete"}'])
def test_a_damaged_json_doesnt_say_that_a_run_has_ended(tmp_path: Path, text: str) -> None:
    mine = whole(tmp_path, OWN)
    (tmp_path / f"{OWN}.json").write_text(text)
    with locked(tmp_path / f"{OWN}.csv"):
        assert not remove(tmp_path, OWN, mine)
    assert remove(tmp_path, OWN, mine)


def test_a_link_goes_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    results = tmp_path / "results"
    results.mkdir()
    whole(results, OWN)
    npz = results / "tokens" / f"{OWN}.npz"
    npz.unlink()
    npz.symlink_to(elsewhere)
    assert remove(results, OWN, files_of(results, OWN))
    assert elsewhere.read_text() == "precious"
    assert left(results) == set()


def test_a_folder_of_that_name_is_no_file_of_a_run(tmp_path: Path) -> None:
    whole(tmp_path, OWN)
    (tmp_path / "tokens" / f"{OWN}.npz").unlink()
    (tmp_path / "tokens" / f"{OWN}.npz").mkdir()
    assert remove(tmp_path, OWN, files_of(tmp_path, OWN))
    assert (tmp_path / "tokens" / f"{OWN}.npz").is_dir()
    assert orphans(tmp_path) == {}


def test_files_of_a_run_that_is_gone_are_orphans_whatever_they_are(tmp_path: Path) -> None:
    mine = whole(tmp_path, OWN)
    whole(tmp_path, OTHER)
    for path in mine[-2:]:
        path.unlink()
    assert set(orphans(tmp_path)) == {OWN}
    assert set(orphans(tmp_path)[OWN]) == set(mine[:-2])


@pytest.mark.parametrize("kept", [".csv", ".json"])
def test_a_run_of_which_half_is_left_is_still_a_run(tmp_path: Path, kept: str) -> None:
    for path in whole(tmp_path, OWN)[-2:]:
        if path.suffix != kept:
            path.unlink()
    assert orphans(tmp_path) == {}


@pytest.mark.parametrize(
    "name",
    [
        "tokens/mine.npz",
        "telemetry/gpu-notes.csv",
        "plots/made_load.png",
        f"plots/{OWN}_mine.png",
        f"plots/{OWN}.png",
        f"tokens/{OWN}.csv",
        "calibration/20261128T115526Z.csv",
        "cache/levels.json",
        "summaries/seqs64.md",
        f"summaries/{OWN}+3.md",
        f"mine/{OWN}.csv",
        f"notes-{OWN}.txt",
    ],
)
def test_what_isnt_named_as_a_runs_file_is_nobodys_orphan(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    assert orphans(tmp_path) == {}


def test_half_a_file_that_a_kill_left_is_an_orphan_once_it_is_old(tmp_path: Path) -> None:
    whole(tmp_path, OWN)
    half = [
        tmp_path / f".{OWN}.json.{'ab' * 8}.tmp",
        tmp_path / f"cache/.{OWN}.json.{'0' * 16}.tmp",
    ]
    for path in half:
        path.write_text("{")
    assert orphans(tmp_path) == {}
    age(half)
    assert set(orphans(tmp_path)[OWN]) == set(half)
    assert remove(tmp_path, OWN, half)
    assert files_of(tmp_path, OWN)[-1].exists()


def test_what_cant_be_removed_is_told_and_the_run_is_still_there(tmp_path: Path) -> None:
    mine = whole(tmp_path, OWN)
    with pytest.raises(OSError, match="tokens"):
        remove(tmp_path, OWN, [tmp_path / "tokens", *mine])  # a folder, which no unlink takes
    assert mine[-1].exists()


def test_every_picture_of_a_run_is_known() -> None:
    from vllm_bench.charts.distributions import DRAWN
    from vllm_bench.charts.pen_matplotlib import Format
    from vllm_bench.charts.pictures import OVERLAID

    drawn = {f"{metric.removesuffix('_ms')}_cdf" for metric in DRAWN} | {"timeline", "waterfall"}
    drawn |= {f"{metric.removesuffix('_ms')}_classes" for metric in OVERLAID}
    assert set(PICTURES) == drawn
    assert {end.removeprefix(".") for end in FORMATS} == set(Format.__args__)
