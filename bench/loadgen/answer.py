"""The text of an answer, for the next turn of its conversation to carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from .sse import DONE, EventSplitter


def answer_text(body: bytes, *, stream: bool) -> str | None:
    """Return what the assistant said in a chat's reply, reasoning left out; None: nothing.

    Reasoning is no part of a chat's history: a template drops it from earlier turns.
    """
    payloads = EventSplitter().feed(body) if stream else [body]
    return "".join(part for p in payloads if p != DONE for part in _parts(p)) or None


def _parts(payload: bytes) -> Iterator[str]:
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return  # judged elsewhere; here it is no answer
    for choice in _choices(event):
        said = choice.get("delta") or choice.get("message")
        text = said.get("content") if isinstance(said, dict) else None
        if isinstance(text, str) and choice.get("index", 0) == 0:
            yield text


def _choices(event: Any) -> Iterator[dict[str, Any]]:
    found = event.get("choices") if isinstance(event, dict) else None
    if isinstance(found, list):
        yield from (choice for choice in found if isinstance(choice, dict))
