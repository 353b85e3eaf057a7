"""The content of one event of a completion stream: tokens, an end, usage, an error.

An event is a token event (METHOD.md) if it has non-empty text, reasoning or tool
calls, or non-empty `token_ids`. Events with only a role or usage, and empty ones,
aren't token events. A server makes an event of one or more tokens, never two of one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import orjson

# Newer servers use `reasoning`, older ones `reasoning_content`.
REASONING_KEYS = ("reasoning", "reasoning_content")
MOST_COUNTED = 10**9  # tokens of a request; no context is as long


class EventError(Exception):
    """An event whose payload doesn't belong in a completion stream."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the server gives them."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event, or a complete reply that wasn't streamed."""

    has_tokens: bool = False
    has_visible_tokens: bool = False
    token_count: int = 0  # from `token_ids`; 0: unknown
    finish_reasons: dict[int, str] = field(default_factory=dict)  # by choice
    usage: Usage | None = None
    error: str | None = None
    fingerprint: str | None = None
    model: str | None = None


def read_event(payload: bytes) -> StreamEvent:
    """Read the JSON of one event. Raises EventError where it isn't JSON or has another shape."""
    try:
        event = orjson.loads(payload)
    except orjson.JSONDecodeError as e:
        raise EventError(f"malformed JSON in an event: {_excerpt(payload)}") from e
    if not isinstance(event, dict):
        raise EventError(f"an event that isn't a JSON object: {_excerpt(payload)}")
    if event.get("error") is not None:
        return StreamEvent(error=error_text(event))
    try:
        return _read_completion(event)
    except (KeyError, TypeError, AttributeError, ValueError) as e:
        raise EventError(f"an event with an unknown shape: {_excerpt(payload)}") from e


def _read_completion(event: dict[str, Any]) -> StreamEvent:
    has_tokens = has_visible = False
    token_count = 0
    finish_reasons: dict[int, str] = {}
    for choice in event.get("choices") or ():
        # delta: a chat chunk; message: a complete chat reply; neither: /v1/completions.
        part = choice.get("delta") or choice.get("message") or choice
        visible = bool(part.get("content") or choice.get("text") or _calls(part))
        token_ids = choice.get("token_ids") or ()
        has_visible |= visible
        has_tokens |= visible or bool(token_ids) or any(map(part.get, REASONING_KEYS))
        token_count += len(token_ids)
        if choice.get("finish_reason"):
            finish_reasons[int(choice.get("index", 0))] = str(choice["finish_reason"])
    return StreamEvent(
        has_tokens=has_tokens,
        has_visible_tokens=has_visible,
        token_count=token_count,
        finish_reasons=finish_reasons,
        usage=_read_usage(event.get("usage")),
        fingerprint=_text(event.get("system_fingerprint")),
        model=_text(event.get("model")),
    )


def _calls(part: dict[str, Any]) -> bool:
    """Whether a tool call's name or arguments come with it; its id alone is the server's work."""
    old = part.get("function_call")  # how functions were called before tools
    if not (part.get("tool_calls") or old):
        return False
    calls = [call.get("function") or {} for call in part.get("tool_calls") or ()]
    return any(call.get("name") or call.get("arguments") for call in [*calls, old or {}])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _read_usage(usage: dict[str, Any] | None) -> Usage | None:
    """Return the usage; None: there is none. Raises EventError where it can't be true."""
    try:
        return _usage_of(usage) if usage else None
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as e:
        raise EventError(f"usage that can't be true: {_excerpt(orjson.dumps(usage))}") from e


def _usage_of(usage: dict[str, Any]) -> Usage:
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
    found = Usage(
        prompt_tokens=counted(usage["prompt_tokens"]),
        completion_tokens=counted(usage.get("completion_tokens") or 0),
        cached_tokens=None if cached is None else counted(cached),
    )
    if (found.cached_tokens or 0) > found.prompt_tokens:
        raise ValueError("more cached tokens than prompt tokens")
    return found


def counted(value: Any) -> int:
    """Return a number of tokens; some gateways write 5.0 for 5.

    Raises TypeError, ValueError, OverflowError where it is none.
    """
    number = int(value)
    if value != number or isinstance(value, bool) or not 0 <= number <= MOST_COUNTED:
        raise ValueError("not a number of tokens")
    return number


def error_text(reply: object) -> str:
    """Return the server's message from an error's JSON in any of its known shapes."""
    if isinstance(reply, dict):
        for key in ("error", "detail", "message"):
            if reply.get(key):
                inner = reply[key]
                return error_text(inner) if isinstance(inner, dict) else _one_line(str(inner))
    return _one_line(orjson.dumps(reply).decode())


def _one_line(text: str) -> str:
    return " ".join(text.split())[:500]


def _excerpt(payload: bytes) -> str:
    return _one_line(payload[:120].decode(errors="replace"))
