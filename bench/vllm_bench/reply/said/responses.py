"""The events of /v1/responses: each has its type, and no choices; none of them is `[DONE]`.

`response.created` and `response.in_progress` come before the server has looked at the request, so
they are no tokens. The last event has the whole response once more, with its usage. There is no
finish_reason: `incomplete_details` has why a response was cut.
"""

from __future__ import annotations

from typing import Any

from .event import MOST_NAME, StreamEvent, Usage, counted, name_of, thinking_in

# The last event of a stream. vLLM's is `completed` also where the limit cut the answer.
ENDS = tuple(f"response.{word}" for word in ("completed", "incomplete", "failed", "cancelled"))
REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}


def is_one(event: dict[str, Any]) -> bool:
    """Whether it is an event of a response, or a whole one."""
    kind = event.get("type")
    told = isinstance(kind, str) and kind.startswith("response.")
    return told or event.get("object") == "response"


def read(event: dict[str, Any]) -> StreamEvent:
    """Return what it says, without the usage. Raises TypeError, AttributeError for other shapes."""
    kind = event.get("type")
    if not isinstance(kind, str):
        return _whole(event)
    if kind.endswith(".delta"):
        return _delta(kind, event.get("delta"))
    if kind in ENDS:
        return _ending(event.get("response") or {})
    if kind == "response.output_item.added" and _is_call(event.get("item")):
        return StreamEvent(has_tokens=True, has_visible_tokens=True)
    response = event.get("response")
    return StreamEvent(model=name_of(response.get("model")) if response else None)


def usage_in(event: dict[str, Any]) -> Any:
    """Return the usage of a response, or of the event that ends its stream."""
    return (event.get("response") or event).get("usage")


def usage_of(usage: dict[str, Any]) -> Usage:
    """Return the counts of a response. Raises TypeError, ValueError, … where they can't be true.

    vLLM says 0 cached tokens as well where it doesn't tell them: a 0 is unknown.
    """
    inside = usage.get("input_tokens_details") or {}
    given = usage.get("input_tokens"), usage.get("output_tokens"), inside.get("cached_tokens")
    prompt, made, cached = (None if count is None else counted(count) for count in given)
    if cached is not None and prompt is not None and cached > prompt:
        raise ValueError("more cached tokens than prompt tokens")
    return Usage(
        prompt, made, cached or None, thinking_in(usage.get("output_tokens_details"), made)
    )


def _delta(kind: str, delta: object) -> StreamEvent:
    """Return a piece of an answer, of a tool call's arguments, or of thoughts."""
    some = bool(delta) and isinstance(delta, str)
    thinks = some and "reasoning" in kind
    text = delta if isinstance(delta, str) and kind == "response.output_text.delta" else ""
    return StreamEvent(
        has_tokens=some,
        has_visible_tokens=some and not thinks,
        thinks=thinks,
        is_empty=not some,
        text=text,
    )


def _is_call(item: object) -> bool:
    """Whether an item that begins is the call of a tool, whose name is what was generated."""
    return isinstance(item, dict) and "_call" in str(item.get("type")) and bool(item.get("name"))


def _ending(response: dict[str, Any]) -> StreamEvent:
    error = response.get("error")
    if response.get("status") == "failed" or error:
        return StreamEvent(error=_words(error), done=True)
    return StreamEvent(
        finish_reasons={0: _reason(response)}, model=name_of(response.get("model")), done=True
    )


def _words(error: object) -> str:
    """Return what a failed response says; empty: nothing."""
    if not isinstance(error, dict):
        return error if isinstance(error, str) else ""
    return ": ".join(str(error[key]) for key in ("code", "message") if error.get(key))


def _reason(response: dict[str, Any]) -> str:
    """Return how it ended in the words of the other endpoints; another word is no good end."""
    status, cut = response.get("status"), (response.get("incomplete_details") or {}).get("reason")
    if cut is not None:
        return REASONS.get(cut, str(cut)[:MOST_NAME])
    return "stop" if status == "completed" else f"({str(status)[:MOST_NAME]})"


def _whole(response: dict[str, Any]) -> StreamEvent:
    """Return a response that wasn't streamed."""
    found = _ending(response)
    for item in response.get("output") or ():
        parts = item.get("content") or item.get("summary") or ()
        texts = [part.get("text") or part.get("refusal") or "" for part in parts]
        if item.get("type") == "reasoning":
            found.thinks |= any(texts)
        else:
            found.text += "".join(texts)
            found.has_visible_tokens |= any(texts) or _is_call(item)
    found.has_tokens = found.has_visible_tokens or found.thinks
    return found
