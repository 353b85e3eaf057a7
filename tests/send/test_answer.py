"""What the assistant said: read out of a reply, whatever its shape."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.send.conversation_loop import answer_text

from tests.support.far_end import delta, event, good_stream

DONE = event("[DONE]")


def test_a_streams_contents_are_joined() -> None:
    assert answer_text(b"".join(good_stream(("a", " b"))), stream=True) == "a b"


def test_a_whole_reply_has_its_message() -> None:
    body = json.dumps({"choices": [{"index": 0, "message": {"content": "Hello."}}]}).encode()
    assert answer_text(body, stream=False) == "Hello."


def test_reasoning_is_no_part_of_an_answer() -> None:
    thought = event({"choices": [{"index": 0, "delta": {"reasoning": "hm"}}]})
    assert answer_text(thought + delta("yes") + DONE, stream=True) == "yes"


def test_of_several_choices_the_first_is_the_answer() -> None:
    other = event({"choices": [{"index": 1, "delta": {"content": "no"}}]})
    assert answer_text(other + delta("yes") + DONE, stream=True) == "yes"


@pytest.mark.parametrize(
    "body",
    [b"", b"data: [DONE]\n\n", b"data: {\n\n", b"data: 3\n\n", b'data: {"choices": 1}\n\n'],
)
@pytest.mark.parametrize("stream", [True, False])
def test_nothing_said_is_no_answer(body: bytes, stream: bool) -> None:
    assert answer_text(body, stream=stream) is None


@pytest.mark.parametrize("broken", [b"", event({"error": {"code": 500}}) + DONE, event("{") + DONE])
def test_what_a_stream_said_before_it_broke_off_is_no_answer(broken: bytes) -> None:
    assert answer_text(delta("half of") + broken, stream=True) is None


@given(st.binary(max_size=200), st.booleans())
def test_no_bytes_break_it(body: bytes, stream: bool) -> None:
    answer_text(body, stream=stream)


@given(st.lists(st.text(), min_size=1))
def test_any_text_comes_through(words: list[str]) -> None:
    body = b"".join(delta(word) for word in words) + DONE
    assert answer_text(body, stream=True) == ("".join(words) or None)
