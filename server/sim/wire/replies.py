"""What the simulated model says: decided when a request comes, by the seed and the prompt alone.

The same seed, prompt and request seed give the same tokens in every run and in every
worker. A reply ends by itself after a length drawn from a log-normal distribution
(median 120 tokens, like a chat model's answers), unless the request holds it open.
"""

from __future__ import annotations

import math
import random
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from .ask import Ask
from .settings import Settings
from .tokens import EOS, FOREIGN_IDS, SPOKEN_IDS, token_bytes

_MEDIAN_TOKENS = 120.0
_SPREAD = 0.7  # of the logarithm: one reply in twenty is over three times the median
_REASONING_TOKENS = (8, 64)  # a reasoning model thinks for as many, uniformly drawn
VOICE = SPOKEN_IDS * 4 + FOREIGN_IDS  # about one token in forty lies beyond ASCII


def json_text(text: str) -> bytes:
    """Return a text as it stands inside a JSON string."""
    return orjson.dumps(text)[1:-1]


_ESCAPED = {token: json_text(token_bytes(token).decode()) for token in set(VOICE)}


@dataclass(frozen=True, slots=True)
class Reply:
    """One choice, from its first token to its last."""

    token_ids: list[int]
    pieces: list[bytes]  # the text that each token lets out, escaped for JSON
    finish_reason: str  # stop or length
    stop_reason: str | int | None  # the stop string or token, where one was met
    reasoning_tokens: int  # the first so many are reasoning

    def text(self, start: int = 0, end: int | None = None) -> str:
        """Return the text of the tokens from `start` to before `end`."""
        text: str = orjson.loads(b'"' + b"".join(self.pieces[start:end]) + b'"')
        return text


def make_replies(ask: Ask, settings: Settings, voice: Sequence[int] = VOICE) -> list[Reply]:
    """Decide what each choice of each prompt will say, in words of the voice."""
    return [
        _make_reply(ask, (prompt, choice), settings, voice)
        for prompt in range(len(ask.prompts))
        for choice in range(ask.n)
    ]


def _make_reply(
    ask: Ask, place: tuple[int, int], settings: Settings, voice: Sequence[int]
) -> Reply:
    prompt, choice = place
    rng = random.Random(_key(ask, prompt, choice, settings.seed))
    length, ends_itself = _length(ask, ask.max_tokens[prompt], rng)
    thinks = rng.randint(*_REASONING_TOKENS)
    tokens = rng.choices(voice, k=length - ends_itself)
    reasoning = min(thinks, len(tokens)) if ask.reasoning else 0
    pieces = [_ESCAPED[token] for token in tokens]
    if ends_itself:
        tokens.append(EOS)
        pieces.append(b"")  # a token without a text
    reply = Reply(tokens, pieces, "stop" if ends_itself else "length", None, reasoning)
    if ask.stop or ask.stop_token_ids:
        return _stopped(reply, ask)
    return reply


def _key(ask: Ask, prompt: int, choice: int, seed: int) -> int:
    digest = zlib.crc32(array("Q", ask.prompts[prompt]).tobytes())
    return (digest << 64) ^ (seed << 32) ^ ((ask.seed or 0) << 8) ^ choice


def _length(ask: Ask, max_tokens: int, rng: random.Random) -> tuple[int, bool]:
    """Return how many tokens come, and whether the last one is the end of the text."""
    drawn = 1 + round(math.exp(rng.gauss(math.log(_MEDIAN_TOKENS), _SPREAD)))
    natural = 1 if ask.ends_at_once else drawn
    if natural <= ask.min_tokens:  # the end is held back; it is one token more
        natural = ask.min_tokens + 1
    if ask.ignore_eos or natural > max_tokens:
        return max_tokens, False
    return natural, True


def _stopped(reply: Reply, ask: Ask) -> Reply:
    """Cut a reply where it meets a stop string or token, and hold its text back as vLLM does."""
    text = ""
    ends: list[int] = []  # the length of the text after each token
    floor = 0  # what min_tokens has let out is not searched
    longest = max(map(len, ask.stop), default=1)
    for index, token in enumerate(reply.token_ids):
        start = max(floor, len(text) - longest + 1)
        text += "" if token == EOS else token_bytes(token).decode()
        ends.append(len(text))
        if index < ask.min_tokens:
            floor = len(text)
            continue
        if token in ask.stop_token_ids:
            return _cut(reply, ask, text, ends, token)
        for stop in ask.stop:  # the first of the list, not the first in the text
            if (at := text.find(stop, start)) >= 0:
                kept = text[: at + len(stop) * ask.include_stop]
                return _cut(reply, ask, kept, ends, stop)
    return _cut(reply, ask, text, ends, None)


def _cut(reply: Reply, ask: Ask, text: str, ends: list[int], why: str | int | None) -> Reply:
    # A stop string may have begun: as many characters as one can have wait for the next token.
    held = max((len(stop) - 1 for stop in ask.stop), default=0) * (not ask.include_stop)
    shown = [min(max(0, end - held), len(text)) for end in ends[:-1]] + [len(text)]
    borders = zip([0, *shown], shown, strict=False)
    return Reply(
        reply.token_ids[: len(ends)],
        [json_text(text[start:end]) for start, end in borders],
        reply.finish_reason if why is None else "stop",
        why,
        min(reply.reasoning_tokens, len(ends)),
    )
