from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sim.wire.tokens import (
    EOS,
    FOREIGN,
    SPECIAL,
    SPOKEN,
    SPOKEN_IDS,
    VOCABULARY_SIZE,
    chat_prompt,
    detokenize,
    token_string,
    tokenize,
)

TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.lists(
    st.sampled_from([*SPECIAL, *FOREIGN, " the", "The", "\n", "{}", "é", "<|im_", " "])
).map("".join)


@given(TEXTS)
def test_the_text_of_a_texts_tokens_is_the_text(text: str) -> None:
    assert detokenize(tokenize(text)) == text


@given(TEXTS)
def test_every_id_lies_in_the_vocabulary(text: str) -> None:
    assert all(0 <= token < VOCABULARY_SIZE for token in tokenize(text))


@given(st.lists(st.sampled_from(SPOKEN_IDS), max_size=20))
def test_what_the_simulator_says_reads_back_as_the_tokens_that_made_it(tokens: list[int]) -> None:
    assert tokenize(detokenize(tokens)) == tokens


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
    assert chat_prompt([("user", "hi")], add_generation_prompt=False) in text


def test_an_id_beyond_the_vocabulary_has_no_text() -> None:
    assert detokenize([VOCABULARY_SIZE, -1]) == ""
