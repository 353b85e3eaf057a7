"""A run's jobs: how many ended, how long they took, and how long turns waited by depth.

Figures are of the jobs whose last turn was sent in the steady window: each job ends once, so a
window that the load holds sees long and short ones as often as they come. A run that is short for
its jobs doesn't: `still_going` tells. Times are of whole jobs; the rate also counts those that had
begun before the run, deeper in their sessions: as many end in a window as begin there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...records.row import Rows, doc
from ...stats.batches import Values
from ...stats.distribution import floats
from ..digits import counted as number_of
from ..window import Window
from .plays import Play, plays_of, waits_of

JOB_TIMES = ("job_s", "job_wait_s", "job_served_s")  # seconds, of whole plays
LONG_GAP_S = 10.0  # after which a session's blocks are often gone from the cache
DEPTHS = {"1": (1, 1), "2-5": (2, 5), "6-20": (6, 20), "over 20": (21, np.inf)}
MOST_APART = 8  # turns that are told one by one
AFTER_A_GAP = f"after a gap over {LONG_GAP_S:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFigures:
    """The jobs of a run; None where a figure needs a steady window."""

    ended: int = doc("jobs that ended whole, with their last turn sent in the window")
    failed: int = doc("sessions that a failed turn ended: they are in no time")
    still_going: int = doc("sessions that had not ended with the run, nor failed")
    per_h: float | None = doc(
        "jobs that ended well in the window, an hour; also those that began deeper in a session"
    )
    per_h_per_gpu: float | None = doc(
        "the same for each GPU: of the scenario's gpus, else of those sampled"
    )
    per_h_per_user: float | None = doc("3600 / the mean time of a job: what one user gets done")
    wait_share: float | None = doc("waits for tools and people / the jobs' time, 0 to 1")
    turns_not_sent: int | None = doc("turns of the sessions that failed, after the failed one")
    gaps_cut: int | None = doc("waits that max_gap_s cut")
    gaps_cut_s: float | None = doc("seconds that it cut from them")
    held: int | None = doc("turns that came later than recorded, since an answer was awaited")
    wrapped: int | None = doc("plays of a session that had been played before in the run")
    unknown_waits: int | None = doc("waits that the recording doesn't tell: their upper bounds")

    @property
    def words(self) -> str:
        """How many ended, and what became of the others."""
        rest = (
            (self.failed, "", "failed"),
            (self.still_going, "", "went on at the end"),
            (self.turns_not_sent, "turn", "not sent"),
            (self.held, "turn", "held by the last answer"),
            (self.wrapped, "play", "of sessions played before"),
            (self.unknown_waits, "wait", "unknown"),
            (self.gaps_cut, "wait", f"cut by {self.gaps_cut_s:g} s" if self.gaps_cut else ""),
        )
        said = [f"{number_of(n, of) if of else n} {what}" for n, of, what in rest if n]
        return ", ".join((f"{number_of(self.ended, 'job')} ended whole in the window", *said))


@dataclass(frozen=True, slots=True)
class Jobs:
    """The plays of a run, and for each row what the job has that ended with it."""

    plays: tuple[Play, ...]
    rows: int

    @classmethod
    def of(cls, rows: Rows) -> Jobs | None:
        """Return the jobs of a run; None where it has no sessions."""
        plays = tuple(plays_of(rows)) if rows.has("session_turns").any() else ()
        return cls(plays, len(rows)) if plays else None

    def over_rows(self, attribute: str) -> Values:
        """Return a time of whole plays at the rows of their last turns; nan elsewhere."""
        found = np.full(self.rows, np.nan)
        for play in self.plays:
            if play.whole:
                found[play.last_row] = getattr(play, attribute)
        return found

    @property
    def ends(self) -> NDArray[np.bool_]:
        """Whether a play ended with each row: whole, or because a turn failed."""
        found = np.zeros(self.rows, dtype=bool)
        found[[play.last_row for play in self.plays if play.whole or play.failed]] = True
        return found


def job_figures(
    jobs: Jobs | None,
    counted: NDArray[np.bool_],
    window: Window | None,
    gpus: int | None,
    counts: Mapping[str, Any],
) -> JobFigures | None:
    """Return the figures of a run's jobs; `counted`: which rows were sent in the window."""
    if jobs is None:
        return None
    whole = [play for play in jobs.plays if play.whole and counted[play.last_row]]
    ended = sum(play.ended and bool(counted[play.last_row]) for play in jobs.plays)
    per_h = None if window is None else 3600 * ended / window.length_s
    total_s = sum(play.job_s for play in whole)
    names = ("turns_not_sent", "gaps_cut", "gaps_cut_s", "held", "wrapped", "unknown_waits")
    return JobFigures(
        ended=len(whole),
        failed=sum(play.failed for play in jobs.plays),
        still_going=sum(play.goes_on for play in jobs.plays),
        per_h=per_h,
        per_h_per_gpu=per_h / gpus if per_h is not None and gpus else None,
        per_h_per_user=3600 * len(whole) / total_s if total_s else None,
        wait_share=sum(play.job_wait_s for play in whole) / total_s if total_s else None,
        **{name: counts.get(name) for name in names},
    )


def by_depth(rows: Rows) -> dict[str, NDArray[np.bool_]]:
    """Return which rows are at which depth of their sessions: turn by turn, where they are few.

    After them come the turns after a long gap, whichever they are. None without sessions.
    """
    turn, wait_s = rows["turn"], waits_of(rows)
    numbers = np.unique(floats(turn))
    each = {f"{number:.0f}": turn == number for number in numbers}
    if len(each) > MOST_APART:
        each = {name: (turn >= low) & (turn <= high) for name, (low, high) in DEPTHS.items()}
    found = {**each, AFTER_A_GAP: wait_s > LONG_GAP_S}
    return {name: which for name, which in found.items() if which.any()}
