"""Whose tokens a prompt is counted in: the simulator's own, or those of a model's tokenizer.

A client that has the model's tokenizer counts its prompts with it and holds the count against the
server's. Replies are made of the simulator's own words whichever is used.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .tokens import token_string, tokenize


class Vocabulary(Protocol):
    """Counts texts in tokens."""

    def encode(self, text: str, add_special_tokens: bool) -> Sequence[int]: ...
    def string(self, token: int) -> str: ...


class OwnWords:
    """The simulator's own tokens, which need no file."""

    def encode(self, text: str, add_special_tokens: bool) -> Sequence[int]:
        """Return the ids of a text; there are no special tokens to add."""
        return tokenize(text)

    def string(self, token: int) -> str:
        return token_string(token)


class ModelTokens:
    """The tokens of a `tokenizer.json`, as vLLM would count them."""

    def __init__(self, folder: Path) -> None:
        """Load a model's tokenizer. Raises ValueError."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ValueError("--tokenizer needs the package tokenizers: pip install it") from None
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ValueError(f"--tokenizer {folder}: has no tokenizer.json; give a model's folder")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as e:  # the library raises nothing narrower
            raise ValueError(f"--tokenizer {path}: is no tokenizer of a model") from e

    def encode(self, text: str, add_special_tokens: bool) -> Sequence[int]:
        """Return the ids of a text."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def string(self, token: int) -> str:
        """Return a token as the vocabulary writes it; empty: it has no such id."""
        return str(self._tokenizer.id_to_token(token) or "")


@functools.cache
def vocabulary(folder: Path | None) -> Vocabulary:
    """Return the tokens of a model's folder; None: the simulator's own. Raises ValueError."""
    return OwnWords() if folder is None else ModelTokens(folder)
