"""A recorded session: its turns, whom each waits for, and for how long.

All formats are read into these types. Times are seconds; a place is a turn's index in its session.
A session's turns are in the order of their recorded starts, so that a turn's place is above those
of the turns that it waits for, and of the one that its prompt goes on from.
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
    # From the last of those ends; of a turn that waits for none, from the session's start.
    wait_s: float = 0.0
    # tool: what a tool did; think: a person; unknown: an upper bound of either. None: no wait
    # was recorded, the turn is the first or due by its stamp alone.
    wait_kind: WaitKind | None = None
    # Formats with stamps but no ends: due so long after the session's start, or when all of
    # `after` have ended, whichever is later.
    not_before_s: float | None = None
    history: int | None = None  # the turn whose prompt and answer this prompt goes on from
    agent: str | None = None  # the sub-agent that sends it; None: the session itself
    prompt_tokens: int | None = None  # of the whole prompt
    output_tokens: int | None = None
    block_ids: tuple[int, ...] | None = None  # of the prompt's blocks of Sessions.block_tokens
    messages: tuple[Message, ...] | None = None  # the whole prompt, where the format has texts
    answer: str | None = None  # as recorded, where the format has texts


@dataclass(frozen=True, slots=True)
class Session:
    """One task of an agent, or one conversation, with its sub-agents."""

    id: str
    starts_s: float | None  # from the first session's start; None: the format doesn't know
    turns: tuple[Turn, ...]


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

    @property
    def turns(self) -> int:
        """How many requests all sessions have together."""
        return sum(len(session.turns) for session in self.sessions)
