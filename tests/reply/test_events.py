from __future__ import annotations

import json
from pathlib import Path

import pytest
from vllm_bench.reply.events import EventError, StreamEvent, Usage, read_event
from vllm_bench.reply.sse import DONE, EventSplitter
from vllm_bench.reply.words import error_text


def chat(delta: dict[str, object], **choice: object) -> bytes:
    return json.dumps({"choices": [{"index": 0, "delta": delta, **choice}]}).encode()


@pytest.mark.parametrize(
    ("payload", "has_tokens", "visible"),
    [
        (chat({"role": "assistant", "content": ""}), False, False),
        (chat({"content": "a"}), True, True),
        (chat({"content": " "}), True, True),
        (chat({"reasoning": "hm"}), True, False),
        (chat({"reasoning_content": "hm"}), True, False),
        (chat({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}), True, True),
        (chat({"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f"}}]}), True, True),
        (chat({"tool_calls": [{"index": 0, "function": {"arguments": ""}}]}), False, False),
        (chat({"tool_calls": [{"index": 0, "id": "c1", "type": "function"}]}), False, False),
        (chat({"tool_calls": [], "function_call": None}), False, False),
        (chat({"function_call": {"name": "f", "arguments": ""}}), True, True),
        (chat({"reasoning": "hm", "content": "a"}), True, True),
        (chat({}, token_ids=[7]), True, False),  # the token that ends a thought
        (chat({"content": ""}, token_ids=[7]), True, False),
        (chat({"content": ""}, token_ids=[]), False, False),
        (chat({}, finish_reason="stop"), False, False),
        (b'{"choices": [{"index": 0, "text": "x"}]}', True, True),
        (b'{"choices": [{"index": 0, "text": ""}]}', False, False),
        (b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}', False, False),
        (b'{"choices": [{"index": 0, "message": {"content": "whole"}}]}', True, True),
    ],
)
def test_what_brings_tokens_and_what_does_not(
    payload: bytes, has_tokens: bool, visible: bool
) -> None:
    event = read_event(payload)
    assert (event.has_tokens, event.has_visible_tokens) == (has_tokens, visible)


def test_each_choice_has_its_own_finish_reason() -> None:
    event = read_event(b'{"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]}')
    assert event.finish_reasons == {1: "length"}


def test_usage_is_read_with_the_cached_tokens_where_the_server_gives_them() -> None:
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}
    assert read_event(json.dumps({"usage": usage}).encode()).usage == Usage(9, 2, None)
    usage["prompt_tokens_details"] = {"cached_tokens": 8}
    assert read_event(json.dumps({"usage": usage}).encode()).usage == Usage(9, 2, 8)


@pytest.mark.parametrize("payload", [b"{", b"[]", b"3", b'{"choices": [3]}', b'{"choices": 1}'])
def test_a_payload_of_another_shape_is_refused(payload: bytes) -> None:
    with pytest.raises(EventError):
        read_event(payload)


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ({"error": {"message": "too\nlong", "code": 400}}, "too long"),
        ({"error": "Unauthorized"}, "Unauthorized"),
        ({"detail": "Not Found"}, "Not Found"),
        ({"message": "m"}, "m"),
        (["what"], '["what"]'),
    ],
)
def test_the_servers_own_words_are_found_in_each_of_its_error_shapes(
    reply: object, text: str
) -> None:
    assert error_text(reply) == text


def events_of(path: Path) -> list[StreamEvent]:
    body = path.read_bytes().replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]
    return [read_event(p) for p in EventSplitter().feed(body + b"\n") if p != DONE]


def test_captured_streams_of_a_real_server_are_read_to_their_usage(shared: Path) -> None:
    for name in ("chat_stream_usage", "completions_stream_ignore_eos", "chat_stream_logprobs"):
        events = events_of(shared / "wire" / f"{name}.txt")
        asked = json.loads((shared / "wire" / f"{name}.request.json").read_text())
        assert sum(e.has_tokens for e in events) == asked["max_tokens"], name
        assert [e.finish_reasons for e in events if e.finish_reasons] == [{0: "length"}], name


def test_a_captured_chunk_may_hold_several_tokens(shared: Path) -> None:
    events = events_of(shared / "wire" / "chat_stream_interval4_continuous.txt")
    usage = [e.usage for e in events if e.usage][-1]
    assert usage.completion_tokens == 14
    assert sum(e.has_tokens for e in events) == 5  # 1 + 4 + 4 + 4 + 1


def test_the_captured_death_of_an_engine_is_an_error_event(shared: Path) -> None:
    events = events_of(shared / "wire" / "err_engine_dies_midstream.txt")
    (error,) = (e.error for e in events if e.error)
    assert error.startswith("EngineCore ")


@pytest.mark.parametrize(
    ("name", "events_with_tokens", "visible"),
    [
        ("reasoning_stream_never_ends", 4, 0),
        ("reasoning_stream_not_included", 0, 0),  # hidden: its tokens can't be timed
    ],
)
def test_captured_thoughts_that_never_end_have_no_visible_event(
    shared: Path, name: str, events_with_tokens: int, visible: int
) -> None:
    events = events_of(shared / "wire2" / f"{name}.txt")
    assert sum(e.has_tokens for e in events) == events_with_tokens
    assert sum(e.has_visible_tokens for e in events) == visible


def test_no_captured_stream_has_more_token_events_than_tokens(shared: Path) -> None:
    streams = 0
    for path in sorted(shared.glob("wire*/*stream*.txt")):
        if path.name.startswith("responses"):
            continue
        events = events_of(path)
        counted = [e.usage.completion_tokens for e in events if e.usage]
        if counted:
            streams += 1
            assert sum(e.has_tokens for e in events) <= counted[-1], path.name
            assert {e.model for e in events if e.model} <= {"tiny", "red", "tinyvision"}
    assert streams > 15


def test_a_model_or_fingerprint_that_is_no_text_is_none() -> None:
    found = read_event(b'{"model": ["x"], "system_fingerprint": 3, "choices": []}')
    assert (found.model, found.fingerprint) == (None, None)
