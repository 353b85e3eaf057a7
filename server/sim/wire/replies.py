"""The simulated model's replies: fixed when a request comes, only by the seed and the prompt.

The same seed, prompt and request seed give the same tokens in every run. A reply ends
by itself after a length drawn from a log-normal distribution (median 120 tokens, like a
chat model's answers), unless the request sets its length.
"""

from __future__ import annotations

import functools
import math
import random
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from .generation import GenerationRequest
from .settings import Settings
from .tokens import EOS, NON_ASCII_IDS, SPOKEN_IDS, token_bytes, tokenize

_MEDIAN_TOKENS = 120.0
_SPREAD = 0.7  # of the logarithm: one reply in twenty is over three times the median
_REASONING_TOKENS = (8, 64)  # number of reasoning tokens, uniformly drawn
VOICE = SPOKEN_IDS * 4 + NON_ASCII_IDS  # about one token in forty isn't ASCII
# The texts as they are inside a JSON string; the end-of-text token has none.
_ESCAPED = {t: orjson.dumps(token_bytes(t).decode())[1:-1] for t in set(VOICE)} | {EOS: b""}


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice, from its first token to its last."""

    token_ids: list[int]
    pieces: list[bytes]  # the text of each token, escaped for JSON
    finish_reason: str  # stop or length
    reasoning_tokens: int  # the first tokens, which are reasoning

    def text(self, start: int = 0, end: int | None = None) -> str:
        """Return the text of the tokens from `start` to before `end`."""
        text: str = orjson.loads(b'"' + b"".join(self.pieces[start:end]) + b'"')
        return text


def make_replies(
    ask: GenerationRequest, settings: Settings, voice: Sequence[int] = VOICE
) -> list[Reply]:
    """Return the reply of each choice."""
    return [_make_reply(ask, choice, settings.seed, voice) for choice in range(ask.n)]


def _make_reply(ask: GenerationRequest, choice: int, seed: int, voice: Sequence[int]) -> Reply:
    digest = zlib.crc32(array("Q", ask.prompt).tobytes())
    rng = random.Random((digest << 64) ^ (seed << 32) ^ (ask.seed << 8) ^ choice)
    length, ends_itself = _length(ask, rng)
    thinks = rng.randint(*_REASONING_TOKENS)
    if ask.worked_out is not None and not ask.ignore_eos:
        return _answer(ask, rng.choices(voice, k=thinks if ask.reasoning else 0))
    tokens = rng.choices(voice, k=length - ends_itself)
    reasoning = min(thinks, len(tokens)) if ask.reasoning else 0
    tokens += [EOS] * ends_itself
    pieces = [_ESCAPED[token] for token in tokens]
    return Reply(tokens, pieces, "stop" if ends_itself else "length", reasoning)


def _answer(ask: GenerationRequest, thoughts: list[int]) -> Reply:
    """Return the answer to a sum, after the thoughts; `max_tokens` may cut it."""
    whole = [*thoughts, *tokenize(ask.worked_out or ""), EOS]
    tokens = whole[: ask.max_tokens]
    pieces = [_escaped(token) for token in tokens]
    ends_itself = len(tokens) == len(whole)
    return Reply(
        tokens, pieces, "stop" if ends_itself else "length", min(len(thoughts), len(tokens))
    )


@functools.cache
def _escaped(token: int) -> bytes:
    """Return a token's text as it is inside a JSON string; a sum's are all ASCII."""
    known = _ESCAPED.get(token)
    return orjson.dumps(token_bytes(token).decode())[1:-1] if known is None else known


def _length(ask: GenerationRequest, rng: random.Random) -> tuple[int, bool]:
    """Return how many tokens come, and whether the last one is the end of the text."""
    drawn = 1 + round(math.exp(rng.gauss(math.log(_MEDIAN_TOKENS), _SPREAD)))
    natural = 1 if ask.ends_at_once else drawn
    if natural <= ask.min_tokens:  # the end comes later; it is one token more
        natural = ask.min_tokens + 1
    if ask.ignore_eos or natural > ask.max_tokens:
        return ask.max_tokens, False
    return natural, True
