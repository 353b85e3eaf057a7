"""Conversations of several turns: what the person says. The answers come from the server."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..order import endless_permutations
from ..prompt import PromptError
from .files import read_rows
from .rows import CHAT_ROLES, CONVERSATIONS, HUMAN, TOOL_ROLES, RowError, turns_of


@dataclass(frozen=True, slots=True)
class Conversation:
    """What one person says, turn by turn."""

    id: str  # unique and constant in its set
    user_turns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ConversationSet:
    """The conversations of a run, as many as were asked for, in their order."""

    conversations: tuple[Conversation, ...]
    sha256: str  # over the turns, in order
    distinct: int
    notes: tuple[str, ...] = ()  # for people: what was cut or used again
    left_out: Mapping[str, int] = field(default_factory=dict)  # conversations, by the reason


def read_conversations(path: Path) -> tuple[Conversation, ...]:
    """Return the conversations of a file in which a person says something.

    Raises PromptError naming the file, the row and the fault.
    """
    rows = read_rows(path, _user_turns)
    found = tuple(Conversation(f"file:{number}", turns) for number, turns in rows if turns)
    if not found:
        raise PromptError(f"file:{path}: no conversations")
    return found


def holds_conversations(path: Path) -> bool:
    """Whether the rows of a file are conversations. Raises PromptError where it can't be read."""
    return any(turns is not None for _, turns in itertools.islice(read_rows(path, turns_of), 1))


def _user_turns(row: object) -> tuple[str, ...]:
    """Return what the person says in a row, turn by turn, without blank turns. Raises RowError."""
    turns = turns_of(row)
    if turns is None:
        raise RowError(f"not a conversation: has none of the keys {', '.join(CONVERSATIONS)}")
    said = []
    for turn in turns:
        turn.check_speaker((*CHAT_ROLES, *TOOL_ROLES, *HUMAN))
        if turn.by_human and turn.text.strip():
            said.append(turn.text.strip())
    return tuple(said)


def choose_conversations(
    pool: Sequence[Conversation], *, count: int, turns: int, seed: int
) -> ConversationSet:
    """Return `count` conversations of exactly `turns` turns, in seeded order.

    Longer ones are cut; shorter ones are left out. All are used equally often, and a longer draw
    begins with the shorter one. Raises PromptError where none is long enough.
    """
    fitting = [Conversation(c.id, c.user_turns[:turns]) for c in pool if len(c.user_turns) >= turns]
    if not fitting:
        longest = max((len(c.user_turns) for c in pool), default=0)
        raise PromptError(
            f"conversations: none of {len(pool)} has {turns} turns; the longest has {longest}:"
            " set turns to that or less"
        )
    order = itertools.islice(endless_permutations(len(fitting), seed), count)
    made = tuple(fitting[index] for index in order)
    distinct = len({conversation.user_turns for conversation in made})
    notes, left_out = [], {}
    if len(fitting) < len(pool):
        notes.append(f"{len(fitting)} of {len(pool)} have at least {turns} turns; others left out")
        left_out[f"shorter than {turns} turns"] = len(pool) - len(fitting)
    if distinct < len(made):
        notes.append(f"{distinct} different ones for {len(made)}: some are used again")
    told = tuple(f"conversations: {note}" for note in notes)
    return ConversationSet(made, _checksum(made), distinct, told, left_out)


def _checksum(made: Sequence[Conversation]) -> str:
    total = hashlib.sha256()
    for conversation in made:
        total.update(json.dumps(conversation.user_turns, ensure_ascii=False).encode() + b"\n")
    return total.hexdigest()
