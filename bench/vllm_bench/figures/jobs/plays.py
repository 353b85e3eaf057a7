"""The plays of sessions, put together from the rows of their turns: how long each job took.

A job's time runs from its first send to the end of its last turn, sub-agents included. Its waits
are those on the path that decided it: from the turn that ended last back through the turn, of those
that it waited for, that ended last. What is left is the server's part. Waits are as planned; of a
turn that was due by a stamp, from the last end that it waited for until it was due.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ...records.row import Rows
from ...stats.batches import Values
from ..window import play_names


@dataclass(frozen=True, slots=True)
class Play:
    """One play of a session. Times in seconds."""

    last_row: int  # of the turn that ended last
    failed: bool
    ended: bool  # every turn from its first one on was sent, and succeeded
    whole: bool  # and that was the session's first
    goes_on: bool  # it had neither ended nor failed, and began with the session
    job_s: float
    job_wait_s: float  # tools and thinking on the path that decided it

    @property
    def job_served_s(self) -> float:
        """The server's part of the job; a client that was late is in it."""
        return self.job_s - self.job_wait_s


def plays_of(rows: Rows) -> Iterator[Play]:
    """Yield each play of a run's rows, also those that had not ended; none without sessions."""
    yield from map(_play, _by_play(rows))


def waits_of(rows: Rows) -> Values:
    """Return how long each row's turn waited for a tool or a person; nan: for nobody."""
    found = np.full(len(rows), np.nan)
    for turns in _by_play(rows):
        for turn in turns.values():
            wait_s = _wait_s(turn, turns)
            if wait_s is not None:
                found[turn.row] = wait_s
    return found


def _by_play(rows: Rows) -> Iterator[dict[int, _Turn]]:
    """Yield the turns of each play, by their numbers."""
    known = np.flatnonzero(rows.has("session_turns"))
    columns = {name: rows[name][known].tolist() for name in COLUMNS}
    names = play_names(rows.of(known))
    found: dict[tuple[str | None, str | None], dict[int, _Turn]] = {}
    for name, *cells in zip(names, known.tolist(), *columns.values(), strict=True):
        turn = _Turn(*cells)
        found.setdefault(name, {})[int(turn.number)] = turn
    yield from found.values()


COLUMNS = (
    *("turn", "session_turns", "t_sent_s", "t_end_s", "error_kind"),
    *("after", "planned_wait_s", "t_scheduled_s"),
)


@dataclass(frozen=True, slots=True)
class _Turn:
    row: int
    number: float
    of: float
    sent_s: float  # nan: it failed before that
    end_s: float
    error_kind: str | None
    after: str | None
    planned_wait_s: float | None
    due_s: float | None

    @property
    def awaited(self) -> list[int]:
        """The turns whose ends it waited for."""
        return [int(part) for part in (self.after or "").split() if part.isdecimal()]


def _play(turns: dict[int, _Turn]) -> Play:
    last = max(turns.values(), key=lambda turn: turn.end_s)
    first = min(turns)
    well = all(t.error_kind is None for t in turns.values())
    ended = well and len(turns) == last.of - first + 1
    bad = any(turn.error_kind not in (None, "cancelled") for turn in turns.values())
    return Play(
        last_row=last.row,
        failed=bad,
        ended=ended,
        whole=ended and first == 1,
        goes_on=not ended and not bad and first == 1,
        job_s=last.end_s - min(turn.sent_s for turn in turns.values()),
        job_wait_s=sum(_wait_s(turn, turns) or 0.0 for turn in _path(turns, last)),
    )


def _wait_s(turn: _Turn, turns: dict[int, _Turn]) -> float | None:
    """Return how long a turn waited; None: for nobody, or what it waited for isn't there."""
    if turn.planned_wait_s is not None and not math.isnan(turn.planned_wait_s):
        return turn.planned_wait_s
    ends = [turns[n].end_s for n in turn.awaited if n in turns]
    return max(0.0, turn.due_s - max(ends)) if ends and turn.due_s is not None else None


def _path(turns: dict[int, _Turn], last: _Turn) -> Iterator[_Turn]:
    """Yield the turns that decided when the last one ended, from it back, without the first."""
    at, seen = last, {last.row}
    while awaited := [turns[n] for n in at.awaited if n in turns and turns[n].row not in seen]:
        yield at
        at = max(awaited, key=lambda turn: turn.end_s)
        seen.add(at.row)
