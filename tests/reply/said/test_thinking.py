"""Thoughts: when an answer begins, how many tokens were thought, and which replies have none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.reply.exchange import Exchange, Segment
from vllm_bench.reply.outcome import close_with, judge, reply_to
from vllm_bench.reply.record import Expectation

from tests.support.far_end import event

MS = 1_000_000
ASKED = 40
ROLE = {"role": "assistant", "content": ""}


def expectation(*, stream: bool = True) -> Expectation:
    return Expectation("r", "s", 1, "r-0", "p", ASKED, choices=1, stream=stream, start_ns=0)


def chunk(delta: dict[str, Any], ids: list[int] | None = None, finish: str | None = None) -> bytes:
    choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"choices": [choice | ({} if ids is None else {"token_ids": ids})]})


def thought(text: str = "hm", ids: list[int] | None = None) -> bytes:
    return chunk({"reasoning": text}, ids)


def said(text: str = "yes", ids: list[int] | None = None, finish: str | None = None) -> bytes:
    return chunk({"content": text}, ids, finish)


def usage(made: int, thinking: int | None = None) -> bytes:
    details = None if thinking is None else {"reasoning_tokens": thinking}
    told = {"prompt_tokens": 5, "completion_tokens": made, "completion_tokens_details": details}
    return event({"choices": [], "usage": told})


def record_of(*events: bytes) -> RequestRecord:
    """Return the row of a stream that has an event each 10 ms, and was sent at 0."""
    done = [*events, b"data: [DONE]\n\n"]
    reads = [(10 * MS * (place + 1), one) for place, one in enumerate(done)]
    exchange = Exchange(0, 0, 0, t_sent_ns=0, t_end_ns=reads[-1][0], http_status=200)
    exchange.content_type = "text/event-stream"
    expected = expectation()
    reply = reply_to(expected)
    reply.take(Segment(0, 200, reads).packed())
    close_with(reply, exchange)
    return judge(exchange, expected, reply).record


def thinking(record: RequestRecord) -> tuple[str | None, int | None]:
    assert record.error_kind is None, record.error
    return record.thoughts, record.thinking_tokens


def test_an_answer_begins_after_its_thoughts_and_the_role_is_no_answer() -> None:
    end = said("no", finish="stop")
    found = record_of(chunk(ROLE), thought(), thought(), said(), end, usage(5, 2))
    assert (found.ttft_ms, found.ttfa_ms) == (20, 40)
    assert thinking(found) == ("apart", 2)


def test_without_thoughts_the_answer_begins_with_the_first_token() -> None:
    found = record_of(chunk(ROLE), said(), said("no", finish="stop"), usage(2))
    assert found.ttft_ms == found.ttfa_ms == 20
    assert thinking(found) == (None, None)
    assert thinking(record_of(said(finish="stop"), usage(1, 0))) == (None, 0)


@pytest.mark.parametrize("told", [0, None, 1, 99], ids=["none", "untold", "too few", "too many"])
def test_a_count_that_cant_be_true_is_counted_where_each_event_is_a_token(
    told: int | None,
) -> None:
    """`</think>` is a token without an event."""
    events = [thought(), thought(), thought(), said(), said(finish="length")]
    assert thinking(record_of(*events, usage(6, told))) == ("apart", 3)


def test_a_count_of_more_tokens_than_events_is_the_servers() -> None:
    assert thinking(record_of(thought("a b c"), said(finish="stop"), usage(9, 7))) == ("apart", 7)


def test_where_events_have_several_tokens_and_nothing_counts_them_they_are_unknown() -> None:
    merged = [thought("a b c"), said(finish="stop"), usage(9, 0)]
    assert thinking(record_of(*merged)) == ("apart", None)


def test_token_ids_count_thoughts_and_not_the_mark_that_ends_them() -> None:
    events = [thought("a b c", [7, 8, 9]), chunk({}, [4095]), said("d e", [1, 2], "length")]
    assert thinking(record_of(*events, usage(6, 0))) == ("apart", 3)


def test_an_event_with_both_kinds_begins_the_answer_and_leaves_its_count_to_usage() -> None:
    both = chunk({"reasoning": "so", "content": "yes"})
    found = record_of(thought(), both, said(finish="stop"), usage(9, 4))
    assert (found.ttft_ms, found.ttfa_ms) == (10, 20)
    assert thinking(found) == ("apart", 4)
    assert thinking(record_of(thought(), both, said(finish="stop"), usage(9, 0)))[1] is None


def test_a_tool_call_is_an_answer() -> None:
    call = chunk({"tool_calls": [{"index": 0, "function": {"name": "look", "arguments": ""}}]})
    found = record_of(thought(), call, chunk({}, finish="tool_calls"), usage(4, 1))
    assert (found.ttft_ms, found.ttfa_ms) == (10, 20)


@pytest.mark.parametrize("told", [0, 3])
def test_a_reply_that_thinks_to_its_limit_is_a_success_without_an_answer(told: int) -> None:
    last = chunk({"reasoning": "hm"}, finish="length")
    found = record_of(chunk(ROLE), thought(), thought(), last, usage(3, told))
    assert (found.error_kind, found.finish_reason) == (None, "length")
    assert (found.ttft_ms, found.ttfa_ms, found.visible_events) == (20, None, 0)
    assert found.thinking_tokens == 3


@pytest.mark.parametrize("parts", [("<think>",), ("<th", "ink", ">"), ("\n", "<think>\n")])
def test_thoughts_within_the_text_leave_no_time_of_the_answer(parts: tuple[str, ...]) -> None:
    events = [*map(said, parts), said("hm"), said("</think>"), said(finish="stop")]
    found = record_of(*events, usage(len(events)))
    assert thinking(found) == ("content", None)
    assert (found.ttft_ms, found.ttfa_ms) == (10, None)


@pytest.mark.parametrize("mark", ["</think>", r"\u003c/think\u003e", r"<\/think>"])
@pytest.mark.parametrize("place", [0, 1, 30])
def test_a_thought_that_the_template_opened_is_told_by_its_end(mark: str, place: int) -> None:
    plain = said("hm")
    events = [plain] * place + [plain.replace(b"hm", mark.encode())] + [plain] * 3
    assert thinking(record_of(*events, said(finish="stop"), usage(60))) == ("content", None)
    # A server that looks for thoughts has none in the text: this mark is an answer's.
    assert thinking(record_of(*events, said(finish="stop"), usage(60, 0))) == (None, 0)


@pytest.mark.parametrize("text", ["<thin", "<table>", "I think", "think>", "<THINK>"])
def test_other_texts_are_no_thoughts(text: str) -> None:
    found = record_of(said(text), said(" x", finish="stop"), usage(2))
    assert found.thoughts is None
    assert found.ttfa_ms == 10


def test_hidden_thoughts_are_no_part_of_the_time_per_token() -> None:
    """They were generated before the first token that came."""
    answer = [said() for _ in range(10)]
    found = record_of(*answer, said(finish="stop"), usage(11 + 500, 500))
    assert thinking(found) == ("hidden", 500)
    assert found.ttft_ms == found.ttfa_ms
    assert found.tpot_ms == pytest.approx(10)


def whole(message: dict[str, Any], told: int | None, finish: str = "length") -> RequestRecord:
    details = None if told is None else {"reasoning_tokens": told}
    counts = {"prompt_tokens": 5, "completion_tokens": 4, "completion_tokens_details": details}
    body = event({"choices": [{"message": message, "finish_reason": finish}], "usage": counts})
    exchange = Exchange(0, 0, 0, t_sent_ns=0, t_end_ns=9 * MS, http_status=200)
    exchange.content_type, exchange.reads = "application/json", [(8 * MS, body[6:].strip())]
    return judge(exchange, expectation(stream=False)).record


def test_a_reply_in_one_piece_has_thoughts_too() -> None:
    assert thinking(whole({"content": "yes", "reasoning": "hm"}, 2)) == ("apart", 2)
    assert thinking(whole({"content": "yes", "reasoning": "hm"}, 0)) == ("apart", None)
    assert thinking(whole({"content": None, "reasoning": "hm"}, 0)) == ("apart", 4)
    assert thinking(whole({"content": "<think>hm</think>yes"}, None)) == ("content", None)
    assert thinking(whole({"content": "yes"}, 3, "stop")) == ("hidden", 3)


@pytest.mark.parametrize("wrong", ["many", -1, 1.5, True, [], {"a": 1}, 10**12])
def test_a_count_that_is_none_leaves_the_reply_a_success(wrong: object) -> None:
    told = {"completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": wrong}}
    found = record_of(thought(), said(finish="stop"), event({"choices": [], "usage": told}))
    assert thinking(found) == ("apart", 1)


@given(st.integers(0, 30), st.integers(0, 30), st.booleans(), st.sampled_from([0, None, "right"]))
def test_counts_are_those_of_the_stream_or_unknown(
    thoughts: int, answers: int, marked: bool, told: object
) -> None:
    """Each event is one token; the mark that ends a thought has none."""
    made = thoughts + answers + (marked and answers > 0 and thoughts > 0)
    if not made:
        return
    parts = [thought(f"{n} ") for n in range(thoughts)] + [said(f"{n} ") for n in range(answers)]
    count = thoughts if told == "right" else None if told is None else 0
    end = chunk({}, finish="length")
    found = record_of(chunk(ROLE), *parts, end, usage(made, count))
    assert found.error_kind is None
    if thoughts:
        assert found.thinking_tokens in (thoughts, None)
        assert found.ttfa_ms == (10 * (thoughts + 2) if answers else None)
