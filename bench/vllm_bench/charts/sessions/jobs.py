"""Jobs: what each session took of the server, and what its tools and people took."""

from __future__ import annotations

import numpy as np

from ...figures.facts import Facts
from ...stats.batches import Values
from ..chart import Axis, Chart, Line, Panel

QUARTERS = [(at, f"{at:g}") for at in (0.0, 25.0, 50.0, 75.0, 100.0)]
MOST_BARS = 120  # of more jobs an even part of the ranks is drawn


def jobs_chart(facts: Facts) -> Chart | None:
    """Return a bar for each job that ended whole in the window; None where none did."""
    plays = facts.jobs.plays if facts.jobs else ()
    whole = sorted(
        (play for play in plays if play.whole and facts.counted[play.last_row]),
        key=lambda play: play.job_s,
    )
    if not whole:
        return None
    kept = np.unique(np.linspace(0, len(whole) - 1, MOST_BARS).astype(int))
    served = np.array([whole[at].job_served_s for at in kept])
    ends = np.array([whole[at].job_s for at in kept])
    rank = 100.0 * (kept + 1) / len(whole)
    part = "" if kept.size == len(whole) else f", {kept.size} of them drawn"
    return Chart(
        title="Jobs",
        doc="a session's time, from its first send to the end of its last turn",
        note=f"{len(whole)} jobs, from the shortest to the longest{part}",
        x=Axis(words="seconds of a job", unit="s", span=(0.0, 1.02 * float(ends.max()))),
        panels=[
            Panel(
                y=Axis(words="% of the jobs", unit="%", ticks=QUARTERS, span=(0.0, 102.0)),
                lines=[
                    _bars("without waits", np.zeros(kept.size), served, rank, "decode"),
                    _bars("waits for tools and people", served, ends, rank, "wait"),
                ],
            )
        ],
    )


def _bars(name: str, begins: Values, ends: Values, rank: Values, colour: str) -> Line:
    return Line(name=name, x=begins, until=ends, y=rank, role="bars", colour=colour)
