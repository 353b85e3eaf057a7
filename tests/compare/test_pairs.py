"""Which runs are a pair, which pairs count, and what is left over."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from vllm_bench.compare.compare import compare
from vllm_bench.compare.pairs import Side, Told, matched
from vllm_bench.scenario.load import Load
from vllm_bench.summary.summary import RunSummary
from vllm_bench.verdict.finding import Severity

from tests.compare.made import INVALID, made, side

STREAMS = Load("streams", 4)


def one_level(a: Side, b: Side) -> Any:
    (level,) = matched(a, b)
    return level


def names(level: Any) -> list[tuple[str, str]]:
    return [(pair.a.name, pair.b.name) for pair in level.pairs]


def visits(label: str, firsts: str, *, runs: int = 1, ident: str = "x", **changes: Any) -> Side:
    """A side of an experiment: `firsts` says of each pair which side began, as ABBA."""
    found = []
    for k, first in enumerate(firsts, 1):
        visit = 2 * k - (first == label)
        asked = {"id": ident, "side": label, "visit": visit, "pair": k, "restarted": True}
        for repeat in range(1, runs + 1):
            plan = {"plan": 10 * k + repeat, "repeat": repeat, "at_s": 600 * visit + 60 * repeat}
            name = f"{label}{visit}-{repeat}"
            found.append(made(name, experiment={"kind": "ab", **asked}, **plan, **changes))
    return Side(label, tuple(found))


def test_a_pair_has_one_plan_level_and_repeat() -> None:
    b = side("b", 1, 1, 1)
    shuffled = Side("b", (b.runs[2], b.runs[0], b.runs[1]))
    assert names(one_level(side("a", 1, 1, 1), shuffled)) == [
        ("a1", "b1"),
        ("a2", "b2"),
        ("a3", "b3"),
    ]


def test_runs_of_one_plan_are_paired_in_the_order_of_time() -> None:
    a = [made(f"a{k}", at_s=100 * k) for k in (3, 1, 2)]
    b = [made(f"b{k}", at_s=100 * k) for k in (2, 1)]
    level = one_level(Side("a", tuple(a)), Side("b", tuple(b)))
    assert names(level) == [("a1", "b1"), ("a2", "b2")]
    assert [unit.name for unit in level.alone_a] == ["a3"]
    assert level.alone_b == ()


@pytest.mark.parametrize("other", [{"plan": 7}, {"repeat": 2}, {"plan": None}])
def test_other_requests_are_no_pair(other: dict[str, Any]) -> None:
    level = one_level(Side("a", (made("a1"),)), Side("b", (made("b1", **other),)))
    assert (level.pairs, len(level.alone_a), len(level.alone_b)) == ((), 1, 1)


def test_levels_are_compared_each_with_its_own() -> None:
    a = Side("a", (made("a1"), made("a2", rate=5.0)))
    b = Side("b", (made("b1"), made("b2", rate=5.0)))
    assert [(level.load.unit, names(level)) for level in matched(a, b)] == [
        ("requests/s", [("a2", "b2")]),
        ("streams", [("a1", "b1")]),
    ]
    assert matched(Side("a", (made("a1"),)), Side("b", (made("b2", rate=5.0),))) == []


# ---- visits of an experiment ----


def test_the_runs_of_a_start_are_one_unit() -> None:
    level = one_level(visits("A", "ABBA", runs=3), visits("B", "ABBA", runs=3))
    assert [len(pair.a.runs) for pair in level.pairs] == [3] * 4
    assert [pair.a.runs[0].name for pair in level.pairs] == ["A1-1", "A4-1", "A6-1", "A7-1"]


def test_a_visit_that_broke_off_is_compared_by_what_both_have() -> None:
    whole, broken = visits("A", "AB", runs=3), visits("B", "AB", runs=3)
    broken = Side("B", broken.runs[:4])  # of the second visit the first run alone
    level = one_level(whole, broken)
    assert [(len(p.a.runs), len(p.b.runs)) for p in level.pairs] == [(3, 3), (1, 1)]


def test_visits_of_two_experiments_are_not_mixed() -> None:
    level = one_level(visits("A", "AB", ident="x"), visits("B", "AB", ident="y"))
    assert len(level.pairs) == 2
    both = Side("A", visits("A", "AB", ident="x").runs + visits("A", "AB", ident="y").runs)
    assert len(one_level(both, visits("B", "AB", ident="y")).pairs) == 2


def test_the_runs_of_a_start_are_one_unit_against_another_experiment_too() -> None:
    old, new = visits("A", "ABBA", runs=3, ident="x"), visits("B", "ABBA", runs=3, ident="y")
    level = one_level(old, new)
    assert [(len(p.a.runs), len(p.b.runs)) for p in level.pairs] == [(3, 3)] * 4
    twice = Side("B", new.runs + visits("B", "ABBA", runs=3, ident="z").runs)
    assert len(one_level(old, twice).pairs) == 4


def test_a_run_that_was_made_again_by_resume_is_no_partner() -> None:
    broken = made("a1", session="s", status="interrupted")
    again = made("a1-again", session="s", at_s=600)
    level = one_level(Side("a", (broken, again)), Side("b", (made("b1", at_s=60),)))
    assert (names(level), level.dropped, level.alone_a) == ([("a1-again", "b1")], (), ())
    other = dataclasses.replace(again, info=dataclasses.replace(again.info, session="t"))
    level = one_level(Side("a", (broken, other)), Side("b", (made("b1", at_s=60),)))
    assert (names(level), len(level.dropped)) == ([], 1)


# ---- pairs that are thrown away whole ----


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ({"doubts": INVALID}, "errors"),
        ({"doubts": (("stamp_error", Severity.INVALID, "TTFT"),)}, "stamp_error"),
        ({"status": "interrupted"}, "interrupted"),
        ({"longer": 1.02}, "ignore_eos"),
    ],
)
def test_a_pair_with_such_a_run_is_thrown_away_whole(bad: dict[str, Any], word: str) -> None:
    a, b = side("a", 1, 1), Side("b", (made("b1", **bad), made("b2", plan=2, repeat=2)))
    level = one_level(a, b)
    assert names(level) == [("a2", "b2")]
    (line,) = level.dropped
    assert "b1" in line
    assert word in line


@pytest.mark.parametrize("fine", [{"doubts": (("stalls", Severity.SUSPECT, "all"),)}])
def test_a_suspect_run_counts(fine: dict[str, Any]) -> None:
    level = one_level(side("a", 1), Side("b", (made("b1", **fine),)))
    assert (len(level.pairs), level.dropped) == (1, ())


@pytest.mark.parametrize(("longer", "pairs"), [(1.009, 1), (0.992, 1), (1.012, 0), (0.98, 0)])
def test_lengths_may_differ_by_a_hundredth(longer: float, pairs: int) -> None:
    level = one_level(side("a", 1), Side("b", (made("b1", longer=longer),)))
    assert len(level.pairs) == pairs


def longer_part(run: RunSummary, requests: int, std: float) -> RunSummary:
    """The same run, with more requests of the plan done, whose lengths spread."""
    lengths = dataclasses.replace(run.distributions["completion_tokens"], std=std)
    assert run.throughput
    counts = dataclasses.replace(
        run.throughput,
        requests=requests,
        output_tokens=20.4 * requests,
        prompt_tokens=250 * requests,
    )
    distributions = {**run.distributions, "completion_tokens": lengths}
    return dataclasses.replace(run, throughput=counts, distributions=distributions)


@pytest.mark.parametrize(("std", "pairs"), [(10.0, 1), (0.5, 0)])
def test_who_sent_more_of_the_plan_may_differ_by_chance(std: float, pairs: int) -> None:
    """A closed loop that goes by time: 400 requests and 800, of 20 and 20.4 tokens."""
    b = longer_part(made("b1"), 800, std)
    assert len(one_level(side("a", 1), Side("b", (b,))).pairs) == pairs


def test_a_run_is_not_compared_with_itself() -> None:
    a = side("a", 1, 1, 1, 1)
    found = compare(a, Side("b", a.runs))
    assert found.exit_code == 4
    assert len(found.levels[0].dropped) == 4


# ---- material without pairs ----


def test_another_tools_figures_are_told_beside_ours() -> None:
    theirs = Told("bench.json", STREAMS, {"ttft_p50_ms": 50.0})
    found = compare(side("a", 1), Side("b", (), (theirs,)))
    (level,) = found.levels
    by_name = {row.measure.name: row for row in level.rows}
    assert by_name["ttft_p50_ms"].effect is not None
    assert by_name["ttft_p50_ms"].effect.ratio == pytest.approx(0.5)
    assert by_name["ttft_p50_ms"].effect.interval is None
    assert by_name["tpot_p50_ms"].effect is None
    assert "bench.json" in (by_name["tpot_p50_ms"].why or "")
    assert {row.word for row in level.rows} == {None}
    assert (found.exit_code, len(found.refusals)) == (4, 1)


def test_two_files_of_another_tool() -> None:
    one, other = (Told(name, STREAMS, {"ttft_p50_ms": v}) for name, v in (("x", 10), ("y", 20)))
    (level,) = compare(Side("a", (), (one,)), Side("b", (), (other,))).levels
    ratios = [row.effect.ratio for row in level.rows if row.effect]
    assert ratios == [2.0]


def test_unpaired_runs_at_fault_have_no_figures() -> None:
    a, b = side("a", 1), Side("b", (made("b1", plan=9, doubts=INVALID),))
    found = compare(a, b)
    assert [level.rows for level in found.levels] == [()]
    assert found.exit_code == 4
    assert "errors" in found.refusals[0]
