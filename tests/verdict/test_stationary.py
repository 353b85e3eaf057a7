"""Whether a queue grew: told of a rate past capacity, not of chance or of a trace's own rise."""

from __future__ import annotations

import pytest

from tests.support.made_runs import made_record
from tests.support.open_runs import due_times, facts_of, rising, served
from tests.verdict.judging import INVALID, SUSPECT, healthy, severity_of, value_of

SLOTS = 16  # places of a server that takes a second a request: 16 requests/s at most


def run_of(folder, due, rate, **how):
    """The facts of a run of these arrivals on that server."""
    plan = how.pop("plan", {})
    records = list(served(due, rate, slots=SLOTS, service_s=1.0, **how))
    return facts_of(folder, records, plan=plan)


def judged(folder, due, rate, **how):
    """What it says of its steady state."""
    return severity_of(run_of(folder, due, rate, **how), "not_stationary")


def offered(per_s, served_per_s, seconds=60):
    """Requests that come at an even rate to a server that takes one after the other."""
    free_s = 0.0
    for i in range(per_s * seconds):
        sent_s = i / per_s
        free_s = max(free_s, sent_s) + 1 / served_per_s
        waited_ms = 1000 * (free_s - sent_s)
        times = {"ttft_ms": waited_ms, "latency_ms": waited_ms}
        yield made_record(i, request_rate=float(per_s), t_scheduled_s=sent_s, **times)


@pytest.mark.parametrize(
    ("served_per_s", "expected"),
    [
        (20.0, None),
        (19.2, None),  # 4 % are left over
        (18.0, SUSPECT),  # 10 %
        (15.0, INVALID),  # 25 %
    ],
)
def test_more_offered_than_served_is_no_steady_state(tmp_path, served_per_s, expected):
    facts = facts_of(tmp_path, list(offered(20, served_per_s)))
    assert severity_of(facts, "not_stationary") == expected


def test_a_closed_loop_never_offers_more_than_it_holds(tmp_path):
    facts = facts_of(tmp_path, healthy(400, ttft_ms=2900.0, latency_ms=3000.0))
    assert severity_of(facts, "not_stationary") is None


@pytest.mark.parametrize(
    ("rate", "expected"),
    [(12.0, None), (16.0, None), (18.0, SUSPECT), (24.0, INVALID)],
)
def test_an_even_rate_past_what_is_served_grows_the_queue(tmp_path, rate, expected):
    assert judged(tmp_path, due_times("constant", rate, 1000), rate) == expected


def test_the_share_is_of_the_arrivals_that_only_lengthened_the_queue(tmp_path):
    facts = run_of(tmp_path, due_times("constant", 20.0, 1000), 20.0)
    assert value_of(facts, "not_stationary") == pytest.approx(0.2, abs=0.01)  # of 20 a second 4


@pytest.mark.parametrize("seed", range(10))
def test_poisson_arrivals_at_four_fifths_of_capacity_are_steady(tmp_path, seed):
    assert judged(tmp_path, due_times("poisson", 12.8, 600, seed=seed), 12.8) is None


@pytest.mark.parametrize("seed", range(5))
def test_poisson_arrivals_far_past_capacity_are_not(tmp_path, seed):
    assert judged(tmp_path, due_times("poisson", 24.0, 2000, seed=seed), 24.0) is not None


@pytest.mark.parametrize("seed", range(10))
def test_bursts_are_allowed_for_by_their_cv(tmp_path, seed):
    due = due_times("gamma", 12.8, 600, seed=seed, cv=3.0)
    assert judged(tmp_path, due, 12.8, plan={"realised_cv": 3.0}) is None


def test_bursts_of_equal_size_are_steady(tmp_path):
    due = due_times("bursts", 12.0, 600, burst_size=30)
    assert judged(tmp_path, due, 12.0, plan={"realised_cv": 5.4}) is None


def test_a_trace_whose_rate_rises_within_what_is_served_is_steady(tmp_path):
    # In flight doubles from 6 to 12, since arrivals do: no reply takes longer than before.
    due = rising(6.0, 12.0, 120.0)
    assert judged(tmp_path, due, 9.0) is None
    closed = [made_record(i, t_scheduled_s=at, t_sent_s=at) for i, at in enumerate(due)]
    assert severity_of(facts_of(tmp_path, closed), "not_stationary") is None


def test_what_the_cap_holds_back_is_queue_though_it_waits_in_the_client(tmp_path):
    due = due_times("constant", 24.0, 1000)
    assert judged(tmp_path, due, 24.0, cap=16, plan={"max_in_flight": 16}) == INVALID


def test_a_ramp_is_left_out(tmp_path):
    due = due_times("constant", 12.0, 1200, ramp_s=40.0)
    assert judged(tmp_path, due, 12.0, plan={"ramp_s": 40.0}) is None


def test_a_handful_of_arrivals_says_nothing_of_a_trend(tmp_path):
    assert judged(tmp_path, due_times("constant", 24.0, 60), 24.0) is None
