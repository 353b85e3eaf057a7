"""A candidate against stored nights: which nights count, the limit, and how often it is right."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from typing import Any

import pytest
from vllm_bench.compare.comparison import Comparison, Row
from vllm_bench.compare.history import MIN_NIGHTS, against_history
from vllm_bench.compare.pairs import Side
from vllm_bench.compare.words import answer
from vllm_bench.errors import UsageError
from vllm_bench.records.run_info import ClockPair

from tests.compare.made import DAY_S, INVALID, made, side, without


def nights(*times: float, repeats: int = 1, day_s: float = DAY_S, **changes: Any) -> Side:
    """A night for each of `times`, a day apart unless told, of the plans 1, 2, 3 ..."""
    runs = [
        made(f"n{k}-{r}", t, plan=r, repeat=r, at_s=day_s * k + 90 * r, session=f"s{k}", **changes)
        for k, t in enumerate(times, 1)
        for r in range(1, repeats + 1)
    ]
    return Side("nights", tuple(runs))


def candidate(times: float = 1.0, repeats: int = 1, **changes: Any) -> Side:
    return side("c", *[times] * repeats, start_s=90 * DAY_S, **changes)


def rows(found: Comparison) -> dict[str, Row]:
    return {row.measure.name: row for row in found.levels[0].rows}


TEN = tuple(1 + 0.01 * math.sin(k) for k in range(10))  # a spread of 0.7 %


@pytest.mark.parametrize(
    ("times", "word", "code"),
    [(1.0, "not slower", 0), (1.1, "slower", 3), (0.8, "not slower", 0)],
)
def test_a_candidate_is_slower_or_not(times: float, word: str, code: int) -> None:
    found = against_history(nights(*TEN), candidate(times))
    assert rows(found)["tpot_p50_ms"].word == word
    assert (found.exit_code, found.refusals) == (code, ())


def test_its_limit_is_where_it_becomes_slower() -> None:
    row = rows(against_history(nights(*TEN), candidate()))["ttft_p95_ms"]
    assert row.limit is not None
    assert row.a is not None
    assert row.smallest is not None
    # The usual p95 is 100 ms.
    for times, word in ((0.999, "not slower"), (1.001, "slower")):
        # Alone beyond its limit, a measure is the first in Holm's order.
        found = against_history(nights(*TEN), candidate(times * row.limit / 100))
        assert rows(found)["ttft_p95_ms"].word == word
    assert row.limit / row.a - 1 < row.smallest < 0.1


def test_fewer_tokens_are_the_bad_direction_too() -> None:
    stored = nights(*TEN)
    for speed, word in ((0.8, "slower"), (1.2, "not slower")):
        row = rows(against_history(stored, candidate(speed=speed)))["output_tokens_per_s"]
        assert row.word == word
        assert row.limit is not None
        assert row.a is not None
        assert row.limit < row.a


def test_under_ten_nights_there_is_no_word() -> None:
    found = against_history(nights(*TEN[:9]), candidate(2))
    assert {row.word for row in rows(found).values()} == {None}
    assert rows(found)["ttft_p50_ms"].effect is not None
    assert (found.exit_code, len(found.refusals)) == (4, 1)
    assert str(MIN_NIGHTS) in found.refusals[0]


def test_a_baseline_of_one_day_never_gates() -> None:
    found = against_history(nights(*TEN, *TEN, day_s=1800), candidate(2))
    assert found.exit_code == 4
    assert "1 night" in found.refusals[0]


def test_nights_at_fault_are_dropped_and_counted() -> None:
    bad = made("bad", 1, at_s=40 * DAY_S, doubts=INVALID)
    longer = made("longer", 1, at_s=41 * DAY_S, longer=1.1)
    stored = Side("nights", (*nights(*TEN).runs, bad, longer))
    found = against_history(stored, candidate())
    assert found.exit_code == 0
    assert len(found.levels[0].dropped) == 2
    few = Side("nights", (*nights(*TEN[:9]).runs, bad))
    assert against_history(few, candidate()).exit_code == 4


def test_nights_of_another_plan_or_level_do_not_count() -> None:
    for other in ({"plan": 9}, {"rate": 5.0}):
        stored = [made(f"n{k}", at_s=k * DAY_S, **other) for k in range(12)]
        assert against_history(Side("nights", tuple(stored)), candidate()).exit_code == 4


def test_the_candidates_own_runs_are_no_night() -> None:
    new = candidate(2)
    found = against_history(Side("nights", (*nights(*TEN).runs, *new.runs)), new)
    assert rows(found)["tpot_p50_ms"].word == "slower"


def test_as_many_runs_of_a_night_count_as_the_candidate_has() -> None:
    stored = nights(*TEN, repeats=3)
    one = rows(against_history(stored, candidate()))["tpot_p50_ms"]
    three = rows(against_history(stored, candidate(repeats=3)))["tpot_p50_ms"]
    assert one.a == pytest.approx(three.a)
    assert against_history(nights(*TEN), candidate(repeats=3)).exit_code == 4  # a part is missing


def test_a_candidate_at_fault_is_refused() -> None:
    found = against_history(nights(*TEN), candidate(doubts=INVALID))
    assert (found.exit_code, len(found.refusals)) == (4, 1)
    assert [(level.rows, level.nights) for level in found.levels] == [((), 0)]


def test_a_level_where_the_candidate_is_at_fault_is_told() -> None:
    other = made("busy", rate=5.0, at_s=91 * DAY_S, doubts=INVALID)
    found = against_history(nights(*TEN), Side("c", (*candidate().runs, other)))
    assert found.exit_code == 4
    assert [bool(level.words) for level in found.levels] == [False, True]
    assert "busy" in (found.levels[0].refusal or "")
    assert "no word at" in answer(found)


def test_a_run_of_the_candidate_that_does_not_count_is_told() -> None:
    again = made("again", plan=2, repeat=2, at_s=91 * DAY_S, doubts=INVALID)
    found = against_history(nights(*TEN, repeats=2), Side("c", (*candidate().runs, again)))
    assert found.exit_code == 0
    assert any("again" in note for note in found.notes)


def test_a_night_goes_on_after_midnight() -> None:
    stored = nights(*TEN, repeats=2)
    late = [  # the second run of each night a minute after midnight
        dataclasses.replace(run, info=dataclasses.replace(run.info, clock_start=began))
        for run in stored.runs
        if run.info and (began := _later(run.info.clock_start))
    ]
    found = against_history(Side("nights", tuple(late)), candidate(repeats=2))
    assert (found.levels[0].nights, found.levels[0].dropped) == (10, ())


def _later(clock: ClockPair) -> ClockPair:
    """From noon and 90 seconds a run to half a minute before midnight, and after it."""
    return dataclasses.replace(clock, wall_s=clock.wall_s + DAY_S / 2 - 120)


def test_a_missing_figure_has_a_reason() -> None:
    stored = nights(*TEN)
    stored = Side("n", (without(stored.runs[0], "ttft_ms", 99.0), *stored.runs[1:]))
    found = rows(against_history(stored, candidate()))
    assert (found["ttft_p99_ms"].word, found["ttft_p99_ms"].effect) == (None, None)
    assert "n1-1" in (found["ttft_p99_ms"].why or "")
    assert found["ttft_p95_ms"].word == "not slower"


def test_nights_without_spread_and_nothing_infinite() -> None:
    same = against_history(nights(*[1.0] * 10), candidate())
    assert {row.word for row in rows(same).values()} == {"not slower"}
    worse = against_history(nights(*[1.0] * 10), candidate(1.2))
    assert rows(worse)["tpot_p50_ms"].word == "slower"
    told = [(row.a, row.b, row.p, row.smallest, row.limit) for row in rows(worse).values()]
    json.dumps(told, allow_nan=False)


def test_a_margin_that_cannot_be_is_told() -> None:
    from vllm_bench.compare.compare import How

    with pytest.raises(UsageError):
        against_history(nights(*TEN), candidate(), How(margins={"x": 1}))


# ---- simulated: no alarm in 95 of 100, and the regression that it promises to see ----


def simulated(rng: random.Random, worse: float, drift: float = 0.0) -> Comparison:
    """Ten nights whose level spreads by 1 %, times by 3 %, and the next, worse by so much."""

    def night(k: int, times: float = 1.0) -> Any:
        level = rng.gauss(drift * k, 0.01)
        spread = [math.exp(level + rng.gauss(0, 0.03)) for _ in range(3)]
        run = made(f"n{k}", plan=1, at_s=k * DAY_S)
        found = dict(run.distributions)
        for metric, factor in zip(("ttft_ms", "tpot_ms", "latency_ms"), spread, strict=True):
            of = run.distributions[metric]
            values = {q: v * factor * times for q, v in of.percentiles.items()}
            found[metric] = dataclasses.replace(of, percentiles=values)
        return dataclasses.replace(run, distributions=found)

    stored = Side("nights", tuple(night(k) for k in range(10)))
    return against_history(stored, Side("c", (night(10, worse),)))


def test_false_alarms_are_at_most_five_of_a_hundred() -> None:
    rng = random.Random(17)
    alarms = sum(simulated(rng, 1.0).exit_code == 3 for _ in range(150))
    assert alarms / 150 <= 0.05 + 2.6 * math.sqrt(0.05 * 0.95 / 150)


def test_the_smallest_regression_is_seen_in_nine_of_ten() -> None:
    rng = random.Random(18)
    smallest = [rows(simulated(rng, 1.0))["tpot_p50_ms"].smallest or 0 for _ in range(30)]
    typical = sorted(smallest)[15]
    seen = [rows(simulated(rng, 1 + typical))["tpot_p50_ms"].word for _ in range(100)]
    assert seen.count("slower") / 100 >= 0.82
