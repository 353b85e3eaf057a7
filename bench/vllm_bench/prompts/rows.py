"""Reads the prompt or the turns from one row of a data set, in any of the usual shapes.

"Why is the sky blue?"
{"prompt": "Why is the sky blue?"}
{"messages": [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", …}, …]}
{"conversations": [{"from": "human", "value": "Why …"}, {"from": "gpt", "value": "…"}, …]}
{"turns": ["Why is the sky blue?", "Explain it to a child."]}     MT-Bench: all by a person
{"prompt": {"text": "Why …", "role": "prompter", …}}        OpenAssistant: a tree
{"text": "Why …", "role": "prompter", "parent_id": null, …}  OpenAssistant: a message
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .prompt import Message

Row = Mapping[str, Any]
Messages = tuple[Message, ...]

CHAT_ROLES = ("system", "developer", "user", "assistant")
HUMAN = ("human", "user")  # how ShareGPT files name the person
# The shapes of conversations, and the keys of a turn's speaker and text.
CONVERSATIONS = {"conversations": ("from", "value"), "messages": ("role", "content"), "turns": None}


class RowError(Exception):
    """A row with an unknown shape; the text says what is wrong with it."""


class Turn(NamedTuple):
    """One turn of a conversation; its text is read when it is needed."""

    speaker: str
    value: object
    where: str  # in the row

    @property
    def by_human(self) -> bool:
        return self.speaker in HUMAN

    @property
    def text(self) -> str:
        """The text, which may be OpenAI's list of parts. Raises RowError."""
        if not isinstance(self.value, list):
            return _text(self.value, self.where)
        if not all(isinstance(part, dict) and part.get("type") == "text" for part in self.value):
            raise RowError(f"{self.where} has parts that aren't text")
        return "".join(_text(part.get("text"), f"{self.where}.text") for part in self.value)


def turns_of(row: Row, shape: str) -> Iterator[Turn]:
    """Yield the turns of a conversation of this shape. Raises RowError."""
    keys = CONVERSATIONS[shape]
    if not isinstance(row[shape], list):
        raise RowError(f"{shape} must be a list, not {_kind(row[shape])}")
    for number, turn in enumerate(row[shape]):
        where = f"{shape}[{number}]"
        if keys is None:
            yield Turn("user", turn, where)
            continue
        speaker, text = keys
        if not isinstance(turn, dict) or speaker not in turn:
            raise RowError(f"{where} must have the keys {speaker} and {text}")
        if shape == "messages" and turn["role"] not in CHAT_ROLES:
            raise RowError(f"{where}.role must be one of {', '.join(CHAT_ROLES)}")
        yield Turn(turn[speaker], turn.get(text), f"{where}.{text}")


def messages_of_row(row: object) -> Messages | None:
    """Return the row's messages; None where it has no human prompt. Raises RowError."""
    if isinstance(row, str):
        return _user(row)
    if not isinstance(row, dict):
        raise RowError(f"must be a text or an object, not {_kind(row)}")
    for key, read in PROMPTS.items():
        if key in row:
            return read(row)
    raise RowError(
        "has none of the keys prompt, messages, conversations, turns"
        f" (its keys: {', '.join(map(str, list(row)[:8])) or 'none'})"
    )


def first_human_turn(row: Row, shape: str = "conversations") -> str | None:
    """Return the first thing that the person said in a conversation. Raises RowError."""
    return next((turn.text for turn in turns_of(row, shape) if turn.by_human), None)


def root_human_prompt(message: Row) -> str | None:
    """Return the text of an OpenAssistant message if a person began a conversation with it.

    Deleted messages are left out, and so are synthetic ones, which a model wrote. Raises RowError.
    """
    begins = message.get("parent_id") is None and message.get("role", "prompter") == "prompter"
    if not begins or message.get("deleted") or message.get("synthetic"):
        return None
    return _text(message.get("text"), "text")


def _from_messages(row: Row) -> Messages | None:
    messages = [Message(turn.speaker, turn.text) for turn in turns_of(row, "messages")]
    # After the last user message comes the answer, which the server has to give.
    while messages and messages[-1].role != "user":
        messages.pop()
    return tuple(messages) or None


def _from_prompt(row: Row) -> Messages | None:
    prompt = row["prompt"]
    if isinstance(prompt, dict) and "text" in prompt:
        return _user(root_human_prompt(prompt))
    return _user(_text(prompt, "prompt"))


def _from_flat_message(row: Row) -> Messages | None:
    if "text" not in row:
        raise RowError("has none of the keys prompt, messages, conversations, turns, text")
    return _user(root_human_prompt(row))


PROMPTS: dict[str, Callable[[Row], Messages | None]] = {
    "messages": _from_messages,
    "conversations": lambda row: _user(first_human_turn(row)),
    "turns": lambda row: _user(first_human_turn(row, "turns")),
    "prompt": _from_prompt,
    "parent_id": _from_flat_message,
}


def _user(text: str | None) -> Messages | None:
    return None if text is None else (Message("user", text),)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{where} must be a text, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds = {type(None): "nothing", bool: "a truth value", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a text" if isinstance(value, str) else "a number")
