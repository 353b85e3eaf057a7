"""Runs that begin in one second in one folder: each has a name, and files, of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from vllm_bench.interrupts import Interrupts
from vllm_bench.records.run_files import WRITTEN, written_files
from vllm_bench.records.run_info import read_run_info
from vllm_bench.run import session as session_module
from vllm_bench.run.folder import remove_run
from vllm_bench.run.session import Session

from tests.support.beside.waiting import LIMIT_S
from tests.support.far_end import TinyVllm
from tests.support.frames import read_frame
from tests.support.made_plans import made_plan
from tests.support.running import command, environment, tiny_scenario

RACERS = 12


class Seconds:
    """A wall clock that moves on when somebody sleeps."""

    def __init__(self) -> None:
        self._now = itertools.count(1)
        self._second = 0
        self.gmtime = time.gmtime

    def strftime(self, *_: object) -> str:
        return f"T{self._second}"

    def sleep(self, _: float) -> None:
        self._second = next(self._now)


def made_session(folder: Path) -> Session:
    return Session(
        environ={}, interrupts=Interrupts(), say=lambda _: None, screen=sys.stderr, plain=True,
        folder=folder, wait_s=0, give_up_s=60, server_metrics=False,
    )  # fmt: skip


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], str]:
    monkeypatch.setattr(session_module, "time", Seconds())
    session = made_session(tmp_path)
    return lambda: session._named(made_plan(2)).run_id


def test_of_those_that_race_for_a_name_each_gets_its_own(named: Callable[[], str]) -> None:
    together = threading.Barrier(RACERS)

    def race(_: int) -> str:
        together.wait()
        return named()

    with ThreadPoolExecutor(RACERS) as racers:
        assert len(set(racers.map(race, range(RACERS)))) == RACERS


@pytest.mark.parametrize("place", [*(f"{p}/X{end}" for p, end in WRITTEN), "X.json", "X.csv"])
def test_a_name_that_any_file_has_is_taken(
    named: Callable[[], str], tmp_path: Path, place: str
) -> None:
    first = named()
    remove_run(tmp_path, first)
    assert written_files(tmp_path, first) == []
    path = tmp_path / place.replace("X", first)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("nowhere")
    assert named() != first
    assert path.is_symlink()


def test_what_was_broken_off_leaves_nothing_and_others_keep_theirs(
    named: Callable[[], str], tmp_path: Path
) -> None:
    first, second = named(), named()
    for place, end in WRITTEN:
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / f"{first}{end}").touch()
    remove_run(tmp_path, first)
    assert written_files(tmp_path, first) == []
    assert [path.name for path in written_files(tmp_path, second)] == [f"{second}.csv"]
    assert [path.name for path in tmp_path.iterdir()] == ["plans"]


@pytest.mark.process
def test_benches_that_begin_together_write_each_others_files_never(
    tmp_path: Path, tiny_vllm: TinyVllm
) -> None:
    scenarios = tiny_scenario(tmp_path, tiny_vllm.base_url, concurrencies=[2], num_requests=6)
    benches = [
        subprocess.Popen(
            command(tmp_path, scenarios),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(tmp_path),
        )
        for _ in range(3)
    ]  # fmt: skip
    said = [bench.communicate(timeout=LIMIT_S)[1] for bench in benches]
    assert [bench.returncode in (0, 4) for bench in benches] == [True] * 3, said
    results = tmp_path / "results"
    infos = [read_run_info(path) for path in results.glob("*.json")]
    assert len({info.run_id for info in infos}) == 3
    assert {info.status for info in infos} == {"complete"}
    sent = {r.headers["x-request-id"] for r in tiny_vllm.requests if "completions" in r.path}
    rows = [read_frame(results / f"{info.run_id}.csv") for info in infos]
    assert {name for frame in rows for name in frame["request_id"]} == sent
    assert len(sent) == 18
    for info in infos:
        assert len(written_files(results, info.run_id)) == 5
