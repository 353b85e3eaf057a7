"""The plays of sessions, put together from the rows of their turns: how long each job took.

A job's time runs from its first send to the end of its last turn, sub-agents included. Its waits
are those on the path that decided it: from the turn that ended last back through the turn, of those
that it waited for, that ended last. What is left is the server's part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...records.row import Rows


@dataclass(frozen=True, slots=True)
class Play:
    """One play of a session. Times in seconds."""

    last_row: int  # of the turn that ended last
    failed: bool
    whole: bool  # every turn of the session was sent, and succeeded
    job_s: float
    job_wait_s: float  # tools and thinking on the path that decided it, as planned

    @property
    def job_served_s(self) -> float:
        """The server's part of the job; a client that was late is in it."""
        return self.job_s - self.job_wait_s


def plays_of(rows: Rows) -> Iterator[Play]:
    """Yield each play of a run's rows, also those that had not ended; none without sessions."""
    known = np.flatnonzero(rows.has("session_turns") & rows.has("t_sent_s"))
    columns = {name: rows[name][known].tolist() for name in COLUMNS}
    turns = [_Turn(*cells) for cells in zip(known.tolist(), *columns.values(), strict=True)]
    found: dict[str, list[_Turn]] = {}
    for turn in turns:
        found.setdefault(turn.play, []).append(turn)
    for play in found.values():
        yield _play({int(turn.number): turn for turn in play})


COLUMNS = (
    *("conversation_id", "turn", "session_turns", "t_sent_s", "t_end_s", "error_kind"),
    *("after", "planned_wait_s"),
)


@dataclass(frozen=True, slots=True)
class _Turn:
    row: int
    play: str
    number: float
    of: float
    sent_s: float
    end_s: float
    error_kind: str | None
    after: str | None
    wait_s: float | None

    @property
    def awaited(self) -> list[int]:
        """The turns whose ends it waited for."""
        return [int(part) for part in (self.after or "").split() if part.isdecimal()]


def _play(turns: dict[int, _Turn]) -> Play:
    last = max(turns.values(), key=lambda turn: turn.end_s)
    bad = any(turn.error_kind not in (None, "cancelled") for turn in turns.values())
    return Play(
        last_row=last.row,
        failed=bad,
        whole=len(turns) == last.of and all(t.error_kind is None for t in turns.values()),
        job_s=last.end_s - min(turn.sent_s for turn in turns.values()),
        job_wait_s=sum(turn.wait_s or 0.0 for turn in _path(turns, last)),
    )


def _path(turns: dict[int, _Turn], last: _Turn) -> Iterator[_Turn]:
    """Yield the turns that decided when the last one ended, from it back, without the first."""
    at, seen = last, {last.row}
    while awaited := [turns[n] for n in at.awaited if n in turns and turns[n].row not in seen]:
        yield at
        at = max(awaited, key=lambda turn: turn.end_s)
        seen.add(at.row)
