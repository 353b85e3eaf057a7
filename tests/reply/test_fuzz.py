"""Whatever a server sends: a reply never raises, never grows, and succeeds only if it is whole."""

from __future__ import annotations

import copy
import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.request_record import COLUMNS, RequestRecord
from vllm_bench.records.row import column_types, csv_lines, rows_of
from vllm_bench.reply import reply as reply_module
from vllm_bench.reply.exchange import Exchange, Failure, Reads, Segment
from vllm_bench.reply.outcome import GOOD_ENDS, Expectation, judge, reply_to
from vllm_bench.reply.reply import TIMES_ASKED, TOKENS_BEYOND, Reply
from vllm_bench.reply.token_reads import grouped
from vllm_bench.send.turns.answer import answer_text

from tests.reply.test_dialects import BODIES, DIALECTS, VARIANTS

pytestmark = pytest.mark.fuzz

MOST = 4_000  # bytes of an event, here: so that small inputs break the bound
LARGEST_READ = 3_000
ASKED = Expectation(*("run", "s", 1, "r-0", "p"), max_tokens=2, choices=1, stream=True, start_ns=0)
STREAMS = [*(dialect.stream for dialect in DIALECTS.values()), *VARIANTS.values()]
PIECES = [
    *(b"data: ", b"data:", b"event: error\n", b"error: ", b": ping\n", b"\n", b"\n\n", b"\r"),
    *(b"\r\n", b"\xef\xbb\xbf", b"\x00", b"\xff", b'"', b"\\", b"{", b"}", b"[DONE]", b"null"),
    *(b"data: [DONE]\n\n", b"x" * 900, b"<html>", b"id: 1\n", b"Internal Server Error\n"),
    b'data: {"choices": [{"index": 0, "delta": {"content": "a"}}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n',
    b'data: {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}\n\n',
]


@pytest.fixture(autouse=True)
def _small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_module, "MOST_EVENT_BYTES", MOST)
    monkeypatch.setattr(reply_module, "MOST_ERROR_BYTES", MOST)
    monkeypatch.setattr(reply_module, "MOST_WHOLE_BYTES", MOST)
    monkeypatch.setattr(reply_module, "TOKEN_BYTES", 1)


class Raw:
    """A JSON value as its text, which no Python value has."""

    def __init__(self, text: str) -> None:
        self.text = text


LEAVES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**62, 10**30, 5.0, 0.5, "", "12", "x", [], {}, [3]),
    *({"a": 1}, [None], {"content": "x"}, "stop", "error", 503, "503", {"message": "m"}),
    *(Raw("NaN"), Raw("-Infinity"), Raw("1e308"), Raw("1e999"), Raw("9" * 5000)),
    *(Raw("[" * 990 + "]" * 990), Raw('{"error":' * 990 + "1" + "}" * 990)),
    *(Raw('"\\ud83d"'), Raw('"\\ude42\\ud83d"'), Raw('"\\x"'), Raw(""), Raw("[" * 1500)),
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of the values within one, down to some depth."""
    inner: Any = ()
    if len(path) < 9 and isinstance(value, dict | list):
        inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(found for key, one in inner for found in places(one, (*path, key)))]


def with_leaf(value: Any, path: tuple[Any, ...], leaf: Any) -> Any:
    """Return a value with another one at a path."""
    if not path:
        return leaf
    changed = copy.copy(value)
    changed[path[0]] = with_leaf(value[path[0]], path[1:], leaf)
    return changed


def as_json(value: Any) -> str:
    raw = [leaf.text for leaf in LEAVES if isinstance(leaf, Raw)]
    try:
        text = json.dumps(value, default=lambda leaf: f"RAW{raw.index(leaf.text)}RAW")
    except RecursionError:
        return "{}"
    for number, literal in enumerate(raw):
        text = text.replace(f'"RAW{number}RAW"', literal)
    return text


def edited(rng: random.Random, payload: bytes) -> bytes:
    """Return an event's JSON with some of its values changed, doubled or gone."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return payload  # it was already edited
    for _ in range(rng.choice([1, 1, 2, 4])):
        value = with_leaf(value, rng.choice(places(value)), rng.choice(LEAVES))
    return as_json(value).encode()


def near(rng: random.Random, stream: bytes) -> bytes:
    """Return a healthy stream that was edited: its values, its events, its bytes, its end."""
    events = stream.split(b"\n\n")
    for _ in range(rng.choice([0, 1, 1, 2, 5])):
        at = rng.randrange(len(events))
        how = rng.randrange(6)
        if how < 3 and events[at].startswith(b"data:"):
            events[at] = b"data: " + edited(rng, events[at][5:])
        elif how == 3:
            events.insert(at, events[rng.randrange(len(events))])
        elif how == 4:
            del events[at : at + rng.randrange(1, 3)]
            events = events or [b""]
        else:
            events.insert(at, rng.choice(PIECES) * rng.choice([1, 1, 2, 40]))
    found = bytearray(b"\n\n".join(events))
    for _ in range(rng.choice([0, 0, 0, 1, 3])):
        at = rng.randrange(len(found) + 1)
        found[at : at + rng.randrange(3)] = rng.choice(PIECES)
    return bytes(found[: rng.randrange(len(found) + 1)] if rng.random() < 0.2 else found)


def near_stream(seed: int) -> bytes:
    rng = random.Random(seed)
    return near(rng, rng.choice(STREAMS))


def near_body(seed: int) -> bytes:
    rng = random.Random(seed)
    return edited(rng, rng.choice(list(BODIES.values())))


seeds = st.integers(0, 2**64)
streams = st.one_of(
    seeds.map(near_stream),
    st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join),
    st.binary(max_size=300),
    st.builds(lambda one, n: one * n, st.sampled_from(PIECES), st.integers(1, 1500)),
)
bodies = seeds.map(near_body) | streams
failures = st.sampled_from(
    [None, None, Failure("truncated", "closed"), Failure("timeout_stall", "no token for 3 s")]
)


def reads_of(data: st.DataObject, stream: bytes) -> Reads:
    """Return a stream cut anywhere, and in reads as large as a socket's at most."""
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=12))
    edges = sorted({0, *cuts, *range(0, len(stream), LARGEST_READ), len(stream)})
    return [(7, stream[a:b]) for a, b in itertools.pairwise(edges)]


def ended(reads: Reads, status: int, failure: Failure | None, framed: bool) -> Exchange:
    made = Exchange(0, 0, 0, 0, 7, http_status=status, content_type="text/event-stream")
    made.reads, made.failure, made.framed = list(reads), failure, framed
    return made


def held(reply: Reply) -> int:
    """Return about how many bytes a reply holds of what it was sent."""
    splitter = reply._splitter
    return len(reply.body) + len(splitter._line) + len(splitter._data) + len(splitter.bare)


def of_segments(reads: Reads, exchange: Exchange, asked: Expectation) -> RequestRecord:
    """Return the row of a reply that came in segments, which never held more than it may."""
    reply = reply_to(asked)
    for begin in range(0, len(reads), 3):
        part = Segment(0, exchange.http_status, reads[begin : begin + 3])
        reply.take(part.packed())
        assert held(reply) <= 2 * MOST + LARGEST_READ + (1 << 16)
        assert len(reply.stamps) <= TIMES_ASKED * asked.max_tokens + TOKENS_BEYOND + 1
    exchange.reads = []
    record = judge(exchange, asked, reply).record
    grouped(reply, 0)
    return record


def check(record: RequestRecord, exchange: Exchange, asked: Expectation) -> None:
    """Hold the row against what any success must have, and against its file."""
    if record.error_kind is None:
        assert exchange.http_status == 200
        assert record.finish_reason in GOOD_ENDS
        assert (record.completion_tokens or 0) >= 1
        assert exchange.failure is None or asked.stream
    else:
        assert record.error
    for count in (record.prompt_tokens, record.completion_tokens, record.cached_tokens):
        assert count is None or (type(count) is int and 0 <= count <= 10**9)
    lines = f"{','.join(COLUMNS)}\n{csv_lines([record])}"
    assert len(rows_of(lines.encode(errors="backslashreplace"), column_types(RequestRecord))) == 1


@given(streams, st.sampled_from([200, 200, 200, 503, 307]), failures, st.booleans(), st.data())
def test_any_stream_gives_one_row_however_it_is_cut(
    stream: bytes, status: int, failure: Failure | None, framed: bool, data: st.DataObject
) -> None:
    rows = []
    for _ in range(2):
        reads = reads_of(data, stream)
        exchange = ended(reads, status, failure, framed)
        rows.append(judge(exchange, ASKED).record)
        rows.append(of_segments(reads, exchange, ASKED))
    assert all(row == rows[0] for row in rows)
    check(rows[0], exchange, ASKED)
    said = answer_text(ended([], status, failure, framed), stream, stream=True)
    if rows[0].error_kind != "overlong":  # a turn's answer may be as long as it was allowed to be
        assert (said is None) == (rows[0].error_kind is not None)
    json.dumps(said).encode()
    (said or "").encode()


@given(bodies, st.sampled_from([200, 200, 400, 500]), failures, st.data())
def test_any_body_gives_one_row_however_it_is_cut(
    body: bytes, status: int, failure: Failure | None, data: st.DataObject
) -> None:
    asked = Expectation(
        *("run", "s", 1, "r-0", "p"), max_tokens=2, choices=1, stream=False, start_ns=0
    )
    rows = []
    for _ in range(2):
        reads = reads_of(data, body)
        exchange = ended(reads, status, failure, framed=True)
        rows.append(judge(exchange, asked).record)
        rows.append(of_segments(reads, exchange, asked))
    assert all(row == rows[0] for row in rows)
    check(rows[0], exchange, asked)
    assert rows[0].error_kind is not None or failure is None
