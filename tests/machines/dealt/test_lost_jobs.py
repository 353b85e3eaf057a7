"""Jobs of several runs that lose a machine: that says nothing of a server."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from vllm_bench.experiments.state import FOLDER, read_state
from vllm_bench.search.kept import read_search
from vllm_bench.simulator import simulator
from vllm_bench.tuning.trials import read_tuning

from tests.machines.running import foremen, over, said, started
from tests.support.beside.waiting import wait_until
from tests.support.running import ROOT, write_scenario

pytestmark = pytest.mark.process

LOAD = {"model": "tiny", "max_new_tokens": 4, "dataset": "sample"}
RUN_S = 8.0  # long enough for a blow to fall in it on a slow machine
TWO = (*over(2), "--listen", "127.0.0.1", "--plain")


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with simulator("--profile", "tiny-cpu", "--model", "tiny") as (url, _):
        yield url


def losing_a_machine(folder: Path, rows: str, script: str, *words: object) -> tuple[int, str]:
    """Run a job, kill a machine in the middle of a run with such rows; return how it ended."""
    results = folder / "results"
    command = (sys.executable, ROOT / "bench" / script, *words, "--results-dir", results, *TWO)
    with started([*map(str, command)], folder) as job:
        wait_until(lambda: job.poll() is not None or any(map(_begun, results.glob(rows))))
        assert job.poll() is None, said(job)
        os.kill(foremen(job.pid)[1], signal.SIGKILL)
        return said(job)


def _begun(rows: Path) -> bool:
    return rows.read_text().count("\n") > 2


def test_no_configuration_has_failed_since_a_machine_was_lost(tmp_path: Path) -> None:
    scenarios = write_scenario(tmp_path, **LOAD, concurrencies=[4], duration_s=RUN_S)
    base = tmp_path / "base.env"
    base.write_text("SIMULATOR=tiny-cpu\nMODEL=tiny\n")
    words = ("--name", "one", "--scenarios", scenarios, "--base", base)
    axis = ("--axis", "MAX_NUM_SEQS=1,8")
    code, text = losing_a_machine(tmp_path, "tune/*/runs/*.csv", "tune.py", *words, *axis)
    assert code == 1, text
    (folder,) = (tmp_path / "results" / "tune").iterdir()
    assert read_tuning(folder).trials == ()  # --resume makes it again
    assert not (folder / "best.env").exists()


def test_a_visit_that_lost_a_machine_is_not_whole(tmp_path: Path, base_url: str) -> None:
    scenarios = write_scenario(tmp_path, **LOAD, concurrencies=[4], duration_s=RUN_S)
    words = ("--scenarios", scenarios, "--visits", "2", "--label-a", "x", "--label-b", "y")
    with simulator("--profile", "tiny-cpu", "--model", "tiny") as (other, _):
        where = ("--no-restart", "--base-url-a", base_url, "--base-url-b", other)
        code, text = losing_a_machine(tmp_path, "one*.csv", "ab.py", *where, *words)
    assert code == 1, text
    (path,) = (tmp_path / "results" / FOLDER).glob("*.json")
    assert [one.status for one in read_state(path).attempts] == ["failed"]


def test_a_run_of_a_search_that_lost_a_machine_answers_nothing(
    tmp_path: Path, base_url: str
) -> None:
    slo = {"ttft_ms": {"p90": 5000}}
    load = {"request_rates": [25], "num_requests": 9, "slo": slo, "base_url": base_url}
    scenarios = write_scenario(tmp_path, **LOAD, **load)
    words = ("--scenarios", scenarios, "--low", "25", "--high", "50", "--minutes", "0.5")
    code, text = losing_a_machine(tmp_path, "capacity/*/one*.csv", "capacity.py", *words)
    assert code in (1, 4), text  # 4: a slow machine has no time for the next run
    (path,) = (tmp_path / "results" / "capacity").glob("*.json")
    (probe,) = read_search(path).probes
    assert probe.verdict == "INVALID"
    assert "machine_lost" in (probe.spoilt or "")
