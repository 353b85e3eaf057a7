"""The steady window, and what was done in it: by stamps, not by when requests ended."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.in_flight import in_flight
from vllm_bench.figures.throughput import throughput, window_throughput
from vllm_bench.figures.token_gaps import reads_of
from vllm_bench.figures.window import Window
from vllm_bench.records.find_runs import load_run
from vllm_bench.scenario.load import Load
from vllm_bench.summary.summary import summarize

from tests.figures.test_token_gaps import arrays_of
from tests.support.made_runs import (
    failed_record,
    frame_of,
    made_info,
    made_record,
    whole_reply_record,
    write_run,
)


def facts_of(tmp_path, records, requests=None, **changes):
    frame = frame_of(tmp_path, records)
    reads = None if requests is None else reads_of(arrays_of(requests), frame)
    return Facts(frame, made_info(records, **changes), reads)


def test_the_window_is_where_nearly_all_streams_are_busy(tmp_path):
    # Two streams: both busy from 1 s, one of them done at 3 s, the other at 4 s.
    times = [(0.0, 0, 4.0), (1.0, 1, 2.0)]
    records = [
        made_record(i, t_sent_s=sent, stream_index=stream, latency_ms=1000 * took, concurrency=2)
        for i, (sent, stream, took) in enumerate(times)
    ]
    assert facts_of(tmp_path, records).window == Window(1.0, 3.0)


@pytest.mark.parametrize(("held", "expected"), [(18, None), (19, Window(0.0, 1.0))])
def test_95_percent_of_the_streams_are_enough(tmp_path, held, expected):
    records = [made_record(i, t_sent_s=0.0, concurrency=20, stream_index=i) for i in range(held)]
    assert facts_of(tmp_path, records).window == expected


def test_a_pause_between_two_requests_does_not_end_the_window(tmp_path):
    records = [made_record(i, t_sent_s=1.001 * i, concurrency=1) for i in range(5)]
    assert facts_of(tmp_path, records).window == Window(0.0, pytest.approx(5.004))


def test_a_load_that_was_never_held_has_no_window_and_no_rate_in_it(tmp_path):
    records = [made_record(i, t_sent_s=2.0 * i) for i in range(5)]
    facts = facts_of(tmp_path, records)
    assert facts.load == Load("streams", 4)
    assert facts.window is None
    assert window_throughput(facts, None) is None


def test_tokens_count_by_stamp_requests_by_end_prompts_by_first_token(tmp_path):
    # One request from 0 to 3 s, tokens at 0.5, 1.5, 2.5; the window is 1 to 3.
    record = made_record(
        0,
        t_sent_s=0.0,
        latency_ms=2900.0,
        ttft_ms=500.0,
        completion_tokens=3,
        token_events=3,
        prompt_tokens=70,
    )
    facts = facts_of(tmp_path, [record], {0: [(500, 1, 1), (1500, 1, 1), (2500, 1, 1)]})
    found = window_throughput(facts, Window(1.0, 3.0))
    assert found is not None
    assert (found.requests_per_s, found.output_tokens_per_s) == (0.5, 1.0)
    assert found.prompt_tokens_per_s == 0  # read before the window
    early = window_throughput(facts, Window(0.0, 1.0))
    assert early is not None
    assert (early.requests, early.prompt_tokens_per_s, early.total_tokens_per_s) == (0, 70, 71)


def test_without_stamps_a_streams_output_in_the_window_is_unknown(tmp_path):
    facts = facts_of(tmp_path, [made_record(i) for i in range(40)])
    found = window_throughput(facts, facts.window)
    assert found is not None
    assert found.requests_per_s == pytest.approx(4, rel=0.15)
    assert found.output_tokens_per_s is None
    assert found.total_tokens_per_s is None


def test_a_reply_in_one_piece_brings_its_tokens_at_its_end(tmp_path):
    records = [whole_reply_record(i, concurrency=1) for i in range(10)]
    facts = facts_of(tmp_path, records, scenario={"stream": False})
    found = window_throughput(facts, Window(2.5, 4.5))  # replies end at 3 and 4 s
    assert found is not None
    assert found.output_tokens_per_s == 20


def test_in_a_steady_closed_loop_littles_law_holds_and_the_window_leaves_the_drain_out(tmp_path):
    rng = np.random.default_rng(3)
    records, free = [], [0.0] * 4
    for i in range(200):
        stream = int(np.argmin(free))
        took = float(rng.uniform(0.5, 1.5)) * (8 if i == 199 else 1)  # a last one that drags on
        records.append(
            made_record(i, t_sent_s=free[stream], latency_ms=1000 * took, stream_index=stream)
        )
        free[stream] += took
    summary = summarize(load_run(write_run(tmp_path, records, made_info(records))))
    held = summary.in_flight
    assert held is not None
    assert held.peak == 4
    assert held.window_mean == pytest.approx(4, rel=0.01)
    assert held.littles_law == pytest.approx(1, rel=0.03)
    assert summary.steady is not None
    assert summary.throughput is not None
    assert summary.steady.requests_per_s > 1.08 * summary.throughput.requests_per_s


def test_tokens_of_failed_requests_are_no_throughput(tmp_path):
    died = failed_record(1, t_sent_s=0.0, completion_tokens=5, prompt_tokens=9, latency_ms=1000.0)
    frame = frame_of(tmp_path, [made_record(0, t_sent_s=0.0, latency_ms=500.0), died])
    found = throughput(Facts(frame, None))
    assert found is not None
    assert (found.span_s, found.requests) == (1.0, 1)
    assert (found.output_tokens_per_s, found.total_tokens_per_s) == (20.0, 270.0)


requests = st.lists(
    st.tuples(st.floats(0, 100), st.floats(0.001, 50), st.integers(1, 500)), min_size=1, max_size=40
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(requests)
def test_throughput_and_requests_in_flight_conserve_what_the_rows_hold(tmp_path, made):
    records = [
        made_record(i, t_sent_s=sent, latency_ms=1000 * took, completion_tokens=tokens)
        for i, (sent, took, tokens) in enumerate(made)
    ]
    frame = frame_of(tmp_path, records)
    done, open_ = throughput(Facts(frame, None)), in_flight(frame)
    assert done is not None
    assert open_ is not None
    assert done.output_tokens_per_s * done.span_s == pytest.approx(sum(t for _, _, t in made))
    assert done.requests_per_s * done.span_s == pytest.approx(len(made))
    # The file holds microseconds.
    durations_s = sum(took for _, took, _ in made)
    assert open_.mean * done.span_s == pytest.approx(durations_s, abs=1e-5 * len(made))
    assert 1 <= open_.peak <= len(made)
