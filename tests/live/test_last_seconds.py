"""The last ten seconds of a run, on a clock that the tests set."""

from __future__ import annotations

import itertools
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.live.last_seconds import SPAN_S, LastSeconds, token_gaps_ms
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.send.outbox import Pulse

from tests.support.made_runs import failed_record, made_record


def ending(end_s: float, **changes: Any) -> RequestRecord:
    """A request that ended then; by default a success of 20 tokens."""
    make = failed_record if changes.pop("failed", False) else made_record
    return make(0, t_sent_s=end_s, latency_ms=0.0, **changes)


def percentile(values: list[float], wanted: float) -> float | None:
    """Linear between ranks, by hand."""
    if not values:
        return None
    ordered = sorted(values)
    place = (len(ordered) - 1) * wanted / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def test_before_anything_ended_there_is_nothing() -> None:
    found = LastSeconds().take(3.0)
    assert (found.requests_per_s, found.tokens_per_s, found.failed) == (0.0, 0.0, 0)
    assert found.ttft_p50_ms is found.itl_p95_ms is found.send_lag_p99_ms is None
    assert found.loop_lag_p99_ms is found.cpu_share is found.running is None


def test_at_the_start_itself_there_is_no_rate() -> None:
    facts = LastSeconds()
    facts.ended(ending(0.0))
    assert facts.take(0.0).requests_per_s is None


@pytest.mark.parametrize(
    ("now_s", "rate"),
    [
        (2.0, 1.0),  # two in two seconds
        (10.0, 0.3),  # three in ten, as 10.5 has not come
        (11.0, 0.3),  # 1.0 is ten seconds old, and out
        (11.9, 0.3),
        (12.0, 0.2),
        (30.0, 0.0),
    ],
)
def test_a_request_counts_for_ten_seconds_from_its_end(now_s: float, rate: float) -> None:
    facts = LastSeconds()
    for end_s in (1.0, 2.0, 9.0, 10.5):
        if end_s <= now_s:
            facts.ended(ending(end_s))
    found = facts.take(now_s)
    assert found.requests_per_s == pytest.approx(rate)
    assert found.tokens_per_s == pytest.approx(20 * rate)


def test_a_failure_has_a_lag_but_neither_ttft_nor_itl() -> None:
    facts = LastSeconds()
    facts.ended(ending(1.0, failed=True, ttft_ms=9.0, send_lag_ms=3.0), [0, 10_000_000])
    found = facts.take(2.0)
    assert (found.failed, found.send_lag_p99_ms) == (1, 3.0)
    assert found.ttft_p50_ms is found.itl_p50_ms is None


@pytest.mark.parametrize(
    ("stamps_ms", "tokens", "gaps_ms"),
    [
        ([], 0, []),
        ([5], 1, []),
        ([5, 15, 45], 3, [10, 30]),
        ([5, 15, 15], 3, [5, 5]),  # a read of two shares its wait among them
        ([5, 5, 5, 11], 4, [6]),  # the first read waited for nothing
        ([5, 25], 8, [5]),  # four tokens an event: 20 ms / 4
        ([5, 25, 25], 12, [2.5, 2.5]),
        ([5, 15], None, [10]),
        ([5, 15, 25], 1, [10, 10]),  # a server that counts fewer tokens than it sent events
    ],
)
def test_a_wait_is_shared_among_the_tokens_that_ended_it(
    stamps_ms: list[int], tokens: int | None, gaps_ms: list[float]
) -> None:
    stamps = array("q", [ms * 1_000_000 for ms in stamps_ms])
    assert list(token_gaps_ms(stamps, tokens)) == gaps_ms


def test_the_loops_lag_is_that_of_all_sending_processes_and_their_last_pulses() -> None:
    facts = LastSeconds()
    start_ns = 7_000_000_000
    for second, lag_us, share in ((1, 90_000, 0.9), (5, 1000, 0.25), (6, 2000, 0.5)):
        lags = array("I", [lag_us] * 100).tobytes()
        facts.pulse(Pulse(start_ns + second * 1_000_000_000, share, lags), start_ns)
    early, late = facts.take(6.0), facts.take(11.0)
    assert (early.loop_lag_p99_ms, early.cpu_share) == (90.0, 0.9)
    assert (late.loop_lag_p99_ms, late.cpu_share) == (2.0, 0.5)


def test_what_the_server_says_is_passed_on_and_its_tokens_become_a_rate() -> None:
    facts = LastSeconds()
    first = {"t_s": 50.0, "running": 3.0, "generation_tokens_total": 1000.0}
    assert facts.take(1.0, server=first).server_tokens_per_s is None
    later = {**first, "t_s": 52.0, "running": 4.0, "generation_tokens_total": 1500.0}
    found = facts.take(2.0, server=later)
    assert (found.running, found.waiting, found.server_tokens_per_s) == (4.0, None, 250.0)
    assert facts.take(3.0, server=later).server_tokens_per_s == 250.0  # no newer reading
    anew = {**later, "t_s": 53.0, "generation_tokens_total": 3.0}
    assert facts.take(4.0, server=anew).server_tokens_per_s is None  # it was started anew
    silent = facts.take(5.0, server={})
    assert silent.running is silent.server_tokens_per_s is None


def test_each_second_is_kept_and_memory_has_an_end() -> None:
    facts = LastSeconds()
    for second in range(1, 3001):
        facts.ended(ending(float(second)), [0, 20_000_000])
        facts.pulse(Pulse(second * 1_000_000_000, 0.1, b""), 0)
        facts.take(float(second), in_flight=second)
    assert len(facts.history) == 600
    assert [f.in_flight for f in facts.history][-2:] == [2999, 3000]
    assert len(facts._ended) == len(facts._pulses) == 10


Request = tuple[float, float, bool, list[int]]  # end s, TTFT ms, failed, waits between tokens ms
requests = st.lists(
    st.tuples(
        st.floats(0, 40),
        st.floats(0, 5000),
        st.booleans(),
        st.lists(st.integers(1, 500), max_size=5),
    ),
    max_size=40,
)


def fed(facts: LastSeconds, request: Request) -> None:
    end_s, ttft_ms, failed, waits_ms = request
    stamps = [ms * 1_000_000 for ms in itertools.accumulate([0, *waits_ms])]
    changes: dict[str, Any] = {"ttft_ms": ttft_ms, "send_lag_ms": ttft_ms / 7, "failed": failed}
    facts.ended(ending(end_s, completion_tokens=len(stamps), **changes), stamps)


@given(requests, st.floats(0, 15))
def test_figures_are_those_of_a_naive_look_at_exactly_the_last_ten_seconds(
    drawn: list[Request], pause_s: float
) -> None:
    facts = LastSeconds()
    seen: list[Request] = []
    for request in drawn:  # not in the order of their ends: some are told of late
        fed(facts, request)
        seen.append(request)
        now_s = max(r[0] for r in seen) + pause_s
        inside = [r for r in seen if now_s - SPAN_S < r[0]]
        good = [r for r in inside if not r[2]]
        found = facts.take(now_s)
        span_s = min(now_s, SPAN_S)
        if span_s > 0:
            assert found.requests_per_s == pytest.approx(len(inside) / span_s)
            tokens = sum(len(r[3]) + 1 for r in inside)
            assert found.tokens_per_s == pytest.approx(tokens / span_s)
        assert found.failed == len(inside) - len(good)
        gaps = [float(wait) for r in good for wait in r[3]]
        expected = {
            "ttft_p50_ms": percentile([r[1] for r in good], 50),
            "ttft_p95_ms": percentile([r[1] for r in good], 95),
            "itl_p50_ms": percentile(gaps, 50),
            "itl_p95_ms": percentile(gaps, 95),
            "send_lag_p99_ms": percentile([r[1] / 7 for r in inside], 99),
        }
        for name, value in expected.items():
            assert getattr(found, name) == (None if value is None else pytest.approx(value)), name


def test_the_naive_look_is_numpys() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    assert percentile(values, 95) == pytest.approx(np.percentile(values, 95))
