"""What the report keeps of a run: its summary, distributions and timeline; its rows may go."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..charts.distributions import Curve, curves_of
from ..charts.thin import Room
from ..charts.timeline import Timeline, timeline
from ..records.find_runs import Run
from ..summary.summary import RunSummary, facts_of, sorted_summaries, summarize

MOST_POINTS = 500  # of a curve or a track in a report of few runs
LEAST_POINTS = 60
POINTS_IN_ALL = 6000  # over the runs, so that the page of a hundred of them still opens


@dataclass(frozen=True, slots=True)
class ReportedRun:
    """One run as the report shows it."""

    summary: RunSummary
    curves: Mapping[str, Curve]
    timeline: Timeline | None


def points_each(runs: int) -> int:
    """Return how many points a curve may have in a report of so many runs."""
    return max(LEAST_POINTS, min(MOST_POINTS, POINTS_IN_ALL // max(runs, 1)))


def reported_run(run: Run, most: int) -> ReportedRun:
    """Return what the report needs of a run. Raises RecordsError where samples are damaged."""
    facts = facts_of(run)
    line = timeline(facts, Room(most, 2 * most))
    return ReportedRun(summarize(run, facts), curves_of(facts, most), line)


def sorted_runs(runs: list[ReportedRun]) -> list[ReportedRun]:
    """Return runs in the order of their summaries: by scenario, level and time."""
    found = {id(run.summary): run for run in runs}
    return [found[id(summary)] for summary in sorted_summaries([run.summary for run in runs])]
