"""The cap on requests in flight: who waited for it, and what that does to a verdict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.in_flight import SEND_LAG_FLOOR_MS, waited_for_cap
from vllm_bench.figures.throughput import arrival_rates
from vllm_bench.verdict.finding import Severity

from tests.support.made_runs import failed_record, frame_of, made_record
from tests.support.open_runs import due_times, facts_of, finding_of, served

RATE = 20.0


def capped(count, cap, *, slots=1000, service_s=1.0, **changes):
    """Requests of 20 a second that take a second each: 20 are in flight, or the cap."""
    due = due_times("constant", RATE, count)
    return list(served(due, RATE, slots=slots, service_s=service_s, cap=cap, **changes))


def test_without_a_cap_or_below_it_nobody_waits(tmp_path):
    records = capped(200, 30)
    assert not facts_of(tmp_path, records).waited_for_cap.any()
    facts = facts_of(tmp_path, records, plan={"max_in_flight": 30})
    assert not facts.waited_for_cap.any()
    assert finding_of(facts, "cap_bound") is None


def test_a_cap_below_the_load_makes_it_the_caps(tmp_path):
    facts = facts_of(tmp_path, capped(200, 15), plan={"max_in_flight": 15})
    # The first fifteen found room; every other one waited.
    assert facts.waited_for_cap.tolist() == [False] * 15 + [True] * 185
    found = finding_of(facts, "cap_bound")
    assert found is not None
    assert found.severity == Severity.INVALID
    assert "185 of 200 requests (92.5 %) waited until one of 15 in flight ended" in found.figures
    assert "raise max_in_flight" in found.advice


def test_who_waited_for_the_cap_is_no_late_client(tmp_path):
    records = capped(200, 15)
    assert finding_of(facts_of(tmp_path, records), "send_lag") is not None
    capped_run = facts_of(tmp_path, records, plan={"max_in_flight": 15})
    assert finding_of(capped_run, "send_lag") is None
    assert capped_run.own_lag_ms.size == 15


def test_a_late_client_below_the_cap_is_late_all_the_same(tmp_path):
    records = [made_record(i, request_rate=RATE, send_lag_ms=500.0) for i in range(200)]
    facts = facts_of(tmp_path, records, plan={"max_in_flight": 100})
    assert finding_of(facts, "cap_bound") is None
    assert finding_of(facts, "send_lag") is not None


def test_a_cap_that_holds_the_rate_down_is_named_as_the_cause(tmp_path):
    facts = facts_of(tmp_path, capped(400, 15), plan={"max_in_flight": 15})
    rates = arrival_rates(facts.frame)
    assert rates is not None
    assert rates.sent == pytest.approx(15, rel=0.05)  # fifteen, each a second
    found = finding_of(facts, "rate_shortfall")
    assert found is not None
    assert "max_in_flight held them back" in found.advice


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [(0, None), (2, None), (3, Severity.SUSPECT), (20, Severity.SUSPECT), (21, Severity.INVALID)],
)
def test_one_in_a_hundred_is_suspect_and_one_in_ten_invalid(tmp_path, waiting, expected):
    # Two requests at once, of which the second waits for the first: so often.
    records = []
    for i in range(200):
        due = 2.0 * (i // 2)
        second = i % 2 == 1 and i // 2 < waiting
        lag_ms = 500.0 if second else 0.0
        apart = 0.0 if second or i % 2 == 0 else 1.0
        records.append(
            made_record(
                i,
                request_rate=1.0,
                t_scheduled_s=due + apart,
                send_lag_ms=lag_ms,
                latency_ms=500.0,
            )
        )
    found = finding_of(facts_of(tmp_path, records, plan={"max_in_flight": 1}), "cap_bound")
    assert (found.severity if found else None) == expected


def test_one_that_waited_and_never_went_waited_too(tmp_path):
    gone = {"t_sent_s": None, "send_lag_ms": None, "t_end_s": 0.9, "error_kind": "cancelled"}
    records = [
        made_record(0, request_rate=1.0, t_scheduled_s=0.0),
        failed_record(1, request_rate=1.0, t_scheduled_s=0.1, **gone),
    ]
    assert waited_for_cap(frame_of(tmp_path, records), 1, 1).tolist() == [False, True]


def test_processes_share_the_cap_and_each_waits_for_its_own_share(tmp_path):
    # Connections 0, 2, ... are the first process's: its share of 4 is 2, and it has two open.
    at = [(0.0, 0, 0), (0.1, 2, 0), (0.2, 4, 800), (0.2, 1, 0)]
    records = [
        made_record(i, request_rate=10.0, t_scheduled_s=due, stream_index=lane, send_lag_ms=lag)
        for i, (due, lane, lag) in enumerate(at)
    ]
    frame = frame_of(tmp_path, records)
    assert waited_for_cap(frame, 4, 2).tolist() == [False, False, True, False]
    assert not waited_for_cap(frame, 4, 1).any()


gaps = st.lists(st.floats(0.001, 1.0), min_size=1, max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(gaps, st.integers(1, 8), st.floats(0.01, 2.0))
def test_of_a_client_that_is_never_late_itself_all_that_is_late_waited(
    tmp_path, apart, cap, service_s
):
    due = np.cumsum(apart).tolist()
    records = list(served(due, 1.0, slots=4, service_s=service_s, cap=cap))
    frame = frame_of(tmp_path, records)
    late = frame["send_lag_ms"].to_numpy() > SEND_LAG_FLOOR_MS
    assert waited_for_cap(frame, cap, 1).tolist() == late.tolist()
    assert not waited_for_cap(frame, len(due) + 1, 1).any()  # a cap that nobody can reach
