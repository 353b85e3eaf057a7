"""Objectives: over all arrivals, a failure being a miss; counts that pool over runs."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.objectives import Attainment, Objective, attainment, objectives_of, pooled
from vllm_bench.figures.statistics import wilson
from vllm_bench.figures.window import Window
from vllm_bench.records.find_runs import load_run
from vllm_bench.summary.levels import series_of
from vllm_bench.summary.summary import summarize
from vllm_bench.tables.level_lines import objective_lines

from tests.support.made_runs import (
    failed_record,
    frame_of,
    made_info,
    made_record,
    whole_reply_record,
    write_run,
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
    ("late", "met", "short_of"),
    [(0, True, 0), (1, True, 0), (2, False, 1), (100, False, 99)],
)
def test_p99_allows_one_of_a_hundred_to_be_late(attained, late, met, short_of):
    records = [slow(i) if i < late else made_record(i) for i in range(100)]
    found = attained(records, {"ttft_ms": {"p99": 500.0}})
    (outcome,) = found.outcomes
    assert (outcome.met, outcome.short_of, outcome.within) == (met, short_of, 100 - late)
    assert found.met == met


def test_the_limit_itself_is_within(attained):
    records = [made_record(i, ttft_ms=500.0) for i in range(100)]
    assert attained(records, {"ttft_ms": {"p99": 500.0}}).met
    assert not attained(records, {"ttft_ms": {"p99": 499.999}}).met


def test_a_failure_misses_every_objective_and_so_does_an_arrival_without_a_row(attained):
    records = [failed_record(i) if i < 2 else made_record(i) for i in range(100)]
    found = attained(records, {"ttft_ms": {"p99": 500.0}, "success_rate": 0.99})
    assert [o.within for o in found.outcomes] == [98, 98]
    assert not found.met
    whole = [made_record(i) for i in range(98)]
    assert [
        o.within for o in attained(whole, {"success_rate": 0.99}, num_requests=100).outcomes
    ] == [98]


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
    assert found.interval == wilson(2, 5)
    assert [o.objective for o in found.outcomes] == [
        Objective("ttft_ms", 0.5, 200.0),
        Objective("ttft_ms", 0.99, 500.0),
        Objective("max_gap_ms", 0.99, 400.0),
    ]


def test_goodput_is_of_the_window(attained):
    # Four streams of one-second requests: held from 0.75 s, when the last stream began.
    records = [made_record(i, ttft_ms=900.0 if i % 2 else 100.0) for i in range(80)]
    found = attained(records, {"ttft_ms": {"p99": 500.0}})
    window = Window(0.75, 20.0)
    assert found.window_s == window.length_s
    assert found.good == 40
    assert found.goodput_per_s == pytest.approx(40 / window.length_s, rel=0.03)


def test_a_reply_of_one_token_has_no_tpot_to_miss(attained):
    one = made_record(0, completion_tokens=1, token_events=1, tpot_ms=None)
    assert attained([one, made_record(1)], {"tpot_ms": {"p99": 60.0}}).met


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
    records = [made_record(i, ttft_ms=None if i < 5 else 100.0) for i in range(100)]
    found = attained(records, {"ttft_ms": {"p99": 500.0}})
    assert (found.outcomes[0].within, found.good) == (95, 95)


def test_the_lines_give_no_share_of_what_nobody_measured(tmp_path):
    slo = {"ttft_ms": {"p99": 500.0}, "success_rate": 0.9}
    records = [whole_reply_record(i) for i in range(20)]
    info = made_info(records, scenario={"slo": slo, "stream": False})
    run = summarize(load_run(write_run(tmp_path, records, info)))
    head, ttft, rate = objective_lines(series_of([run])[0])
    assert "MISSED" in head
    assert "%" not in head + ttft
    assert "20 of 20" in rate


def test_the_words_hold_the_figures(attained):
    records = [slow(i) if i < 5 else made_record(i) for i in range(100)]
    (outcome,) = attained(records, {"ttft_ms": {"p99": 500.0}}).outcomes
    assert outcome.words == (
        "TTFT p99 ≤ 500 ms: missed by 4 requests, 95 of 100 within (95 %, 95 % interval "
        "88.8 to 97.8)"
    )


def test_without_objectives_there_is_nothing_to_meet(tmp_path):
    records = [made_record(0)]
    frame = frame_of(tmp_path, records)
    for slo in (None, {}, "damaged", {"ttft_ms": {"p99": "x"}}, {"ttft_ms": 3}):
        assert attainment(Facts(frame, made_info(records, scenario={"slo": slo}))) is None
    assert attainment(Facts(frame, None)) is None


def test_runs_with_other_objectives_are_not_counted_together(attained):
    records = [made_record(i) for i in range(10)]
    one = attained(records, {"ttft_ms": {"p99": 500.0}})
    other = attained(records, {"ttft_ms": {"p99": 501.0}})
    assert pooled([one, other]) is None
    assert pooled([]) is None


times = st.lists(st.floats(1, 1000), min_size=1, max_size=30)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(times, times, st.sampled_from([50.0, 95.0, 99.0]))
def test_two_runs_together_are_one_run_of_all_their_rows(attained, one, other, percentile):
    slo = {"ttft_ms": {f"p{percentile:g}": 500.0}, "success_rate": 0.5}

    def of(ttfts):
        return attained([made_record(i, ttft_ms=t) for i, t in enumerate(ttfts)], slo)

    together, whole = pooled([of(one), of(other)]), of([*one, *other])
    assert together is not None
    assert (together.good, together.arrivals) == (whole.good, whole.arrivals)
    assert together.outcomes == whole.outcomes
    within = sum(t <= 500 for t in [*one, *other]) / len([*one, *other])
    assert whole.outcomes[0].met == (within >= percentile / 100)


def test_objectives_stand_in_a_fixed_order():
    slo = {"success_rate": 0.9, "tpot_ms": {"p99": 50}, "ttft_ms": {"p99": 2, "p9": 1}}
    assert objectives_of(slo) == (
        Objective("ttft_ms", 0.09, 1.0),
        Objective("ttft_ms", 0.99, 2.0),
        Objective("tpot_ms", 0.99, 50.0),
        Objective(None, 0.9, None),
    )
