"""A recorded session: its turns, whom each waits for, and for how long.

All formats are read into these types. Times are seconds; a place is a turn's index in its session.
A turn's place is above those of the turns that it waits for, and of the one that its prompt goes on
from; a sub-agent's turns stand between the turn that starts it and the one that waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..errors import BenchError
from ..prompts.prompt import Message

SessionKind = Literal[
    "weka", "bailian", "tracelab", "mlperf", "aiperf", "aiperf_dag", "opentelemetry"
]
WaitKind = Literal["tool", "think", "unknown"]


class SessionError(BenchError):
    """Recorded sessions that can't be read or used; the text is one line for people."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a session."""

    after: tuple[int, ...] = ()  # the turns whose ends it waits for; none: it starts the session
    wait_s: float = 0.0  # after the last of them has ended; else after the session's start
    # For a tool, or for a person (`think`). unknown: the file doesn't tell. As many of these as
    # Sessions.unknown_waits says have no length either: their `wait_s` is the most that it may
    # have been. None: no wait was recorded, as the turn is the first or due by its stamp alone.
    wait_kind: WaitKind | None = None
    # In formats that stamp when turns begin, but not when they end: seconds from the session's
    # start before which it isn't sent, even if all of `after` have ended.
    not_before_s: float | None = None
    history: int | None = None  # the turn whose prompt and answer this prompt goes on from
    agent: str | None = None  # the sub-agent that sends it; None: the session itself
    prompt_tokens: int | None = None  # of the whole prompt
    output_tokens: int | None = None
    block_ids: tuple[int, ...] | None = None  # of the prompt's blocks of Sessions.block_tokens
    # The whole prompt, where the format has texts, and has those of the answers before.
    messages: tuple[Message, ...] | None = None
    # What it adds to the prompt and the answer of `history`; without one it is the whole prompt.
    new_messages: tuple[Message, ...] | None = None
    answer: str | None = None  # as recorded, where the format has texts


@dataclass(frozen=True, slots=True)
class Session:
    """One task of an agent, or one conversation, with its sub-agents."""

    id: str
    starts_s: float | None  # from the first session's start; None: the format doesn't know
    turns: tuple[Turn, ...]
    # Tokens of tools and system prompt, with which all prompts of one agent begin, although the
    # file's ids don't show it. 0: unknown.
    common_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Sessions:
    """What a file or a folder has: sessions in the order of their starts, else of their ids."""

    kind: SessionKind
    sessions: tuple[Session, ...]
    block_tokens: int | None = None  # None: the format has no blocks
    blocks_shared: bool = False  # equal ids mean equal blocks in all sessions, not in one alone
    notes: tuple[str, ...] = ()  # for people, each with the format's name before it
    left_out: Mapping[str, int] = field(default_factory=dict)  # requests or spans, by the reason
    unknown_waits: int = 0  # turns whose wait is an upper bound
    length_divisor: int = 1  # of the lengths of turns, as they are here; blocks are as recorded

    @property
    def turns(self) -> int:
        """How many requests all sessions have together."""
        return sum(len(session.turns) for session in self.sessions)
