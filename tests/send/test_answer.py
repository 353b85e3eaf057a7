"""What the assistant said: read out of a reply, whatever its shape."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.reply.exchange import Exchange, Failure
from vllm_bench.reply.outcome import Expectation, judge
from vllm_bench.send.turns.answer import TAIL_BYTES, answer_text, ended_well

from tests.support.far_end import delta, event, good_stream, usage

DONE = event("[DONE]")
REASONING = ["reasoning", "reasoning_content"]
TYPES = {True: "text/event-stream", False: "application/json"}


def ended(body: bytes, *, stream: bool, **changes: Any) -> Exchange:
    made = Exchange(0, 0, 0, 0, t_end_ns=1, http_status=200, content_type=TYPES[stream])
    made.reads = [(1, body)]
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def answer(body: bytes, *, stream: bool = True, choices: int = 1, **changes: Any) -> str | None:
    exchange = ended(body, stream=stream, **changes)
    return answer_text(exchange, body, stream=stream, choices=choices)


def stream_of(*deltas: bytes, reason: str = "length") -> bytes:
    return b"".join(deltas) + delta("", reason) + usage(5, max(1, len(deltas))) + DONE


def whole(message: dict[str, object], reason: str = "length") -> bytes:
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return json.dumps(
        {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    ).encode()


def thought(key: str, text: str = "hm") -> bytes:
    return event({"choices": [{"index": 0, "delta": {key: text}}]})


def test_a_streams_contents_are_joined() -> None:
    assert answer(b"".join(good_stream(("a", " b")))) == "a b"


def test_a_whole_reply_has_its_message() -> None:
    assert answer(whole({"content": "Hello."}), stream=False) == "Hello."


@pytest.mark.parametrize("key", REASONING)
def test_reasoning_is_no_part_of_an_answer(key: str) -> None:
    assert answer(stream_of(thought(key), delta("yes"))) == "yes"
    assert answer(whole({key: "hm", "content": "yes"}), stream=False) == "yes"


@pytest.mark.parametrize("key", REASONING)
@pytest.mark.parametrize("content", ["", None])
def test_an_answer_that_was_all_thought_is_empty_and_no_failure(
    key: str, content: str | None
) -> None:
    assert answer(stream_of(thought(key), thought(key))) == ""
    assert answer(whole({key: "hm", "content": content}), stream=False) == ""


def test_a_tool_call_is_an_answer_without_text() -> None:
    call = {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]}
    streamed = event({"choices": [{"index": 0, "delta": call}]})
    assert answer(stream_of(streamed, reason="tool_calls")) == ""
    assert answer(whole({"content": None, **call}, "tool_calls"), stream=False) == ""


def test_of_several_choices_the_first_is_the_answer() -> None:
    other = event({"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]})
    body = other + stream_of(delta("yes"))
    assert answer(body, choices=2) == "yes"
    assert answer(stream_of(delta("yes")), choices=2) is None  # the other one is missing


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"data: [DONE]\n\n", b"data: {\n\n", b"data: 3\n\n"),
        b'data: {"choices": 1}\n\n',
        stream_of(delta("half"), reason="abort"),
        stream_of(delta("half"), reason="content_filter"),
        delta("half", "stop") + DONE,  # no usage
        delta("", "stop") + usage(5, 0) + DONE,
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_turn_that_failed_has_no_answer(body: bytes, stream: bool) -> None:
    assert answer(body, stream=stream) is None


@pytest.mark.parametrize("broken", [b"", event({"error": {"code": 500}}) + DONE, event("{") + DONE])
def test_what_a_stream_said_before_it_broke_off_is_no_answer(broken: bytes) -> None:
    assert answer(delta("half of") + broken) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"http_status": 500},
        {"http_status": None, "failure": Failure("connect", "x")},
        {"failure": Failure("timeout_total", "x")},
        {"content_type": "text/html"},
        {"content_encoding": "gzip"},
    ],
)
def test_a_whole_stream_of_a_failed_exchange_is_no_answer(changes: dict[str, Any]) -> None:
    assert answer(b"".join(good_stream()), **changes) is None


bodies = st.binary(max_size=200) | st.lists(
    st.sampled_from([*good_stream(), thought("reasoning"), delta("b", "abort"), event("{")])
).map(b"".join)


@given(bodies, st.booleans())
def test_a_turn_stays_in_the_history_exactly_where_its_row_is_a_success(
    body: bytes, stream: bool
) -> None:
    expected = Expectation("r", "s", 1, "r-0", "p", 3, choices=1, stream=stream, start_ns=0)
    row = judge(ended(body, stream=stream), expected).record
    said = answer(body, stream=stream)
    assert (said is None) == (row.error_kind is not None)
    assert ended_well(ended(body, stream=stream), body, stream=stream) == (said is not None)
    assert bool(said) <= (row.visible_events > 0)


@given(st.lists(st.text(), min_size=1))
def test_any_text_comes_through(words: list[str]) -> None:
    assert answer(stream_of(*map(delta, words))) == "".join(words)


PADDING = [delta("word ") for _ in range(2 * TAIL_BYTES // len(delta("word ")))]


@given(st.lists(st.sampled_from([*good_stream(), delta("b", "abort"), event("{"), b": ping\n\n"])))
def test_a_long_streams_end_tells_whether_it_succeeded(end: list[bytes]) -> None:
    body = b"".join([*PADDING, *end])
    expected = Expectation("r", "s", 1, "r-0", "p", 9999, choices=1, stream=True, start_ns=0)
    row = judge(ended(body, stream=True), expected).record
    if row.error_kind != "error_event":
        assert ended_well(ended(body, stream=True), body, stream=True) == (row.error_kind is None)


def test_an_error_before_a_long_streams_end_has_no_good_end() -> None:
    error = event({"error": {"message": "no", "code": 500}})
    body = b"".join([*PADDING, error, event("[DONE]")])
    assert not ended_well(ended(body, stream=True), body, stream=True)
