"""Which runs of a folder count as done: the whole ones, the newest of each key."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vllm_bench.records.request_record import count_rows, read_rows
from vllm_bench.records.run_info import ClockPair, RunInfo
from vllm_bench.records.same_run import RunKey
from vllm_bench.run.resume import complete_runs

from tests.support.made_runs import NOON_S, failed_record, made_info, made_record, write_run

RECORDS = [made_record(i) for i in range(3)]
PLAN_SHA256 = "cd" * 32


def planned(began_s: float = 0.0, **changes: Any) -> RunInfo:
    """Return the info of a whole run, changed."""
    began = ClockPair(wall_s=NOON_S + began_s, monotonic_ns=0)
    plan = changes.pop("plan", {"sha256": PLAN_SHA256})
    return dataclasses.replace(made_info(RECORDS, clock_start=began, **changes), plan=plan)


KEY = RunKey.of(planned())
assert KEY is not None


class Every(frozenset[RunKey]):
    """Each key is wanted."""

    def __contains__(self, key: object) -> bool:
        return isinstance(key, RunKey)


EVERY = Every()


def refuse(line: str) -> None:
    raise AssertionError(f"nothing is wrong with these files: {line}")


def on_disk(folder: Path, name: str, info: RunInfo | None, rows: int = 3) -> Path:
    return write_run(folder, [made_record(i) for i in range(rows)], info, name=name)


@pytest.mark.parametrize(
    "changes",
    [
        {"repeat": 2},
        {"plan": {"sha256": "ef"}},
        {"scenario": {"name": "other"}},
        {"scenario": {"model": "m"}},
        {"scenario": {"base_url": "http://b/v1"}},
        {"scenario": {"label": "seqs64"}},
        {"scenario": {"start": "together"}},
        {"scenario": {"duration_s": 9.0}},
        {"scenario": {"slo": {"ttft_ms": {"p99": 1.0}}}},  # to be judged otherwise
        {"scenario": {"telemetry": True}},  # and watched
        {"scenario": {"timeout_total_s": 5.0}},
        {"scenario": {"warmup_requests": 5}},
        {"server": {"version": "0.33.0"}},
        {"server": {"max_model_len": 4096}},
        {"server": {"cache_config": {"num_gpu_blocks": "7"}}},
    ],
    ids=str,
)
def test_what_asks_for_anything_else_is_another_run(changes: dict[str, Any]) -> None:
    assert RunKey.of(planned(**changes)) not in (None, KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"scenario": {"description": "in other words"}},
        {"scenario": {"concurrencies": [1, 2, 3]}},
        {"scenario": {"repeats": 9}},
        {"server": {"system_fingerprint": "another"}},
        {"notes": ["anything"]},
    ],
    ids=str,
)
def test_what_says_nothing_of_the_run_itself_changes_nothing(changes: dict[str, Any]) -> None:
    assert RunKey.of(planned(**changes)) == KEY


@pytest.mark.parametrize(
    "changes",
    [
        {"plan": {}},  # a run that wrote no plan
        {"scenario": {"name": None}},
    ],
    ids=str,
)
def test_a_run_that_does_not_say_what_it_was_has_no_key(changes: dict[str, Any]) -> None:
    assert RunKey.of(planned(**changes)) is None


@pytest.mark.parametrize(
    ("status", "rows", "whole"),
    [
        ("complete", 3, True),
        ("complete", 2, False),
        ("incomplete", 3, False),  # a machine was lost, and its rows were fetched since
        ("complete", 4, False),
        ("interrupted", 3, False),
        ("running", 3, False),
        ("failed", 3, False),
    ],
)
def test_a_run_is_whole_when_it_ended_by_itself_with_one_row_per_request(
    tmp_path: Path, status: str, rows: int, whole: bool
) -> None:
    path = on_disk(tmp_path, "run", planned(status=status, num_requests=3), rows)
    assert complete_runs(tmp_path, EVERY, refuse) == ({KEY: path} if whole else {})


@pytest.mark.parametrize(("failed", "whole"), [(0, True), (1, True), (2, True), (3, False)])
def test_a_run_without_a_success_has_measured_nothing(
    tmp_path: Path, failed: int, whole: bool
) -> None:
    records = [
        failed_record(i, error_kind="connect") if i < failed else made_record(i) for i in range(3)
    ]
    path = write_run(tmp_path, records, planned(), name="run")
    told: list[str] = []
    assert complete_runs(tmp_path, EVERY, told.append) == ({KEY: path} if whole else {})
    assert len(told) == (not whole)


def test_rows_of_runs_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    on_disk(tmp_path, "run", planned()).write_text("damaged")
    assert complete_runs(tmp_path, (), refuse) == {}
    with pytest.raises(AssertionError):
        complete_runs(tmp_path, {KEY}, refuse)


runs = st.lists(
    st.tuples(
        st.sampled_from([PLAN_SHA256, "ef" * 32]),
        st.integers(1, 2),
        st.integers(0, 5),
        st.sampled_from(["complete", "running"]),
    ),
    max_size=8,
)


@settings(max_examples=30, deadline=None)
@given(runs)
def test_the_newest_whole_run_of_each_key_counts(made: list[tuple[str, int, int, str]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        found: dict[Path, RunInfo] = {}
        for place, (sha256, repeat, began_s, status) in enumerate(made):
            run = planned(began_s, plan={"sha256": sha256}, repeat=repeat, status=status)
            found[on_disk(Path(name), f"{place}", run)] = run
        chosen = complete_runs(Path(name), EVERY, refuse)
    began: dict[RunKey | None, list[float]] = {}
    for run in found.values():
        if run.status == "complete":
            began.setdefault(RunKey.of(run), []).append(run.clock_start.wall_s)
    newest = {key: found[path].clock_start.wall_s for key, path in chosen.items()}
    assert newest == {key: max(times) for key, times in began.items()}


def test_a_folder_gives_its_newest_complete_runs(tmp_path: Path) -> None:
    on_disk(tmp_path, "a", planned())
    newest = on_disk(tmp_path, "b", planned(60.0))
    on_disk(tmp_path, "c", planned(120.0), rows=2)
    on_disk(tmp_path, "d", planned(180.0, status="running", clock_end=None))
    other = on_disk(tmp_path, "e", planned(repeat=2))
    on_disk(tmp_path, "f", planned(plan={}))
    on_disk(tmp_path, "g", None)
    told: list[str] = []
    assert complete_runs(tmp_path, EVERY, told.append) == {
        KEY: newest,
        dataclasses.replace(KEY, repeat=2): other,
    }
    assert told == []
    assert complete_runs(tmp_path / "nowhere", EVERY, refuse) == {}


@pytest.mark.parametrize("profiled", [True, False])
def test_a_run_with_a_profile_is_none_for_figures_nor_the_other_way_round(
    tmp_path: Path, profiled: bool
) -> None:
    made = {
        True: on_disk(tmp_path, "a", planned(observed={"profile": {"seconds": 2.0}})),
        False: on_disk(tmp_path, "b", planned(began_s=5)),
    }
    found = complete_runs(tmp_path, EVERY, refuse, profiled=profiled)
    assert found == {KEY: made[profiled]}


def test_a_run_that_a_kill_tore_in_its_last_row_is_not_whole(tmp_path: Path) -> None:
    path = on_disk(tmp_path, "a", planned())
    assert complete_runs(tmp_path, EVERY, refuse) == {KEY: path}
    path.write_bytes(path.read_bytes()[:-1])
    assert complete_runs(tmp_path, EVERY, refuse) == {}


def test_files_that_cannot_be_read_are_told_and_the_others_count(tmp_path: Path) -> None:
    whole = on_disk(tmp_path, "whole", planned())
    on_disk(tmp_path, "torn", planned()).with_suffix(".json").write_text('{"run_id"')
    (tmp_path / "torn_json_list.csv").write_text("")
    (tmp_path / "torn_json_list.json").write_text("[]")
    damaged = on_disk(tmp_path, "damaged", planned())
    damaged.write_text(damaged.read_text() + "1,2,3\n")
    later = on_disk(tmp_path, "later", planned()).with_suffix(".json")
    later.write_text(json.dumps({**json.loads(later.read_text()), "schema_version": 99}))
    (tmp_path / "summary.csv").write_text("a,b\n")
    (tmp_path / "summary.json").write_text("{}")
    told: list[str] = []
    assert complete_runs(tmp_path, EVERY, told.append) == {KEY: whole}
    assert len(told) == 4
    assert all("\n" not in line for line in told)
    assert "damaged.csv: " in told[0]
    assert "line 5" in told[0]
    assert "later.json: schema_version 99" in told[1]


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    path = on_disk(tmp_path, "a", None)
    data = path.read_bytes()
    for length in range(data.index(b"\n") + 1, len(data) + 1):
        path.write_bytes(data[:length])
        assert count_rows(path) == data[:length].count(b"\n") - 1
    assert count_rows(path) == len(read_rows(path)) == 3
