"""Gaps between tokens and between reads, by hand and against a loop over every token."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vllm_bench.figures.token_gaps import find_reads, reads_of
from vllm_bench.records.beside.token_file import save
from vllm_bench.records.request_record import RecordsError
from vllm_bench.stats.distribution import describe

from tests.support.made_runs import failed_record, frame_of, made_info, made_record, write_run

MS = 1_000_000


def arrays_of(requests):
    """Return a token file's arrays: {index: [(stamp in ms, events, tokens), ...]}."""
    reads = [read for of_one in requests.values() for read in of_one]
    columns = list(zip(*reads, strict=True)) or [(), (), ()]
    return {
        "request_index": np.array(list(requests), dtype=np.int32),
        "first_read": np.cumsum([0, *map(len, requests.values())]).astype(np.int64),
        "t_ns": np.array([round(MS * t) for t in columns[0]], dtype=np.int64),
        "events": np.array(columns[1], dtype=np.uint16),
        "tokens": np.array(columns[2], dtype=np.uint16),
    }


def tokens_record(index, completion, events):
    return made_record(index, completion_tokens=completion, token_events=events)


def test_a_read_of_three_tokens_shares_its_wait_among_them(tmp_path):
    frame = frame_of(tmp_path, [tokens_record(0, 5, 5)])
    found = reads_of(arrays_of({0: [(100, 1, 1), (130, 3, 3), (140, 1, 1)]}), frame)
    assert found is not None
    assert list(found.chunk_gap_ms) == [30, 10]
    assert list(found.itl_ms) == [10, 10]  # 30 ms for three tokens, 10 ms for one
    assert list(found.tokens_after_gap) == [3, 1]
    assert found.exact
    itl = describe(found.itl_ms, found.tokens_after_gap)
    assert itl is not None
    assert (itl.n, itl.mean, itl.max) == (4, 10, 10)


def test_the_wait_for_the_first_token_is_no_gap_and_requests_do_not_touch(tmp_path):
    frame = frame_of(tmp_path, [tokens_record(0, 2, 2), tokens_record(1, 2, 2)])
    # request 1 ended first, and overlaps request 0
    found = reads_of(arrays_of({1: [(50, 1, 1), (60, 1, 1)], 0: [(40, 1, 1), (70, 1, 1)]}), frame)
    assert found is not None
    assert list(found.chunk_gap_ms) == [10, 30]


def test_reads_of_failures_count_for_nothing(tmp_path):
    frame = frame_of(tmp_path, [tokens_record(0, 2, 2), failed_record(1, token_events=2)])
    arrays = arrays_of({0: [(10, 1, 1), (20, 1, 1)], 1: [(10, 1, 0), (500, 1, 0)]})
    found = reads_of(arrays, frame.of(~frame.has("error_kind")))
    assert found is not None
    assert list(found.chunk_gap_ms) == [10]
    assert found.tokens_between(0, 1) == 2


def test_where_the_server_does_not_say_a_read_holds_its_share_of_the_reply(tmp_path):
    frame = frame_of(tmp_path, [tokens_record(0, 12, 4)])  # three tokens an event
    found = reads_of(arrays_of({0: [(0, 1, 0), (60, 2, 0), (90, 1, 0)]}), frame)
    assert found is not None
    assert not found.exact
    assert list(found.itl_ms) == [10, 10]  # 60 ms for six, 30 ms for three
    assert found.tokens_between(0, 1) == 12


def test_tokens_are_counted_where_their_stamps_lie(tmp_path):
    frame = frame_of(tmp_path, [tokens_record(0, 5, 5)])
    found = reads_of(arrays_of({0: [(999, 1, 1), (1000, 2, 2), (1999, 1, 1), (2000, 1, 1)]}), frame)
    assert found is not None
    assert found.tokens_between(1.0, 2.0) == 3  # [1, 2)
    assert found.peak_per_s == 3


streams = st.lists(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 4)), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(streams)
def test_all_gaps_are_those_that_a_loop_over_every_token_finds(tmp_path, made):
    requests, records, by_hand = {}, [], []
    for index, reads in enumerate(made):
        at_ms, stamps = 0, []
        for place, (wait, tokens) in enumerate(reads):
            at_ms += wait
            stamps.append((at_ms, tokens, tokens))
            by_hand += [wait / tokens] * tokens if place else []
        total = sum(tokens for _, tokens in reads)
        requests[index] = stamps
        records.append(tokens_record(index, total, total))
    found = reads_of(arrays_of(requests), frame_of(tmp_path, records))
    assert found is not None
    weights = found.tokens_after_gap
    counts = np.ones(found.itl_ms.size, int) if weights is None else weights.astype(int)
    assert sorted(np.repeat(found.itl_ms, counts)) == pytest.approx(sorted(by_hand))
    assert found.tokens_between(-1, 1e6) == sum(r.completion_tokens for r in records)


def a_run(tmp_path, records):
    return write_run(tmp_path, records, made_info(records))


def test_without_the_file_the_reason_names_it(tmp_path):
    records = [made_record(0)]
    path = a_run(tmp_path, records)
    frame = frame_of(tmp_path, records)
    reads, why = find_reads(path, frame, frame)
    assert reads is None
    assert f"tokens/{path.stem}.npz" in why


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"PK\x03\x04 no archive"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-30]),
        lambda path: save({"t_ns": np.arange(3)}, path),
        lambda path: save({**arrays_of({0: [(1, 1, 1)]}), "t_ns": np.arange(7)}, path),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    records = [dataclasses.replace(tokens_record(0, 2, 2), ttft_ms=1.0, token_reads=2)]
    path = a_run(tmp_path, records)
    (tmp_path / "tokens").mkdir()
    tokens = tmp_path / "tokens" / f"{path.stem}.npz"
    save(arrays_of({0: [(1, 1, 1), (2, 1, 1)]}), tokens)
    frame = frame_of(tmp_path, records)
    assert find_reads(path, frame, frame)[1] == ""
    damage(tokens)
    with pytest.raises(RecordsError, match=r"tokens/.*\.npz: damaged"):
        find_reads(path, frame, frame)
