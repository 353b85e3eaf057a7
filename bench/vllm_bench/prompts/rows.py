"""One row of a data set, in any of the shapes that people keep prompts in, to chat messages.

"Why is the sky blue?"
{"prompt": "Why is the sky blue?"}
{"messages": [{"role": "user", "content": "Why is the sky blue?"}]}
{"conversations": [{"from": "human", "value": "Why …"}, {"from": "gpt", "value": "…"}]}
{"turns": ["Why is the sky blue?", "Explain it to a child."]}     MT-Bench: the first is the prompt
{"prompt": {"text": "Why …", "role": "prompter", …}}        OpenAssistant: a tree
{"text": "Why …", "role": "prompter", "parent_id": null, …}  OpenAssistant: a message
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .prompt import Message

Messages = tuple[Message, ...]

CHAT_ROLES = ("system", "developer", "user", "assistant")
HUMAN = ("human", "user")  # how ShareGPT files name the person


class RowError(Exception):
    """A row of a shape that isn't known; the text says what is wrong with it."""


def messages_of_row(row: object) -> Messages | None:
    """Return the row's messages; None where it holds no human prompt. Raises RowError."""
    if isinstance(row, str):
        return _user(row)
    if not isinstance(row, dict):
        raise RowError(f"must be a text or an object, not {_kind(row)}")
    for key, read in SHAPES.items():
        if key in row:
            return read(row)
    raise RowError(
        "has none of the keys prompt, messages, conversations, turns"
        f" (its keys: {', '.join(map(str, list(row)[:8])) or 'none'})"
    )


def first_human_turn(row: Mapping[str, Any]) -> str | None:
    """Return the first thing that the person said in a ShareGPT conversation. Raises RowError."""
    for number, turn in enumerate(_list(row, "conversations")):
        if not isinstance(turn, dict) or "from" not in turn:
            raise RowError(f"conversations[{number}] must have the keys from and value")
        if turn["from"] in HUMAN:
            return _text(turn.get("value"), f"conversations[{number}].value")
    return None


def root_human_prompt(message: Mapping[str, Any]) -> str | None:
    """Return the text of an OpenAssistant message if a person began a conversation with it.

    Deleted messages are left out, and synthetic ones: a model wrote those. Raises RowError.
    """
    begins = message.get("parent_id") is None and message.get("role", "prompter") == "prompter"
    if not begins or message.get("deleted") or message.get("synthetic"):
        return None
    return _text(message.get("text"), "text")


def _from_messages(row: Mapping[str, Any]) -> Messages | None:
    messages = [_message(turn, number) for number, turn in enumerate(_list(row, "messages"))]
    # What follows the last user message is the answer, which is the server's to give.
    while messages and messages[-1].role != "user":
        messages.pop()
    return tuple(messages) or None


def _message(turn: object, number: int) -> Message:
    where = f"messages[{number}]"
    if not isinstance(turn, dict):
        raise RowError(f"{where} must be an object with role and content, not {_kind(turn)}")
    if turn.get("role") not in CHAT_ROLES:
        raise RowError(f"{where}.role must be one of {', '.join(CHAT_ROLES)}")
    return Message(str(turn["role"]), _content(turn.get("content"), f"{where}.content"))


def _content(value: object, where: str) -> str:
    """Return a message's text, which may come as OpenAI's list of parts."""
    if not isinstance(value, list):
        return _text(value, where)
    if not all(isinstance(part, dict) and part.get("type") == "text" for part in value):
        raise RowError(f"{where} has parts that aren't text")
    return "".join(_text(part.get("text"), f"{where}.text") for part in value)


def _from_conversations(row: Mapping[str, Any]) -> Messages | None:
    return _user(first_human_turn(row))


def _from_turns(row: Mapping[str, Any]) -> Messages | None:
    turns = _list(row, "turns")
    return _user(_text(turns[0], "turns[0]")) if turns else None


def _from_prompt(row: Mapping[str, Any]) -> Messages | None:
    prompt = row["prompt"]
    if isinstance(prompt, dict) and "text" in prompt:
        return _user(root_human_prompt(prompt))
    return _user(_text(prompt, "prompt"))


def _from_flat_message(row: Mapping[str, Any]) -> Messages | None:
    if "text" not in row:
        raise RowError("has none of the keys prompt, messages, conversations, turns, text")
    return _user(root_human_prompt(row))


SHAPES: dict[str, Callable[[Mapping[str, Any]], Messages | None]] = {
    "messages": _from_messages,
    "conversations": _from_conversations,
    "turns": _from_turns,
    "prompt": _from_prompt,
    "parent_id": _from_flat_message,
}


def _user(text: str | None) -> Messages | None:
    return None if text is None else (Message("user", text),)


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    if not isinstance(row[key], list):
        raise RowError(f"{key} must be a list, not {_kind(row[key])}")
    return list(row[key])


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{where} must be a text, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds = {type(None): "nothing", bool: "a truth value", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a text" if isinstance(value, str) else "a number")
