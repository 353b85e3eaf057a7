"""Recorded sessions as a run plays them: their waits, their order, and where the first begin."""

from __future__ import annotations

import random
from array import array
from collections.abc import Sequence
from dataclasses import replace

from ...prompts.order import derive_seed, permutation
from ...sessions.session import Session, Turn
from ..share import NS_PER_S
from .script import Course, Plays, Script, Step

# How long an answer took isn't in every format. Only where a first play begins hangs on it, and the
# rate that is shown of sessions that start by the clock.
TOKEN_S = 0.02


def scripts_of(sessions: Sequence[Session], longest_s: float) -> tuple[Script, ...]:
    """Return sessions with waits of at most `longest_s`."""
    return tuple(
        Script(session.id, Course(tuple(_steps(session.turns, longest_s)))) for session in sessions
    )


def _steps(turns: Sequence[Turn], longest_s: float) -> list[Step]:
    steps: list[Step] = []
    for turn in turns:
        stamp_s, stamp_cut_s = _stamp(turn, turns, steps, longest_s)
        wait_s = min(turn.wait_s, longest_s)
        steps.append(
            Step(
                after=turn.after,
                wait_ns=_ns(wait_s),
                wait_kind=turn.wait_kind,
                not_before_ns=None if stamp_s is None else _ns(stamp_s),
                history=turn.history,
                agent=turn.agent,
                cut_ns=_ns(turn.wait_s - wait_s + stamp_cut_s),
            )
        )
    return steps


def _stamp(
    turn: Turn, turns: Sequence[Turn], steps: Sequence[Step], longest_s: float
) -> tuple[float | None, float]:
    """Return a turn's stamp, at most `longest_s` after those before it, and by what it was cut."""
    if turn.not_before_s is None:
        return None, 0.0
    before = [(turns[at].not_before_s or 0.0, steps[at].not_before_ns or 0) for at in turn.after]
    recorded_s, played_ns = max(before, default=(turn.not_before_s, _ns(turn.not_before_s)))
    gap_s = turn.not_before_s - recorded_s
    kept_s = min(gap_s, longest_s)
    return played_ns / NS_PER_S + kept_s, gap_s - kept_s


def _ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def by_streams(scripts: tuple[Script, ...], streams: int, seed: int) -> Plays:
    """Return the plays of so many streams: sessions in seeded order, again where they run out.

    Each session once, and each stream one.
    """
    order = array("I", permutation(len(scripts), derive_seed(seed, "order of sessions")))
    return Plays(scripts, order, max(len(scripts), streams))


def deeper(plays: Plays, sessions: Sequence[Session], streams: int, seed: int) -> Plays:
    """Return plays of which each stream's first begins at a turn drawn over its session's time."""
    draw = random.Random(derive_seed(seed, "depths"))
    begins = []
    for play in range(streams):
        number = plays.order[play % len(plays.order)]
        outputs = [turn.output_tokens or 0 for turn in sessions[number].turns]
        begins.append(drawn_begin(plays.scripts[number].steps, outputs, draw.random()))
    return replace(plays, begins=tuple(begins))


def drawn_begin(steps: Sequence[Step], outputs: Sequence[int], share: float) -> int:
    """Return the first turn after a share of the time from a session's first to its last turn."""
    starts = starts_of(steps, outputs)
    moment = starts[0] + share * (max(starts) - starts[0])
    return next(place for place, start in enumerate(starts) if start >= moment)


def starts_of(steps: Sequence[Step], outputs: Sequence[int]) -> list[float]:
    """Return about when turns go, in seconds, on a server that takes `TOKEN_S` for a token."""
    starts, ends = list[float](), list[float]()
    for step, tokens in zip(steps, outputs, strict=True):
        start = max((ends[before] for before in step.after), default=0.0) + step.wait_ns / NS_PER_S
        starts.append(max(start, (step.not_before_ns or 0) / NS_PER_S))
        ends.append(starts[-1] + tokens * TOKEN_S)
    return starts


def primed(plays: Plays) -> list[tuple[int, int]]:
    """Return the turns that the first plays go on from: each play, and the place in its session.

    A play of a session that was begun before has a salt of its own, and finds nothing of that one.
    """
    found: dict[tuple[int, int], None] = {}
    for play, begin in enumerate(plays.begins):
        for step in plays.script(play).steps[begin:]:
            if step.history is not None and step.history < begin:
                found[play, step.history] = None
    return list(found)


def by_starts(sessions: Sequence[Session], speed: float) -> list[float] | None:
    """Return when sessions start, in seconds, ascending; None: some start isn't known."""
    starts = [session.starts_s for session in sessions]
    known = [start for start in starts if start is not None]
    if len(known) < len(starts):
        return None
    first = min(known)
    return [(start - first) / speed for start in known]
