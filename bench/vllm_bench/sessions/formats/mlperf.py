"""MLPerf's conversations of agents, a JSON object a message: texts, calls of tools, and delays.

A conversation's rows follow each other, and their turns rise. What stands between two answers is
sent together, `delay_seconds` after the answer before. The definitions of tools become a part of
the system's message. A conversation that ends with a person's or a tool's row has a last turn
without a recorded answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...prompts.prompt import Message
from ...records.text import printable
from ..rows import Row
from ..session import Session, SessionError, Turn, WaitKind
from .chat import BETWEEN, as_json, message_of, messages_of
from .fields import Fields, Tally


@dataclass(slots=True)
class _Reading:
    """A conversation, up to a row."""

    tally: Tally
    turns: list[Turn] = field(default_factory=list)
    messages: tuple[Message, ...] = ()  # those that were sent, and their answers
    new: list[Fields] = field(default_factory=list)  # rows since the last answer, as messages
    system: tuple[Message, ...] = ()
    wait_s: float = 0.0
    delays: int = 0

    def heard(self, given: Fields) -> None:
        """Take a row that isn't an answer."""
        delay_s = given.maybe_seconds("delay_seconds")
        self.wait_s += delay_s or 0.0
        self.delays += delay_s is not None
        if given.given["role"] != "tool":
            self.system += _system(given)
            self.new.append(given)
            return
        results = list(given.objects("tool_results"))
        for result in results:
            self.new.append(Fields({**result.given, "role": "tool"}, result.where))
        if not results:
            self.new.append(given)

    def answered(self, given: Fields | None) -> None:
        """Take an answer, or the conversation's end without one."""
        if not self.new:
            where = given.where if given else ""
            raise SessionError(f"{where}: role: an answer, and nothing was asked before it")
        new = (*self.system, *messages_of(self.new, self.tally))
        answer = None if given is None else message_of(given, self.tally)[0]
        place = len(self.turns)
        prompt = (*self.messages, *new)
        self.turns.append(
            Turn(
                after=(place - 1,) if place else (),
                wait_s=self.wait_s if place else 0.0,
                wait_kind=self._kind() if place else None,
                history=place - 1 if place else None,
                messages=prompt,
                new_messages=new,
                answer=answer.content if answer else None,
            )
        )
        self.messages = (*prompt, answer) if answer else prompt
        self.new, self.system, self.wait_s, self.delays = [], (), 0.0, 0

    def _kind(self) -> WaitKind:
        if not self.delays:
            self.tally.notes["turns without delay_seconds: sent when the last answer ends"] += 1
        return "tool" if self.new[-1].given["role"] == "tool" else "think"


def fits(given: Mapping[str, Any]) -> bool:
    """Whether a first row is of this format."""
    return {"conversation_id", "turn", "role"} <= given.keys()


def read(rows: Iterable[Row], tally: Tally) -> Iterator[Session]:
    """Yield the conversations. Raises SessionError."""
    done: dict[str, str] = {}
    fields = (Fields(row.given, row.where) for row in rows)
    for name, listed in itertools.groupby(fields, lambda given: given.name("conversation_id")):
        reading, turn, where = _Reading(tally), -1, ""
        for given in listed:
            where = where or given.where
            if name in done:
                raise SessionError(
                    f"{given.where}: conversation_id: {printable(name, 40)} began at"
                    f" {done[name]}, and another stands between: its rows must follow each other"
                )
            number = given.tokens("turn")
            if number <= turn:
                raise given.wrong("turn", f"more than the {turn} before it")
            turn = number
            if given.text("role") == "assistant":
                reading.answered(given)
            else:
                reading.heard(given)
        if reading.new:
            reading.answered(None)
        done[name] = where
        if reading.turns:
            yield Session(name, None, tuple(reading.turns))


def _system(given: Fields) -> tuple[Message, ...]:
    """Return the system's message that a row brings, with the definitions of its tools."""
    tools = given.given.get("tools")
    system = given.text("system") if given.given.get("system") is not None else ""
    text = BETWEEN.join(filter(None, (system, as_json(tools) if tools else "")))
    return (Message("system", text),) if text else ()
