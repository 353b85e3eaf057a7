"""An experiment of two servers as a whole: begun, gone on with, and whether more visits are due."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..compare.comparison import Comparison
from ..errors import UsageError
from ..launch.left_behind import Process, end_orphan
from ..records.beside.going_on import new_id
from .servers import Standing
from .state import State, experiments, scenario_sha256
from .turns import Means
from .visits import FEWEST_FOR_A_WORD

MOST_ASKED = 64  # visits that are proposed; a day, where each takes 20 minutes


def begun(means: Means, visits: int, *, turn: int, repeats: str | None) -> State:
    """Return a new experiment, of which nothing is made yet."""
    return State(
        id=new_id(),
        turn=turn,
        repeats=repeats,
        scenario=means.scenario.name,
        scenario_sha256=scenario_sha256(means.scenario),
        restarted=not isinstance(means.servers["a"], Standing),
        visits=visits,
        a=means.servers["a"].asked,
        b=means.servers["b"].asked,
        by=Process.of(os.getpid()),
    )


def continued(results: Path, new: State, visits: int | None) -> State | None:
    """Return the newest experiment that asked what the new one does, to go on with.

    With as many visits as it had, or as are asked for now. Raises UsageError where it goes on.
    """
    found = next((state for state in experiments(results) if state.continues(new)), None)
    if found is None:
        return None
    if found.by.lives and found.by != new.by:
        raise UsageError(f"experiment {found.id} goes on: process {found.by.pid} makes it")
    return taken_up(found).model_copy(
        update={"by": new.by, "visits": visits or found.visits, "a": new.a, "b": new.b}
    )


def why_anew(results: Path, new: State) -> str:
    """Return why nothing is gone on with: what the newest experiment was asked otherwise."""
    found = next((s for s in experiments(results) if s.turn == new.turn), None)
    if found is None:
        return f"there is no experiment in {results}"
    parts = {
        "A": (found.a.sha256, new.a.sha256),
        "B": (found.b.sha256, new.b.sha256),
        "the labels": ([s.label for s in (found.a, found.b)], [s.label for s in (new.a, new.b)]),
        "the scenario": (found.scenario_sha256, new.scenario_sha256),
        "whether they are started": (found.restarted, new.restarted),
    }
    other = [name for name, (before, now) in parts.items() if before != now]
    return f"the newest, {found.id}, differs in {', '.join(other)}"


def end_left_behind(results: Path, say: Callable[[str], None]) -> None:
    """End the servers of killed scripts. Raises StaysError."""
    for state in experiments(results):
        end_orphan(state.server, state.by, "ab.py", say)


def taken_up(state: State) -> State:
    """Return a state that was read, with the visit that a killed script was at broken off."""
    killed = [a.status == "going on" for a in state.attempts]
    attempts = tuple(
        a.model_copy(update={"status": "broken off", "why": "ab.py was killed"}) if was else a
        for a, was in zip(state.attempts, killed, strict=True)
    )
    return state.model_copy(update={"attempts": attempts, "server": None})


def to_replace(state: State, found: Comparison) -> int:
    """Return how many pairs are lacking for a word because some were thrown away; 0: none.

    Where all were, others would be, too.
    """
    if state.visits < FEWEST_FOR_A_WORD:
        return 0
    levels = [level for level in found.levels if level.dropped and level.pairs]
    lacking = (FEWEST_FOR_A_WORD // 2 - len(level.pairs) for level in levels)
    return max(0, *lacking, 0)


def more_visits(state: State, found: Comparison) -> tuple[int | None, str]:
    """Return how many visits in all would tell more, None where it is too many, and why."""
    fewest = min((len(level.pairs) for level in found.levels), default=0)
    if fewest < FEWEST_FOR_A_WORD // 2:
        lacking = FEWEST_FOR_A_WORD // 2 - fewest
        return state.visits + 2 * lacking, f"a word takes four pairs, {fewest} are there"
    wanted = [row.more_pairs for level in found.levels for row in level.rows if row.more_pairs]
    near = [more for more in wanted if state.visits + 2 * more <= MOST_ASKED]
    else_ = "longer runs (duration_s) or a wider --margin"
    if not near:
        return None, f"what can't be told needs {else_}" if wanted else ""
    rest = f"; the others need {else_}" if len(near) < len(wanted) else ""
    counts = f"{len(near)} of {len(wanted)} figures that can't be told"
    return state.visits + 2 * max(near), f"about {max(near)} more pairs would tell {counts}{rest}"
