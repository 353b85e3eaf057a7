"""An answer's visible text, thoughts left out, however the reply comes in pieces."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.reply import reply as reply_module
from vllm_bench.reply.exchange import Exchange, Segment
from vllm_bench.reply.outcome import Expectation, reply_to
from vllm_bench.reply.reply import Reply

ASKED = Expectation(
    *("run", "s", 1, "r-0", "p"), max_tokens=64, choices=1, stream=True, start_ns=0, keep_text=True
)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def compact(part: dict[str, object], *, index: int = 0, ascii_only: bool = False) -> bytes:
    choice = {"index": index, "delta": part, "finish_reason": None}
    said = json.dumps(
        {"id": "x", "choices": [choice]}, ensure_ascii=ascii_only, separators=(",", ":")
    )
    return b"data: " + said.encode() + b"\n\n"


def read(body: bytes, size: int, asked: Expectation = ASKED) -> Reply:
    """Read a stream in segments of three reads of `size` bytes."""
    reply = reply_to(asked)
    reads = [(n, body[n : n + size]) for n in range(0, len(body), size)]
    for first in range(0, len(reads), 3):
        reply.take(Segment(0, 200, reads[first : first + 3]).packed())
    reply.close(len(body))
    return reply


@given(st.lists(TEXTS, max_size=30), st.integers(1, 400), st.booleans())
def test_a_streams_text_is_that_of_its_events(said: list[str], size: int, plain: bool) -> None:
    body = b"".join(compact({"content": text}, ascii_only=plain) for text in said)
    assert read(body + b"data: [DONE]\n\n", size).text == "".join(said)


@given(st.lists(st.tuples(st.sampled_from(["reasoning", "content"]), TEXTS)), st.integers(1, 400))
def test_thoughts_are_left_out(said: list[tuple[str, str]], size: int) -> None:
    body = b"".join(compact({kind: text}) for kind, text in said)
    assert read(body, size).text == "".join(t for kind, t in said if kind == "content")


@given(st.lists(st.tuples(st.integers(0, 2), TEXTS)), st.integers(1, 400))
def test_only_the_first_choice_is_kept(said: list[tuple[int, str]], size: int) -> None:
    body = b"".join(compact({"content": text}, index=n) for n, text in said)
    several = dataclasses.replace(ASKED, choices=3)
    assert read(body, size, several).text == "".join(text for n, text in said if n == 0)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"message": {"content": "5", "reasoning": "2 and 3"}}, "5"),
        ({"message": {"content": None, "reasoning_content": "2 and 3"}}, ""),
        ({"message": {"content": [{"type": "text", "text": "5"}]}}, "5"),
        ({"text": " 5"}, " 5"),
        ({"message": {"content": None, "tool_calls": [{"function": {"name": "f"}}]}}, ""),
    ],
)
def test_a_reply_in_one_piece_has_its_text(choice: dict[str, object], text: str) -> None:
    whole = {"choices": [{"index": 0, "finish_reason": "stop", **choice}]}
    reply = reply_to(dataclasses.replace(ASKED, stream=False))
    reply.feed(200, [(1, json.dumps(whole).encode())])
    reply.close(2)
    assert reply.text == text


def test_the_text_of_a_completions_stream_is_kept() -> None:
    events = [{"choices": [{"index": 0, "text": text}]} for text in ("a", "b", 'c"', "d", "e")]
    body = b"".join(
        b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" for event in events
    )
    assert read(body, 64).text == 'abc"de'


def test_a_text_beyond_the_bound_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply_module, "MOST_TEXT", 5)
    whole = read(compact({"content": "abcde"}), 4096)
    cut = read(compact({"content": "abc"}) * 3, 4096)
    assert (whole.text, whole.text_cut) == ("abcde", False)
    assert (cut.text, cut.text_cut) == ("abcab", True)


def test_without_being_asked_for_nothing_is_kept() -> None:
    reply = read(compact({"content": "abc"}) * 9, 50, dataclasses.replace(ASKED, keep_text=False))
    assert reply.text is None
    assert len(reply.stamps) == 9


def test_an_exchange_that_failed_has_what_came() -> None:
    exchange = Exchange(0, 0, 0, reads=[(1, compact({"content": "half an"}))], http_status=200)
    reply = reply_to(ASKED)
    reply.feed(exchange.http_status, exchange.reads)
    assert reply.text == "half an"
