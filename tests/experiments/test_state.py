"""The file of an experiment: what is counted, what goes on, what can't be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.experiments.ab import taken_up
from vllm_bench.experiments.state import (
    FOLDER,
    Asked,
    Attempt,
    State,
    checksum,
    experiments,
    read_state,
    scenario_sha256,
    write_state,
)
from vllm_bench.experiments.visits import visits
from vllm_bench.launch.left_behind import Process, end_session, left_of
from vllm_bench.records.beside.going_on import KeptError
from vllm_bench.scenario.scenario import Scenario

from tests.support.beside.waiting import LIMIT_S, wait_until

WHOLE, FAILED, BROKEN, GOES_ON = "whole", "failed", "broken off", "going on"
SIDE_A, SIDE_B = (
    Asked(label="x", source="x.env", sha256="1"),
    Asked(label="y", source="y.env", sha256="2"),
)


def state(*tries: tuple[int, str], **changes: object) -> State:
    """An experiment of 8 visits with these tries, each with a run of its own."""
    plan = {visit.number: visit for visit in visits(100)}
    attempts = [
        Attempt.model_validate(
            {
                **{"visit": number, "side": plan[number].side, "pair": plan[number].pair},
                **{"seed": 1, "status": status, "began": "t", "took_s": 10.0 * number},
                "run_ids": (f"run{place}",),
            }
        )
        for place, (number, status) in enumerate(tries)
    ]
    facts = {
        **{"id": "20261128T150000Z-1f2e3d4c", "scenario": "one", "scenario_sha256": "3"},
        **{"restarted": True, "visits": 8, "a": SIDE_A, "b": SIDE_B},
        **{"by": Process(1, 1), "attempts": tuple(attempts), **changes},
    }
    return State.model_validate(facts)


def test_only_the_runs_of_whole_visits_count() -> None:
    found = state((1, WHOLE), (2, BROKEN), (2, WHOLE), (3, FAILED), (3, GOES_ON))
    assert found.whole == {1, 2}
    assert (found.counted("a"), found.counted("b")) == (("run0",), ("run2",))
    assert [visit.number for visit in found.left] == [3, 4, 5, 6, 7, 8]
    assert found.seen_s() == {"a": [10.0], "b": [20.0]}


TRIES = st.lists(st.tuples(st.integers(1, 12), st.sampled_from([WHOLE, FAILED, BROKEN])))


@given(TRIES)
def test_an_experiment_is_read_as_it_was_written(tries: list[tuple[int, str]]) -> None:
    found = state(*tries)
    assert State.model_validate_json(found.model_dump_json()) == found
    assert {v.number for v in found.left} | (found.whole & set(range(1, 9))) == set(range(1, 9))


def test_a_killed_scripts_visit_is_broken_off() -> None:
    found = taken_up(state((1, WHOLE), (2, GOES_ON), server=Process(5, 5)))
    assert [a.status for a in found.attempts] == [WHOLE, BROKEN]
    assert found.attempts[1].why
    assert found.server is None


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"visits": 16}, True),
        ({"id": "another"}, True),
        ({"a": SIDE_A.model_copy(update={"source": "elsewhere/x.env"})}, True),
        ({"a": SIDE_A.model_copy(update={"sha256": "9"})}, False),
        ({"b": SIDE_B.model_copy(update={"label": "z"})}, False),
        ({"a": SIDE_B, "b": SIDE_A}, False),
        ({"scenario_sha256": "9"}, False),
        ({"restarted": False}, False),
        ({"turn": 2, "repeats": "another"}, False),
    ],
)
def test_only_the_same_question_is_gone_on_with(changes: dict[str, object], same: bool) -> None:
    assert state(**changes).continues(state()) is same


def test_a_look_counts_once_and_only_with_words() -> None:
    whole = [(n, WHOLE) for n in range(1, 9)]
    found = state(*whole).looked_at()
    assert found.looks == (8,)
    assert found.looked_at() == found
    more = found.model_copy(update={"attempts": state(*whole, (9, WHOLE), (10, WHOLE)).attempts})
    assert more.looked_at().looks == (8, 10)
    assert state(*whole[:6]).looked_at().looks == ()


def test_experiments_are_found_newest_first_among_other_files(tmp_path: Path) -> None:
    for name in ("20261128T150000Z-1", "20261129T150000Z-1"):
        write_state(tmp_path, state(id=name))
    there = tmp_path / FOLDER
    (there / "other.json").write_text(json.dumps({"kind": "capacity", "id": "other"}))
    (there / "half.json").write_text('{"kind": "ab"')
    (there / "folder.json").mkdir()
    assert [s.id for s in experiments(tmp_path)] == ["20261129T150000Z-1", "20261128T150000Z-1"]
    assert list(experiments(tmp_path / "nowhere")) == []


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", '{"kind": "ab"}', "\xff", '{"visits": -1}'),
        state(visits=8).model_dump_json().replace('"visits":8', '"visits":"many"'),
        state().model_dump_json().replace('"restarted"', '"re\\nstarted"'),
        state(id="another").model_dump_json(),
    ],
)
def test_what_is_no_experiment_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "20261128T150000Z-1f2e3d4c.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(KeptError) as problem:
        read_state(path)
    assert str(path) in str(problem.value)
    assert "\n" not in str(problem.value)


def scenario(**changes: object) -> Scenario:
    settings = {"name": "one", "model": "m", "max_new_tokens": 8, "concurrencies": [2]}
    return Scenario.model_validate({**settings, "num_requests": 9, **changes})


def test_what_decides_the_runs_is_in_a_scenarios_checksum_and_no_secret() -> None:
    same: tuple[dict[str, object], ...] = ({}, {"label": "x"}, {"base_url": "http://other:1/v1"})
    assert len({scenario_sha256(scenario(**changes)) for changes in same}) == 1
    others = (
        {"seed": 1},
        {"concurrencies": [3]},
        {"num_requests": 8},
        {"slo": {"success_rate": 1}},
    )
    assert len({scenario_sha256(scenario(**changes)) for changes in ({}, *others)}) == 5
    keys = [scenario(headers={"X-Key": key}) for key in ("one", "other")]
    assert scenario_sha256(keys[0]) == scenario_sha256(keys[1])


def test_a_checksum_is_of_facts_whatever_their_order() -> None:
    assert checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1})
    assert checksum({"a": 1}) != checksum({"a": "1"})


# ---- servers that were left behind ----


@pytest.mark.process
def test_only_the_session_that_was_written_down_is_ended() -> None:
    words = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    one, other = (
        subprocess.Popen(words, start_new_session=True, stdout=subprocess.PIPE) for _ in "ab"
    )
    for process in (one, other):
        assert process.stdout is not None
        process.stdout.readline()
    try:
        leader = Process.of(one.pid)
        assert leader.lives
        assert left_of(leader) == [one.pid]
        assert (
            left_of(Process(one.pid, (leader.began_ticks or 0) - 1)) == []
        )  # another of its number
        assert left_of(Process(one.pid, None)) == []
        assert end_session(leader) == [one.pid]
        one.wait(LIMIT_S)
        assert not leader.lives
        assert end_session(leader) == []
        assert other.poll() is None
    finally:
        for process in (one, other):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


@pytest.mark.process
def test_an_engine_whose_server_was_killed_is_ended(tmp_path: Path) -> None:
    child = f"import time; open({str(tmp_path / 'up')!r}, 'w').close(); time.sleep(60)"
    starts = f"subprocess.Popen([sys.executable, '-c', {child!r}])"
    parent = f"import subprocess, sys, time; {starts}; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", parent], start_new_session=True)
    leader = Process.of(process.pid)
    wait_until((tmp_path / "up").exists)
    os.kill(process.pid, 9)
    process.wait()
    found = left_of(leader)
    assert len(found) == 1
    assert end_session(leader) == found
    assert left_of(leader) == []
