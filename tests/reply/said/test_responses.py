"""/v1/responses: which of its events are tokens, how a response ends, and what only looks whole."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from vllm_bench.records.request_record import RequestRecord
from vllm_bench.reply.back_off import turned_away
from vllm_bench.reply.exchange import Exchange, Failure, Segment
from vllm_bench.reply.outcome import close_with, judge, reply_to
from vllm_bench.reply.record import Expectation
from vllm_bench.send.deadlines import Heard

MS = 1_000_000
ASKED = 6


def event(kind: str, **said: Any) -> bytes:
    body = json.dumps({**said, "sequence_number": 0, "type": kind})
    return f"event: {kind}\ndata: {body}\n\n".encode()


def response(status: str, reason: str | None = None, **more: Any) -> dict[str, Any]:
    cut = None if reason is None else {"reason": reason}
    made = {"id": "resp_1", "object": "response", "model": "tiny", "output": [], "usage": None}
    return {**made, "status": status, "incomplete_details": cut, **more}


def usage(made: int, cached: int = 0, thinking: int = 0) -> dict[str, Any]:
    return {
        "input_tokens": 15,
        "input_tokens_details": {"cached_tokens": cached},
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": thinking},
    }


CREATED = event("response.created", response=response("in_progress"))
RUNNING = event("response.in_progress", response=response("in_progress"))
ITEM = event("response.output_item.added", item={"type": "message", "content": []})
PART = event("response.content_part.added", part={"type": "output_text", "text": ""})
HEAD = [CREATED, RUNNING, ITEM, PART]


def said(text: str = "a") -> bytes:
    return event("response.output_text.delta", delta=text, logprobs=[])


def thought(text: str = "hm") -> bytes:
    return event("response.reasoning_text.delta", delta=text)


def ended(
    made: int = ASKED,
    reason: str | None = "max_output_tokens",
    kind: str = "completed",
    **more: Any,
) -> bytes:
    status = "incomplete" if reason else "completed"
    found = {"usage": usage(made), **more}
    return event(f"response.{kind}", response=response(status, reason, **found))


def expectation(*, exact: bool = False, stream: bool = True) -> Expectation:
    known: dict[str, Any] = {"choices": 1, "stream": stream, "start_ns": 0, "exact_tokens": exact}
    return Expectation("r", "s", 1, "r-0", "p", ASKED, **known)


def exchange_of(events: list[bytes], failure: Failure | None = None) -> Exchange:
    reads = [(10 * MS * (place + 1), one) for place, one in enumerate(events)]
    end_ns = 10 * MS * (len(reads) + 1)
    found = Exchange(0, 0, 0, t_sent_ns=0, t_end_ns=end_ns, http_status=200, reads=reads)
    found.content_type, found.framed, found.failure = "text/event-stream", True, failure
    return found


def record_of(*events: bytes, exact: bool = False, failure: Failure | None = None) -> RequestRecord:
    return judge(exchange_of(list(events), failure), expectation(exact=exact)).record


WHOLE = [*HEAD, *map(said, "abcdef"), ended()]
CUT = Failure("truncated", "the connection was closed in the middle")


def test_tokens_are_deltas_alone_and_the_last_event_ends_it() -> None:
    found = record_of(*WHOLE)
    assert (found.error_kind, found.finish_reason) == (None, "length")
    assert (found.ttft_ms, found.ttfa_ms, found.latency_ms) == (50, 50, 110)
    assert (found.token_events, found.visible_events, found.token_reads) == (6, 6, 6)
    assert (found.prompt_tokens, found.completion_tokens) == (15, 6)
    # vLLM says 0 also where it doesn't tell how many were cached.
    assert found.cached_tokens is None
    assert record_of(*WHOLE[:-1], ended(usage=usage(6, cached=8))).cached_tokens == 8


def test_its_end_needs_no_mark_behind_it() -> None:
    assert record_of(*WHOLE, failure=CUT).error_kind is None


def test_thoughts_come_as_an_item_of_their_own() -> None:
    events = [CREATED, RUNNING, thought(), thought(), said(), said()]
    found = record_of(*events, ended(5, usage=usage(5, thinking=2)))
    assert (found.ttft_ms, found.ttfa_ms) == (30, 50)
    assert (found.thoughts, found.thinking_tokens) == ("apart", 2)
    never = record_of(*events[:4], ended(3))
    assert (never.error_kind, never.ttfa_ms, never.visible_events) == (None, None, 0)
    assert never.thinking_tokens == 3


def test_a_summary_is_a_thought_and_a_refusal_an_answer() -> None:
    summary = event("response.reasoning_summary_text.delta", delta="hm")
    refusal = event("response.refusal.delta", delta="no")
    found = record_of(*HEAD[:2], summary, refusal, ended(4, None, usage=usage(4, thinking=2)))
    assert (found.error_kind, found.finish_reason) == (None, "stop")
    assert (found.ttft_ms, found.ttfa_ms) == (30, 40)


def test_a_tool_call_is_an_answer_from_its_name_on() -> None:
    item = {"type": "function_call", "name": "look", "arguments": ""}
    call = event("response.output_item.added", item=item)
    more = event("response.function_call_arguments.delta", delta='{"a"')
    found = record_of(*HEAD[:2], call, more, ended(4, None))
    assert (found.ttfa_ms, found.token_events) == (30, 2)


@pytest.mark.parametrize("at", [0, 2, 5, len(WHOLE) - 1])
def test_a_connection_that_is_cut_before_the_end_is_no_success(at: int) -> None:
    assert record_of(*WHOLE[:at], failure=CUT).error_kind == "truncated"
    assert record_of(*WHOLE[:at]).error_kind == "truncated"  # with the end that HTTP marks


def test_a_stopped_server_calls_short_responses_completed() -> None:
    """A vLLM that gets SIGTERM says nothing else: the length gives it away."""
    lie = [*HEAD, said(), said(), ended(2, None)]
    found = record_of(*lie, exact=True)
    assert (found.error_kind, found.completion_tokens) == ("truncated", 2)
    assert record_of(*lie).error_kind is None  # a model may end its answer by itself
    assert record_of(*WHOLE, exact=True).error_kind is None
    assert record_of(*WHOLE[:-1], ended(6, None), exact=True).error_kind is None
    # The context was full: no lie, and told by its reason.
    assert record_of(*HEAD, said(), ended(2), exact=True).error_kind is None


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        (event("response.failed", response=response("failed", error={"code": "x"})), "error_event"),
        (event("error", code="server_error", message="dead"), "error_event"),
        (ended(reason="content_filter"), "content_filter"),
        (ended(reason="abort"), "bad_finish"),
        (event("response.cancelled", response=response("cancelled")), "bad_finish"),
        (event("response.completed", response=response("queued")), "bad_finish"),
        (ended(0), "empty"),
        (event("response.completed", response=response("completed")), "protocol"),
        (ended(usage={"input_tokens": 1, "output_tokens": -3}), "protocol"),
        (b'event: response.completed\ndata: {"type": "response.completed"\n\n', "protocol"),
    ],
)
def test_bad_ends_have_their_kinds(end: bytes, kind: str) -> None:
    assert record_of(*WHOLE[:-1], end).error_kind == kind


def test_a_failed_response_says_why() -> None:
    error = {"code": "server_error", "message": "the engine died"}
    found = record_of(*HEAD, event("response.failed", response=response("failed", error=error)))
    assert "the engine died" in (found.error or "")


@pytest.mark.parametrize("value", [[], "x", 3, None])
def test_a_response_of_another_shape_is_no_success(value: object) -> None:
    assert record_of(*HEAD, event("response.completed", response=value)).error_kind is not None


def whole(output: list[dict[str, Any]], **more: Any) -> RequestRecord:
    found = response("completed") | {"output": output, "usage": usage(6)} | more
    body = json.dumps(found).encode()
    exchange = exchange_of([body])
    exchange.content_type = "application/json"
    return judge(exchange, expectation(stream=False)).record


def test_a_response_in_one_piece() -> None:
    text = {"type": "message", "content": [{"type": "output_text", "text": "yes"}]}
    thinks = {"type": "reasoning", "summary": [], "content": [{"text": "hm"}]}
    found = whole([thinks, text])
    assert (found.error_kind, found.finish_reason, found.thoughts) == (None, "stop", "apart")
    assert (found.completion_tokens, found.visible_events, found.ttft_ms) == (6, 1, None)
    cut = whole([thinks], status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert (cut.finish_reason, cut.visible_events, cut.thinking_tokens) == ("length", 0, 6)
    assert whole([text], status="failed", error={"message": "x"}).error_kind == "error_event"
    assert whole([text], status="in_progress").error_kind == "bad_finish"


def test_cut_anywhere_a_stream_says_the_same() -> None:
    body, rng = b"".join([*HEAD, thought(), *map(said, "abcde"), ended()]), random.Random(3)
    expected = expectation()
    for _ in range(200):
        at = sorted({0, len(body), *rng.choices(range(len(body)), k=rng.randint(0, 9))})
        reads = [(MS, body[a:b]) for a, b in itertools.pairwise(at)]
        reply = reply_to(expected)
        reply.take(Segment(0, 200, reads).packed())
        close_with(reply, exchange_of([]))
        assert (len(reply.stamps), reply.visible_events, reply.done) == (6, 5, True)
        assert reply.finish_reasons == {0: "length"}


def test_a_deadline_hears_its_tokens_and_its_end() -> None:
    heard = Heard()
    heard.hear([(n, one) for n, one in enumerate(HEAD)])
    assert (heard.token_ns, heard.done_ns) == (None, None)
    heard = Heard()
    heard.hear([(n, one) for n, one in enumerate(WHOLE)])
    assert (heard.token_ns, heard.done_ns) == (len(WHOLE) - 2, len(WHOLE) - 1)


def test_a_full_queue_cuts_a_response_that_only_began() -> None:
    """Its stream then waits, so that a plan isn't burnt."""
    began = exchange_of([CREATED, RUNNING], CUT)
    began.held_bytes = len(CREATED + RUNNING)
    assert turned_away(began)
    later = exchange_of([*HEAD, said()], CUT)
    later.held_bytes = 999
    assert not turned_away(later)
