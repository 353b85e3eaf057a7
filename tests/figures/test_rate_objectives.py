"""Objectives on rates: met or missed by the bounds of the rate in the steady window."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.figures.attained import attainment, pooled
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.objectives import (
    Objective,
    Outcome,
    RateObjective,
    RateOutcome,
    objectives_of,
)
from vllm_bench.figures.throughput import (
    BATCHES,
    FEWEST,
    MIN_BATCHES,
    rate_of,
    throughput,
    window_throughput,
)
from vllm_bench.figures.token_gaps import reads_of
from vllm_bench.records.row import Rows
from vllm_bench.stats.rate import Rate, alike, pooled_rate

from tests.figures.test_token_gaps import arrays_of
from tests.support.made_runs import (
    failed_record,
    frame_of,
    made_info,
    made_record,
    whole_reply_record,
)

RATES = ("output_tokens_per_s", "requests_per_s")


def closed(rng, streams=16, seconds=60.0, cv=0.5, tokens=20.0) -> Facts:
    """A closed loop whose requests take a second on average: `streams` of them a second."""
    found = []
    for stream in range(streams):
        took = rng.gamma(1 / cv**2, cv**2, int(4 * seconds) + 20)
        ends = np.cumsum(took) - rng.uniform(0, 1)
        sent = np.where((ends - took) < 0, 0, ends - took)
        kept = (ends > 0) & (sent < seconds)
        found.append(np.column_stack([sent[kept], ends[kept], np.full(kept.sum(), stream)]))
    sent, end, stream = np.concatenate(found).T
    return rows_of(sent, end, stream, streams, rng.poisson(tokens, sent.size))


def rows_of(sent, end, stream, streams, tokens) -> Facts:
    nothing = np.full(sent.size, None, dtype=object)
    columns = {
        "request_index": np.arange(sent.size),
        "t_scheduled_s": sent,
        "t_sent_s": sent,
        "t_end_s": end,
        "latency_ms": 1000 * (end - sent),
        "stream_index": stream.astype(int),
        "concurrency": np.full(sent.size, streams),
        "request_rate": np.full(sent.size, np.nan),
        "completion_tokens": tokens.astype(float),
        "prompt_tokens": np.full(sent.size, 100.0),
        "token_events": np.zeros(sent.size, dtype=int),
        "error": nothing,
        "error_kind": nothing,
    }
    return Facts(Rows(columns), None)


def outcome(rate, least, metric="requests_per_s", **changes) -> RateOutcome:
    return RateOutcome(RateObjective(metric, least), rate, **changes)


def words(rates, least) -> Counter:
    return Counter(outcome(rate, least).word for rate in rates)


@pytest.fixture
def attained(tmp_path):
    def found(records, slo, requests=None, **changes):
        info = made_info(records, scenario={"slo": slo, **changes.pop("scenario", {})}, **changes)
        frame = frame_of(tmp_path, records)
        reads = None if requests is None else reads_of(arrays_of(requests), frame)
        result = attainment(Facts(frame, info, reads))
        assert result is not None
        return result

    return found


# ---- is the word right? ----


@pytest.mark.parametrize("seconds", [4.0, 8.0, 60.0])  # one part, three batches, ten
def test_the_word_is_right_as_often_as_it_says(seconds):
    rng = np.random.default_rng(5)
    rates = [rate_of(closed(rng, seconds=seconds), "requests_per_s") for _ in range(300)]
    assert {len(rate.work) for rate in rates} <= {1, *range(MIN_BATCHES, BATCHES + 1)}
    # At the objective itself 5 % are allowed, on either side; of 300, 8 % would be a surprise.
    at = words(rates, 16.0)
    assert max(at["met"], at["missed"]) <= 0.08 * len(rates)
    assert words(rates, 16.0 / 1.03)["missed"] <= 0.02 * len(rates)
    assert words(rates, 16.0 * 1.03)["met"] <= 0.02 * len(rates)


def test_a_rate_that_is_well_above_is_met_and_one_well_below_missed():
    rng = np.random.default_rng(6)
    rates = [rate_of(closed(rng), metric) for _ in range(40) for metric in RATES[1:]]
    assert words(rates, 16.0 / 1.1) == {"met": 40}
    assert words(rates, 16.0 * 1.1) == {"missed": 40}


def test_over_runs_the_word_is_right_though_starts_differ():
    rng = np.random.default_rng(7)
    found = []
    for _ in range(300):
        levels = 20 * np.exp(rng.normal(0, 0.01, 4))  # each start has a level of its own
        runs = [Rate((10 * level,) * 10, (10.0,) * 10, 2000) for level in levels]
        found.append(pooled_rate(runs))
    at = words(found, 20.0)
    assert max(at["met"], at["missed"]) <= 0.08 * len(found)
    assert words(found, 20.0 / 1.03)["missed"] == 0
    assert words(found, 20.0 / 1.05)["met"] >= 0.95 * len(found)


def test_a_run_too_short_for_batches_is_held_against_independent_requests():
    rate = Rate((100.0,), (10.0,), 100)
    low, high = rate.bounds(0.95)
    assert (low, high) == (pytest.approx(8.41, abs=0.01), pytest.approx(11.81, abs=0.01))
    assert [outcome(rate, least).word for least in (8.4, 10.0, 11.9)] == [
        *("met", "not shown", "missed")
    ]


def test_batches_are_of_several_latencies_and_of_enough_requests():
    rng = np.random.default_rng(8)
    parts = [len(rate_of(closed(rng, seconds=t), "requests_per_s").work) for t in (5, 9, 30, 60)]
    assert parts == sorted(parts)
    assert (parts[0], parts[1], parts[-1]) == (1, MIN_BATCHES, BATCHES)
    few = closed(rng, streams=1, seconds=FEWEST / 2)
    assert len(rate_of(few, "requests_per_s").work) == 1


# ---- which rate? ----


@pytest.mark.parametrize("metric", RATES)
def test_it_is_the_rate_of_the_steady_window(metric):
    facts = closed(np.random.default_rng(9))
    window = window_throughput(facts, facts.window)
    assert window is not None
    assert rate_of(facts, metric).per_s == pytest.approx(getattr(window, metric), rel=1e-9)


def streamed(records):
    """Each record's tokens in ten reads, even over its time."""
    return {
        r.request_index: [(1000 * (r.t_sent_s + 0.1 * k + 0.1), 2, 2) for k in range(10)]
        for r in records
        if r.error is None
    }


def test_tokens_count_where_their_stamps_lie(attained):
    records = [made_record(i) for i in range(200)]
    found = attained(records, {"output_tokens_per_s": {"min": 78}}, streamed(records))
    (one,) = found.outcomes
    assert (one.word, one.whole, len(one.rate.work)) == ("met", False, BATCHES)
    assert one.rate.per_s == pytest.approx(80, rel=0.02)  # 4 streams, 20 tokens a second each


def test_the_work_of_failures_does_not_count(attained):
    half = [failed_record(i, latency_ms=1000.0) if i % 2 else made_record(i) for i in range(400)]
    slo = {"output_tokens_per_s": {"min": 60}, "requests_per_s": {"min": 3}}
    found = attained(half, slo, streamed(half))
    assert [o.word for o in found.outcomes] == ["missed", "missed"]
    assert [o.rate.per_s for o in found.outcomes] == [
        pytest.approx(40, rel=0.03),
        pytest.approx(2, rel=0.03),
    ]
    none = attained([failed_record(i) for i in range(100)], slo)
    assert [(o.word, o.rate.per_s) for o in none.outcomes] == [("missed", 0.0)] * 2


def test_without_a_window_it_is_of_the_whole_run_and_says_so(tmp_path):
    records = [made_record(i) for i in range(4)]  # no stream sends twice
    facts = Facts(frame_of(tmp_path, records), made_info(records), None)
    assert facts.window is None
    info = dataclasses.replace(
        made_info(records), scenario={"slo": {"requests_per_s": {"min": 1}}, "stream": True}
    )
    found = attainment(dataclasses.replace(facts, info=info))
    whole = throughput(facts)
    assert found is not None
    assert whole is not None
    (one,) = found.outcomes
    assert (one.whole, one.rate.per_s) == (True, pytest.approx(whole.requests_per_s))
    assert "whole run" in one.words


def test_tokens_without_stamps_are_those_of_the_whole_run(attained):
    records = [made_record(i) for i in range(200)]
    slo = {"output_tokens_per_s": {"min": 10}, "requests_per_s": {"min": 1}}
    tokens, requests = attained(records, slo).outcomes
    assert (tokens.whole, requests.whole) == (True, False)
    assert (tokens.word, len(tokens.rate.work)) == ("met", 1)
    assert tokens.interval.low < tokens.rate.per_s < tokens.interval.high


def test_a_reply_in_one_piece_counts_by_its_time(attained):
    records = [whole_reply_record(i) for i in range(200)]
    slo = {"output_tokens_per_s": {"min": 78}}
    (one,) = attained(records, slo, scenario={"stream": False}).outcomes
    assert (one.word, one.whole) == ("met", False)
    assert one.rate.per_s == pytest.approx(80, rel=0.02)


def test_tokens_that_no_reply_counted_are_not_measured(attained):
    records = [made_record(i, completion_tokens=None) for i in range(100)]
    (one,) = attained(records, {"output_tokens_per_s": {"min": 1}}).outcomes
    assert one.word == "missed"
    assert one.unmeasured is not None
    assert one.unmeasured in one.words


def test_a_run_without_a_request_has_missed(attained):
    (one,) = attained([], {"requests_per_s": {"min": 1}}).outcomes
    assert (one.word, one.interval) == ("missed", None)


# ---- what else it says ----


def test_no_single_request_meets_or_misses_a_rate(attained):
    records = [made_record(i, ttft_ms=900.0 if i % 2 else 100.0) for i in range(200)]
    times = {"ttft_ms": {"p50": 500.0}}
    alone = attained(records, times)
    beside = attained(records, {**times, "requests_per_s": {"min": 1000}})
    assert (alone.word, beside.word) != ("missed", "met")
    assert (beside.good, beside.share, beside.goodput_per_s) == (
        alone.good,
        alone.share,
        alone.goodput_per_s,
    )
    assert (beside.word, beside.too_little) == ("missed", True)
    only = attained(records, {"requests_per_s": {"min": 1000}})
    assert (only.share, only.interval, only.goodput_per_s) == (None, None, None)


def test_what_is_not_shown_says_how_many_seconds_more_would_show_it():
    rng = np.random.default_rng(3)
    work = rng.normal(200, 6, 10)
    rate = Rate(tuple(work.tolist()), (10.0,) * 10, 2000)
    low = rate.bounds(0.95)[0]
    one = outcome(rate, (low + rate.per_s) / 2)
    assert (one.word, one.more_of) == ("not shown", "s")
    # At half the margin it takes four times as long.
    assert one.more_needed == pytest.approx(300, abs=2)
    assert outcome(rate, rate.per_s).more_needed is None
    assert "too close to tell" in outcome(rate, rate.per_s).words
    assert outcome(rate, rate.per_s / 2).more_needed is None


def test_over_runs_it_says_how_many_more():
    runs = [Rate((v,), (10.0,), 100) for v in (98.0, 100.0, 103.0, 101.0)]
    over = pooled_rate(runs)
    low, per_s = over.bounds(0.95)[0], over.per_s
    one = outcome(over, per_s - 0.7 * (per_s - low))
    assert (one.word, one.more_of) == ("not shown", "runs")
    assert one.more_needed in (4, 5)


def test_two_runs_are_one_of_their_batches_and_three_are_three():
    one = Rate((10.0,) * 10, (1.0,) * 10, 100)
    assert (len(pooled_rate([one, one]).work), pooled_rate([one, one]).of_runs) == (20, False)
    three = pooled_rate([one, one, dataclasses.replace(one, work=(12.0,) * 10)])
    assert (three.work, three.of_runs) == ((100.0, 100.0, 120.0), True)
    assert three.per_s == pytest.approx((10 * 10 * 12) ** (1 / 3))
    nothing = dataclasses.replace(one, work=(0.0,) * 10)  # has no logarithm
    assert pooled_rate([one, one, nothing]).per_s == pytest.approx(20 / 3)
    low, high = pooled_rate([one, one, nothing]).bounds(0.95)
    assert 0 <= low < 20 / 3 < high


def test_pooled_runs_are_judged_together_and_with_other_objectives_not(attained):
    records = [made_record(i) for i in range(60)]
    slo = {"ttft_ms": {"p50": 500.0}, "requests_per_s": {"min": 3.9}}
    one = attained(records, slo)
    both = pooled([one, one, one])
    assert both is not None
    assert [type(o) for o in both.outcomes] == [Outcome, RateOutcome]
    assert both.outcomes[1].rate.of_runs
    other = attained(records, {**slo, "requests_per_s": {"min": 4}})
    assert pooled([one, other]) is None


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=12),
    st.floats(0.1, 1e3),
    st.integers(1, 10_000),
)
def test_the_bounds_hold_the_rate_and_widen_with_the_confidence(work, span_s, events):
    rate = Rate(tuple(work), (span_s,) * len(work), events)
    (low, high), (lower, higher) = rate.bounds(0.95), rate.bounds(0.975)
    near = 1e-9 * max(1.0, rate.per_s)
    assert 0 <= lower <= low + near
    assert low <= rate.per_s + near
    assert rate.per_s <= high + near
    assert high <= higher + near


def test_requests_alike_are_as_many_as_there_are_and_one_that_does_all_is_one():
    assert alike(np.full(50, 7.0)) == pytest.approx(50)
    assert alike(np.array([1e6, 1.0, 1.0])) == pytest.approx(1, rel=1e-3)
    assert alike(np.zeros(3)) == alike(np.array([])) == 0


def test_objectives_on_rates_stand_last():
    slo = {"requests_per_s": {"min": 2}, "output_tokens_per_s": {"min": 5}, "success_rate": 0.9}
    assert objectives_of(slo) == (
        Objective(None, 0.9, None),
        RateObjective("output_tokens_per_s", 5.0),
        RateObjective("requests_per_s", 2.0),
    )
    earlier = {"ttft_ms": {"p99": 2}, "output_tokens_per_s": None, "requests_per_s": {}}
    assert objectives_of(earlier) == (Objective("ttft_ms", 0.99, 2.0),)
