"""Traces: each format from a few lines, every fault in one line, and the real files."""

from __future__ import annotations

import csv
import io
import itertools
import math
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.request_record import COLUMNS, RecordWriter
from vllm_bench.traces.rows import BLOCK_TOKENS
from vllm_bench.traces.trace import Trace, TraceError, TraceRequest, read_trace

from tests.support.made_runs import made_record
from tests.support.reading import numbers

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2224670,879,55
"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
45.5,GPT-4,417,276,693,API log
"""
BURSTGPT_3 = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,\
Total tokens,Log Type
5.0,3,1.2,ChatGPT,472.0,18.0,490.0,Conversation log
"""
MOONCAKE = """{"timestamp": 27482, "input_length": 513, "output_length": 3, "hash_ids": [7, 8]}
{"timestamp": 30535, "input_length": 512, "output_length": 490, "hash_ids": [7]}
"""


def write(folder: Path, content: str | bytes, name: str = "trace") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(folder: Path, content: str | bytes, **limits: Any) -> Trace:
    return read_trace(write(folder, content), **limits)


def refusal(folder: Path, content: str | bytes) -> str:
    path = write(folder, content)
    with pytest.raises(TraceError) as raised:
        read_trace(path)
    text = str(raised.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


# The formats


def test_an_azure_file(tmp_path: Path) -> None:
    found = read(tmp_path, AZURE)
    assert found == Trace(
        "azure",
        (
            TraceRequest(0.0, 374, 44),
            TraceRequest(4.314579, 396, 109),  # 50.9951690 - 46.6805900
            TraceRequest(4.541877, 879, 55),
        ),
    )


@pytest.mark.parametrize("change", [
    lambda text: text.replace("\n", "\r\n"),
    lambda text: text.rstrip("\n"),  # as Azure publishes it
    lambda text: "\ufeff" + text,
    lambda text: text + "\n\n",
    lambda text: text.replace(" 18:", "T18:"),
    lambda text: text.replace("0,", "0+00:00,", 1).replace("90,", "90Z,", 1),  # as in 2024
], ids=["crlf", "no last line break", "byte order mark", "blank lines", "T", "zones"])  # fmt: skip
def test_small_differences_change_nothing(tmp_path: Path, change: Any) -> None:
    changed = change(AZURE)
    assert changed != AZURE
    assert read(tmp_path, changed) == read(tmp_path, AZURE)


def test_a_time_zone_moves_a_time(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-10 00:00:00.009930+00:00,1,1\n2024-05-10 02:00:01.009930+02:00,2,2\n",
    )
    assert [r.at_s for r in found.requests] == [0.0, 1.0]


def test_a_burstgpt_file_with_its_session_columns_or_without(tmp_path: Path) -> None:
    assert read(tmp_path, BURSTGPT) == Trace(
        "burstgpt",
        (TraceRequest(0.0, 472, 18), TraceRequest(40.0, 1087, 230), TraceRequest(40.5, 417, 276)),
    )
    assert read(tmp_path, BURSTGPT_3).requests == (TraceRequest(0.0, 472, 18),)


def test_a_mooncake_file(tmp_path: Path) -> None:
    assert read(tmp_path, MOONCAKE) == Trace(
        "mooncake",
        (TraceRequest(0.0, 513, 3, (7, 8)), TraceRequest(3.053, 512, 490, (7,))),
    )
    without_ids = '{"timestamp": 0.5, "input_length": 9, "output_length": 3}'
    assert read(tmp_path, without_ids).requests == (TraceRequest(0.0, 9, 3, None),)


def test_a_run_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"
    writer = RecordWriter(path)
    writer.write([
        made_record(1, t_scheduled_s=2.25, prompt_tokens=30, completion_tokens=7, max_tokens=9),
        made_record(0, t_scheduled_s=1.5, prompt_tokens=20, completion_tokens=None, max_tokens=9),
        made_record(2, t_scheduled_s=3.0, prompt_tokens=None, completion_tokens=0, max_tokens=8,
                    error_kind="http_5xx", error='a "quoted"\nanswer, in two lines'),
        made_record(3, t_scheduled_s=3.5, prompt_tokens=5, completion_tokens=2, max_tokens=9),
    ])  # fmt: skip
    writer.close()
    with path.open("a") as f:
        f.write("torn-off-by-a-kill,")
    found = read_trace(path)
    assert found.kind == "run"
    assert found.requests == (
        TraceRequest(0.0, 20, 9),
        TraceRequest(0.75, 30, 7),
        TraceRequest(1.5, None, 8),
        TraceRequest(2.0, 5, 2),
    )
    (note,) = found.notes
    assert "sorted" in note


def test_the_columns_of_a_run_exist() -> None:
    assert {"t_scheduled_s", "prompt_tokens", "completion_tokens", "max_tokens"} <= {*COLUMNS}


def test_a_run_may_have_one_column_of_output_alone(tmp_path: Path) -> None:
    found = read(tmp_path, "t_scheduled_s,prompt_tokens,max_tokens\n4,10,3\n5,11,4\n")
    assert [r.output_tokens for r in found.requests] == [3, 4]


# Speed, limits, order, zeros


def test_speed_divides_times(tmp_path: Path) -> None:
    at = [r.at_s for r in read(tmp_path, BURSTGPT, speed=4).requests]
    assert at == [0.0, 10.0, 10.125]
    assert [r.at_s for r in read(tmp_path, BURSTGPT, speed=0.5).requests] == [0.0, 80.0, 81.0]


@pytest.mark.parametrize("speed", [0, -1, math.inf, math.nan])
def test_there_is_no_such_speed(tmp_path: Path, speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be above 0"):
        read(tmp_path, AZURE, speed=speed)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, 3),
        ({"limit_s": 40}, 1),  # the second one comes at 40 s: outside
        ({"limit_s": 40.1}, 2),
        ({"limit_s": 20.1, "speed": 2}, 2),  # of the replay's own seconds
        ({"limit_count": 2}, 2),
        ({"limit_count": 9}, 3),
        ({"limit_count": 3, "limit_s": 1}, 1),
    ],
)
def test_limits(tmp_path: Path, limits: dict[str, Any], expected: int) -> None:
    found = read(tmp_path, BURSTGPT, **limits)
    assert len(found.requests) == expected
    said = [numbers(note) for note in found.notes]
    assert said == ([] if expected == 3 else [[expected, 3]])


def test_rows_of_zero_tokens_are_left_out_and_counted(tmp_path: Path) -> None:
    extra = "1,ChatGPT,0,18,18,API log\n50,GPT-4,40,0,40,API log\n"
    found = read(tmp_path, BURSTGPT + extra)
    # The first that is left starts the clock.
    assert found.requests == read(tmp_path, BURSTGPT).requests
    assert [numbers(note) for note in found.notes] == [[2]]


def test_rows_are_put_in_order_and_equal_times_keep_theirs(tmp_path: Path) -> None:
    header, *rows = BURSTGPT.splitlines(keepends=True)
    found = read(tmp_path, "".join([header, rows[2], rows[0], rows[1], rows[0]]))
    assert [(r.at_s, r.prompt_tokens) for r in found.requests] == [
        (0.0, 472), (0.0, 472), (40.0, 1087), (40.5, 417)
    ]  # fmt: skip
    (note,) = found.notes
    assert "sorted" in note


def test_requests_that_no_server_of_this_context_holds_are_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, AZURE)  # 374 + 44 = 418, 396 + 109 = 505, 879 + 55 = 934
    assert found.within(934) is found
    assert [r.prompt_tokens for r in found.within(505).requests] == [374, 396]
    assert found.within(504).requests == found.requests[:1]
    assert [numbers(note) for note in found.within(504).notes] == [[2, 3, 504]]


# Faults


def changed(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


FAULTS: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "empty: no requests"),
    "blank": (" \n\n", "empty: no requests"),
    "header alone": (AZURE.splitlines()[0], "no requests"),
    "header of a run alone": ("t_scheduled_s,prompt_tokens,max_tokens", "no requests"),
    "zeros alone": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,0,4\n",
        "no requests: 1 rows of zero tokens left out",
    ),
    "unknown header": (
        "time,tokens\n1,2\n",
        "line 1: not a trace: 'time,tokens'; expected the columns TIMESTAMP,ContextTokens,",
    ),
    "a column less": (
        "TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,4\n",
        "line 1: not a trace: 'TIMESTAMP,ContextTokens'",
    ),
    "latin-1": (AZURE.encode() + b"\xe9\n", "line 5: not UTF-8"),
    "short row": (AZURE + "2023-11-16 18:15:52\n", "line 5: 1 cells"),
    "long row": (changed(AZURE, "374,44", "374,44,1"), "line 2: 4 cells"),
    "word for tokens": (
        changed(AZURE, "396", "many"),
        "line 3: ContextTokens: expected ",
    ),
    "fraction of tokens": (
        changed(AZURE, "396", "39.5"),
        "line 3: ContextTokens: expected ",
    ),
    "negative tokens": (
        changed(AZURE, ",109", ",-109"),
        "line 3: GeneratedTokens: expected ",
    ),
    "no tokens": (
        changed(AZURE, "396,", ","),
        "line 3: ContextTokens: expected ",
    ),
    "too many tokens": (
        changed(AZURE, "396,", "10000001,"),
        "line 3: ContextTokens: expected ",
    ),
    "digits without end": (
        changed(AZURE, "396,", "9" * 5000 + ","),
        "line 3: ContextTokens: expected ",
    ),
    "no date": (
        changed(AZURE, "2023-11-16 18:15:50.9951690", "yesterday"),
        "line 3: TIMESTAMP: expected ",
    ),
    "no such day": (
        changed(AZURE, "2023-11-16 18:15:50", "2023-11-31 18:15:50"),
        "line 3: TIMESTAMP: expected ",
    ),
    "no number": (
        changed(BURSTGPT, "45,", "noon,"),
        "line 3: Timestamp: expected ",
    ),
    "endless": (
        changed(BURSTGPT, "45,", "1e99,"),
        "line 3: Timestamp: expected ",
    ),
    "not a number": (
        changed(BURSTGPT, "45,", "nan,"),
        "line 3: Timestamp: expected ",
    ),
    "not JSON": (MOONCAKE + "{", "line 3: not JSON: "),
    "no object": (MOONCAKE + "[1]", "line 3: expected an object, given '[1]'"),
    "no timestamp": (
        changed(MOONCAKE, '"timestamp": 27482', '"time": 1'),
        "line 1: timestamp: expected ",
    ),
    "a truth for a time": (
        changed(MOONCAKE, "27482", "true"),
        "line 1: timestamp: expected ",
    ),
    "a text for tokens": (
        changed(MOONCAKE, "512", '"512"'),
        "line 2: input_length: expected ",
    ),
    "negative in JSON": (
        changed(MOONCAKE, "490", "-1"),
        "line 2: output_length: expected ",
    ),
    "a block short": (
        changed(MOONCAKE, "[7, 8]", "[7]"),
        "line 1: hash_ids: expected 2 blocks of 512 tokens for 513 tokens, given 1",
    ),
    "blocks that aren't": (
        changed(MOONCAKE, "[7, 8]", "[7, 8.5]"),
        "line 1: hash_ids: expected ",
    ),
}


@pytest.mark.parametrize(("content", "text"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_one_line_that_names_its_place(
    tmp_path: Path, content: str | bytes, text: str
) -> None:
    assert refusal(tmp_path, content).startswith(text)


def test_lines_are_counted_across_quoted_line_breaks(tmp_path: Path) -> None:
    content = 't_scheduled_s,prompt_tokens,max_tokens,error\n1,2,3,"a\nb"\nx,2,3,\n'
    assert refusal(tmp_path, content).startswith("line 4: t_scheduled_s: ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="none: can't be read: No such file"):
        read_trace(tmp_path / "none")


@given(st.binary(max_size=60))
def test_no_file_raises_anything_else(
    tmp_path_factory: pytest.TempPathFactory, tail: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp()
    for start in (AZURE, BURSTGPT, MOONCAKE, "t_scheduled_s,prompt_tokens,max_tokens\n", ""):
        path = write(folder, start.encode() + tail)
        try:
            read_trace(path)
        except TraceError as e:
            assert "\n" not in str(e)  # noqa: PT017


# Numbers


@given(
    st.lists(st.integers(0, 10**13), min_size=1, max_size=20),
    st.integers(0, 7),
    st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)),
)
def test_fractions_of_azure_times_are_exact(
    tmp_path_factory: pytest.TempPathFactory, ticks: list[int], digits: int, base: datetime
) -> None:
    # A tick is the last digit that is written.
    per_second = 10**digits
    start = base.replace(microsecond=0)
    lines = []
    for tick in sorted(ticks):
        whole, part = divmod(tick % (10**6 * per_second), per_second)
        text = str(start + timedelta(seconds=whole))
        lines.append((whole * per_second + part, f"{text}.{part:0{digits}d}" if digits else text))
    lines.sort()
    content = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{t},1,1\n" for _, t in lines)
    found = read(tmp_path_factory.getbasetemp(), content)
    first = lines[0][0]
    ns = [(tick - first) * 10**9 // per_second for tick, _ in lines]
    assert [r.at_s for r in found.requests] == [n / 1e9 for n in ns]


counts = st.integers(1, 10_000_000)


@given(st.lists(st.tuples(st.integers(0, 10**9), counts, counts), min_size=1, max_size=20))
def test_any_row_is_read_back_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    rows.sort(key=lambda row: row[0])
    expected = [((ms - rows[0][0]) * 10**6 / 1e9, p, o) for ms, p, o in rows]
    out = io.StringIO()
    csv.writer(out).writerows(
        [["Timestamp", "Model", "Request tokens", "Response tokens", "Total tokens", "Log Type"]]
        + [[f"{ms / 1000:.3f}", "GPT-4", p, o, p + o, "API log"] for ms, p, o in rows]
    )
    mooncake = b"\n".join(
        orjson.dumps({"timestamp": ms, "input_length": p, "output_length": o}) for ms, p, o in rows
    )
    for content in (out.getvalue(), mooncake):
        found = read(folder, content).requests
        assert [(r.at_s, r.prompt_tokens, r.output_tokens) for r in found] == expected


# The real files


def test_the_azure_conversations(shared: Path) -> None:
    found = read_trace(shared / "data" / "azure" / "AzureLLMInferenceTrace_conv.csv")
    assert (found.kind, len(found.requests), found.notes) == ("azure", 19_366, ())
    assert found.requests[1] == TraceRequest(4.314579, 396, 109)
    assert found.requests[-1].at_s == pytest.approx(58 * 60, rel=0.01)
    two_minutes = read_trace(
        shared / "data" / "azure" / "AzureLLMInferenceTrace_conv.csv", limit_s=120
    )
    assert two_minutes.requests == tuple(r for r in found.requests if r.at_s < 120)
    assert [numbers(note) for note in two_minutes.notes] == [[456, 19366]]


def test_the_mooncake_trace(shared: Path) -> None:
    found = read_trace(shared / "data" / "mooncake" / "synthetic_trace.jsonl", speed=2)
    assert (found.kind, len(found.requests), found.notes) == ("mooncake", 3993, ())
    assert found.requests[2].at_s == 0.02  # 40 ms
    assert all(a.at_s <= b.at_s for a, b in itertools.pairwise(found.requests))
    for request in found.requests:
        assert request.block_ids is not None
        assert request.prompt_tokens is not None
        assert len(request.block_ids) == -(-request.prompt_tokens // BLOCK_TOKENS)


# The trace's own share of shared tokens


def shares(*requests: tuple[int, tuple[int, ...] | None]) -> float | None:
    made = tuple(TraceRequest(float(n), tokens, 1, ids) for n, (tokens, ids) in enumerate(requests))
    return Trace("mooncake", made).shared_share


BLOCK = BLOCK_TOKENS


@pytest.mark.parametrize(
    ("requests", "shared"),
    [
        ([(BLOCK + 1, (7, 8)), (BLOCK, (7,))], BLOCK),
        ([(BLOCK, (7,)), (BLOCK + 9, (7, 8)), (BLOCK + 9, (7, 8))], 2 * BLOCK + 9),
        ([(3 * BLOCK, (1, 2, 3)), (3 * BLOCK, (1, 9, 3))], BLOCK),  # 3 comes after another 9
        ([(2 * BLOCK, (1, 2)), (2 * BLOCK, (2, 1))], 0),
        ([(2 * BLOCK, (1, 1)), (2 * BLOCK, (1, 1))], 2 * BLOCK),  # a block is no beginning twice
        ([(100, (1,)), (100, (1,)), (90, (2,))], 100),
        ([(100, (1,)), (100, None)], 0),
    ],
)
def test_shared_are_blocks_that_an_earlier_request_began_with(
    requests: list[tuple[int, tuple[int, ...] | None]], shared: int
) -> None:
    assert shares(*requests) == shared / sum(tokens for tokens, _ in requests)


def test_without_blocks_nothing_is_known_of_what_is_shared() -> None:
    assert shares((100, None), (100, None)) is None
    assert shares() is None


@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5).map(tuple), max_size=9))
def test_the_share_is_what_a_cache_of_all_beginnings_finds(paths: list[tuple[int, ...]]) -> None:
    known: set[tuple[int, ...]] = set()
    found = 0
    for path in paths:
        found += sum(path[:n] in known for n in range(1, len(path) + 1))
        known |= {path[:n] for n in range(1, len(path) + 1)}
    share = shares(*((BLOCK * len(path), path) for path in paths))
    assert share == (found / sum(map(len, paths)) if paths else None)


def test_the_mooncake_traces_first_requests_share_this(shared: Path) -> None:
    path = shared / "data" / "mooncake" / "synthetic_trace.jsonl"
    found = [read_trace(path, limit_count=count).shared_share for count in (300, 800)]
    assert found == pytest.approx([0.0488, 0.1480], abs=0.0001)
