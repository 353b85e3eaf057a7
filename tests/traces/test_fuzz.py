"""Traces that may be anything: requests in the order of their times, or one line with its place."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.plan.times import nanoseconds, replay_notes, trace_times
from vllm_bench.traces.rows import BLOCK_TOKENS, MOST_TOKENS
from vllm_bench.traces.trace import TraceError, read_trace

from tests.traces.test_trace import AZURE, BURSTGPT, MOONCAKE

RUN = """request_index,t_scheduled_s,prompt_tokens,completion_tokens,max_tokens
0,0.0,12,4,8
1,0.5,,,8
2,1.25,30,0,8
"""
WILD = [
    *("", " ", "0", "-1", "1.0", "472.0", "1e3", "1e999", "-1e999", "inf", "nan", "sNaN", "0x10"),
    *("9" * 30, "9" * 5000, "1_000", "\u0663", "a\nb", 'a"b', "a,b", "\0", "x" * 140_000, "1.5"),
    *("2026-13-45 00:00:00", "0000-00-00 00:00:00", "0001-01-01 00:00:00", "+5", "1e-999999"),
    *("9999-12-31 23:59:59.999999999", "2023-11-16 18:15:46+99:99", "2023-11-16T18:15:46Z"),
]
CELLS = st.sampled_from(WILD) | st.text(max_size=8)
VALUES = (
    st.sampled_from(
        [None, True, -1, 0, 2**31, 2**63, 2**64 - 1, 0.5, 1e308, 1e-308, [], {}, "1", [1.5], [True]]
    )
    | st.integers(-(2**63), 2**64 - 1)
    | st.lists(st.integers(-5, 5), max_size=3)
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "trace"


def checked(path: Path, data: bytes, speed: float = 1.0) -> None:
    path.write_bytes(data)
    complaint = ""
    try:
        trace = read_trace(path, speed=speed)
    except TraceError as e:
        complaint = str(e)
    assert "\n" not in complaint
    assert len(complaint) < 1000
    if complaint:
        assert complaint.startswith(f"{path}: ")
        return
    times_s = [request.at_s for request in trace.requests]
    assert times_s == sorted(times_s)
    assert times_s[0] >= 0
    assert all(math.isfinite(at_s) for at_s in times_s)
    for request in trace.requests:
        for tokens in (request.prompt_tokens, request.output_tokens):
            assert tokens is None or 0 < tokens <= MOST_TOKENS
        blocks = request.block_ids
        assert blocks is None or len(blocks) * BLOCK_TOKENS >= (request.prompt_tokens or 0)
    due = nanoseconds(trace_times(trace))
    assert list(due) == sorted(due)
    assert all("\n" not in note for note in replay_notes(trace, speed))


def rewritten(text: str, line: int, column: int, cell: str) -> bytes:
    rows = list(csv.reader(io.StringIO(text)))
    row = rows[line % len(rows)]
    row[column % len(row)] = cell
    made = io.StringIO()
    csv.writer(made, lineterminator="\n").writerows(rows)
    return made.getvalue().encode(errors="surrogatepass")


@pytest.mark.fuzz
@given(
    st.sampled_from([AZURE, BURSTGPT, RUN]),
    st.integers(0, 3),
    st.integers(0, 5),
    CELLS,
    st.sampled_from([1.0, 1e-300, 1e-6, 1e6]),
)
def test_any_cell_of_a_csv_may_be_anything(
    path: Path, text: str, line: int, column: int, cell: str, speed: float
) -> None:
    checked(path, rewritten(text, line, column, cell), speed)


@pytest.mark.fuzz
@given(
    st.integers(0, 1),
    st.sampled_from(["timestamp", "input_length", "output_length", "hash_ids", "more"]),
    VALUES,
    st.booleans(),
)
def test_any_value_of_a_line_of_json_may_be_anything(
    path: Path, line: int, key: str, value: Any, gone: bool
) -> None:
    rows = [json.loads(row) for row in MOONCAKE.splitlines()]
    rows[line][key] = value
    if gone:
        del rows[line][key]
    checked(path, "\n".join(map(json.dumps, rows)).encode())


@pytest.mark.fuzz
@given(
    st.sampled_from([AZURE, BURSTGPT, RUN, MOONCAKE]),
    st.integers(0, 400),
    st.integers(0, 20),
    st.binary(max_size=6) | st.sampled_from([b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"[" * 2000]),
    st.integers(0, 400),
)
def test_any_bytes_of_a_trace_may_be_others(
    path: Path, text: str, at: int, length: int, new: bytes, kept: int
) -> None:
    whole = bytearray(text.encode())
    whole[at % len(whole) : at % len(whole) + length] = new
    checked(path, bytes(whole[: kept or None]))


@pytest.mark.parametrize("before", ["\t", " ", '"', "\x0b", "\r"])
def test_a_header_after_something_invisible_is_read_or_a_complaint(path: Path, before: str) -> None:
    checked(path, (before + AZURE).encode())


def test_a_long_cell_of_the_header_is_a_complaint(path: Path) -> None:
    head, rest = AZURE.split("\n", 1)
    checked(path, f"{head},{'x' * 200_000}\n{rest}".encode())


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "far too long"])
def test_what_is_no_file_of_a_trace_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trace"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    with pytest.raises(TraceError, match=str(path)):
        read_trace(path)
