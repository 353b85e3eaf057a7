"""The content of one event of a completion stream: tokens, an end, usage, an error.

An event is a token event (METHOD.md) if it has non-empty text, reasoning, a refusal, sound or tool
calls, or non-empty `token_ids`. Events with only a role or usage, and empty ones, aren't token
events. A server makes an event of one or more tokens, never two of one.

What a reply needs not have may be missing or null in any event; what is there must be right where
a figure depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .exchange import Failure
from .said import responses
from .said.event import MOST_NAME, EventError, StreamEvent, Usage, counted, name_of, thinking_in
from .words import Text, error_code, error_text, one_line, read_json, words_of

# Newer servers use `reasoning`, older ones `reasoning_content`.
REASONING_KEYS = ("reasoning", "reasoning_content")
# A choice that ended by itself; a choice that didn't: abort, error, repetition, content_filter.
# The last four are TGI's, Mistral's and Anthropic's words, which gateways pass on.
GOOD_ENDS = (
    *("stop", "length", "tool_calls", "function_call"),
    *("eos_token", "stop_sequence", "model_length", "end_turn"),
)


def read_event(payload: Text) -> StreamEvent:
    """Read the JSON of one event. Raises EventError where it isn't JSON or has another shape."""
    try:
        event = read_json(payload)
    except ValueError as e:
        raise EventError(f"malformed JSON in an event: {_excerpt(payload)}") from e
    if event is None or event == "":
        return StreamEvent()  # a heartbeat
    if not isinstance(event, dict):
        raise EventError(f"an event that isn't a JSON object: {_excerpt(payload)}")
    if event.get("error") or "error" in (event.get("object"), event.get("type")):
        error = _error(event)
        if error is not None:
            return error
    usage, usage_of = event.get("usage"), _usage_of
    try:
        if responses.is_one(event):
            found = responses.read(event)
            usage, usage_of = responses.usage_in(event), responses.usage_of
        else:
            found = _read_completion(event)
    except (TypeError, AttributeError) as e:
        raise EventError(f"an event with an unknown shape: {_excerpt(payload)}") from e
    if usage:
        _read_usage(usage, usage_of, payload, found)
    return found


def _error(event: dict[str, Any]) -> StreamEvent | None:
    if _tells(event.get("error")) or "error" in (event.get("object"), event.get("type")):
        return StreamEvent(error=error_text(event), error_code=error_code(event))
    return None


def _tells(error: object) -> bool:
    """Whether there is an error: some servers send the field in each event, empty."""
    return any(error.values()) if isinstance(error, dict) else bool(error)


def _read_completion(event: dict[str, Any]) -> StreamEvent:
    has_tokens = has_visible = thinks = begins = False
    token_count = 0
    text = ""
    finish_reasons: dict[int, str] = {}
    choices = event.get("choices") or ()
    for place, choice in enumerate(choices):
        # delta: a chat chunk; message: a complete chat reply; neither: /v1/completions.
        part = choice.get("delta") or choice.get("message") or choice
        if choice.get("error") and _tells(choice["error"]):
            return StreamEvent(error=error_text(choice), error_code=error_code(choice))
        said = text_of(part) or choice.get("text")
        visible = bool(said or _calls(part) or _sound(part))
        token_ids = choice.get("token_ids")
        ids = len(token_ids) if isinstance(token_ids, list) else 0
        has_visible |= visible
        has_tokens |= visible or ids > 0 or _says_more(part)
        thinks |= _thinks(part)
        begins |= bool(part.get("role"))
        token_count += ids
        if said and isinstance(said, str) and index_of(choice, place) == 0:
            text += said
        if choice.get("finish_reason"):
            finish_reasons[index_of(choice, place)] = _reason(choice["finish_reason"])
    return StreamEvent(
        has_tokens=has_tokens,
        has_visible_tokens=has_visible,
        thinks=thinks,
        is_empty=bool(choices) and not has_tokens and not begins,
        token_count=token_count,
        finish_reasons=finish_reasons,
        fingerprint=name_of(event.get("system_fingerprint")),
        model=name_of(event.get("model")),
        words=None if choices else _words(event),
        text=text,
    )


def text_of(part: dict[str, Any]) -> str:
    """Return the visible text of a delta or message: what it says, or why it won't."""
    content = part.get("content")
    if content and isinstance(content, str):
        return content
    if isinstance(content, list):  # Mistral's, whose thoughts are parts beside those with text
        return "".join(map(_part_text, content))
    refusal = part.get("refusal")
    return refusal if isinstance(refusal, str) else ""


def _part_text(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else part
    return text if isinstance(text, str) else ""


def _thinks(part: dict[str, Any]) -> bool:
    """Whether there are thoughts; Mistral's are parts of the content."""
    content = part.get("content")
    parts = content if isinstance(content, list) else ()
    of_content = any(isinstance(one, dict) and one.get("type") == "thinking" for one in parts)
    return of_content or any(map(part.get, REASONING_KEYS))


def _says_more(part: dict[str, Any]) -> bool:
    """Whether there are thoughts, or content that isn't text."""
    return any(map(part.get, REASONING_KEYS)) or bool(part.get("content"))


def _sound(part: dict[str, Any]) -> bool:
    audio = part.get("audio")
    return isinstance(audio, dict) and bool(audio.get("data") or audio.get("transcript"))


def _calls(part: dict[str, Any]) -> bool:
    """Whether a tool call's name or arguments come with it; its id alone is the server's work."""
    old = part.get("function_call")  # how functions were called before tools
    if not (part.get("tool_calls") or old):
        return False
    calls = [call.get("function") or {} for call in part.get("tool_calls") or ()]
    return any(call.get("name") or call.get("arguments") for call in [*calls, old or {}])


def index_of(choice: dict[str, Any], place: int) -> int:
    """Return which choice this is; where the server doesn't say, by its place in the event."""
    index = choice.get("index")
    return index if type(index) is int else place


def _reason(reason: object) -> str:
    if not isinstance(reason, str):
        return f"({type(reason).__name__})"
    return reason if len(reason) <= MOST_NAME else f"({len(reason)} characters)"


def _words(event: dict[str, Any]) -> str | None:
    told = event.get("detail") or event.get("message")
    return error_text(event) if told else None


def _read_usage(
    usage: Any, usage_of: Callable[[Any], Usage], payload: Text, event: StreamEvent
) -> None:
    """Note an event's usage, or that it can't be true: a later one may be."""
    try:
        event.usage = usage_of(usage)
    except (TypeError, AttributeError, ValueError, OverflowError):
        shown = _excerpt(payload[max(0, payload.rfind(b'"usage"')) :])
        event.bad_usage = f"usage that can't be true: {shown}"


def _usage_of(usage: dict[str, Any]) -> Usage:
    details = usage.get("prompt_tokens_details") or {}
    given = usage.get("prompt_tokens"), usage.get("completion_tokens"), details.get("cached_tokens")
    prompt, made, cached = (None if count is None else counted(count) for count in given)
    if cached is not None and prompt is not None and cached > prompt:
        raise ValueError("more cached tokens than prompt tokens")
    told = usage.get("completion_tokens_details") or usage  # sglang's has no details
    return Usage(prompt, made, cached, thinking_in(told, made))


def _excerpt(payload: Text) -> str:
    return one_line(payload.decode(errors="replace"))


def error_event(words: str, code: int | None) -> Failure:
    """Return the failure that a server tells within a reply of status 200."""
    said = words or "the server said that it failed"
    # 500 is what any error in mid-reply is; others say what to do.
    return Failure("error_event", said if code in (None, 500) else f"error {code}: {said}")


def told(payload: bytes) -> Failure:
    """Return the failure that an event of the type `error` tells."""
    try:
        code = error_code(read_json(payload))
    except ValueError:
        code = None
    return error_event(words_of(payload), code)
