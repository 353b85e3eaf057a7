"""What a plan's progress is measured by: how much there is, and how the parent knows what began."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from ..plan.plan import Plan
from .progress import Progress


def progress_of(plan: Plan, tickets_taken: Callable[[], int], started_s: float) -> Progress:
    """Return the progress of a run that is to begin.

    A closed loop's requests begin as tickets are taken, an open one's as they come due. Which
    turns of conversations are under way only the sending processes know.
    """
    progress = Progress(plan.measured, started_s, phase="connecting")
    if plan.timetable.open_loop:
        due_s = plan.timetable.measured_s
        progress.begun = lambda: (  # before the warm-up is over nothing is due
            0 if progress.started_s == started_s else bisect_right(due_s, progress.sending_s)
        )
        progress.last_due_s = due_s[-1] if due_s else None
        progress.most_in_flight = plan.scenario.max_in_flight
    elif plan.talk is None:
        progress.begun = tickets_taken
        progress.most_in_flight = plan.level.concurrency
    return progress
