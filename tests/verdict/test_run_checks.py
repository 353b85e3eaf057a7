"""Was the run whole and long enough: each code on both sides of its limit."""

from __future__ import annotations

import re

import pytest
from vllm_bench.verdict.verdict import judge

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


@pytest.mark.parametrize("machines", [[], [{"machine": "a"}, {"machine": "b"}]])
def test_without_a_row_nothing_was_measured_unless_machines_may_keep_it(tmp_path, machines):
    health = {"machines": machines}  # all that is known where the head was killed
    facts = facts_of(tmp_path, [], status="running", num_requests=100, client_health=health)
    assert severity_of(facts, "interrupted") == INVALID
    assert ("nothing was measured" in advice_on(facts, "interrupted")) is not bool(machines)


@pytest.mark.parametrize(
    ("asked", "count", "expected"),
    [
        ({}, 5, SUSPECT),  # for a median
        ({}, 6, None),
        ({"ttft_ms": {"p99": 500}}, 80, None),  # the objective says so itself: not shown
    ],
)
def test_a_median_needs_its_samples(tmp_path, asked, count, expected):
    facts = facts_of(tmp_path, healthy(count), scenario={"slo": asked})
    assert severity_of(facts, "few_samples") == expected


def even(count, **changes):
    """An open loop of ten requests a second, each answered in a second."""
    return [made_record(i, request_rate=10.0, **changes) for i in range(count)]


@pytest.mark.parametrize(
    ("setting", "key"),
    # 10 s of window, and a second until it begins
    [({}, ("num_requests", 110)), ({"duration_s": 2.0, "num_requests": None}, ("duration_s", 11))],
)
def test_advice_names_the_key_that_the_scenario_has(tmp_path, setting, key):
    facts = facts_of(tmp_path, even(20), scenario=setting)
    assert key_to_set(advice_on(facts, "window_short")) == key


def test_of_a_trace_a_longer_piece_is_advised(tmp_path):
    asked = {"trace": "a.csv", "num_requests": None}
    advice = advice_on(facts_of(tmp_path, even(20), scenario=asked), "window_short")
    assert "110 requests" in advice


def test_a_closed_loop_by_time_is_told_how_long(tmp_path):
    asked = {"duration_s": 2.0, "num_requests": 8}
    records = [made_record(i, t_sent_s=i // 4 * 0.5, latency_ms=500.0) for i in range(16)]
    facts = facts_of(tmp_path, records, scenario=asked)
    assert key_to_set(advice_on(facts, "window_short")) == ("duration_s", 11)


def test_two_doubts_that_one_key_removes_name_its_larger_value(tmp_path):
    # Too few for a median: 6. Too few for a window of 10 s: 12 a stream.
    records = [made_record(i, concurrency=8, t_sent_s=0.0) for i in range(4)]
    facts = facts_of(tmp_path, records)
    codes = ("window_short", "few_samples", "rate_shortfall")
    assert {key_to_set(advice_on(facts, code)) for code in codes} == {("num_requests", 96)}


def test_a_run_cut_off_is_to_be_run_again_and_not_made_longer(tmp_path):
    facts = facts_of(tmp_path, healthy(5), status="interrupted", num_requests=200)
    verdict = judge(facts)
    assert [f.code for f in verdict.findings] == ["interrupted"]
    assert "--resume" in verdict.findings[0].advice


def test_where_every_request_was_refused_more_of_them_are_no_remedy(tmp_path):
    refused = [failed_record(i, http_status=400, error_kind="http_4xx") for i in range(100)]
    assert [f.code for f in judge(facts_of(tmp_path, refused)).findings] == ["errors"]


def test_a_server_that_died_is_no_trouble_of_its_metrics(tmp_path):
    records = [*healthy(50), *(failed_record(i, error_kind="connect") for i in range(50, 100))]
    gone = {"before": {"vllm:prompt_tokens_total": 0.0}, "after": None}
    facts = facts_of(tmp_path, records, server_counters=gone)
    assert severity_of(facts, "errors") == INVALID
    assert severity_of(facts, "ledger_unread") is None


def back_to_back(count, latency_s, last_s):
    """One stream, `count` requests without a pause: all but the first lie in the window."""
    one = {"concurrency": 1, "latency_ms": 1000 * latency_s}
    records = [made_record(i, t_sent_s=i * latency_s, **one) for i in range(count - 1)]
    last = {**one, "latency_ms": 1000 * last_s}
    return [*records, made_record(count - 1, t_sent_s=(count - 1) * latency_s, **last)]


@pytest.mark.parametrize(
    ("count", "latency_s", "last_s", "expected"),
    [
        (11, 1.0, 1.0, None),  # ten seconds
        (11, 1.0, 0.99, SUSPECT),
        (7, 4.0, 4.0, None),  # six latencies
        (6, 4.0, 4.0, SUSPECT),  # five requests: not even a median
    ],
)
def test_less_than_ten_seconds_or_three_latencies_is_a_short_window(
    tmp_path, count, latency_s, last_s, expected
):
    facts = facts_of(tmp_path, back_to_back(count, latency_s, last_s))
    assert severity_of(facts, "window_short") == expected


def test_a_smoke_test_of_fifty_requests_is_told_how_many_to_send(tmp_path):
    facts = facts_of(tmp_path, back_to_back(50, 0.06, 0.06))  # 3.0 s in all
    # 50, and 16.7 a second for the 7.06 s that are missing: 167.7, rounded up to two digits
    assert key_to_set(advice_on(facts, "window_short")) == ("num_requests", 170)


@pytest.mark.parametrize(
    ("streams", "count", "gap_s", "why", "requests"),
    [
        (8, 4, 0.0, "4 streams", 96),  # of 8
        (1, 1, 0.0, "hardly a request", 12),
        (8, 10, 0.0, "hardly a request", 96),
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
        (5, {}, None, "after the start", ("num_requests", 110)),  # no reply by then
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
