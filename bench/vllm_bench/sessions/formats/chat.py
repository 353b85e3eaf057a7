"""Messages as texts. A call of a tool becomes a line of JSON, a tool's result a user's message.

Only texts can be sent, and any chat template takes these: equal tokens are equal work, whoever is
said to have written them. Thinking is kept, before the answer that it led to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from ...prompts.own.rows import CHAT_ROLES, TOOL_ROLES
from ...prompts.prompt import Message
from ..session import SessionError
from .fields import Fields, Tally

BETWEEN = "\n\n"
ROLES = (*CHAT_ROLES, *TOOL_ROLES)
TEXT_PARTS = ("text", "input_text", "output_text", "reasoning", "thinking")
RESULTS = ("tool_call_response", "tool_result")
CALLS = ("tool_call", "tool_use", "function")
NO_TEXT = "parts of messages that are no text"  # an image, say


def messages_of(listed: Iterable[Fields], tally: Tally) -> tuple[Message, ...]:
    """Return messages as they are sent; tools' results that follow each other are one.

    Raises SessionError.
    """
    made: list[Message] = []
    results = False
    for given in listed:
        message, is_result = message_of(given, tally)
        if results and is_result:
            made[-1] = Message("user", made[-1].content + BETWEEN + message.content)
        else:
            made.append(message)
        results = is_result
    return tuple(made)


def message_of(given: Fields, tally: Tally) -> tuple[Message, bool]:
    """Return a message, and whether it is a tool's result. Raises SessionError."""
    role = given.text("role")
    if role not in ROLES:
        raise given.wrong("role", f"one of {', '.join(ROLES)}")
    content = given.given.get("parts")
    texts = [
        text_of(given.given.get("reasoning_content"), given, tally),
        text_of(content if content is not None else given.given.get("content"), given, tally),
        *(_call(call.given) for call in given.objects("tool_calls")),
    ]
    text = BETWEEN.join(filter(None, texts))
    if role in TOOL_ROLES:
        return Message("user", text), True
    return Message("system" if role == "developer" else role, text), False


def text_of(value: object, where: Fields, tally: Tally) -> str:
    """Return the text of a content: a text, or a list of parts. Raises SessionError."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise SessionError(f"{where.where}: expected a text or a list of parts")
    return BETWEEN.join(filter(None, (_part(part, tally) for part in value)))


def _part(part: object, tally: Tally) -> str:
    if isinstance(part, str):
        return part
    given: Mapping[str, Any] = part if isinstance(part, dict) else {}
    kind = given.get("type")
    if kind in CALLS:
        return _call(given)
    keys = ("result", "response", "content") if kind in RESULTS else ("text", "content", "thinking")
    found = next((given[key] for key in keys if given.get(key) is not None), None)
    if kind in RESULTS and found is not None:
        return found if isinstance(found, str) else as_json(found)
    if kind in TEXT_PARTS and isinstance(found, str):
        return found
    tally.left_out[NO_TEXT] += 1
    return ""


def _call(given: Mapping[str, Any]) -> str:
    """Return a call as a line, with OpenAI's `function` or without."""
    inner = given.get("function")
    called = inner if isinstance(inner, dict) else given
    arguments = called.get("arguments", called.get("input"))
    return as_json({"name": called.get("name"), "arguments": arguments})


def as_json(value: object) -> str:
    """Return a value that was read as JSON, on a line."""
    return orjson.dumps(value).decode()
