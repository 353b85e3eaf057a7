from __future__ import annotations

from typing import Any

import pytest
from sim.wire.ask import CHAT, COMPLETIONS, read_ask, read_json
from sim.wire.errors import ApiError
from sim.wire.settings import Settings

SETTINGS = Settings("m", ("m", "alias"), max_model_len=100)


def error(endpoint: str = COMPLETIONS, **body: Any) -> ApiError:
    body = {"prompt": "hi", "messages": [{"role": "user", "content": "hi"}], **body}
    with pytest.raises(ApiError) as caught:
        read_ask(endpoint, body, SETTINGS)
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"max_tokens": 0}, "max_tokens", "must be at least 1, got 0"),
        ({"max_tokens": -1}, "max_tokens", "must be at least 1, got -1"),
        ({"max_tokens": 101}, "max_tokens", "max_model_len=100"),
        ({"max_tokens": "8"}, "body.max_tokens", "valid integer"),
        ({"max_tokens": True}, "body.max_tokens", "valid integer"),
        ({"prompt": [5] * 101}, "input_tokens", "at least 101 input tokens"),
        ({"prompt": [5] * 100}, "max_tokens", "got 0"),
        ({"prompt": [1 << 40]}, "prompt", "out of vocabulary"),
        ({"prompt": [-1]}, "prompt", "out of vocabulary"),
        ({"prompt": []}, None, "non-empty"),
        ({"prompt": 3}, "body.prompt", "valid string"),
        ({"prompt": [{}]}, "body.prompt", "valid string"),
        ({"temperature": 2.5}, "temperature", "must be in [0, 2]"),
        ({"temperature": "hot"}, "body.temperature", "valid number"),
        ({"top_p": 0}, "top_p", "must be in (0, 1]"),
        ({"n": 0}, None, "n must be at least 1"),
        ({"min_tokens": 9, "max_tokens": 8}, None, "max_tokens=8, got 9"),
        ({"min_tokens": -1}, None, "greater than or equal to 0"),
        ({"stop": ["a", ""]}, None, "empty string"),
        ({"stop": 3}, "body.stop", "valid string"),
        ({"stop": ["a", 3]}, "body.stop.1", "valid string"),
        ({"stop_token_ids": ["a"]}, "body.stop_token_ids.0", "valid integer"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "`stream=True`"),
        ({"stream": True, "stream_options": 3}, "body.stream_options", "valid dictionary"),
        ({"stream_interval": 0}, "stream_interval", "at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_vllms_words(
    body: dict[str, Any], param: str | None, words: str
) -> None:
    refused = error(**body)
    assert (refused.status, refused.param) == (400, param)
    assert words in refused.message


def test_a_model_goes_by_its_served_names_or_by_none() -> None:
    assert read_ask(COMPLETIONS, {"prompt": "hi"}, SETTINGS).model == "m"
    assert read_ask(COMPLETIONS, {"prompt": "hi", "model": "alias"}, SETTINGS).model == "alias"
    assert error(model="other").status == 404
    assert "Valid aliases: m, alias." in error(model="other").message


def test_max_tokens_is_shortened_to_what_the_context_leaves() -> None:
    assert read_ask(COMPLETIONS, {"prompt": [5] * 90, "max_tokens": 50}, SETTINGS).max_tokens == (
        10,
    )
    assert read_ask(COMPLETIONS, {"prompt": [5] * 10}, SETTINGS).max_tokens == (16,)
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    asked = read_ask(CHAT, chat, SETTINGS)
    assert asked.max_tokens == (100 - asked.prompt_tokens,)


def test_a_chats_newer_name_for_max_tokens_wins() -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    assert read_ask(CHAT, {**chat, "max_completion_tokens": 5}, SETTINGS).max_tokens == (5,)


def test_the_server_may_send_fewer_events_than_asked_for_but_not_more() -> None:
    slow = Settings("m", ("m",), stream_interval=4)
    for asked, got in ((None, 4), (2, 4), (8, 8)):
        body = {"prompt": "hi", "stream_interval": asked}
        assert read_ask(COMPLETIONS, body, slow).stream_interval == got


def test_several_prompts_have_lengths_of_their_own() -> None:
    ask = read_ask(COMPLETIONS, {"prompt": ["a", [1, 2, 3]], "max_tokens": 99}, SETTINGS)
    assert [len(prompt) for prompt in ask.prompts] == [1, 3]
    assert ask.max_tokens == (99, 97)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b'"x"', b"null", b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": None}]])
def test_messages_without_a_text_still_have_the_templates_tokens(messages: Any) -> None:
    assert read_ask(CHAT, {"messages": messages}, SETTINGS).prompt_tokens > 0


@pytest.mark.parametrize("messages", ["hi", 3, [3], [{"content": "x"}], [{"role": 3}]])
def test_what_are_no_messages_is_refused(messages: Any) -> None:
    assert error(CHAT, messages=messages).status == 400


def test_the_text_parts_of_a_message_are_its_text() -> None:
    parts = [{"type": "text", "text": "he"}, {"type": "text", "text": "llo"}]
    bodies = ({"messages": [{"role": "user", "content": c}]} for c in (parts, "hello"))
    first, second = (read_ask(CHAT, body, SETTINGS).prompts for body in bodies)
    assert first == second
