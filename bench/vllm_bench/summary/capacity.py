"""Which loads pay: the highest that met the objectives, and the frontier of speed and yield."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..scenario.load import Load
from ..verdict.verdict import Level as VerdictLevel
from .levels import Level, Series, output_tokens_per_s
from .summary import RunSummary


@dataclass(frozen=True, slots=True)
class Capacity:
    """Two neighbouring levels: the last that met, and the first that didn't. At most one is None.

    The capacity between them is unknown.
    """

    met: Level | None
    beyond: Level | None  # it missed, or its runs don't show that it met

    @property
    def words(self) -> str:
        most = "no level was shown to meet every objective"
        if self.met is not None:
            most = f"every objective was met up to {self.met.load.words}"
        if self.beyond is None:
            return f"{most}, the highest level: try higher ones"
        return f"{most}; {self.beyond.load.words} {_why_not(self.beyond)}"


def capacity(levels: Sequence[Level]) -> Capacity | None:
    """Return the capacity of levels in rising order; None where they have no objectives.

    A level above one that missed doesn't count, even if it met them: that was chance. One that was
    too short to show it is shown by a higher one that met.
    """
    if all(run.attainment is None for level in levels for run in level.runs):
        return None
    met: Level | None = None
    beyond: Level | None = None
    for level in levels:
        if level.attainment is None or level.attainment.missed:
            return Capacity(met, beyond or level)
        if level.attainment.met:
            met, beyond = level, None
        else:
            beyond = beyond or level
    return Capacity(met, beyond)


def _why_not(level: Level) -> str:
    found = level.attainment
    if found is None:
        return f"doesn't count: {level.invalid or 'its runs had other objectives'}"
    if found.missed:
        return f"missed: {', '.join(outcome.objective.words for outcome in found.missed)}"
    return f"doesn't show: {', '.join(outcome.objective.words for outcome in found.not_shown)}"


# ---- tokens per second for one user against those of all users together ----


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One level of load: the geometric means of its runs."""

    load: Load
    per_user: float  # tokens per second of a stream while it decodes: 1000 / TPOT p50
    per_gpu: float  # tokens per second of all streams together; per GPU where the count is known
    verdict: VerdictLevel
    on_frontier: bool


def gpu_count(runs: Sequence[RunSummary]) -> int | None:
    """Return how many GPUs these runs' server has; None: not known, or not the same."""
    counts = {run.cost.gpus for run in runs}
    return counts.pop() if len(counts) == 1 else None


def per_user(run: RunSummary) -> float | None:
    """Return the decode speed of the median request, in tokens per second."""
    tpot_ms = run.percentile("tpot_ms", 50)
    return 1000 / tpot_ms if tpot_ms else None


def pareto(levels: Sequence[Level], gpus: int | None) -> list[ParetoPoint]:
    """Return the points of the levels that have both figures, by rising load.

    A point is on the frontier if no other point is better in one figure and at least as good in the
    other.
    """
    found = [
        (level, (user, rate / (gpus or 1)))
        for level in levels
        if (user := level.centre(per_user)) is not None
        and (rate := level.centre(output_tokens_per_s)) is not None
    ]
    return [
        ParetoPoint(
            level.load,
            *figures,
            level.verdict,
            on_frontier=not any(dominates(rival, figures) for _, rival in found),
        )
        for level, figures in found
    ]


def pareto_points(series: Series) -> list[ParetoPoint]:
    """Return the points that a series allows."""
    return pareto(series.levels, gpu_count(series.runs))


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether a point is better in one figure and at least as good in the other."""
    return one != other and one[0] >= other[0] and one[1] >= other[1]
