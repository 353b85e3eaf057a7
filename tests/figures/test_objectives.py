"""Objectives: over all arrivals, a failure being a miss; counts that pool over runs."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.figures.attained import Attainment, attainment, pooled
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.objectives import Objective, Outcome, objectives_of
from vllm_bench.figures.window import Window
from vllm_bench.stats.batches import batches_of
from vllm_bench.stats.share import LONGEST, Share, pooled_share, together
from vllm_bench.summary.levels import series_of
from vllm_bench.tables.level_lines import objective_lines

from tests.support.made_runs import (
    as_read,
    failed_record,
    frame_of,
    made_info,
    made_record,
    summed,
    whole_reply_record,
)


@pytest.fixture
def attained(tmp_path):
    """Hold records against objectives."""

    def found(records, slo, **changes) -> Attainment:
        info = made_info(records, scenario={"slo": slo, **changes.pop("scenario", {})}, **changes)
        result = attainment(Facts(frame_of(tmp_path, records), info))
        assert result is not None
        return result

    return found


def slow(i, **changes):
    return made_record(i, ttft_ms=900.0, **changes)


@pytest.mark.parametrize(
    ("late", "of", "word"),
    [
        (0, 100, "not shown"),  # even a share late of 2.9 % would often show none in a hundred
        (0, 298, "not shown"),
        (0, 299, "met"),  # 0.99 ^ 299 < 5 %
        (1, 473, "met"),  # Clopper and Pearson: from 473 on with one late
        (1, 472, "not shown"),
        (3, 100, "not shown"),
        (4, 100, "missed"),  # the lower bound is 1.4 %
        (100, 100, "missed"),
    ],
)
def test_an_objective_is_met_missed_or_not_shown(late, of, word):
    outcome = Outcome(Objective("ttft_ms", 0.99, 500.0), spread(late, of))
    assert (outcome.word, outcome.within) == (word, of - late)


def spread(late, of, batches=10):
    """A share whose late requests are spread evenly over the batches."""
    arrivals = [of // batches + (k < of % batches) for k in range(batches)]
    each = [late // batches + (k < late % batches) for k in range(batches)]
    within = tuple(n - m for n, m in zip(arrivals, each, strict=True))
    return Share(tuple(arrivals), within)


def test_requests_that_are_late_together_show_less_than_as_many_spread():
    objective = Objective("ttft_ms", 0.95, 500.0)
    even, bunched = spread(20, 1000), Share((100,) * 10, (*[100] * 9, 80))
    assert (even.late, bunched.late) == (20, 20)
    assert Outcome(objective, even).word == "met"
    assert Outcome(objective, bunched).word == "not shown"
    once = Share((100,) * 10, (100,) * 10)
    assert Outcome(objective, once).word == "met"
    # None late, but long requests come in crowds of twenty: 50 events can't show 5 %.
    assert Outcome(objective, dataclasses.replace(once, together=20.0)).word == "not shown"


def test_what_is_not_shown_says_how_many_more_would_show_it():
    objective = Objective("ttft_ms", 0.99, 500.0)
    none_late = Outcome(objective, spread(0, 100))
    assert none_late.more_needed is not None
    assert 190 <= none_late.more_needed <= 210  # 299 in all
    some = Outcome(objective, spread(5, 1000))
    assert some.word == "not shown"
    assert some.more_needed is not None
    nearly = Outcome(objective, spread(0, 298))
    assert (nearly.more_needed, nearly.more) == (1, "about 1 request more")
    with_them = spread(round(5 * (1000 + some.more_needed) / 1000), 1000 + some.more_needed)
    assert Outcome(objective, with_them).word == "met"
    assert Outcome(objective, spread(10, 1000)).more_needed is None  # exactly what is allowed
    assert Outcome(objective, spread(0, 299)).more_needed is None


def test_all_must_succeed_is_about_the_run_itself():
    objective = Objective(None, 1.0, None)
    assert Outcome(objective, spread(0, 5)).word == "met"
    assert Outcome(objective, spread(1, 5000)).word == "missed"


def test_long_requests_that_come_together_are_found(attained):
    def together(order):
        times = [100.0 + n for n in order]
        records = [made_record(i, ttft_ms=t) for i, t in enumerate(times)]
        (outcome,) = attained(records, {"ttft_ms": {"p99": 5000.0}}).outcomes
        return outcome.share.together

    mixed = list(np.random.default_rng(1).permutation(400))
    assert together(mixed) < 3
    assert together(sorted(mixed)) > 15
    assert together(mixed[:LONGEST]) == 1.0


def simulated_line(rng, loads, limit, requests):
    """The highest load shown to meet p99 <= limit, of a queue with 16 places; 0: none."""
    best = 0.0
    for load in loads:
        waits = queue_waits(rng, load, 16, requests)
        outcome = Outcome(
            Objective("ttft_ms", 0.99, limit), share_of(waits, waits <= limit, requests)
        )
        if outcome.word != "met":
            return best
        best = load
    return best


def share_of(values, within, requests):
    batches = batches_of(np.arange(requests))
    arrivals = np.bincount(batches, minlength=10)
    inside = np.bincount(batches[within], minlength=10)
    return Share(tuple(arrivals.tolist()), tuple(inside.tolist()), together(values, batches))


def queue_waits(rng, load, places, requests):
    """Waits of M/M/places, after the first 200 requests."""
    due = np.cumsum(rng.exponential(1 / (load * places), requests + 200))
    took = rng.exponential(1.0, requests + 200)
    free, waits = [0.0] * places, []
    for at, service in zip(due, took, strict=True):
        begin = max(heapq.heappop(free), at)
        heapq.heappush(free, begin + service)
        waits.append(begin - at)
    return np.array(waits[200:])


@pytest.mark.parametrize("limit", [0.71, 1.57])  # the true p99 at 75 and at 85 % of capacity
def test_a_short_run_does_not_name_a_capacity_above_the_truth(limit):
    loads, truth = (0.70, 0.75, 0.80, 0.85, 0.90, 0.95), {0.71: 0.75, 1.57: 0.85}[limit]
    rng = np.random.default_rng(11)
    lines = [simulated_line(rng, loads, limit, 400) for _ in range(60)]
    assert sum(line > truth for line in lines) <= 0.1 * len(lines)


def test_the_limit_itself_is_within(attained):
    records = [made_record(i, ttft_ms=500.0) for i in range(400)]
    assert attained(records, {"ttft_ms": {"p99": 500.0}}).met
    assert attained(records, {"ttft_ms": {"p99": 499.999}}).word == "missed"


def test_a_failure_misses_every_objective_and_so_does_an_arrival_without_a_row(attained):
    records = [failed_record(i) if i % 8 == 3 else made_record(i) for i in range(96)]
    found = attained(records, {"ttft_ms": {"p99": 500.0}, "success_rate": 0.99})
    assert [o.share.late for o in found.outcomes] == [11, 11]  # one was sent before the window
    assert found.word == "missed"
    whole = [made_record(i) for i in range(90)]
    (outcome,) = attained(whole, {"success_rate": 0.99}, num_requests=100).outcomes
    assert (outcome.share.late, outcome.met) == (10, False)


def test_good_is_a_request_that_met_all_of_them_and_of_two_limits_the_wider_is_its_own(attained):
    records = [
        made_record(0),
        made_record(1, ttft_ms=300.0),
        made_record(2, ttft_ms=600.0),
        made_record(3, max_gap_ms=500.0),
        failed_record(4),
    ]
    slo = {"ttft_ms": {"p50": 200.0, "p99": 500.0}, "max_gap_ms": {"p99": 400.0}}
    found = attained(records, slo)
    assert (found.good, found.arrivals, found.share) == (2, 5, 0.4)
    assert found.interval is not None
    assert found.interval.low < 0.4 < found.interval.high
    assert [o.objective for o in found.outcomes] == [
        Objective("ttft_ms", 0.5, 200.0),
        Objective("ttft_ms", 0.99, 500.0),
        Objective("max_gap_ms", 0.99, 400.0),
    ]


def test_goodput_is_of_the_window(attained):
    # Four streams of one-second requests: from 1.75 s, when the last stream's first one ended.
    records = [made_record(i, ttft_ms=900.0 if i % 2 else 100.0) for i in range(80)]
    found = attained(records, {"ttft_ms": {"p99": 500.0}})
    window = Window(1.75, 20.0)
    assert found.window_s == window.length_s
    assert (found.good, found.arrivals) == (36, 73)
    assert found.goodput_per_s == pytest.approx(2.0, rel=0.02)


def test_a_reply_of_one_token_has_no_tpot_to_miss(attained):
    one = made_record(0, completion_tokens=1, token_events=1, tpot_ms=None)
    (outcome,) = attained([one, made_record(1)], {"tpot_ms": {"p99": 60.0}}).outcomes
    assert outcome.share.late == 0


def test_what_nobody_measured_is_not_met_and_says_why(attained):
    records = [whole_reply_record(i) for i in range(10)]
    found = attained(records, {"ttft_ms": {"p99": 1e9}}, scenario={"stream": False})
    (outcome,) = found.outcomes
    assert not found.met
    assert outcome.unmeasured is not None
    assert "stream: false" in outcome.unmeasured
    assert (outcome.within, found.good) == (0, 0)  # nobody can say of any that it was
    assert (found.share, found.interval, found.goodput_per_s) == (None, None, None)
    both = pooled([found, found])
    assert both is not None
    assert (both.share, both.unmeasured) == (None, outcome.unmeasured)


def test_a_reply_that_lacks_what_others_have_did_not_meet_it(attained):
    records = [made_record(i, ttft_ms=None if 50 <= i < 55 else 100.0) for i in range(100)]
    found = attained(records, {"ttft_ms": {"p99": 500.0}})
    assert found.outcomes[0].share.late == found.good_share.late == 5


def test_the_lines_give_no_share_of_what_nobody_measured(tmp_path):
    slo = {"ttft_ms": {"p99": 500.0}, "success_rate": 0.9}
    records = [whole_reply_record(i, concurrency=20) for i in range(20)]
    info = made_info(records, scenario={"slo": slo, "stream": False})
    run = summed(tmp_path, records, info)
    head, ttft, rate = objective_lines(series_of([run])[0])
    assert "MISSED" in head
    assert "%" not in head + ttft
    assert "20 of 20" in rate


def test_the_words_hold_the_figures(attained):
    outcome = Outcome(Objective("ttft_ms", 0.99, 500.0), spread(5, 100))
    for figure in ("TTFT p99 ≤ 500 ms", "missed", "95 of 100", "95 %", "88.7 to 98.8"):
        assert figure in outcome.words


def test_without_objectives_there_is_nothing_to_meet(tmp_path):
    records = [made_record(0)]
    frame = frame_of(tmp_path, records)
    for slo in (None, {}, "damaged", {"ttft_ms": {"p99": "x"}}, {"ttft_ms": 3}):
        info = as_read(tmp_path, made_info(records, scenario={"slo": slo}))
        assert attainment(Facts(frame, info)) is None
    assert attainment(Facts(frame, None)) is None


def test_runs_with_other_objectives_are_not_countedtogether(attained):
    records = [made_record(i) for i in range(10)]
    one = attained(records, {"ttft_ms": {"p99": 500.0}})
    other = attained(records, {"ttft_ms": {"p99": 501.0}})
    assert pooled([one, other]) is None
    assert pooled([]) is None


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.randoms())
def test_runs_together_are_the_sum_of_their_requests(late, rng):
    shares = [spread(n, n + rng.randint(1, 100)) for n in late]
    together = pooled_share(shares)
    assert (together.of, together.late) == (sum(s.of for s in shares), sum(late))
    assert len(together.arrivals) == (10 * len(late) if len(late) < 3 else len(late))


def test_objectives_stand_in_a_fixed_order():
    slo = {"success_rate": 0.9, "tpot_ms": {"p99": 50}, "ttft_ms": {"p99": 2, "p9": 1}}
    assert objectives_of(slo) == (
        Objective("ttft_ms", 0.09, 1.0),
        Objective("ttft_ms", 0.99, 2.0),
        Objective("tpot_ms", 0.99, 50.0),
        Objective(None, 0.9, None),
    )
