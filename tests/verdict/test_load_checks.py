"""Was the load sent as asked and on time: each code on both sides of its limit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from vllm_bench.verdict.verdict import judge

from tests.support.made_runs import failed_record, made_record, whole_reply_record
from tests.support.open_runs import due_times, facts_of, finding_of, served, stalled
from tests.verdict.judging import INVALID, SUSPECT, advice_on, healthy, severity_of, value_of

RATE = 20.0


def late(ttft_ms, lag_ms, every=1, count=200):
    """An open loop that the client sends late: every so many requests by so much."""
    for i in range(count):
        lag = lag_ms if i % every == 0 else 0.0
        times = {"ttft_ms": ttft_ms, "latency_ms": ttft_ms + 190, "send_lag_ms": lag}
        yield made_record(i, request_rate=10.0, **times)


@pytest.mark.parametrize(
    ("ttft_ms", "lag_ms", "expected"),
    [
        (1000.0, 20.0, None),  # 2 % of TTFT, not more
        (1000.0, 20.1, SUSPECT),
        (1000.0, 100.0, SUSPECT),  # 10 %, not more
        (1000.0, 100.1, INVALID),
        (10.0, 2.0, None),  # 20 %, but nobody would act on it
        (10.0, 2.1, SUSPECT),
        (10.0, 10.0, SUSPECT),
        (10.0, 10.1, INVALID),
    ],
)
def test_late_sends_are_the_error_of_times_from_the_schedule(tmp_path, ttft_ms, lag_ms, expected):
    facts = facts_of(tmp_path, list(late(ttft_ms, lag_ms)))
    assert severity_of(facts, "send_lag") == expected


@pytest.mark.parametrize(("every", "expected"), [(10, INVALID), (150, None)])
def test_lags_count_where_they_move_a_percentile_that_is_shown(tmp_path, every, expected):
    facts = facts_of(tmp_path, list(late(1000.0, 500.0, every)))  # p95 at most
    assert severity_of(facts, "send_lag") == expected


def test_in_a_closed_loop_a_late_send_is_an_idle_stream(tmp_path):
    facts = facts_of(tmp_path, healthy(send_lag_ms=500.0))
    assert severity_of(facts, "send_lag") is None


def test_without_streaming_a_late_client_is_measured_against_the_latency(tmp_path):
    records = [whole_reply_record(i, request_rate=10.0, send_lag_ms=101.0) for i in range(100)]
    facts = facts_of(tmp_path, records, scenario={"stream": False})
    assert severity_of(facts, "send_lag") == INVALID
    assert value_of(facts, "send_lag") == pytest.approx(0.101)


AWAY = {"http_status": None, "error_kind": "connect"}


@pytest.mark.parametrize(
    ("failure", "waited_ms", "expected"),
    [
        (AWAY, 10.1, None),  # 1 % of the streams' time, not more
        (AWAY, 10.6, SUSPECT),
        ({"http_status": 429, "error_kind": "http_429"}, 51.0, SUSPECT),
        ({"http_status": 503, "error_kind": "http_5xx"}, 52.5, INVALID),
        ({"error_kind": "error_event"}, 52.5, INVALID),  # what made it wait stood in the reply
    ],
)
def test_what_streams_waited_for_a_server_that_turned_them_away(
    tmp_path, failure, waited_ms, expected
):
    """100 requests of a second each on four streams, each after a wait for the 100th part of it."""
    records = [failed_record(0, **failure), *healthy(101)[1:]]
    waiting = [replace(record, waited_ms=waited_ms) for record in records]
    facts = facts_of(tmp_path, waiting)
    assert severity_of(facts, "turned_away") == expected


@pytest.mark.parametrize(
    ("every", "expected"), [(0, None), (100, None), (50, SUSPECT), (19, INVALID)]
)
def test_in_an_open_loop_what_was_turned_away_counts_itself(tmp_path, every, expected):
    records = [
        failed_record(i, request_rate=10.0, http_status=429, error_kind="http_429")
        if every and i % every == 0
        else made_record(i, request_rate=10.0)
        for i in range(400)
    ]
    facts = facts_of(tmp_path, records)
    assert severity_of(facts, "turned_away") == expected
    if every:
        refused = sum(record.error_kind is not None for record in records)
        assert value_of(facts, "turned_away") == pytest.approx(refused / 400)


def paused(short):
    """Two streams of back-to-back seconds, of which one is idle for a share of each."""
    for i in range(40):
        at_s, wait_s = float(i // 2), 2 * short if i % 2 and i > 1 else 0.0
        yield made_record(
            i,
            concurrency=2,
            t_scheduled_s=at_s,
            t_sent_s=at_s + wait_s,
            latency_ms=1000 * (1 - wait_s),
        )


@pytest.mark.parametrize(
    ("short", "expected"),
    [(0.0, None), (0.009, None), (0.011, SUSPECT), (0.049, SUSPECT), (0.06, INVALID)],
)
def test_streams_that_the_client_left_idle_are_load_that_was_not_held(tmp_path, short, expected):
    assert severity_of(facts_of(tmp_path, list(paused(short))), "rate_shortfall") == expected


def test_fewer_requests_than_streams_are_never_that_load(tmp_path):
    facts = facts_of(tmp_path, [made_record(i, concurrency=8, t_sent_s=0.0) for i in range(4)])
    assert severity_of(facts, "rate_shortfall") == INVALID
    assert value_of(facts, "rate_shortfall") == 0.5
    assert "set num_requests to about" in advice_on(facts, "rate_shortfall")


@pytest.mark.parametrize(
    ("slower", "expected"), [(1.009, None), (1.012, SUSPECT), (1.05, SUSPECT), (1.06, INVALID)]
)
def test_a_client_that_falls_behind_its_schedule_sends_at_a_lower_rate(tmp_path, slower, expected):
    late = [made_record(i, request_rate=10.0, t_sent_s=i / 10 * slower) for i in range(200)]
    assert severity_of(facts_of(tmp_path, late), "rate_shortfall") == expected


def test_a_stall_that_the_client_makes_up_for_is_a_lag_and_no_shortfall(tmp_path):
    facts = facts_of(tmp_path, stalled(10.0, 400, from_s=10.0, to_s=12.0))
    assert severity_of(facts, "rate_shortfall") is None
    assert severity_of(facts, "send_lag") == INVALID
    assert "request rate" in advice_on(facts, "send_lag")


def capped(count, cap):
    """Requests of 20 a second that take a second each: 20 are in flight, or the cap."""
    due = due_times("constant", RATE, count)
    return list(served(due, RATE, slots=1000, service_s=1.0, cap=cap))


def test_below_the_cap_nobody_waits(tmp_path):
    facts = facts_of(tmp_path, capped(200, 30), plan={"max_in_flight": 30})
    assert severity_of(facts, "cap_bound") is None


def test_who_waited_for_the_cap_is_no_late_client(tmp_path):
    records = capped(200, 15)
    assert severity_of(facts_of(tmp_path, records), "send_lag") == INVALID
    facts = facts_of(tmp_path, records, plan={"max_in_flight": 15})
    assert severity_of(facts, "cap_bound") == INVALID
    assert value_of(facts, "cap_bound") == 185 / 200  # the first fifteen found room
    assert severity_of(facts, "send_lag") is None


def test_a_late_client_below_the_cap_is_late_all_the_same(tmp_path):
    records = [made_record(i, request_rate=RATE, send_lag_ms=500.0) for i in range(200)]
    facts = facts_of(tmp_path, records, plan={"max_in_flight": 100})
    assert severity_of(facts, "cap_bound") is None
    assert severity_of(facts, "send_lag") is not None


def test_a_cap_that_holds_the_rate_down_is_named_as_the_cause(tmp_path):
    facts = facts_of(tmp_path, capped(400, 15), plan={"max_in_flight": 15})
    assert value_of(facts, "rate_shortfall") == pytest.approx(0.25, rel=0.1)  # 15 of 20 a second
    assert "max_in_flight" in advice_on(facts, "rate_shortfall")


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [(0, None), (2, None), (3, SUSPECT), (20, SUSPECT), (21, INVALID)],
)
def test_one_in_a_hundred_is_suspect_and_one_in_ten_invalid(tmp_path, waiting, expected):
    # Two requests at once, of which the second waits for the first: so often.
    records = []
    for i in range(200):
        second = i % 2 == 1 and i // 2 < waiting
        apart = 0.0 if second or i % 2 == 0 else 1.0
        records.append(
            made_record(
                i,
                request_rate=1.0,
                t_scheduled_s=2.0 * (i // 2) + apart,
                send_lag_ms=500.0 if second else 0.0,
                latency_ms=500.0,
            )
        )
    facts = facts_of(tmp_path, records, plan={"max_in_flight": 1})
    assert severity_of(facts, "cap_bound") == expected


def test_requests_of_a_closed_loop_have_no_cap_to_wait_for(tmp_path):
    assert finding_of(facts_of(tmp_path, healthy()), "cap_bound") is None


def streams_of(count, streams, latency_ms, together):
    """A closed loop of equal lengths: in step, or each stream at a time of its own."""
    for i in range(count):
        turn, stream = divmod(i, streams)
        phase = 0.0 if together else stream / streams
        at_s = (turn + phase) * latency_ms / 1000
        yield made_record(i, concurrency=streams, t_sent_s=at_s, latency_ms=latency_ms)


@pytest.mark.parametrize("streams", [2, 8, 32])
@pytest.mark.parametrize(
    ("start", "in_step", "expected"),
    [
        ("together", True, SUSPECT),
        ("together", False, None),  # they fell out of step
        ("staggered", True, None),  # nobody sent them so
    ],
)
def test_streams_that_stay_in_step_wait_for_each_others_prefill(
    tmp_path, streams, start, in_step, expected
):
    records = list(streams_of(40 * streams, streams, 2000.0, in_step))
    facts = facts_of(tmp_path, records, plan={"start": start})
    assert severity_of(facts, "start_burst") == expected
    assert judge(facts).of("pace") == "VALID"


@pytest.mark.parametrize("seed", range(5))
def test_streams_of_different_lengths_fall_out_of_step(tmp_path, seed):
    random, records, at_s = np.random.default_rng(seed), [], [0.0] * 16
    for i in range(640):
        latency_ms = float(random.gamma(8, 250))
        times = {"t_sent_s": at_s[i % 16], "latency_ms": latency_ms}
        records.append(made_record(i, concurrency=16, **times))
        at_s[i % 16] += latency_ms / 1000
    facts = facts_of(tmp_path, records, plan={"start": "together"})
    assert severity_of(facts, "start_burst") is None
