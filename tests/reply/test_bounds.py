"""What a reply may hold at most, and that it reads nothing more once a bound is broken."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from vllm_bench.reply import reply as reply_module
from vllm_bench.reply.exchange import Exchange, Failure, Segment
from vllm_bench.reply.outcome import Expectation, judge, reply_to
from vllm_bench.reply.reply import TIMES_ASKED, TOKENS_BEYOND, Reply
from vllm_bench.reply.sse import MOST_EVENT_BYTES

from tests.support.far_end import delta, event, good_stream

ASKED = Expectation(*("run", "s", 1, "r-0", "p"), max_tokens=8, choices=1, stream=True, start_ns=0)
MOST_TOKENS = TIMES_ASKED * ASKED.max_tokens + TOKENS_BEYOND
READ = 65_536
KIND = {True: "oversized", False: None}
TOKEN = delta("a")

FLOODS = {
    "a line": b"x" * 999,
    "a line of data": b"data: " + b"x" * 999,
    "lines of data": b"data: x\n",
    "comments": b": still here\n",
    "comments with blank lines": b": still here\n\n",
    "blank lines": b"\n",
    "fields": b"id: 3\n",
    "heartbeats": b"data:\n\n",
    "pings": b"event: ping\ndata: {}\n\n",
    "objects": b"data: {}\n\n",
    "roles": event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}),
    "finishes": event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
    "usages": event({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}),
    "ends": event("[DONE]"),
    "no json": b"data: {x\n\n",
    "text": b"Internal Server Error\n",
}


def kept(reply: Reply) -> int:
    """Return about how many bytes a reply holds of what it was sent."""
    splitter = reply._splitter
    return len(reply.body) + len(splitter._line) + len(splitter._data) + len(splitter.bare)


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("before", [b"", TOKEN, b"".join(good_stream())])
def test_what_never_ends_breaks_a_bound_and_is_no_longer_kept(
    monkeypatch: pytest.MonkeyPatch, name: str, before: bytes
) -> None:
    most = 200_000
    monkeypatch.setattr(reply_module, "MOST_EVENT_BYTES", most)
    reply = reply_to(ASKED)
    reply.feed(200, [(1, before)])
    tokens = len(reply.stamps)
    one = FLOODS[name] * (1 + READ // len(FLOODS[name]))
    read = 0
    while reply.excess is None:
        reply.take(Segment(0, 200, [(2, one)]).packed())
        read += len(one)
        assert read <= 2 * most + READ
        assert kept(reply) <= most + 3 * READ
    excess = reply.excess
    assert excess.kind == "oversized"
    assert kept(reply) <= 3 * READ
    for _ in range(9):
        reply.take(Segment(0, 200, [(3, b"".join(good_stream()))]).packed())
    assert (reply.excess, len(reply.stamps)) == (excess, tokens)
    record = judge(ended(), ASKED, reply).record
    assert record.error_kind in ("oversized", "protocol")  # the first of both


def ended(**changes: object) -> Exchange:
    made = Exchange(0, 0, 0, 0, 9, http_status=200, content_type="text/event-stream")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize("size", [MOST_EVENT_BYTES - 4096, MOST_EVENT_BYTES + 1])
def test_a_large_event_is_read_and_a_larger_one_is_not(size: int) -> None:
    large = event({"choices": [{"index": 0, "delta": {"content": "x" * size}}]})
    reply = reply_to(ASKED)
    for at in range(0, len(large), READ):
        reply.feed(200, [(1, large[at : at + READ])])
    too_large = size > MOST_EVENT_BYTES
    assert len(reply.stamps) == (not too_large)
    assert (reply.excess.kind if reply.excess else None) == KIND[too_large]


def test_comments_between_tokens_may_be_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_module, "MOST_EVENT_BYTES", 10_000)
    reply = reply_to(ASKED)
    for _ in range(100):
        reply.feed(200, [(1, b": still here\n\n" * 500), (2, TOKEN)])
    assert (reply.excess, len(reply.stamps)) == (None, 100)


@pytest.mark.parametrize("token", [TOKEN, delta("a", token_ids=[7]), TOKEN.replace(b"\n", b"\r\n")])
@pytest.mark.parametrize("size", [1, 100, 3_000])
def test_tokens_far_beyond_what_was_asked_for_end_the_reply(token: bytes, size: int) -> None:
    reply = reply_to(ASKED)
    for _ in range(1 + 3 * MOST_TOKENS // size):
        reply.take(Segment(0, 200, [(1, token * size)]).packed())
    assert reply.excess is not None
    assert reply.excess.kind == "overlong"
    assert (len(reply.stamps), len(reply.token_counts)) == (MOST_TOKENS + 1, MOST_TOKENS + 1)
    record = judge(ended(failure=Failure("timeout_total", "x")), ASKED, reply).record
    assert (record.error_kind, record.token_events) == ("overlong", MOST_TOKENS + 1)


def test_token_ids_that_are_too_many_in_one_event_end_the_reply_too() -> None:
    reply = reply_to(ASKED)
    reply.feed(200, [(1, delta("a", token_ids=[7] * (MOST_TOKENS + 1)))])
    assert reply.excess is not None
    assert reply.excess.kind == "overlong"


def test_a_reply_somewhat_longer_than_asked_is_whole() -> None:
    """Servers count differently; whether lengths are as asked is the verdict's to say."""
    stream = b"".join(good_stream(tuple("a" for _ in range(MOST_TOKENS))))
    made = ended(reads=[(1, stream)])
    assert judge(made, ASKED).record.error_kind is None


@pytest.mark.parametrize("status", [400, 429, 500, 302])
def test_an_errors_body_is_bounded_and_its_status_is_what_counts(status: int) -> None:
    reply = reply_to(ASKED)
    for _ in range(99):
        reply.take(Segment(0, status, [(1, b"too many " * 7_000)]).packed())
    assert reply.excess is not None
    assert len(reply.body) == reply_module.MOST_ERROR_BYTES
    failure = Failure("oversized", "x")
    record = judge(ended(http_status=status, failure=failure), ASKED, reply).record
    kinds = {400: "http_4xx", 429: "http_429", 500: "http_5xx", 302: "protocol"}
    assert record.error_kind == kinds[status]
    assert "too many" in (record.error or "")


def test_a_reply_in_one_piece_is_bounded_by_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reply_module, "MOST_WHOLE_BYTES", 100_000)
    choice = {"index": 0, "message": {"content": "x" * 100_000}, "finish_reason": "stop"}
    whole = {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    body = json.dumps(whole).encode()
    for asked, kind in ((8, None), (0, "oversized")):
        reply = Reply(stream=False, asked=asked)
        reply.feed(200, [(1, body[:50_000]), (2, body[50_000:])])
        reply.close(3)
        assert (reply.excess.kind if reply.excess else None) == kind
        assert bool(reply.finish_reasons) == (kind is None)


@pytest.mark.parametrize("stream", [True, False])
def test_memory_is_flat_whatever_comes(stream: bool) -> None:
    part = Segment(0, 200, [(1, b"x" * READ)] * 16).packed()
    reply = Reply(stream=stream, asked=8)
    tracemalloc.start()
    for _ in range(200):  # 200 MiB
        reply.take(part)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert reply.excess is not None
    assert peak < 3 * (MOST_EVENT_BYTES if stream else reply_module.MOST_WHOLE_BYTES)
