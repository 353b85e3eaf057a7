"""The simulated model's replies: fixed when a request comes, only by the seed and the prompt.

The same seed, prompt and request seed give the same tokens in every run. A reply ends
by itself after a length drawn from a log-normal distribution (median 120 tokens, like a
chat model's answers), unless the request sets its length.
"""

from __future__ import annotations

import math
import random
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace

import orjson

from .generation import GenerationRequest
from .settings import Settings
from .structured import answer_of
from .tokens import EOS, NON_ASCII_IDS, SPOKEN_IDS, THINK, THINK_END, token_bytes, tokenize

_MEDIAN_TOKENS = 120.0
_SPREAD = 0.7  # of the logarithm: one reply in twenty is over three times the median
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
    mark: int | None = None  # the place of the token that ends them, if there is one

    def text(self, start: int = 0, end: int | None = None) -> str:
        """Return the text of the tokens from `start` to before `end`."""
        text: str = orjson.loads(b'"' + b"".join(self.pieces[start:end]) + b'"')
        return text


def make_replies(
    ask: GenerationRequest, settings: Settings, voice: Sequence[int] = VOICE
) -> list[Reply]:
    """Return the reply of each choice."""
    return [_make_reply(ask, choice, settings, voice) for choice in range(ask.n)]


def _make_reply(
    ask: GenerationRequest, choice: int, settings: Settings, voice: Sequence[int]
) -> Reply:
    digest = zlib.crc32(array("Q", ask.prompt).tobytes())
    rng = random.Random((digest << 64) ^ (settings.seed << 32) ^ (ask.seed << 8) ^ choice)
    if ask.schema is not None:
        return _structured(ask, rng, voice, settings.thinking.tokens)
    length, ends_itself = _length(ask, rng)
    thinks = rng.randint(*settings.thinking.tokens)
    if ask.worked_out is not None and not ask.ignore_eos:
        return _answer(ask, rng.choices(voice, k=thinks * ask.reasoning), settings.thinking.parser)
    tokens = rng.choices(voice, k=length - ends_itself)
    reasoning = min(thinks, len(tokens)) if ask.reasoning else 0
    tokens += [EOS] * ends_itself
    pieces = [_ESCAPED[token] for token in tokens]
    found = Reply(tokens, pieces, "stop" if ends_itself else "length", reasoning)
    return _marked(found, settings.thinking.parser) if ask.reasoning else found


def _marked(reply: Reply, parser: str | None) -> Reply:
    """Return a reply whose thoughts have marks, as a model's have; they are tokens too."""
    tokens, pieces, border = reply.token_ids, reply.pieces, reply.reasoning_tokens
    follows = border + 1 < len(tokens)  # so that the event after it has a text
    mark = border if parser and follows else None
    if mark is not None:
        tokens[mark], pieces[mark] = THINK_END, b""
    if parser != "none":
        return replace(reply, mark=mark)
    tokens[0], pieces[0] = THINK, b"<think>"
    if mark is not None:
        pieces[mark] = b"</think>"
    return replace(reply, reasoning_tokens=0)


def _structured(
    ask: GenerationRequest, rng: random.Random, voice: Sequence[int], thinking: tuple[int, int]
) -> Reply:
    """Return an answer of the schema's form, cut at max_tokens; `ignore_eos` lets text follow."""
    thinks = rng.randint(*thinking) if ask.reasoning else 0
    said = tokenize(orjson.dumps(answer_of(ask.schema, ask.schema, rng)).decode())
    tokens = [*rng.choices(voice, k=thinks), *said]
    ended = len(tokens) < ask.max_tokens and not ask.ignore_eos
    free = [EOS] if ended else rng.choices(voice, k=max(0, ask.max_tokens - len(tokens)))
    tokens = [*tokens, *free][: ask.max_tokens]
    pieces = [b"" if t == EOS else orjson.dumps(token_bytes(t).decode())[1:-1] for t in tokens]
    return Reply(tokens, pieces, "stop" if ended else "length", min(thinks, len(tokens)))


def _answer(ask: GenerationRequest, thoughts: list[int], parser: str | None) -> Reply:
    """Return the answer to a sum, after the thoughts and their mark; `max_tokens` may cut it."""
    mark = [THINK_END] if thoughts and parser else []
    whole = [*thoughts, *mark, *tokenize(ask.worked_out or ""), EOS]
    tokens = whole[: ask.max_tokens]
    bare = (EOS, THINK_END)
    pieces = [b"" if t in bare else orjson.dumps(token_bytes(t).decode())[1:-1] for t in tokens]
    end = "stop" if len(tokens) == len(whole) else "length"
    found = Reply(tokens, pieces, end, min(len(thoughts), len(tokens)))
    return _marked(found, parser) if thoughts else found


def _length(ask: GenerationRequest, rng: random.Random) -> tuple[int, bool]:
    """Return how many tokens come, and whether the last one is the end of the text."""
    drawn = 1 + round(math.exp(rng.gauss(math.log(_MEDIAN_TOKENS), _SPREAD)))
    natural = 1 if ask.ends_at_once else drawn
    if natural <= ask.min_tokens:  # the end comes later; it is one token more
        natural = ask.min_tokens + 1
    if ask.ignore_eos or natural > ask.max_tokens:
        return ask.max_tokens, False
    return natural, True
