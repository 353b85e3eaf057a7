"""Log probabilities: their shape is vLLM's, their values are made up from the token ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .tokens import SPOKEN_IDS, token_bytes


def chat_logprobs(tokens: Sequence[int], alternatives: int) -> dict[str, Any]:
    """Return `choices[].logprobs` of a chat answer."""
    content = []
    for token in tokens:
        top = [_entry(t, _value(t, rank)) for rank, t in enumerate(_ranked(token, alternatives))]
        content.append({**_entry(token, _value(token, 0)), "top_logprobs": top})
    return {"content": content}


def completion_logprobs(tokens: Sequence[int], alternatives: int, offset: int) -> dict[str, Any]:
    """Return `choices[].logprobs` of a completion whose text so far is `offset` characters."""
    texts = [_text(token) for token in tokens]
    offsets = []
    for text in texts:
        offsets.append(offset)
        offset += len(text)
    return {
        "text_offset": offsets,
        "token_logprobs": [_value(token, 0) for token in tokens],
        "tokens": texts,
        "top_logprobs": [
            {_text(t): _value(t, rank) for rank, t in enumerate(_ranked(token, alternatives))}
            for token in tokens
        ],
    }


def _ranked(token: int, alternatives: int) -> list[int]:
    others = [other for other in SPOKEN_IDS if other != token]
    start = token % len(others)
    return [token, *others[start:], *others[:start]][:alternatives]


def _entry(token: int, value: float) -> dict[str, Any]:
    return {"token": _text(token), "logprob": value, "bytes": list(token_bytes(token))}


def _text(token: int) -> str:
    return token_bytes(token).decode("utf-8", "replace")


def _value(token: int, rank: int) -> float:
    return -0.05 - (token * 2_654_435_761 % 997) / 997 - rank
