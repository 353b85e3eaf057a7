"""Reads the prompt or the turns from one row of a data set, in any of the usual shapes.

"Why is the sky blue?"
{"prompt": "Why is the sky blue?"}                          or another of the keys in TEXTS
{"instruction": "Sum up.", "context": "The sky …"}          Dolly; Alpaca has input for context
{"messages": [{"role": "user", "content": "Why is the sky blue?"}, {"role": "assistant", …}, …]}
{"conversations": [{"from": "human", "value": "Why …"}, {"from": "gpt", "value": "…"}, …]}
{"turns": ["Why is the sky blue?", "Explain it to a child."]}     MT-Bench: all by a person
{"custom_id": "1", "url": "/v1/chat/completions", "body": {"messages": […]}}    OpenAI's batches
{"prompt": {"text": "Why …", "role": "prompter", …}}        OpenAssistant: a tree
{"text": "Why …", "role": "prompter", "parent_id": null, …}  OpenAssistant: a message
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ...records.text import printable
from ..prompt import Image, Message

Row = Mapping[str, Any]
Messages = tuple[Message, ...]

CHAT_ROLES = ("system", "developer", "user", "assistant")
TOOL_ROLES = ("tool", "function")  # they answer a call of the model, which a text can't hold
HUMAN = ("human", "user", "prompter")  # how ShareGPT and OpenAssistant name the person
# A turn's speaker and text, by the two customs that there are.
TURN_KEYS = (("role", "content"), ("from", "value"))
CONVERSATIONS = ("conversations", "messages", "turns", "conversation")
# Keys of a text, and the keys of what belongs to it: a passage to work on.
TEXTS: dict[str, tuple[str, ...]] = {
    "prompt": (),
    "instruction": ("context", "input"),
    "question": ("context",),
    **dict.fromkeys(("query", "input", "inputs", "text", "content"), ()),
}
KEYS = ("prompt", *CONVERSATIONS, *(key for key in TEXTS if key != "prompt"))
KNOWN = frozenset(KEYS)
SYSTEM = ("system", "system_prompt")
PART_TYPES = ("text", "input_text")  # of a content that comes in parts
IMAGE_TYPES = ("image_url", "input_image")

NOBODY = "without a human prompt"
LATER = "later in a conversation"
DELETED = "deleted"
BY_A_MODEL = "written by a model"


class RowError(Exception):
    """A row with an unknown shape; the text says what is wrong with it."""


class Turn(NamedTuple):
    """One turn of a conversation; its text is read when it is needed."""

    speaker: str
    value: object
    where: str  # in the row
    custom: str  # "role", "from"; "text": a text alone, by a person
    calls: bool = False  # the model calls a tool

    @property
    def by_human(self) -> bool:
        return self.speaker in HUMAN

    @property
    def text(self) -> str:
        """The text, which may be OpenAI's list of parts. Raises RowError."""
        if self.calls or self.speaker in TOOL_ROLES:
            raise RowError(
                f"{self.where}: a tool is used before the last user message, and only texts can be"
                " sent: end the row before it, or leave the row out"
            )
        if not isinstance(self.value, list):
            return _text(self.value, self.where)
        return "".join(_part(part, self.where) for part in self.value)

    @property
    def message(self) -> Message:
        """The turn as it is sent. Raises RowError."""
        self.check_speaker((*CHAT_ROLES, *TOOL_ROLES, *HUMAN))
        role = "user" if self.by_human else self.speaker
        if not self._has_images:
            return Message(role, self.text)
        parts = tuple(_text_or_image(part, self.where) for part in self._listed)
        return Message(role, "".join(p for p in parts if isinstance(p, str)), parts)

    @property
    def _listed(self) -> list[object]:
        return self.value if isinstance(self.value, list) and not self.calls else []

    @property
    def _has_images(self) -> bool:
        kinds = (part.get("type") for part in self._listed if isinstance(part, dict))
        return any(kind in IMAGE_TYPES for kind in kinds)

    def check_speaker(self, roles: tuple[str, ...]) -> None:
        """Raise RowError where the role is none of these."""
        if self.custom == "role" and self.speaker not in roles:
            place = f"{self.where.rpartition('.')[0]}.role"
            raise RowError(f"{place} must be one of {', '.join(CHAT_ROLES)}")


def messages_of_row(row: object) -> Messages | str:
    """Return the row's messages; or why it has no prompt of a person. Raises RowError."""
    if isinstance(row, str):
        return _user(row)
    turns = turns_of(row)
    if turns is not None:
        return _from_turns(turns)
    if not isinstance(row, dict):
        raise RowError(f"must be a text or an object, not {_kind(row)}")
    body = _body(row)
    tree = body.get("prompt")
    if isinstance(tree, dict) and "text" in tree:
        return root_problem(tree) or _user(_text(tree["text"], "prompt.text"))
    if tree is None and {"message_tree_id", "prompt"} <= body.keys():
        return NOBODY
    return _from_text(body)


def turns_of(row: object) -> Iterator[Turn] | None:
    """Return the turns of a conversation of any shape; None: the row is none. Raises RowError.

    A damaged turn is an error when its turn comes.
    """
    if isinstance(row, list):
        return _turns("", row) if row else None
    if not isinstance(row, dict):
        return None
    body = _body(row)
    for shape in (*CONVERSATIONS, "prompt", "input"):
        listed = body.get(shape)
        if shape in CONVERSATIONS and listed is not None and not isinstance(listed, list):
            raise RowError(f"{shape} must be a list, not {_kind(listed)}")
        if isinstance(listed, list) and (shape in CONVERSATIONS or _has_roles(listed)):
            return _turns(shape, listed)
    return None


def _turns(shape: str, listed: list[object]) -> Iterator[Turn]:
    return (_turn(turn, f"{shape}[{n}]", shape) for n, turn in enumerate(listed))


def first_human_turn(row: Row) -> str | None:
    """Return the first thing that the person said in a conversation. Raises RowError."""
    return _first(turns_of(row) or iter(()))


def root_human_prompt(message: Row) -> str | None:
    """Return the text of an OpenAssistant message if a person began a conversation with it.

    Deleted messages are left out, and so are synthetic ones, which a model wrote. Raises RowError.
    """
    return None if root_problem(message) else _text(message.get("text"), "text")


def root_problem(message: Row) -> str | None:
    """Return why an OpenAssistant message isn't the beginning of a person's conversation."""
    if message.get("parent_id"):
        return LATER
    if message.get("role", "prompter") not in HUMAN:
        return NOBODY
    if _is_true(message.get("deleted")):
        return DELETED
    return BY_A_MODEL if _is_true(message.get("synthetic")) else None


def _is_true(value: object) -> bool:
    return str(value).lower() in ("true", "1")  # in CSV it is a word


def _body(row: Row) -> Row:
    """Return the row; of a request in OpenAI's batch format its body. Keys may be Capitals."""
    if KNOWN & row.keys():
        return row
    body = row.get("body")
    if isinstance(body, dict):
        return body
    small = {str(key).strip().lower(): value for key, value in row.items()}
    return small if KNOWN & small.keys() else row


def _has_roles(listed: list[object]) -> bool:
    return bool(listed) and all(isinstance(turn, dict) and "role" in turn for turn in listed)


def _turn(turn: object, where: str, shape: str) -> Turn:
    if shape == "turns" and isinstance(turn, str):
        return Turn("user", turn, where, "text")
    keys = [pair for pair in TURN_KEYS if isinstance(turn, dict) and pair[0] in turn]
    if not keys or not isinstance(turn, dict):
        pairs = ", or ".join(" and ".join(pair) for pair in TURN_KEYS)
        raise RowError(f"{where} must have the keys {pairs}")
    custom, text = keys[0]
    calls = bool(turn.get("tool_calls") or turn.get("function_call"))
    return Turn(str(turn[custom]), turn.get(text), f"{where}.{text}", custom, calls)


def _from_turns(turns: Iterator[Turn]) -> Messages | str:
    """Return a chat up to its last user message; of the other customs the first human turn.

    After the last user message comes the answer, which the server has to give.
    """
    began = next(turns, None)
    if began is None:
        return NOBODY
    if began.custom != "role":
        first = _first(itertools.chain((began,), turns))
        return NOBODY if first is None else _user(first)
    chat = [began, *turns]
    last = max((n for n, turn in enumerate(chat) if turn.by_human), default=None)
    if last is not None:
        return tuple(turn.message for turn in chat[: last + 1])
    for turn in chat:
        turn.check_speaker(CHAT_ROLES)  # one that nobody knows may be the person
    return NOBODY


def _first(turns: Iterator[Turn]) -> str | None:
    return next((turn.text for turn in turns if turn.by_human), None)


def _from_text(row: Row) -> Messages | str:
    """Return the text of a row, with its passage and its system prompt."""
    present = [key for key in TEXTS if key in row]
    if not present:
        raise RowError(
            f"has none of the keys {', '.join(KEYS)} with a value"
            f" (its keys: {', '.join(printable(key, 40) for key in list(row)[:8]) or 'none'})"
        )
    key = next((k for k in present if row[k] is not None), present[0])
    if key in ("text", "content"):
        problem = root_problem(row)
        if problem:
            return problem
    parts = (_text(row[key], key), *_optional(row, TEXTS[key]))
    (user,) = _user("\n\n".join(part for part in parts if part.strip()))
    return (*(Message("system", text) for text in _optional(row, SYSTEM)), user)


def _optional(row: Row, keys: tuple[str, ...]) -> Iterator[str]:
    """Yield the texts of those keys that have one. Raises RowError."""
    for key in keys:
        if row.get(key) is not None and _text(row[key], key).strip():
            yield row[key]


def _user(text: str) -> Messages:
    return (Message("user", text),)


def _part(part: object, where: str) -> str:
    kind = part.get("type") if isinstance(part, dict) else _kind(part)
    if not isinstance(part, dict) or kind not in PART_TYPES:
        raise RowError(f"{where} has parts that aren't text: {printable(kind, 40)}")
    return _text(part.get("text"), f"{where}.text")


def _text_or_image(part: object, where: str) -> str | Image:
    if not isinstance(part, dict) or part.get("type") not in IMAGE_TYPES:
        return _part(part, where)
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    return Image(_text(url, f"{where}.image_url"))


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise RowError(f"{where} must be a text, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    kinds = {type(None): "nothing", bool: "a truth value", list: "a list", dict: "an object"}
    return kinds.get(type(value), "a text" if isinstance(value, str) else "a number")
