"""Requests in flight and busy streams, swept; and which requests waited for the cap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.in_flight import SEND_LAG_FLOOR_MS, busy_streams, in_flight, waited_for_cap
from vllm_bench.figures.throughput import arrival_rates
from vllm_bench.figures.window import closed_window
from vllm_bench.records.row import Rows

from tests.support.made_runs import failed_record, frame_of, made_record
from tests.support.open_runs import due_times, facts_of, served

RATE = 20.0


def test_requests_in_flight_are_swept_with_an_end_before_the_start_that_it_frees(tmp_path):
    # Two streams: [0, 2), [2, 4) and [1, 3): one, two, two, one in flight.
    times = [(0.0, 2000.0), (2.0, 2000.0), (1.0, 2000.0)]
    records = [made_record(i, t_sent_s=t, latency_ms=ms) for i, (t, ms) in enumerate(times)]
    found = in_flight(frame_of(tmp_path, records))
    assert found is not None
    assert (found.mean, found.peak) == (1.5, 2)


def test_a_stream_is_busy_until_its_slot_comes_free(tmp_path):
    # The finish event comes at 1 s, the slot is free at 1.5 s, the client sends at 2 s.
    first = made_record(0, t_sent_s=0.0, stream_index=0)
    second = made_record(1, t_sent_s=2.0, t_scheduled_s=1.5, stream_index=0)
    busy = busy_streams(frame_of(tmp_path, [second, first]))
    assert busy is not None
    assert busy.mean_between(0.0, 2.0) == 0.75
    never = failed_record(2, t_sent_s=None, send_lag_ms=None)
    assert busy_streams(frame_of(tmp_path, [never])) is None


def capped(count, cap, *, slots=1000, service_s=1.0, **changes):
    """Requests of 20 a second that take a second each: 20 are in flight, or the cap."""
    due = due_times("constant", RATE, count)
    return list(served(due, RATE, slots=slots, service_s=service_s, cap=cap, **changes))


def test_without_a_cap_or_below_it_nobody_waits(tmp_path):
    records = capped(200, 30)
    assert not facts_of(tmp_path, records).waited_for_cap.any()
    facts = facts_of(tmp_path, records, plan={"max_in_flight": 30})
    assert not facts.waited_for_cap.any()


def test_a_cap_below_the_load_makes_it_the_caps(tmp_path):
    facts = facts_of(tmp_path, capped(200, 15), plan={"max_in_flight": 15})
    # The first fifteen found room; every other one waited.
    assert facts.waited_for_cap.tolist() == [False] * 15 + [True] * 185
    rates = arrival_rates(facts.frame)
    assert rates is not None
    assert rates.sent == pytest.approx(15, rel=0.1)  # fifteen, each a second


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
    late = frame["send_lag_ms"] > SEND_LAG_FLOOR_MS
    assert waited_for_cap(frame, cap, 1).tolist() == late.tolist()
    assert not waited_for_cap(frame, len(due) + 1, 1).any()  # a cap that nobody can reach


def held(turns: list[tuple[str, int, float, float]]) -> Rows:
    """Return rows of one stream's sessions of three turns: name, turn, sent, ended."""
    columns = {
        "stream_index": np.zeros(len(turns), dtype=int),
        "conversation_id": np.array([name for name, *_ in turns], dtype=object),
        "turn": np.array([turn for _, turn, *_ in turns], dtype=float),
        "session_turns": np.full(len(turns), 3.0),
        "error_kind": np.array([None] * len(turns), dtype=object),
        "t_scheduled_s": np.array([sent for *_, sent, _ in turns]),
        "t_sent_s": np.array([sent for *_, sent, _ in turns]),
        "t_end_s": np.array([end for *_, end in turns]),
    }
    return Rows(columns)


def test_a_session_whose_next_turn_waits_at_the_end_held_its_stream_until_the_last_send() -> None:
    begun = held([("a", 1, 0, 1), ("a", 2, 5, 6), ("a", 3, 7, 8), ("b", 1, 8, 9), ("b", 2, 20, 21)])
    other = held([("c", 1, 0.0, 1.0), ("c", 2, 30.0, 31.0)])
    both = {
        name: np.concatenate([begun[name], other[name] + (name == "stream_index")])
        if begun[name].dtype != object
        else np.concatenate([begun[name], other[name]])
        for name in begun.columns
    }
    rows = Rows(both)
    window = closed_window(rows, 2)
    assert window is not None
    assert (window.start_s, window.end_s) == (1, 30)
    busy = busy_streams(rows)
    assert busy is not None
    assert busy.mean_between(1, 30) == pytest.approx(2)
    over = {**both, "session_turns": np.array([3, 3, 3, 2, 2, 2, 2.0])}  # b and c are whole
    ended = closed_window(Rows(over), 2)
    assert ended is not None
    assert ended.end_s == 21


def test_among_others_it_held_its_stream_until_the_last_send_of_all() -> None:
    rows = held([("a", 1, 0, 1), ("a", 2, 5, 6)])
    busy, alone = busy_streams(rows, 30.0), busy_streams(rows)
    assert busy is not None
    assert alone is not None
    assert busy.mean_between(0, 30) == pytest.approx(1)
    assert alone.times_s.max() == 6
