"""Loads from machines that are all this one: what they measure is on their disks until the head has
written it, and comes by --resume where the head, or a machine, was killed."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from vllm_bench.machines.kept.file import KeptRun, runs_in
from vllm_bench.records.beside.token_file import read_stamps
from vllm_bench.records.request_record import count_rows, read_rows
from vllm_bench.records.row import Rows
from vllm_bench.records.run_info import read_run_info
from vllm_bench.simulator import simulator

from tests.machines.running import foremen, load, over, run_load, started
from tests.support.beside.waiting import LIMIT_S, wait_until
from tools.hostile.processes import lives

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


def killed_run(folder: Path, url: str, victim: int | None, *words: object) -> Path:
    """Begin a long run, and kill the head (None) or one of the foremen in the middle of it."""
    before = runs(folder)

    def under_way() -> bool:
        found = [run for run in kept(folder) if run.run_id not in {path.stem for path in before}]
        return len(found) == 2 and all(one.path.read_bytes().count(b"\n") > 20 for one in found)

    with started(load(folder, url, *over(2), *LONG, *words), folder) as head:
        wait_until(under_way)
        run = runs(folder)[-1]
        mine = foremen(head.pid)
        assert len(mine) == 2
        if words:  # --keep-rows-remote
            assert count_rows(run) == 0
        if victim is None:
            os.kill(head.pid, signal.SIGKILL)
            wait_until(lambda: not any(map(lives, mine)))
        else:
            os.kill(mine[victim], signal.SIGKILL)
            wait_until(lambda: not lives(mine[victim]))
            os.kill(head.pid, signal.SIGINT)
            head.communicate(timeout=LIMIT_S)
    return run


@dataclass(frozen=True)
class Run:
    """A run of which machines kept something: as it was left, and once it was fetched."""

    path: Path
    before: Rows
    told: list[dict[str, Any]]  # of the machines, before
    answered: set[str]  # requests that the simulator answered whole

    @property
    def rows(self) -> Rows:
        return read_rows(self.path)

    @property
    def machines(self) -> list[dict[str, Any]]:
        return told_of(self.path)


def told_of(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_run_info(path.with_suffix(".json")).client_health["machines"]
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the loads whose head, or machine, is killed: each next one fetches what is left."""
    return tmp_path_factory.mktemp("loads")


@pytest.fixture(scope="module")
def fetched(folder: Path) -> dict[str, Run]:
    """Kill the head of a run, then a machine of the next; and begin a third."""
    found = {}
    with simulator(*QUICK, "--truth", str(folder / "truth"), own_session=True) as (url, _):
        base = url.removesuffix("/v1")
        for victim, flags in ((None, ()), (1, ("--keep-rows-remote",))):
            path = killed_run(folder, base, victim, *flags)
            found["head" if victim is None else "machine"] = Run(
                path, read_rows(path), told_of(path), measured(folder, path)
            )
        assert len(kept(folder)) == 1  # the second call has fetched what the first one left
        done = run_load(folder, base, *over(1), *SHORT, "--resume")
    assert done.returncode in (0, 4), done.stderr
    return found


def test_after_a_kill_of_the_head_every_answer_gets_a_row(fetched: dict[str, Run]) -> None:
    run = fetched["head"]
    assert {*run.rows["request_id"].tolist()} >= run.answered
    failed = run.rows.of(run.rows.has("error_kind"))["error_kind"].tolist()
    assert {*failed} <= {"cancelled"}  # the end of its reply may have been on its way
    assert len(failed) <= 8  # streams
    assert len(run.rows) > 40
    assert read_run_info(run.path.with_suffix(".json")).status == "interrupted"
    assert sum(machine["fetched"] for machine in run.machines) == len(run.rows) - len(run.before)


def test_what_a_killed_machine_has_kept_is_fetched_by_the_next_session(
    fetched: dict[str, Run],
) -> None:
    run = fetched["machine"]
    (lost,) = (machine["machine"] for machine in run.told if machine["lost"])
    assert lost not in run.before["machine"].tolist()
    assert {*run.before["request_index"].tolist()} < {*run.rows["request_index"].tolist()}
    assert lost in run.rows["machine"].tolist()
    assert len({*run.rows["machine"].tolist()}) == 2
    of_each = Counter(run.rows["machine"].tolist())
    assert {m["machine"]: m["rows"] for m in run.machines} == of_each
    assert {m["machine"]: m["fetched"] for m in run.machines} == of_each


@pytest.mark.parametrize("name", ["head", "machine"])
def test_each_fetched_row_has_its_stamps_and_nothing_is_kept_then(
    fetched: dict[str, Run], folder: Path, name: str
) -> None:
    run = fetched[name]
    stamps = read_stamps(run.path, run.rows)  # which checks that they are these rows'
    assert stamps is not None
    assert len(stamps["request_index"]) == len(run.rows)
    assert kept(folder) == []  # nor is anything left of the run that went well


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
    with simulator(*QUICK, own_session=True) as (url, _):

        def found(*flags: str) -> dict[str, Any]:
            (folder := tmp_path / "-".join(("run", *flags))).mkdir()
            done = run_load(folder, url.removesuffix("/v1"), *over(2), *words, *flags)
            assert done.returncode in (0, 4), done.stderr
            assert kept(folder) == []
            return said(folder)

        with ThreadPoolExecutor() as both:
            crossed, stayed = both.map(lambda flags: found(*flags), ((), ("--keep-rows-remote",)))
    assert stayed == crossed
    assert len(crossed["rows"]) == crossed["num_requests"]
