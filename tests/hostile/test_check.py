"""The checker of `make chaos` can fail: each thing that it must find is planted, and found."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from tools.hostile.check import Case, Rules, demanded, findings
from tools.hostile.faults import KINDS
from tools.hostile.left import LeftRun, Row, Served, read_into, runs_in
from tools.hostile.processes import NS
from tools.hostile.trial import drawn, trials

REQUESTS, TOKENS = 6, 8
START_NS = 100 * NS
CUT = Rules(frozenset({-9}), rows_cut=True, silent=True)


def row(run_id: str, index: int, error_kind: str = "") -> Row:
    tokens = None if error_kind else TOKENS
    return Row(f"{run_id}-{index}", index, index + 0.5, error_kind, 20, tokens)


def served(run_id: str, index: int, outcome: str = "ok") -> Served:
    at = START_NS + index * NS
    return Served(
        f"{run_id}-{index}", run_id, index, at, at + NS // 2, TOKENS, outcome == "ok", outcome
    )


def run(run_id: str, streams: int, status: str = "complete") -> LeftRun:
    info = {
        "status": status,
        "concurrency": streams,
        "request_rate": None,
        "clock_start": {"monotonic_ns": START_NS},
    }
    return LeftRun(run_id, [row(run_id, i) for i in range(REQUESTS)], info=info)


def case(**changes: object) -> Case:
    """A run of two levels with which nothing is wrong."""
    made = Case(
        rules=Rules(),
        requests=REQUESTS,
        levels=2,
        code=0,
        told={"bench": "all is well"},
        runs=[run("a", 3), run("b", 5)],
        served=[served(name, i) for name in "ab" for i in range(REQUESTS)],
        readers={"summarize": 0, "plot": 0, "report": 0},
        verdicts={"a": "SUSPECT", "b": "SUSPECT"},
        runs_after=[run("a", 3), run("b", 5)],
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def words(given: Case) -> set[str]:
    return {found.partition(":")[0] for found in findings(given)}


def test_a_run_to_which_nothing_happened_is_fine() -> None:
    assert findings(case()) == []
    assert len(demanded(case())) == 2 * REQUESTS


def _lost(one: Case) -> None:
    del one.runs[1].rows[2]


def _twice(one: Case) -> None:
    one.runs[0].rows.append(row("a", 2))


def _unknown(one: Case) -> None:
    one.served = [s for s in one.served if s.request_id != "a-1"]


def _cut_off(one: Case) -> None:
    one.served = [*one.served[1:], served("a", 0, "cut")]


def _miscounted(one: Case) -> None:
    one.runs[0].rows[3].completion_tokens = TOKENS - 1


def _spoilt(one: Case) -> None:
    one.runs[0].rows[3] = row("a", 3, "protocol")


def _foreign(one: Case) -> None:
    one.runs[0].rows[3].request_id = "b-3"


def _running(one: Case) -> None:
    one.runs[0] = run("a", 3, "running")  # type: ignore[index]


def _locked(one: Case) -> None:
    one.runs[0].locked = True


def _torn(one: Case) -> None:
    one.runs[0].torn = True


def _believed(one: Case) -> None:
    one.runs[1].info = {**(one.runs[1].info or {}), "status": "failed"}
    one.verdicts = {"a": "SUSPECT", "b": "VALID"}


def _not_resumed(one: Case) -> None:
    one.runs_after = [run("a", 3), run("b", 5, "interrupted")]


def _all_failed(one: Case) -> None:
    failed = run("b", 5)
    failed.rows = [row("b", i, "connect") for i in range(REQUESTS)]
    one.runs_after = [run("a", 3), failed]


PLANTED: dict[str, tuple[Callable[[Case], None], set[str]]] = {
    "a lost row": (_lost, {"lost", "status", "ended"}),
    "a duplicate": (_twice, {"rows"}),
    "a success that the server doesn't know": (_unknown, {"false"}),
    "a success of a stream that was cut": (_cut_off, {"false"}),
    "another count than was sent": (_miscounted, {"false"}),
    "a sound reply told as a failure": (_spoilt, {"spoilt"}),
    "another run's row": (_foreign, {"rows", "lost"}),
    "a run that never ended": (_running, {"status", "ended"}),
    "a lock that is held": (_locked, {"status"}),
    "half a line": (_torn, {"rows"}),
    "a broken run that is believed": (_believed, {"verdicts", "ended"}),
    "a level that wasn't made up for": (_not_resumed, {"resume"}),
    "a level of failures that counts as whole": (_all_failed, {"resume"}),
}


@pytest.mark.parametrize(("plant", "found"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_found(plant: Callable[[Case], None], found: set[str]) -> None:
    given = case()
    plant(given)
    assert words(given) == found


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"code": None}, {"ended"}),
        ({"code": 2}, {"ended"}),
        ({"told": {"bench": "Traceback (most recent call last):\nKeyError: 1"}}, {"words"}),
        ({"behind": ["process 7 lives on"]}, {"behind"}),
        ({"readers": {"plot": None}}, {"readers"}),
        ({"readers": {"plot": 2}}, {"readers"}),
        ({"readers": {"plot": 1}}, {"readers"}),
        ({"verdicts": {"a": "SUSPECT"}}, {"verdicts"}),
        ({"resumed": 1}, {"resume"}),
        ({"rules": Rules(stops=True), "struck_ns": START_NS}, {"ended"}),
    ],
)
def test_what_went_wrong_beside_the_rows_is_found(
    changes: dict[str, object], found: set[str]
) -> None:
    assert words(case(**changes)) == found


def test_of_a_killed_run_the_rows_of_the_last_second_may_be_missing_and_no_older_ones() -> None:
    struck_ns = START_NS + 5 * NS
    killed = case(code=-9, rules=CUT, struck_ns=struck_ns)
    killed.runs = [run("a", 3, "running")]
    due = {"a-0", "a-1", "a-2", "a-3"}  # the last of them ended 1.5 s before
    assert {name for name in demanded(killed) if name.startswith("a")} == due
    killed.served = [one for one in killed.served if one.run_id == "a"]
    killed.verdicts = {"a": "SUSPECT"}
    del killed.runs[0].rows[4:]
    assert findings(killed) == []
    del killed.runs[0].rows[3:]
    assert words(killed) == {"lost"}


@pytest.mark.parametrize(
    ("sent", "failed", "found"),
    [((3,), 3, set()), ((3, 4), 4, set()), ((3,), 4, {"status", "resume"}), ((3, 5), 3, set())],
)
def test_turns_behind_one_that_failed_are_not_missed(
    sent: tuple[int, ...], failed: int, found: set[str]
) -> None:
    given = case(turns=3, rules=Rules(spoils=True))
    rows = [row("b", i, "truncated" if i == failed else "") for i in (0, 1, 2, *sent)]
    given.runs[1].rows = (given.runs_after or [])[1].rows = rows
    given.served = [s for s in given.served if s.run_id == "a" or s.index in (0, 1, 2, *sent)]
    assert words(given) == found


def test_a_machine_that_stood_still_is_no_loss() -> None:
    given = case(rules=CUT, struck_ns=START_NS + 5 * NS)
    slow = dataclasses.replace(given, stalled_ns=2 * NS)
    assert len(demanded(slow)) == len(demanded(given)) - 4


def test_lines_that_are_no_rows_are_damage(tmp_path: Path) -> None:
    header = "run_id,request_index,request_id,t_end_s,error_kind,prompt_tokens,completion_tokens\n"
    made = LeftRun("a")
    read_into(made, f"{header}a,0,a-0,1.0,,20,8\na,1,a-1\na,x,a-2,1,,,\nb,3,b-3,1,,,\na,4".encode())
    assert [one.request_id for one in made.rows] == ["a-0"]
    assert len(made.damaged) == 3
    assert made.torn
    (tmp_path / "load-a.csv").write_text(header)
    (tmp_path / "load-a.json").write_text("{")
    (tmp_path / "summary.csv").write_text(header)
    (found,) = runs_in(tmp_path)
    assert (found.info, found.locked, found.status) == (None, False, "no JSON")


def test_a_trial_is_drawn_from_its_seed_and_number_alone() -> None:
    first = [trial for trial, _ in zip(trials(1, ()), range(150), strict=False)]
    again = [trial for trial, _ in zip(trials(1, ()), range(20), strict=False)]
    assert first[:20] == again
    assert [drawn(1, trial.number, trial.name) for trial in again] == again
    assert {trial.name for trial in first[:100]} == set(KINDS)
    other = [trial for trial, _ in zip(trials(2, ()), range(20), strict=False)]
    assert other != again
