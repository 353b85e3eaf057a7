"""Which loads pay: the highest that met the objectives, and the frontier of speed and yield."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..figures.attained import Attainment
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
    first: Level | None = None  # the lowest that met, where lower ones had too little load
    tier: str | None = None  # which objectives: of this one of slo_tiers; None: of slo

    @property
    def words(self) -> str:
        most = "no level was shown to meet every objective"
        if self.met is not None:
            since = f"from {self.first.load.words} " if self.first is not None else ""
            most = f"every objective was met {since}up to {self.met.load.words}"
        if self.beyond is None:
            return f"{most}, the highest level: try higher ones"
        return f"{most}; {self.beyond.load.words} {_why_not(self.beyond, self.tier)}"


def capacity(levels: Sequence[Level], tier: str | None = None) -> Capacity | None:
    """Return the capacity of levels in rising order; None where they have no objectives.

    A level above one that missed doesn't count, even if it met them: that was chance. One that was
    too short to show it is shown by a higher one that met, and one that missed a rate alone, before
    any that met, had too little load for it.
    """
    if all(attained(run, tier) is None for level in levels for run in level.runs):
        return None
    met: Level | None = None
    beyond: Level | None = None
    first: Level | None = None
    too_low: Level | None = None
    for level in levels:
        found = attained(level, tier)
        if met is None and found is not None and found.too_little:
            too_low = level
        elif found is None or found.missed:
            return Capacity(met, beyond or level, first, tier)
        elif found.met:
            first = first or (level if too_low else None)
            met, beyond = level, None
        else:
            beyond = beyond or level
    return Capacity(met, beyond or (None if met else too_low), first, tier)


def attained(of: RunSummary | Level, tier: str | None) -> Attainment | None:
    """Return the attainment of a tier; None as a tier: of slo."""
    return of.attainment if tier is None else of.tiers.get(tier)


def tiers_of(series: Series) -> list[str]:
    """Return the names of all tiers of a series' runs, in their scenario's order."""
    return list(dict.fromkeys(name for run in series.runs for name in run.tiers))


def _why_not(level: Level, tier: str | None) -> str:
    found = attained(level, tier)
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


def per_user(run: RunSummary, percentile: float = 50) -> float | None:
    """Return 1000 / a percentile of TPOT, in tokens/s: 95 % of requests are faster than at p95."""
    tpot_ms = run.percentile("tpot_ms", percentile)
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


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether a point is better in one figure and at least as good in the other."""
    return one != other and one[0] >= other[0] and one[1] >= other[1]
