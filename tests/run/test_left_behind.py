"""A run that was killed is told from one that is under way, and marked; nothing else is touched."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.records.request_record import RecordWriter, read_rows
from vllm_bench.records.run_files import YOUNG_S
from vllm_bench.records.run_info import ClockPair, RunInfo, read_run_info, write_run_info
from vllm_bench.records.safe_file import locked, unlocked
from vllm_bench.run.folder import mark_left_behind

from tests.support.beside.waiting import LIMIT_S, wait_until
from tests.support.far_end import TinyVllm
from tests.support.made_runs import made_info, made_record, write_run
from tests.support.running import info, start_bench, tiny_scenario

ROOT = Path(__file__).resolve().parents[2]
RECORDS = [made_record(i) for i in range(3)]
# A run that writes its rows and goes on for as long as it is let.
WRITER = f"""
import sys, time
from pathlib import Path
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "bench")!r}]
from tests.support.made_runs import made_record
from vllm_bench.records.request_record import RecordWriter
writer = RecordWriter(Path(sys.argv[1]))
writer.write([made_record(0)])
print("writing", flush=True)
time.sleep(600)
"""


def left(folder: Path, **changes: Any) -> Path:
    """Write what a killed run leaves; return its JSON's path."""
    running = made_info(RECORDS, status="running", clock_end=None, num_requests=9, **changes)
    return write_run(folder, RECORDS, running).with_suffix(".json")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A live process that writes a run, whose JSON says so."""
    rows = tmp_path / f"{RECORDS[0].run_id}.csv"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(rows)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    write_run_info(rows.with_suffix(".json"), made_info(RECORDS, status="running", clock_end=None))
    yield process
    process.kill()
    process.communicate()


def test_a_killed_run_by_time_had_as_many_requests_as_it_has_rows(tmp_path: Path) -> None:
    path = left(tmp_path)
    write_run_info(path, dataclasses.replace(read_run_info(path), num_requests=0))
    assert mark_left_behind(tmp_path) == [path]
    assert read_run_info(path).num_requests == len(RECORDS)


def test_a_killed_run_is_marked_and_nothing_else_of_it_changes(tmp_path: Path) -> None:
    path = left(tmp_path, notes=["one before"])
    before, rows = read_run_info(path), path.with_suffix(".csv").read_bytes()
    assert mark_left_behind(tmp_path) == [path]
    after: RunInfo = read_run_info(path)
    assert (after.status, after.clock_end) == ("interrupted", None)
    assert after.notes[:-1] == ["one before"]
    assert re.search(r" 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$", after.notes[-1])
    assert dataclasses.replace(after, status="running", notes=["one before"]) == before
    assert path.with_suffix(".csv").read_bytes() == rows
    assert mark_left_behind(tmp_path) == []  # once


@pytest.mark.process
def test_a_run_under_way_is_never_touched_and_marked_once_it_is_killed(
    tmp_path: Path, writer: subprocess.Popen[str]
) -> None:
    (path,) = tmp_path.glob("*.json")
    before = path.read_bytes()
    assert mark_left_behind(tmp_path) == []
    assert path.read_bytes() == before
    writer.send_signal(signal.SIGSTOP)  # it may be asleep
    assert mark_left_behind(tmp_path) == []
    writer.kill()
    writer.wait()
    assert mark_left_behind(tmp_path) == [path]
    assert read_run_info(path).status == "interrupted"


@pytest.mark.parametrize("status", ["complete", "interrupted", "failed"])
def test_a_run_that_ended_by_itself_is_left_as_it_is(tmp_path: Path, status: str) -> None:
    path = write_run(tmp_path, RECORDS, made_info(RECORDS, status=status)).with_suffix(".json")
    before = path.read_bytes()
    assert mark_left_behind(tmp_path) == []
    assert path.read_bytes() == before


def test_other_files_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"status": "running"}')
    (tmp_path / "torn.json").write_text('{"status": "runn')
    (tmp_path / "folder.json").mkdir()
    before = {p.name for p in tmp_path.iterdir()}
    assert mark_left_behind(tmp_path) == []
    assert mark_left_behind(tmp_path / "nowhere") == []
    assert {p.name for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("rows", ["missing", "empty"])
def test_a_run_that_may_be_about_to_begin_its_rows_is_left_alone_for_a_while(
    tmp_path: Path, rows: str
) -> None:
    path = left(tmp_path)
    path.with_suffix(".csv").unlink()
    if rows == "empty":
        path.with_suffix(".csv").touch()
    assert mark_left_behind(tmp_path) == []
    old_s = time.time() - YOUNG_S - 1
    os.utime(path, (old_s, old_s))
    assert mark_left_behind(tmp_path) == [path]


def test_a_run_is_held_by_its_script_until_its_json_says_how_it_ended(tmp_path: Path) -> None:
    path = left(tmp_path)
    with locked(path.with_suffix(".csv")):  # its rows are written and closed
        assert mark_left_behind(tmp_path) == []
    assert mark_left_behind(tmp_path) == [path]


def test_a_run_that_ends_between_two_looks_is_left_as_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left(tmp_path)

    def end_first(rows: Path) -> Any:
        write_run_info(path, made_info(RECORDS))
        return unlocked(rows)

    monkeypatch.setattr("vllm_bench.run.folder.unlocked", end_first)
    assert mark_left_behind(tmp_path) == []
    assert read_run_info(path).status == "complete"


@pytest.mark.parametrize("problem", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, None])
def test_without_locks_a_run_goes_on_and_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int | None
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(problem, "no locks here")

    if problem is None:  # a system without the module
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        monkeypatch.setattr("fcntl.flock", refuse)
    path = left(tmp_path)
    with locked(path.with_suffix(".csv")), locked(tmp_path / "nowhere"):
        assert len(read_rows(path.with_suffix(".csv"))) == 3
    assert mark_left_behind(tmp_path) == []
    assert read_run_info(path).status == "running"


def test_a_reader_never_keeps_a_writer_from_holding(tmp_path: Path) -> None:
    writer = RecordWriter(tmp_path / "run.csv")
    with unlocked(tmp_path / "run.csv") as is_unlocked, locked(tmp_path / "run.csv"):
        assert not is_unlocked
    writer.close()
    with unlocked(tmp_path / "run.csv") as is_unlocked:
        assert is_unlocked
    with unlocked(tmp_path / "nowhere.csv") as is_unlocked:
        assert not is_unlocked


class Lingering(TinyVllm):
    """Keeps whoever reads its counters waiting once all has been served."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = threading.Event()

    def _metrics(self) -> str:
        if self.counters["request_success"] >= 6:
            self.go_on.wait(LIMIT_S)
        return super()._metrics()


@pytest.mark.process
def test_a_run_whose_rows_are_whole_is_under_way_until_its_json_is(tmp_path: Path) -> None:
    with Lingering() as server:
        scenarios = tiny_scenario(tmp_path, server.base_url, concurrencies=[2], num_requests=6)
        process = start_bench(tmp_path, scenarios, "--no-server-metrics")
        results = tmp_path / "results"
        try:
            wait_until(lambda: any(p.read_bytes().count(b"\n") == 7 for p in results.glob("*.csv")))
            wait_until(lambda: not list(results.glob("tokens/*.part")))  # whole before the rows are
            assert mark_left_behind(results) == []
            assert info(tmp_path).status == "running"
        finally:
            server.go_on.set()
            process.communicate(timeout=LIMIT_S)
        assert info(tmp_path).status == "complete"


@pytest.fixture
def slow_run(tmp_path: Path, tiny_vllm: TinyVllm) -> Iterator[subprocess.Popen[str]]:
    """bench.py on a server that takes its time."""
    tiny_vllm.token_gap_s = 0.05
    scenarios = tiny_scenario(tmp_path, tiny_vllm.base_url, concurrencies=[2], num_requests=5000)
    process = start_bench(tmp_path, scenarios)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.process
def test_bench_marks_what_was_killed_and_not_what_still_runs(
    tmp_path: Path, slow_run: subprocess.Popen[str], start_beside: Callable[[], str]
) -> None:
    results = tmp_path / "results"
    wait_until(lambda: any(p.stat().st_size > 2000 for p in results.glob("*.csv")))
    run_id = info(tmp_path).run_id
    assert run_id not in start_beside()
    assert info(tmp_path).status == "running"
    slow_run.kill()
    slow_run.communicate()
    assert f"{run_id}: " in start_beside()
    found = info(tmp_path)
    assert found.status == "interrupted"
    assert isinstance(found.clock_start, ClockPair)
    assert found.clock_end is None


@pytest.fixture
def start_beside(tmp_path: Path) -> Callable[[], str]:
    """A second bench.py in the same folder, whose server isn't there."""

    def run() -> str:
        scenarios = tiny_scenario(
            tmp_path, "http://127.0.0.1:9/v1", concurrencies=[1], num_requests=1
        )
        process = start_bench(tmp_path, scenarios, "--wait-s", "0")
        _, told = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 1, told
        return told

    return run
