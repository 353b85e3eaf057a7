"""Runs that can't go on: a full disk, a folder that is gone, a dead server. Every row is kept."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from vllm_bench.records.beside.token_file import recover
from vllm_bench.records.run_info import read_run_info

from tests.sim.simulated import Simulated
from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import TinyVllm
from tests.support.frames import read_frame
from tests.support.running import info, rows, start_bench, write_scenario

pytestmark = pytest.mark.process


def settings(base_url: str, model: str, num_requests: int) -> dict[str, object]:
    return {
        "base_url": base_url,
        "model": model,
        "max_new_tokens": 4,
        "concurrencies": [4],
        "num_requests": num_requests,
        "warmup_requests": 0,
    }


@pytest.fixture
def bench(tmp_path: Path, tiny_vllm: TinyVllm) -> Callable[[int], subprocess.Popen[str]]:
    """Start a run of so many requests on a server that takes its time."""
    tiny_vllm.token_gap_s = 0.005
    return lambda number: start_bench(
        tmp_path, write_scenario(tmp_path, **settings(tiny_vllm.base_url, "tiny", number))
    )


def written(results: Path) -> int:
    """Return how many bytes of rows there are."""
    return sum(path.stat().st_size for path in results.glob("*.csv"))


def last_words(process: subprocess.Popen[str]) -> str:
    """Return the one line that it ends with."""
    _, err = process.communicate(timeout=LIMIT_S)
    told = [line for line in err.splitlines() if line.startswith("bench.py: ")]
    assert len(told) == 1, err
    assert err.splitlines()[-1] == told[0]
    assert "Traceback" not in err
    return told[0]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of another process are Linux's")
def test_a_disk_that_takes_no_more_ends_the_run_with_a_line_and_what_it_took_is_kept(
    tmp_path: Path, bench: Callable[[int], subprocess.Popen[str]]
) -> None:
    process = bench(100_000)
    results = tmp_path / "results"
    wait_until(lambda: written(results) > 20_000)
    before, begun = len(rows(tmp_path)), info(tmp_path)
    limit = written(results) + 1_000  # in the middle of a row
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    assert os.strerror(errno.EFBIG) in last_words(process)
    assert process.returncode == 1
    found, run = rows(tmp_path), info(tmp_path)
    assert len(found) > before
    assert found["request_index"].is_unique
    assert (begun.status, run.status) == ("running", "failed")
    assert (run.clock_start, run.plan) == (begun.clock_start, begun.plan)  # of rows and samples
    assert os.strerror(errno.EFBIG) in run.notes[-1]
    assert not list(results.rglob("*.tmp"))


def test_a_folder_that_is_gone_ends_the_run_with_a_line_and_all_rows(
    tmp_path: Path, bench: Callable[[int], subprocess.Popen[str]], tiny_vllm: TinyVllm
) -> None:
    tiny_vllm.token_gap_s = 0.2  # until the folder is gone
    process = bench(200)
    results, elsewhere = tmp_path / "results", tmp_path / "elsewhere"
    wait_until(lambda: written(results) > 2_000)
    results.rename(elsewhere)
    results.write_text("no folder any more")
    tiny_vllm.token_gap_s = 0.005
    assert str(results) in last_words(process)
    assert process.returncode == 1
    (path,) = elsewhere.glob("*.csv")
    assert sorted(read_frame(path)["request_index"]) == list(range(200))
    (part,) = (elsewhere / "tokens").glob("*.part")  # what couldn't be made a whole file
    assert len(recover(part)["request_index"]) == 200
    assert read_run_info(path.with_suffix(".json")).status == "running"


def test_a_server_that_dies_ends_the_run_and_leaves_a_row_a_request_sent(tmp_path: Path) -> None:
    with Simulated("--exact", "--ttft-ms", "20", "--itl-ms", "5") as server:
        scenarios = write_scenario(tmp_path, **settings(f"{server.url}/v1", "simulated", 5000))
        process = start_bench(tmp_path, scenarios, "--give-up-s", "2")
        wait_until(lambda: written(tmp_path / "results") > 10_000)
        server.process.kill()
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, err
    assert "gave up" in err
    assert "INVALID interrupted" in out
    found = rows(tmp_path)
    assert sorted(found["request_index"]) == list(range(len(found)))
    assert found["error_kind"].isna().sum() > 10
    assert set(found["error_kind"].dropna()) <= {"connect", "truncated"}
    assert found["error"].str.contains("refused").any()
    assert info(tmp_path).status == "failed"
