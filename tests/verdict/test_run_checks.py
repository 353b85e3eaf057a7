"""Was the run whole and long enough: each code on both sides of its limit."""

from __future__ import annotations

import re

import pytest

from tests.support.made_runs import failed_record, made_record
from tests.support.open_runs import facts_of, finding_of
from tests.verdict.judging import INVALID, SUSPECT, advice_on, healthy, severity_of, value_of


def key_to_set(advice):
    """The key that an advice says to set, and to what."""
    found = re.search(r"set (\w+) to about (\d+)", advice)
    assert found is not None
    return found[1], int(found[2])


@pytest.mark.parametrize(
    ("failed", "of", "expected"),
    [
        (1, 1000, None),  # 0.1 %, not more
        (2, 1000, SUSPECT),
        (10, 1000, SUSPECT),  # 1 %, not more
        (11, 1000, INVALID),
        (10, 10, INVALID),
    ],
)
def test_errors_past_one_in_a_thousand_are_suspect_past_one_in_a_hundred_invalid(
    tmp_path, failed, of, expected
):
    facts = facts_of(tmp_path, [failed_record(i) for i in range(failed)] + healthy(of)[failed:])
    assert severity_of(facts, "errors") == expected
    assert value_of(facts, "errors") == failed / of


def test_errors_are_named_by_kind_with_their_count(tmp_path):
    records = [*healthy(97), *(failed_record(i, error_kind="truncated") for i in range(97, 100))]
    found = finding_of(facts_of(tmp_path, records), "errors")
    assert found is not None
    assert "3 truncated" in found.figures


def test_requests_that_the_client_cancelled_are_an_interruption_and_no_error(tmp_path):
    records = [*healthy(20), failed_record(20, error_kind="cancelled", error="told to stop")]
    facts = facts_of(tmp_path, records, status="interrupted")
    assert severity_of(facts, "errors") is None
    assert severity_of(facts, "interrupted") == SUSPECT


@pytest.mark.parametrize(
    ("status", "missing", "expected"),
    [
        ("complete", 0, None),
        ("complete", 1, SUSPECT),
        ("interrupted", 50, SUSPECT),
        ("running", 0, SUSPECT),
        ("failed", 50, INVALID),
    ],
)
def test_a_run_that_was_not_whole_says_so(tmp_path, status, missing, expected):
    facts = facts_of(tmp_path, healthy(), status=status, num_requests=100 + missing)
    assert severity_of(facts, "interrupted") == expected


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [
        ({}, 5, SUSPECT),  # for a median
        ({}, 6, None),
        ({"ttft_ms": {"p99": 500}}, 367, SUSPECT),
        ({"ttft_ms": {"p99": 500}}, 368, None),
        ({"tpot_ms": {"p50": 100, "p95": 200}}, 71, SUSPECT),
        ({"tpot_ms": {"p50": 100, "p95": 200}}, 72, None),
        ({"success_rate": 0.999}, 80, None),
    ],
)
def test_a_percentile_needs_its_samples(tmp_path, asked, count, expected):
    facts = facts_of(tmp_path, healthy(count), scenario={"slo": asked})
    assert severity_of(facts, "few_samples") == expected


def even(count, **changes):
    """An open loop of ten requests a second, each answered in a second."""
    return [made_record(i, request_rate=10.0, **changes) for i in range(count)]


@pytest.mark.parametrize(
    ("setting", "key"),
    [({}, ("num_requests", 370)), ({"duration_s": 2.0, "num_requests": None}, ("duration_s", 37))],
)
def test_advice_names_the_key_that_the_scenario_has(tmp_path, setting, key):
    asked = {**setting, "slo": {"ttft_ms": {"p99": 500}}}
    facts = facts_of(tmp_path, even(20), scenario=asked)
    assert key_to_set(advice_on(facts, "few_samples")) == key


def test_of_a_trace_a_longer_piece_is_advised(tmp_path):
    asked = {"trace": "a.csv", "num_requests": None, "slo": {"ttft_ms": {"p99": 500}}}
    advice = advice_on(facts_of(tmp_path, even(20), scenario=asked), "few_samples")
    assert "370 requests" in advice


def back_to_back(count, latency_s, last_s):
    """One stream, `count` requests without a pause: the window is as long as all of them."""
    one = {"concurrency": 1, "latency_ms": 1000 * latency_s}
    records = [made_record(i, t_sent_s=i * latency_s, **one) for i in range(count - 1)]
    last = {**one, "latency_ms": 1000 * last_s}
    return [*records, made_record(count - 1, t_sent_s=(count - 1) * latency_s, **last)]


@pytest.mark.parametrize(
    ("count", "latency_s", "last_s", "expected"),
    [
        (10, 1.0, 1.0, None),  # ten seconds
        (10, 1.0, 0.99, SUSPECT),
        (3, 4.0, 4.0, None),  # three latencies
        (3, 4.0, 3.9, SUSPECT),
    ],
)
def test_less_than_ten_seconds_or_three_latencies_is_a_short_window(
    tmp_path, count, latency_s, last_s, expected
):
    facts = facts_of(tmp_path, back_to_back(count, latency_s, last_s))
    assert severity_of(facts, "window_short") == expected


def test_a_smoke_test_of_fifty_requests_is_told_how_many_to_send(tmp_path):
    facts = facts_of(tmp_path, back_to_back(50, 0.06, 0.06))  # 3.0 s in all
    # 50 requests * 10 s / 3 s = 166.7, rounded up to two digits
    assert key_to_set(advice_on(facts, "window_short")) == ("num_requests", 170)


@pytest.mark.parametrize(
    ("streams", "count", "gap_s", "why", "requests"),
    [
        (8, 4, 0.0, "4 requests", 88),  # fewer than the streams
        (1, 1, 0.0, "1.0 s", 10),
        (8, 10, 0.5, "at most 2", 88),  # in flight at once
    ],
)
def test_a_closed_loop_says_why_it_held_its_load_for_so_short(
    tmp_path, streams, count, gap_s, why, requests
):
    records = [made_record(i, concurrency=streams, t_sent_s=i * gap_s) for i in range(count)]
    found = finding_of(facts_of(tmp_path, records), "window_short")
    assert found is not None
    assert why in found.figures
    assert key_to_set(found.advice) == ("num_requests", requests)


@pytest.mark.parametrize(
    ("count", "scenario", "ramp_s", "why", "key"),
    [
        # Ten requests a second for 5.9 s, while the ramp was to last 6 s: 6 + a latency + 10
        (60, {"duration_s": 6.0, "num_requests": None}, 6.0, "ramp_s of 6 s", ("duration_s", 17)),
        (60, {}, 6.0, "ramp_s of 6 s", ("num_requests", 140)),  # half of 6 s of ramp, and 11 s
        (600, {}, 90.0, "ramp_s of 90 s", ("num_requests", 560)),
        (5, {}, None, "after the start, at 1.0 s", ("num_requests", 110)),  # no reply by then
    ],
)
def test_an_open_loop_says_why_it_never_held_its_rate(tmp_path, count, scenario, ramp_s, why, key):
    plan = {} if ramp_s is None else {"ramp_s": ramp_s}
    found = finding_of(
        facts_of(tmp_path, even(count), scenario=scenario, plan=plan), "window_short"
    )
    assert found is not None
    assert found.severity == SUSPECT
    assert why in found.figures
    assert key_to_set(found.advice) == key


def test_a_long_run_that_never_held_its_load_is_rate_shortfall_s_to_judge(tmp_path):
    # 30 s; each stream is free a second after its send, and waits 3 s for the client.
    records = [
        made_record(i, concurrency=8, t_sent_s=i * 0.5, t_scheduled_s=max(0.0, (i - 8) * 0.5 + 1))
        for i in range(60)
    ]
    facts = facts_of(tmp_path, records)
    assert severity_of(facts, "window_short") is None
    assert severity_of(facts, "rate_shortfall") == INVALID
