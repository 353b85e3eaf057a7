"""Whether a queue grew: told of a rate past capacity, not of chance or of a trace's own rise."""

from __future__ import annotations

import dataclasses
import heapq

import numpy as np
import pytest
from vllm_bench.figures.facts import Facts
from vllm_bench.records.row import Rows
from vllm_bench.verdict.verdict import judge

from tests.support.made_runs import frame_of, made_info, made_record
from tests.support.open_runs import due_times, facts_of, rising, served
from tests.verdict.judging import INVALID, NOTE, SUSPECT, healthy, severity_of, stamped, value_of

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


# ---- a rate around what a server of one or sixteen places takes, as chance has it ----


def queued(seed, places, load, count, cv, service_cv):
    """A run of gamma arrivals, served first come, first served, in gamma times.

    `load` is the rate over the server's capacity; a tenth of its service is a request's prefill.
    """
    random = np.random.default_rng(seed)
    rate = load * places
    due_s = np.cumsum(random.gamma(cv**-2, cv**2, count)) / rate
    service_s, free = random.gamma(service_cv**-2, service_cv**2, count), [0.0] * places
    first_s = np.empty(count)
    for i, (at, needs) in enumerate(zip(due_s, service_s, strict=True)):
        begun = max(heapq.heappop(free), at)
        heapq.heappush(free, begun + needs)
        first_s[i] = begun + 0.1 * needs
    waited_ms = 1000 * (first_s - due_s)
    times = {"t_scheduled_s": due_s, "t_sent_s": due_s, "t_end_s": first_s + 0.9 * service_s}
    return rate, times | {"ttft_ms": waited_ms, "latency_ms": waited_ms + 900 * service_s}


def doubted(folder, places, load, count, cv, service_cv=1.0, runs=12):
    """Of so many runs, how many are told to have no steady state."""
    found = 0
    for seed in range(runs):
        rate, times = queued(seed, places, load, count, cv, service_cv)
        records = [made_record(i, request_rate=rate, t_scheduled_s=float(i)) for i in range(count)]
        frame = Rows({**frame_of(folder, records).columns, **times})
        info = made_info(records, plan={"shape": "gamma", "realised_cv": cv})
        found += any(f.code == "not_stationary" for f in judge(Facts(frame, info)).findings)
    return found


@pytest.mark.parametrize("places", [1, 16])
@pytest.mark.parametrize(
    ("load", "count", "cv", "service_cv", "least", "most"),
    [
        (0.90, 300, 1.0, 1.0, 0, 0),
        (0.97, 300, 1.0, 1.0, 0, 0),
        (0.97, 300, 1.0, 0.25, 0, 0),
        (0.97, 1000, 3.0, 1.0, 0, 0),
        (1.10, 1000, 1.0, 1.0, 8, 12),
        (1.10, 500, 1.0, 0.25, 10, 12),
        (1.50, 300, 3.0, 1.0, 9, 12),
    ],
)
def test_a_rate_past_capacity_is_told_from_one_just_below(
    tmp_path, places, load, count, cv, service_cv, least, most
):
    assert least <= doubted(tmp_path, places, load, count, cv, service_cv) <= most


@pytest.mark.parametrize(("rate", "count"), [(40.0, 1000), (100.0, 300)])
def test_a_server_without_a_queue_is_steady_however_many_prefills_run_at_once(
    tmp_path, rate, count
):
    # So many a second, each a second to its first token: as many are always without one.
    for seed in range(5):
        random = np.random.default_rng(seed)
        due_s = np.cumsum(random.exponential(1 / rate, count))
        ttft_ms = 1000 * random.gamma(16, 1 / 16, count)
        records = [
            made_record(i, request_rate=rate, t_scheduled_s=at, ttft_ms=ttft, latency_ms=ttft + 50)
            for i, (at, ttft) in enumerate(zip(due_s, ttft_ms, strict=True))
        ]
        assert severity_of(facts_of(tmp_path, records), "not_stationary") is None


# ---- a server that stands still ----


def standing_still(folder, *, every_s, for_s, open_loop=False, streams=4, seconds=40):
    """Streams whose server sends a token every 50 ms, and none for a while, again and again."""

    def moved(at_s):
        return at_s + for_s * (at_s // every_s)

    records, reads = [], []
    for i in range(seconds * streams):
        sent_s = moved(i // streams * 1.0)
        stamps_s = [moved(i // streams + 0.1 + 0.05 * k) for k in range(18)]
        ends = {
            "ttft_ms": 1000 * (stamps_s[0] - sent_s),
            "latency_ms": 1000 * (stamps_s[-1] - sent_s),
        }
        load = {"request_rate": 4.0, "t_scheduled_s": sent_s} if open_loop else {}
        records.append(made_record(i, **load, t_sent_s=sent_s, **ends))
        reads.append([1000 * (s - sent_s) for s in stamps_s])
    return stamped(facts_of(folder, records), events=[1] * 18, ms=reads)


@pytest.mark.parametrize(
    ("every_s", "for_s", "open_loop", "expected"),
    [
        (8.42, 2.0, False, SUSPECT),  # 2 s in every 10
        (100.0, 0.0, False, None),
        (8.42, 0.9, False, None),  # not over a second
        (8.42, 2.0, True, NOTE),  # its arrivals went on, and their waits are in the figures
    ],
)
def test_a_server_that_stands_still_is_told(tmp_path, every_s, for_s, open_loop, expected):
    facts = standing_still(tmp_path, every_s=every_s, for_s=for_s, open_loop=open_loop)
    assert severity_of(facts, "stalls") == expected


def test_one_stall_in_a_long_run_is_a_note(tmp_path):
    facts = standing_still(tmp_path, every_s=100.42, for_s=1.2, seconds=150)
    assert severity_of(facts, "stalls") == NOTE  # 0.8 % of the time


def test_while_all_wait_for_their_first_token_nothing_stands_still(tmp_path):
    slow = healthy(100, ttft_ms=3000.0, latency_ms=3800.0)
    records = [
        dataclasses.replace(r, t_sent_s=3.8 * (i // 4), t_end_s=3.8 * (i // 4 + 1))
        for i, r in enumerate(slow)
    ]
    facts = stamped(
        facts_of(tmp_path, records), events=[1] * 20, ms=[3000 + 40 * k for k in range(20)]
    )
    assert severity_of(facts, "stalls") is None
