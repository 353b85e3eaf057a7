"""A tokenizer without a vocabulary file; all counts and texts of the simulator agree with it.

A token is a special marker, one of a few non-ASCII words, up to three lower-case
letters with or without a blank before them, or a single byte. Each byte string
is tokenized in exactly one way, and joining the pieces gives it back.

    "Hello, world" -> "H" "ell" "o" "," " wor" "ld"
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterable

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
EOS = 2
# Single tokens of several bytes: their text can be cut inside a character.
NON_ASCII = (" café", " naïve", " über", " señor", " 東京", " привет", " 🙂")
# Words of the simulator's replies: one token each, so that tokenizing a reply gives back its
# tokens.
SPOKEN = (
    "the", "and", "for", "are", "but", "not", "you", "all", "any", "can", "had", "her", "was",
    "one", "our", "out", "day", "get", "has", "him", "his", "how", "new", "now", "old", "see",
    "two", "way", "who", "did", "its", "let", "put", "say", "she", "too", "use", "may", "own",
    "off", "try", "run", "set", "far", "big", "low", "top", "end", "air", "car", "dog", "sun",
    "map", "key", "law", "sea", "ice", "oil", "art", "bus", "cup",
)  # fmt: skip


def _letters() -> Iterable[bytes]:
    for length in (1, 2, 3):
        for letters in itertools.product(string.ascii_lowercase, repeat=length):
            word = "".join(letters).encode()
            yield b" " + word
            if length > 1:  # a single letter is a byte already
                yield word


PIECES: tuple[bytes, ...] = (
    *(text.encode() for text in SPECIAL),
    *(bytes([byte]) for byte in range(256)),
    *(text.encode() for text in NON_ASCII),
    *_letters(),
)
_IDS = {piece: token for token, piece in enumerate(PIECES)}
_PIECE = re.compile(
    b"|".join(
        [
            *(re.escape(text.encode()) for text in (*SPECIAL, *NON_ASCII)),
            rb" ?[a-z]{1,3}",
            rb"[\x00-\xff]",
        ]
    )
)
THINK, THINK_END = len(PIECES), len(PIECES) + 1  # the marks of thoughts, which no text has
SPOKEN_IDS: tuple[int, ...] = tuple(_IDS[b" " + word.encode()] for word in SPOKEN)
NON_ASCII_IDS: tuple[int, ...] = tuple(_IDS[word.encode()] for word in NON_ASCII)


def tokenize(text: str) -> list[int]:
    """Return the token ids of a text."""
    return list(map(_IDS.__getitem__, _PIECE.findall(text.encode("utf-8", "replace"))))


def token_bytes(token: int) -> bytes:
    """Return the bytes of a token; one byte may be half a character."""
    return PIECES[token]


def token_string(token: int) -> str:
    """Return a token as byte-level vocabularies write it: Ġ for a blank, Ċ for a newline."""
    text = token_bytes(token).decode("utf-8", "replace")
    return text.replace(" ", "Ġ").replace("\n", "Ċ")


def chat_prompt(messages: Iterable[tuple[str, str]]) -> str:
    """Return the text that (role, content) messages become before they are tokenized."""
    turns = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in messages)
    return turns + "<|im_start|>assistant\n"
