"""Loads from machines that are all this one: what they measure is on their disks until the head has
written it, and comes by --resume where the head, or a machine, was killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.machines.kept.file import KeptRun, runs_in
from vllm_bench.records.beside.token_file import read_stamps
from vllm_bench.records.request_record import count_rows, read_rows
from vllm_bench.records.run_info import read_run_info
from vllm_bench.simulator import simulator

from tests.machines.running import foremen, lives, load, over, run_load, started, wait_until

pytestmark = pytest.mark.process
QUICK = ("--exact", "--ttft-ms", "10", "--itl-ms", "2")
LONG = ("--concurrency", 8, "--num-requests", 20_000)
SHORT = ("--concurrency", 2, "--num-requests", 8)


def kept(folder: Path) -> list[KeptRun]:
    """What the machines keep: both have one folder here."""
    return runs_in(folder / "state" / "vllm-bench")


def runs(folder: Path) -> list[Path]:
    """The rows of the runs so far, by when they began."""
    found = (folder / "results").glob("*.csv")
    return sorted(found, key=lambda path: path.stem.rpartition("-")[2])


def measured(folder: Path, run: Path) -> set[str]:
    """The ids of a run's requests that the simulator answered."""
    lines = (folder / "truth").read_text().splitlines()
    asked = [one for one in map(json.loads, lines) if one["request_id"].startswith(run.stem)]
    return {one["request_id"] for one in asked if one["outcome"] == "ok"}


def under_way(folder: Path, least: int) -> bool:
    found = kept(folder)
    return len(found) == 2 and all(run.path.read_bytes().count(b"\n") > least for run in found)


def killed_run(folder: Path, url: str, victim: int | None, *words: object) -> Path:
    """Begin a long run, and kill the head (None) or one of the foremen in the middle of it."""
    with started(load(folder, url, *over(2), *LONG, *words), folder) as head:
        wait_until(lambda: under_way(folder, 20))
        mine = foremen(head.pid)
        assert len(mine) == 2
        if words:  # --keep-rows-remote
            assert count_rows(runs(folder)[0]) == 0
        if victim is None:
            os.kill(head.pid, signal.SIGKILL)
            wait_until(lambda: not any(map(lives, mine)))
        else:
            os.kill(mine[victim], signal.SIGKILL)
            wait_until(lambda: not lives(mine[victim]))
            os.kill(head.pid, signal.SIGINT)
            head.communicate(timeout=60)
    return runs(folder)[0]


def test_after_a_kill_of_the_head_every_answer_gets_a_row(tmp_path: Path) -> None:
    with simulator(*QUICK, "--truth", str(tmp_path / "truth"), own_session=True) as (url, _):
        base = url.removesuffix("/v1")
        run = killed_run(tmp_path, base, None)
        before = count_rows(run)
        done = run_load(tmp_path, base, *over(2), *SHORT, "--resume")
    assert done.returncode in (0, 4), done.stderr
    rows = read_rows(run)
    assert {*rows["request_id"].tolist()} >= measured(tmp_path, run)
    failed = rows.of(rows.has("error_kind"))["error_kind"].tolist()
    assert {*failed} <= {"cancelled"}  # the end of its reply may have been on its way
    assert len(failed) <= 8  # streams
    assert len(rows) > 40
    info = read_run_info(run.with_suffix(".json"))
    assert info.status == "interrupted"
    fetched = [machine["fetched"] for machine in info.client_health["machines"]]
    assert sum(fetched) == len(rows) - before
    assert read_stamps(run, rows) is not None  # which checks that they are these rows'
    assert kept(tmp_path) == []  # nor is anything left of the run that went well


def test_what_a_killed_machine_has_kept_is_fetched_by_the_next_session(tmp_path: Path) -> None:
    flag = "--keep-rows-remote"
    with simulator(*QUICK, "--truth", str(tmp_path / "truth"), own_session=True) as (url, _):
        base = url.removesuffix("/v1")
        run = killed_run(tmp_path, base, 1, flag)
        (left,) = kept(tmp_path)
        before = read_rows(run)
        assert left.machine not in before["machine"].tolist()
        info = read_run_info(run.with_suffix(".json"))
        lost = {m["machine"]: m["lost"] for m in info.client_health["machines"]}
        assert lost[left.machine]
        run_load(tmp_path, base, *over(1), *SHORT, "--resume")
    rows = read_rows(run)
    assert {*before["request_index"].tolist()} < {*rows["request_index"].tolist()}
    assert left.machine in rows["machine"].tolist()
    assert len({*rows["machine"].tolist()}) == 2
    assert kept(tmp_path) == []
    stamps = read_stamps(run, rows)
    assert stamps is not None
    assert len(stamps["request_index"]) == len(rows)


COMPARED = ("request_index", "machine", "prompt_id", "completion_tokens", "error_kind")


def said(folder: Path) -> dict[str, Any]:
    (run,) = runs(folder)
    rows, info = read_rows(run), read_run_info(run.with_suffix(".json"))
    stamps = read_stamps(run, rows)
    assert stamps is not None
    return {
        "rows": sorted(zip(*(rows[name].tolist() for name in COMPARED), strict=True)),
        "stamps": sorted(stamps["request_index"].tolist()),
        "status": info.status,
        "num_requests": info.num_requests,
        "replied_as": info.server["replied_as"],
        "sessions": info.sessions,
        "notes": len(info.notes),
        "files": [name.replace(run.stem, "") for name in info.files],
        "machines": [(m["machine"], m["rows"], m["lost"]) for m in info.client_health["machines"]],
    }


def test_files_are_the_same_whether_rows_stay_or_cross(tmp_path: Path) -> None:
    words = ("--request-rate", 60, "--num-requests", 60)  # with a tail, which counts must end
    found = []
    with simulator(*QUICK, own_session=True) as (url, _):
        for name, flags in (("cross", ()), ("stay", ("--keep-rows-remote",))):
            (folder := tmp_path / name).mkdir()
            done = run_load(folder, url.removesuffix("/v1"), *over(2), *words, *flags)
            assert done.returncode in (0, 4), done.stderr
            assert kept(folder) == []
            found.append(said(folder))
    crossed, stayed = found
    assert stayed == crossed
    assert len(crossed["rows"]) == crossed["num_requests"]
