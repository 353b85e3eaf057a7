from __future__ import annotations

import statistics
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.wire.ask import CHAT, COMPLETIONS, Ask, read_ask
from sim.wire.replies import Reply, make_replies
from sim.wire.settings import Settings
from sim.wire.tokens import EOS, SPOKEN

SETTINGS = Settings("m", ("m",), max_model_len=4096)


def completion(**body: Any) -> Ask:
    return read_ask(COMPLETIONS, {"prompt": "hello", **body}, SETTINGS)


def reply(**body: Any) -> Reply:
    return make_replies(completion(**body), SETTINGS)[0]


def test_a_reply_depends_on_seed_prompt_and_choice_alone() -> None:
    first = reply(max_tokens=50)
    assert first == reply(max_tokens=50)
    others = [
        reply(max_tokens=50, prompt="hello!"),
        reply(max_tokens=50, seed=1),
        make_replies(completion(max_tokens=50), Settings("m", ("m",), seed=1))[0],
        make_replies(completion(max_tokens=50, n=2), SETTINGS)[1],
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


WORDS = st.sampled_from([" " + word for word in SPOKEN])


@given(st.lists(WORDS, min_size=1, max_size=3), st.booleans(), st.integers(0, 30), st.integers())
def test_a_stop_string_ends_the_text_and_no_part_of_it_slips_out(
    stop: list[str], include: bool, min_tokens: int, seed: int
) -> None:
    more = {"max_tokens": 60, "ignore_eos": True, "seed": seed % 1000}
    free = reply(**more)
    got = reply(
        **more, stop=stop, include_stop_str_in_output=include, min_tokens=min_tokens
    )  # fmt: skip
    length = len(got.token_ids)
    assert got.token_ids == free.token_ids[:length]
    searched = free.text(min_tokens, length)
    if got.stop_reason is None:
        assert (got.finish_reason, length) == ("length", 60)
        assert got.text() == free.text()
        assert not any(word in searched for word in stop)
        return
    assert got.finish_reason == "stop"
    assert got.stop_reason in stop
    assert length > min_tokens
    assert free.text(0, length).startswith(got.text())
    # Not a token too late: before the last one there was nothing to find.
    assert not any(word in free.text(min_tokens, length - 1) for word in stop)
    assert got.text().endswith(got.stop_reason) == include or not include
    assert not any(word in got.text()[len(free.text(0, min_tokens)) :] for word in stop) or include


def test_text_waits_that_may_be_the_beginning_of_a_stop_string() -> None:
    free = reply(max_tokens=20, ignore_eos=True)
    third = free.text(2, 3)
    got = reply(max_tokens=20, ignore_eos=True, stop=[third + "#"])
    shown = [got.text(0, end) for end in range(1, 20)]
    whole = [free.text(0, end) for end in range(1, 20)]
    held = len(third)
    assert shown == [text[: max(0, len(text) - held)] for text in whole]
    assert got.text() == free.text()


def test_a_stop_token_ends_the_reply_and_is_named() -> None:
    free = reply(max_tokens=20, ignore_eos=True)
    token = free.token_ids[7]
    got = reply(max_tokens=20, ignore_eos=True, stop_token_ids=[token])
    assert got.token_ids == free.token_ids[: free.token_ids.index(token) + 1]
    assert (got.finish_reason, got.stop_reason) == ("stop", token)


@pytest.mark.parametrize(("endpoint", "thinks"), [(CHAT, True), (COMPLETIONS, False)])
def test_only_a_chat_of_a_reasoning_model_reasons(endpoint: str, thinks: bool) -> None:
    settings = Settings("m", ("m",), max_model_len=4096, reasoning=True)
    body = {"messages": [{"role": "user", "content": "why"}], "prompt": "why"}
    got = make_replies(read_ask(endpoint, body, settings), settings)[0]
    assert (got.reasoning_tokens > 0) == thinks
