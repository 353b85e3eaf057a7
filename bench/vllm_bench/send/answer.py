"""The text of an answer, for the next turn of its conversation to carry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from ..reply.sse import DONE, EventSplitter


def answer_text(body: bytes, *, stream: bool) -> str | None:
    """Return what the assistant said in a chat's reply, reasoning left out; None: nothing.

    Reasoning is no part of a chat's history: a template drops it from earlier turns. Nor is a
    reply that broke off: an error in its middle, or a stream without its end.
    """
    payloads = EventSplitter().feed(body) if stream else [body]
    if stream and DONE not in payloads:
        return None
    try:
        events = [orjson.loads(payload) for payload in payloads if payload != DONE]
    except orjson.JSONDecodeError:
        return None  # judged elsewhere; here it is no answer
    if any(isinstance(event, dict) and event.get("error") is not None for event in events):
        return None
    return "".join(part for event in events for part in _parts(event)) or None


def _parts(event: Any) -> Iterator[str]:
    for choice in _choices(event):
        said = choice.get("delta") or choice.get("message")
        text = said.get("content") if isinstance(said, dict) else None
        if isinstance(text, str) and choice.get("index", 0) == 0:
            yield text


def _choices(event: Any) -> Iterator[dict[str, Any]]:
    found = event.get("choices") if isinstance(event, dict) else None
    if isinstance(found, list):
        yield from (choice for choice in found if isinstance(choice, dict))
