"""Prompts counted with a model's tokenizer, as a client that has it counts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sim.wire.bodies import tokenized
from sim.wire.generation import CHAT, COMPLETIONS, read_request
from sim.wire.settings import Settings
from sim.wire.tokens import chat_prompt, token_string, tokenize
from sim.wire.vocabulary import vocabulary

from tests.sim.simulated import Simulated

TEXT = "one two three one"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer whose tokens are words, and which begins a prompt with a token of its own."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    known = {"<s>": 0, "<unk>": 1, "one": 2, "two": 3}
    made = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def prompt_of(endpoint: str, folder: Path | None, **body: Any) -> tuple[int, ...]:
    return read_request(endpoint, body, Settings("m", ("m",), tokenizer=folder)).prompt


def test_a_prompt_has_the_tokenizers_tokens_and_its_special_ones(folder: Path) -> None:
    assert prompt_of(COMPLETIONS, folder, prompt=TEXT) == (0, 2, 3, 1, 2)
    assert prompt_of(COMPLETIONS, folder, prompt=TEXT, add_special_tokens=False) == (2, 3, 1, 2)
    assert prompt_of(COMPLETIONS, folder, prompt=[7, 8]) == (7, 8)
    assert prompt_of(COMPLETIONS, None, prompt=TEXT) == tuple(tokenize(TEXT))


def test_a_chats_template_has_its_special_tokens_in_its_text(folder: Path) -> None:
    messages = [{"role": "user", "content": TEXT}]
    tokens = prompt_of(CHAT, folder, messages=messages)
    assert tokens.count(0) == 0
    assert tokens.count(2) == 2
    own = tuple(tokenize(chat_prompt([("user", TEXT)])))
    assert prompt_of(CHAT, None, messages=messages) == own


def test_token_strings_are_those_of_the_same_vocabulary(folder: Path) -> None:
    words = vocabulary(folder)
    assert tokenized([2, 3, 99], 100, words)["token_strs"] == ["one", "two", ""]
    assert tokenized([2], 100, vocabulary(None))["token_strs"] == [token_string(2)]
    assert tokenized([2], 100, None)["token_strs"] is None


@pytest.mark.parametrize("text", [None, "{}"])
def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match="tokenizer"):
        vocabulary(tmp_path)


@pytest.mark.process
def test_usage_and_tokenize_tell_the_tokenizers_count(folder: Path) -> None:
    flags = ("--exact", "--ttft-ms", "1", "--itl-ms", "1", "--tokenizer", str(folder))
    with Simulated(*flags) as server:
        told = server.client.post("/tokenize", json={"prompt": TEXT}).json()
        assert (told["count"], told["tokens"]) == (5, [0, 2, 3, 1, 2])
        body = {"prompt": TEXT, "max_tokens": 3, "ignore_eos": True}
        usage = server.client.post("/v1/completions", json=body).json()["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 3)
