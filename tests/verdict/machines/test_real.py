"""A load from several machines that are all this one: what it leaves, and what is said of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from vllm_bench.records.find_runs import load_run
from vllm_bench.simulator import simulator
from vllm_bench.summary.summary import RunSummary, summarize

from tests.machines.running import foremen, load, over, run_load, said, started
from tests.support.beside.held import held_at
from tests.support.beside.waiting import wait_until
from tests.support.far_end import TinyVllm
from tests.support.frames import read_frame

SERVER = ("--exact", "--ttft-ms", "10", "--itl-ms", "5")


def summary_in(folder: Path) -> RunSummary:
    """Return the summary of the only run, whose files are all right."""
    (path,) = (folder / "results").glob("*.csv")
    run = load_run(path)
    assert run.problems == []
    return summarize(run)


def machines_in(folder: Path) -> int:
    """Return of how many machines there are rows so far."""
    (path,) = (folder / "results").glob("*.csv")
    return int(read_frame(path)["machine"].nunique())


@pytest.mark.process
def test_what_three_machines_leave_is_believed_as_what_one_leaves(tmp_path: Path) -> None:
    with simulator(*SERVER) as (url, _):
        words = ("--num-requests", 48, "--concurrency", 6, *over(3))
        run_load(tmp_path, url.removesuffix("/v1"), *words)
    summary = summary_in(tmp_path)
    sides = summary.machines
    assert len(sides) == 3
    assert sum(side.rows for side in sides) == summary.requests == 48
    assert all(side.lost is None and side.loop_lag_p99_ms is not None for side in sides)
    assert all(side.offset_error_ms is not None for side in sides)
    codes = {finding.code for finding in summary.verdict.findings}
    assert {"machine_twice", "same_machine"} <= codes
    assert not {"machine_lost", "worker_lost", "interrupted", "ledger_mismatch"} & codes


@pytest.mark.process
def test_a_machine_that_dies_is_named_and_its_rows_up_to_then_are_there(tmp_path: Path) -> None:
    words = ("--num-requests", 300, "--concurrency", 12, *over(3))
    with TinyVllm("simulated") as server:
        server.token_gap_s = 0.005
        url = server.base_url.removesuffix("/v1")
        with started(load(tmp_path, url, *words), tmp_path) as bench:
            with held_at(server, 200) as reached:
                reached()
                wait_until(lambda: machines_in(tmp_path) == 3)
                os.kill(foremen(bench.pid)[0], signal.SIGKILL)
            code, _ = said(bench)
    summary = summary_in(tmp_path)
    assert code == 4
    assert summary.verdict.level == "INVALID"
    assert "machine_lost" in summary.verdict.reasons
    (lost,) = (side for side in summary.machines if side.lost is not None)
    assert lost.rows > 0
    (found,) = (f for f in summary.verdict.findings if f.code == "machine_lost")
    assert lost.machine in found.figures
    assert f"{300 - summary.requests} requests" in found.figures
