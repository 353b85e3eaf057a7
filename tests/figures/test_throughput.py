"""The steady window, and what was done in it: by stamps, not by when requests ended."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.facts import Facts
from vllm_bench.figures.in_flight import in_flight
from vllm_bench.figures.throughput import throughput, window_throughput
from vllm_bench.figures.token_gaps import reads_of
from vllm_bench.figures.window import Window
from vllm_bench.scenario.load import Load

from tests.figures.test_token_gaps import arrays_of
from tests.support.made_runs import (
    failed_record,
    frame_of,
    made_info,
    made_record,
    summary_of,
    whole_reply_record,
)


def facts_of(tmp_path, records, requests=None, **changes):
    frame = frame_of(tmp_path, records)
    reads = None if requests is None else reads_of(arrays_of(requests), frame)
    return Facts(frame, made_info(records, **changes), reads)


def stream_rows(index, streams, ends_s, **changes):
    """The requests of one stream, each sent when the one before it ended."""
    begins = [changes.pop("from_s", 0.0), *ends_s[:-1]]
    return [
        made_record(
            place * streams + index,
            t_sent_s=begin,
            latency_ms=1000 * (end - begin),
            stream_index=index,
            concurrency=streams,
            **changes,
        )
        for place, (begin, end) in enumerate(zip(begins, ends_s, strict=True))
    ]


def test_a_closed_window_begins_when_every_stream_has_ended_its_first_request(tmp_path):
    slow_start = stream_rows(0, 2, [3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    other = stream_rows(1, 2, [1.0, 2.0, 3.5, 4.5, 5.5, 6.5], from_s=0.5)
    facts = facts_of(tmp_path, [*slow_start, *other])
    # ... and ends when the first stream finds no more work.
    assert facts.window == Window(3.0, 6.5)
    sent = facts.counted_rows["t_sent_s"].tolist()
    assert sorted(sent) == [3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0]


def test_a_stream_without_a_request_was_not_held(tmp_path):
    records = [row for k in range(19) for row in stream_rows(k, 20, [1.0, 2.0, 3.0])]
    assert facts_of(tmp_path, records).window is None
    records += stream_rows(19, 20, [1.0, 2.0, 3.0])
    assert facts_of(tmp_path, records).window == Window(1.0, 3.0)


def test_a_pause_between_two_requests_does_not_end_the_window(tmp_path):
    records = [made_record(i, t_sent_s=1.001 * i, concurrency=1) for i in range(9)]
    assert facts_of(tmp_path, records).window == Window(1.0, pytest.approx(9.008))


def test_a_window_in_which_not_even_a_median_was_sent_is_none(tmp_path):
    records = stream_rows(0, 1, [1.0, 2.0, 3.0, 4.0, 5.0])
    facts = facts_of(tmp_path, records)
    assert facts.window is None
    assert len(facts.counted_rows) == facts.rows == 5  # figures are of all rows


def test_what_was_sent_outside_the_window_is_in_no_figure(tmp_path):
    # All streams start in one instant, and their first requests wait for each other.
    def rows(k):
        ends = np.cumsum([8.0, *[1.0 + 0.01 * k] * 30]).tolist()
        return [
            dataclasses.replace(row, ttft_ms=5000.0 if place == 0 else 100.0)
            for place, row in enumerate(stream_rows(k, 4, ends))
        ]

    facts = facts_of(tmp_path, [row for k in range(4) for row in rows(k)])
    assert len(facts.counted_rows) <= facts.rows - 4
    assert facts.values("ttft_ms").max() == 100.0
    assert facts.total("completion_tokens") == 20 * facts.rows


def test_a_load_that_was_never_held_has_no_window_and_no_rate_in_it(tmp_path):
    records = [made_record(i, t_sent_s=2.0 * i) for i in range(3)]
    facts = facts_of(tmp_path, records)
    assert facts.load == Load("streams", 4)
    assert facts.window is None
    assert window_throughput(facts, None) is None


def test_tokens_count_by_stamp_a_request_and_its_prompt_by_its_share_of_the_window(tmp_path):
    # One request from 0 to 3 s, tokens at 0.5, 1.5, 2.5; the window is 1 to 3.
    record = made_record(
        0,
        t_sent_s=0.0,
        latency_ms=3000.0,
        ttft_ms=500.0,
        completion_tokens=3,
        token_events=3,
        prompt_tokens=60,
    )
    facts = facts_of(tmp_path, [record], {0: [(500, 1, 1), (1500, 1, 1), (2500, 1, 1)]})
    found = window_throughput(facts, Window(1.0, 3.0))
    assert found is not None
    assert found.requests == pytest.approx(2 / 3)
    assert (found.output_tokens_per_s, found.prompt_tokens) == (1.0, pytest.approx(40))
    early = window_throughput(facts, Window(0.0, 1.0))
    assert early is not None
    assert (early.requests, early.prompt_tokens) == (pytest.approx(1 / 3), pytest.approx(20))


shares = st.tuples(st.floats(0, 9), st.floats(0, 9)).map(sorted)


@given(shares, shares)
def test_a_share_of_a_time_lies_between_nothing_and_all_and_parts_add_up(time, window):
    start, end = (np.array([value]) for value in time)
    cut = Window(0.0, window[0]), Window(*window), Window(window[1], 10.0)
    parts = [float(part.shares(start, end)[0]) for part in cut]
    assert all(0 <= part <= 1 for part in parts)
    assert sum(parts) == pytest.approx(1, abs=1e-6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 8, 40]))
def test_the_rate_of_a_window_is_the_servers_wherever_its_edges_lie(tmp_path, seed, streams):
    """An exact server: each stream ends a request every 2 s; 0.5 requests a second and stream."""
    rng = np.random.default_rng(seed)
    starts = rng.uniform(0, 2, streams)
    records = [
        row
        for k in range(streams)
        for row in stream_rows(
            k, streams, (starts[k] + 2.0 * np.arange(1, 12)).tolist(), from_s=float(starts[k])
        )
    ]
    facts = facts_of(tmp_path, records)
    found = window_throughput(facts, facts.window)
    assert found is not None
    assert found.requests_per_s == pytest.approx(streams / 2, rel=1e-3)


def test_without_stamps_a_streams_output_in_the_window_is_unknown(tmp_path):
    facts = facts_of(tmp_path, [made_record(i) for i in range(40)])
    found = window_throughput(facts, facts.window)
    assert found is not None
    assert found.requests_per_s == pytest.approx(4, rel=0.15)
    assert found.output_tokens_per_s is None
    assert found.total_tokens_per_s is None


def test_the_tokens_of_a_reply_in_one_piece_count_as_their_request(tmp_path):
    records = [whole_reply_record(i, concurrency=1) for i in range(10)]
    facts = facts_of(tmp_path, records, scenario={"stream": False})
    found = window_throughput(facts, Window(2.5, 4.5))  # half a reply, a whole one, half a reply
    assert found is not None
    assert found.output_tokens_per_s == pytest.approx(20)


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
    summary = summary_of(tmp_path, records)
    held = summary.in_flight
    assert held is not None
    assert held.peak == 4
    assert held.window_mean == pytest.approx(4, rel=0.01)
    assert held.littles_law == pytest.approx(1, rel=0.06)  # the one that drags on is in the mean
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
