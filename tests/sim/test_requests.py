"""What a request asks for, how many tokens it has, and what is replied to it."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.wire.errors import ApiError
from sim.wire.generation import CHAT, COMPLETIONS, GenerationRequest, read_json, read_request
from sim.wire.replies import Reply, make_replies
from sim.wire.settings import Settings
from sim.wire.tokens import (
    EOS,
    NON_ASCII,
    PIECES,
    SPECIAL,
    SPOKEN,
    SPOKEN_IDS,
    chat_prompt,
    token_bytes,
    token_string,
    tokenize,
)

SETTINGS = Settings("m", ("m", "alias"), max_model_len=100)


def error(endpoint: str = COMPLETIONS, **body: Any) -> ApiError:
    body = {"prompt": "hi", "messages": [{"role": "user", "content": "hi"}], **body}
    with pytest.raises(ApiError) as caught:
        read_request(endpoint, body, SETTINGS)
    return caught.value


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"max_tokens": 0}, "max_tokens", "must be at least 1, got 0"),
        ({"max_tokens": -1}, "max_tokens", "must be at least 1, got -1"),
        ({"max_tokens": 101}, "max_tokens", "max_model_len=100"),
        ({"max_tokens": "8"}, "body.max_tokens", "valid integer"),
        ({"prompt": [5] * 101}, "input_tokens", "at least 101 input tokens"),
        ({"prompt": [5] * 100}, "max_tokens", "got 0"),
        ({"prompt": [1 << 40]}, "prompt", "out of vocabulary"),
        ({"prompt": [-1]}, "prompt", "out of vocabulary"),
        ({"prompt": []}, None, "non-empty"),
        ({"prompt": 3}, "body.prompt", "valid string"),
        ({"temperature": "hot"}, "body.temperature", "valid number"),
        ({"temperature": -1}, "temperature", "must be non-negative"),
        ({"n": -1}, None, "n must be at least 1"),
        ({"n": "two"}, "body.n", "valid integer"),
        ({"cache_salt": 3}, "body.cache_salt", "valid string"),
        ({"min_tokens": 9, "max_tokens": 8}, None, "max_tokens=8, got 9"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "`stream=True`"),
        ({"stream": True, "stream_options": 3}, "body.stream_options", "valid dictionary"),
    ],
)
def test_what_makes_no_sense_is_refused_in_vllms_words(
    body: dict[str, Any], param: str | None, words: str
) -> None:
    refused = error(**body)
    assert (refused.status, refused.param) == (400, param)
    assert words in refused.message


def test_a_model_goes_by_its_served_names_or_by_none() -> None:
    assert read_request(COMPLETIONS, {"prompt": "hi"}, SETTINGS).model == "m"
    assert read_request(COMPLETIONS, {"prompt": "hi", "model": "alias"}, SETTINGS).model == "alias"
    assert error(model="other").status == 404
    assert "m, alias" in error(model="other").message


def test_max_tokens_is_shortened_to_what_the_context_leaves() -> None:
    assert (
        read_request(COMPLETIONS, {"prompt": [5] * 90, "max_tokens": 50}, SETTINGS).max_tokens == 10
    )
    assert read_request(COMPLETIONS, {"prompt": [5] * 10}, SETTINGS).max_tokens == 16
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    asked = read_request(CHAT, chat, SETTINGS)
    assert asked.max_tokens == 100 - len(asked.prompt)


def test_a_chats_newer_name_for_max_tokens_wins() -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 3}
    assert read_request(CHAT, {**chat, "max_completion_tokens": 5}, SETTINGS).max_tokens == 5


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b'"x"', b"null", b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_json(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("messages", [[], [{"role": "user", "content": None}]])
def test_messages_without_a_text_still_have_the_templates_tokens(messages: Any) -> None:
    assert read_request(CHAT, {"messages": messages}, SETTINGS).prompt


@pytest.mark.parametrize("messages", ["hi", 3, [3], [{"content": "x"}], [{"role": 3}]])
def test_what_are_no_messages_is_refused(messages: Any) -> None:
    assert error(CHAT, messages=messages).status == 400


def test_the_text_parts_of_a_message_are_its_text() -> None:
    parts = [{"type": "text", "text": "he"}, {"type": "text", "text": "llo"}]
    bodies = ({"messages": [{"role": "user", "content": c}]} for c in (parts, "hello"))
    first, second = (read_request(CHAT, body, SETTINGS).prompt for body in bodies)
    assert first == second


TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from([*SPECIAL, *NON_ASCII, " the", "The", "\n", "{}", "é", "<|im_", " "])
).map("".join)


@given(TEXTS)
def test_a_texts_tokens_join_to_the_text(text: str) -> None:
    tokens = tokenize(text)
    assert b"".join(map(token_bytes, tokens)).decode() == text
    assert all(0 <= token < len(PIECES) for token in tokens)


@given(st.lists(st.sampled_from(SPOKEN_IDS), max_size=20))
def test_what_the_simulator_says_reads_back_as_the_tokens_that_made_it(tokens: list[int]) -> None:
    assert tokenize(b"".join(map(token_bytes, tokens)).decode()) == tokens


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("Hello, world", ["H", "ell", "o", ",", "Ġwor", "ld"]),
        (" the  end\n", ["Ġthe", "Ġ", "Ġend", "Ċ"]),
        ("<|im_end|>", ["<|im_end|>"]),
        ("a", ["a"]),
        (" 🙂", ["Ġ🙂"]),
        ("é", ["\ufffd", "\ufffd"]),  # two bytes, each half a character
    ],
)
def test_a_token_is_up_to_three_letters_a_marker_or_a_byte(text: str, pieces: list[str]) -> None:
    assert [token_string(token) for token in tokenize(text)] == pieces


def test_no_word_stands_twice_among_those_spoken() -> None:
    assert len(set(SPOKEN)) == len(SPOKEN)


def test_the_chat_template_counts() -> None:
    text = chat_prompt([("user", "hi")])
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert tokenize(text).count(EOS) == 1


ROOMY = Settings("m", ("m",), max_model_len=4096)


def completion(**body: Any) -> GenerationRequest:
    return read_request(COMPLETIONS, {"prompt": "hello", **body}, ROOMY)


def reply(**body: Any) -> Reply:
    return make_replies(completion(**body), ROOMY)[0]


def test_a_reply_depends_on_seed_prompt_and_choice_alone() -> None:
    first = reply(max_tokens=50)
    assert first == reply(max_tokens=50)
    others = [
        reply(max_tokens=50, prompt="hello!"),
        reply(max_tokens=50, seed=1),
        make_replies(completion(max_tokens=50), Settings("m", ("m",), seed=1))[0],
        make_replies(completion(max_tokens=50, n=2), ROOMY)[1],
    ]
    assert all(first.token_ids != other.token_ids for other in others)


@given(st.integers(1, 300), st.integers(0, 300), st.booleans(), st.text(max_size=3))
def test_lengths_keep_to_what_was_asked(
    max_tokens: int, min_tokens: int, ignore_eos: bool, prompt: str
) -> None:
    min_tokens = min(min_tokens, max_tokens)
    got = reply(
        prompt=f"x{prompt}", max_tokens=max_tokens, min_tokens=min_tokens, ignore_eos=ignore_eos
    )
    length = len(got.token_ids)
    assert len(got.pieces) == length
    assert min_tokens <= length <= max_tokens
    if ignore_eos:
        assert length == max_tokens
    if got.finish_reason == "stop":
        # The end of the text is a token without a text, and min_tokens doesn't count it.
        assert got.token_ids[-1] == EOS
        assert got.pieces[-1] == b""
        assert length > min_tokens
    else:
        assert (got.finish_reason, length) == ("length", max_tokens)


def test_natural_lengths_are_spread_about_their_median() -> None:
    lengths = [len(reply(prompt=f"{i}", max_tokens=4000).token_ids) for i in range(400)]
    assert 100 < statistics.median(lengths) < 145
    assert min(lengths) < 50
    assert max(lengths) > 400


def test_a_bias_for_the_end_ends_at_once_unless_min_tokens_holds_it_back() -> None:
    bias = {str(EOS): 100}
    assert reply(logit_bias=bias, max_tokens=8).token_ids == [EOS]
    held = reply(logit_bias=bias, max_tokens=8, min_tokens=3)
    assert len(held.token_ids) == 4


@pytest.mark.parametrize(("endpoint", "thinks"), [(CHAT, True), (COMPLETIONS, False)])
def test_only_a_chat_of_a_reasoning_model_reasons(endpoint: str, thinks: bool) -> None:
    settings = Settings("m", ("m",), max_model_len=4096, reasoning=True)
    body = {"messages": [{"role": "user", "content": "why"}], "prompt": "why"}
    got = make_replies(read_request(endpoint, body, settings), settings)[0]
    assert (got.reasoning_tokens > 0) == thinks
