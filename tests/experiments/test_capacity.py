"""capacity.py as a person runs it, against the simulator, with a budget of seconds."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.search.kept import Search, read_search
from vllm_bench.simulator import simulator

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.running import environment, write_scenario

pytestmark = pytest.mark.process

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "capacity.py"
FLAGS = ("--profile", "tiny-cpu", "--model", "tiny", "--max-num-seqs", "4")
SLO = {"ttft_ms": {"p90": 100}}


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    with simulator(*FLAGS) as (url, _):
        yield url


def words(folder: Path, base_url: str, *more: str, **settings: Any) -> list[str]:
    given = {"model": "tiny", "max_new_tokens": 16, "request_rates": [40], "num_requests": 9}
    path = write_scenario(folder, base_url=base_url, **{**given, "slo": SLO, **settings})
    results = ["--results-dir", str(folder / "results")]
    return [sys.executable, str(SCRIPT), "--scenarios", str(path), *results, "--plain", *more]


def run(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env=environment(folder),
    )


def kept(folder: Path) -> Search:
    (path,) = (folder / "results" / "capacity").glob("*.json")
    return read_search(path)


def test_a_search_ends_with_what_its_files_say(tmp_path: Path, base_url: str) -> None:
    done = run(tmp_path, words(tmp_path, base_url, "--low", "30", "--minutes", "0.6"))
    search = kept(tmp_path)
    assert done.returncode == search.exit_code, done.stderr
    assert search.probes
    assert all(probe.requests >= 100 for probe in search.probes)
    (path,) = (tmp_path / "results" / "capacity").glob("*.csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["run_id"] for row in rows] == [probe.run_id for probe in search.probes]
    assert path.stem == search.id
    runs = tmp_path / "results" / "capacity" / search.id
    told = [json.loads((runs / f"{p.run_id}.json").read_text()) for p in search.probes]
    assert {run["experiment"]["id"] for run in told} == {search.id}
    assert len({run["seeds"]["scenario"] for run in told}) == len(told)
    for run_info, probe in zip(told, search.probes, strict=True):
        assert (run_info["status"] == "stopped") == (
            probe.stopped is not None or (probe.over or "").startswith("the queue grew from")
        )
    load = search.found[0].load
    if load is not None:
        assert f"{load:.4g} requests/s" in done.stdout


def test_where_not_even_the_lowest_load_meets_it_ends_with_3(tmp_path: Path, base_url: str) -> None:
    flags = ("--low", "30", "--high", "40", "--minutes", "1")
    slo = {"ttft_ms": {"p50": 0.01}}
    done = run(tmp_path, words(tmp_path, base_url, *flags, slo=slo))
    assert done.returncode in (3, 4), done.stderr  # 4: a busy machine spoilt both
    if done.returncode == 3:
        # One that a busy machine spoilt is made again.
        (probe,) = [one for one in kept(tmp_path).probes if one.spoilt is None]
        assert probe.counted < probe.requests  # it was ended early
        assert probe.stopped is not None


def test_ctrl_c_keeps_all_and_resume_goes_on(tmp_path: Path, base_url: str) -> None:
    command = words(tmp_path, base_url, "--low", "30", "--minutes", "2")
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(tmp_path),
    )
    folder = tmp_path / "results" / "capacity"
    wait_until(lambda: bool(list(folder.glob("*.csv"))))
    time.sleep(1.0)  # well into the next run, or between the two
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, err
    assert "so far" in out
    before = kept(tmp_path)
    assert before.status == "interrupted"
    assert before.probes
    again = run(tmp_path, words(tmp_path, base_url, "--low", "30", "--minutes", "0.2", "--resume"))
    after = kept(tmp_path)
    assert again.returncode == after.exit_code, again.stderr
    assert after.probes[: len(before.probes)] == before.probes
    assert [probe.number for probe in after.probes] == [*range(1, len(after.probes) + 1)]


def test_a_server_that_is_gone_ends_it_with_1(tmp_path: Path) -> None:
    with simulator(*FLAGS) as (base_url, pid):
        flags = ("--low", "20", "--minutes", "3", "--wait-s", "2", "--give-up-s", "2")
        process = subprocess.Popen(
            words(tmp_path, base_url, *flags),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
        )
        wait_until(lambda: bool(list((tmp_path / "results" / "capacity").glob("*.csv"))))
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, err
    assert "so far" in out
    assert kept(tmp_path).status == "failed"
    assert [probe.load for probe in kept(tmp_path).probes] == [20.0]


def test_a_server_that_dies_in_a_run_hasnt_missed_the_objectives(tmp_path: Path) -> None:
    with simulator(*FLAGS) as (base_url, pid):
        flags = ("--low", "20", "--minutes", "3", "--wait-s", "2")
        process = subprocess.Popen(
            words(tmp_path, base_url, *flags),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(tmp_path),
        )
        runs = tmp_path / "results" / "capacity"
        wait_until(lambda: any(p.stat().st_size > 2000 for p in runs.glob("*/*.csv")))
        os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, out
    assert "is gone" in err.splitlines()[-1]
    assert not list(runs.glob("*.json"))  # nothing was judged


@pytest.mark.parametrize(
    ("flags", "settings", "said"),
    [
        ((), {"slo": None}, "slo"),
        (("--of", "sessions"), {}, "conversations"),
        (("--low", "9", "--high", "3"), {}, "--low"),
        (("--low", "nan"), {}, "--low"),
        (("--low", "0.1", "--minutes", "5"), {}, "17 min"),
        (("--low", "4", "--minutes", "0.1"), {}, "25 s"),
        (("--minutes", "0"), {}, "--minutes"),
        (("--name", "ine"), {}, "one"),
    ],
)
def test_what_cant_be_searched_is_refused_in_a_line(
    tmp_path: Path, flags: tuple[str, ...], settings: dict[str, Any], said: str
) -> None:
    done = run(tmp_path, words(tmp_path, "http://localhost:9/v1", *flags, **settings))
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert not (tmp_path / "results").exists()


def test_a_dry_run_needs_no_server_and_writes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, words(tmp_path, "http://localhost:9/v1", "--dry-run"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("confirming") == 3
    assert not (tmp_path / "results").exists()


def test_streams_that_a_flag_gives_are_raised(tmp_path: Path) -> None:
    flags = ("--concurrency", "2,8", "--model", "tiny", "--slo", "ttft_ms.p90=100", "--dry-run")
    done = run(tmp_path, words(tmp_path, "http://localhost:9/v1", *flags))
    assert done.returncode == 0, done.stderr
    assert "streams" in done.stdout
    assert "requests/s" not in done.stdout
