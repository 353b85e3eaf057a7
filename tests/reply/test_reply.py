"""Replies read in pieces: any cutting gives the same, with and without the short cut."""

from __future__ import annotations

import itertools
import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.reply.events import read_event
from vllm_bench.reply.plain import PlainEvent, plain_event_of
from vllm_bench.reply.reply import Reply

from tests.support.far_end import delta, event, good_stream, usage

ROLE, A, B, C, USAGE, DONE = good_stream()


HARD_WORDS = [  # escapes, halves of surrogate pairs, bytes that aren't UTF-8
    *(b"\\" + bytes([n]) for n in range(128)),
    *(b"\\u" + digits for digits in (b"00e9", b"00G9", b"e9", b"0000", b"D7ff", b"d800", b"dfFF")),
    *(b"\\ud83d" + then for then in (b"\\ude42", b"\\u0041", b"\\\\ude42", b"\\ud83d", b"x")),
    *(b"\xc3\xa9", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xef\xbf\xbf"),
    *(b'"},"finish_reason":null}]}', b"\\\\", b'\\\\"', b"\\\\\\", b"\r", b"\n\n"),
]


def read(reads: list[tuple[int, bytes]], *, short_cut: bool = True) -> dict[str, object]:
    """Everything that a reply says of these reads."""
    reply = Reply(stream=True)
    if not short_cut:
        reply._learning = 0
    for one in reads:
        reply.feed(200, [one])
    return {
        "stamps": list(reply.stamps),
        "counts": list(reply.token_counts),
        "reasons": reply.finish_reasons,
        "visible": reply.visible_events,
        "model": reply.model,
        "first_visible": reply.first_visible_ns,
        "finish": reply.finish_ns,
        "usage": reply.usage,
        "fingerprint": reply.fingerprint,
        "error": reply.error,
        "done": reply.done,
    }


texts = st.text(max_size=12) | st.sampled_from(['"', "\\", '\\"', "\n", "é", "🙂", "\u2028", "}"])
deltas = st.one_of(
    texts.map(lambda t: {"content": t}),
    texts.map(lambda t: {"reasoning": t}),
    texts.map(lambda t: {"reasoning_content": t}),
    st.just({"role": "assistant", "content": ""}),
    st.just({"tool_calls": [{"index": 0, "function": {"arguments": '{"content":"x"}'}}]}),
    st.just({}),
)
choices = st.fixed_dictionaries(
    {"index": st.integers(0, 1), "delta": deltas},
    optional={
        "finish_reason": st.sampled_from([None, "stop", "length"]),
        "token_ids": st.lists(st.integers(0, 9), max_size=3) | st.none(),
        "logprobs": st.none() | st.just({"content": [{"token": "x"}]}),
    },
)
counts = st.fixed_dictionaries(
    {"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)}
)
events = st.fixed_dictionaries(
    {"id": st.just("x"), "choices": st.lists(choices, max_size=2)},
    optional={"usage": counts, "model": st.sampled_from(["a", "b", ""])},
) | st.just({"error": {"message": "dead"}})
payloads = st.builds(
    lambda body, ascii_only, tight: json.dumps(
        body, ensure_ascii=ascii_only, separators=(",", ":") if tight else None
    ).encode("utf-8", "surrogatepass"),
    events,
    st.booleans(),
    st.booleans(),
)
streams = st.lists(payloads | st.sampled_from([b"[DONE]", b"{", b"[]"]), max_size=12)


@given(streams)
def test_the_short_cut_reads_what_the_long_way_reads(stream: list[bytes]) -> None:
    reads = [(i, b"data: " + payload + b"\n\n") for i, payload in enumerate(stream)]
    assert read(reads) == read(reads, short_cut=False)


@given(st.lists(texts, min_size=1, max_size=30))
def test_the_short_cut_takes_every_text_that_is_one(words: list[str]) -> None:
    reads = [(i, delta(word)) for i, word in enumerate(words)]
    found = read(reads)
    assert found == read(reads, short_cut=False)
    assert len(found["stamps"]) == sum(1 for word in words if word)  # type: ignore[arg-type]


@given(st.lists(payloads, max_size=6), st.data())
def test_any_cutting_of_a_stream_says_the_same(stream: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(b"data: " + payload + b"\r\n\r\n: ping\n\n" for payload in stream)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=12)))
    edges = [0, *cuts, len(whole)]
    pieces = [(7, whole[a:b]) for a, b in itertools.pairwise(edges)]
    assert read(pieces) == read([(7, whole)])


def pattern_of(payload: bytes) -> PlainEvent | None:
    return plain_event_of(payload, read_event(payload))


@pytest.mark.parametrize("start", [b"", b"b", "é🙂".encode(), b'\\"', b"\\u00e9\\ud83d\\ude42"])
def test_the_short_cut_takes_what_is_the_inside_of_a_json_string(start: bytes) -> None:
    plain = pattern_of(b'{"choices":[{"index":0,"delta":{"content":"a"}}]}')
    assert plain is not None
    for word in [*(bytes([n]) for n in range(256)), b"", *HARD_WORDS]:
        text = start + word
        try:
            inside = bool(orjson.loads(b'"' + text + b'"'))
        except orjson.JSONDecodeError:
            inside = False
        assert plain.matches(plain.before + text + plain.after) is inside, text
        event = b"data: " + plain.before + text + plain.after + b"\n\n"
        assert plain.ends(b"?" + 2 * event, 1) == [1 + len(event), 1 + 2 * len(event)] * inside


@pytest.mark.parametrize(
    "payload",
    [
        b'{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}',
        b'{"choices":[{"delta":{"content":"a"},"token_ids":[4]}]}',
        b'{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}',
        b'{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}',
        b'{"choices":[{"delta":{"content":""}}]}',
        b'{"content":"a"}',
    ],
)
def test_an_event_that_says_more_is_no_pattern(payload: bytes) -> None:
    assert pattern_of(payload) is None


def test_tokens_are_counted_by_their_ids_or_by_usage_that_comes_along() -> None:
    ids = [
        event({"choices": [{"delta": {"content": "a"}, "token_ids": [1, 2]}]}),
        event({"choices": [{"delta": {"content": ""}, "token_ids": [3]}]}),
    ]
    assert read(list(enumerate(ids)))["counts"] == [2, 1]
    running = [
        event(
            {
                "choices": [{"delta": {"content": "a"}}],
                "usage": {"prompt_tokens": 1, "completion_tokens": total},
            }
        )
        for total in (1, 4, 5)
    ]
    assert read(list(enumerate(running)))["counts"] == [1, 3, 1]


def test_a_whole_reply_times_no_token() -> None:
    reply = Reply(stream=False)
    body = json.dumps(
        {
            "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 2, "completion_tokens": 1},
        }
    ).encode()
    reply.feed(200, [(5, body[:9]), (6, body[9:])])
    reply.close(6)
    assert (reply.done, list(reply.stamps), reply.finish_ns) == (True, [], 6)
    assert reply.usage is not None
    assert reply.finish_reasons == {0: "stop"}


def test_a_refusal_is_kept_whole_and_not_read_as_a_stream() -> None:
    reply = Reply(stream=True)
    reply.feed(400, [(1, b'{"error": '), (2, b'"no"}')])
    assert bytes(reply.body) == b'{"error": "no"}'
    assert not reply.done


def test_usage_and_done_are_no_tokens() -> None:
    found = read([(1, ROLE), (2, A), (3, C), (4, usage(5, 2)), (5, DONE)])
    assert found["stamps"] == [2, 3]
    assert found["done"] is True
