"""Tokens per second for one user against those of all users together, one point per level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..scenario.load import Load
from ..verdict.verdict import Level as VerdictLevel
from .levels import Level, Series, output_tokens_per_s
from .summary import RunSummary


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
            on_frontier=not any(_dominates(rival, figures) for _, rival in found),
        )
        for level, figures in found
    ]


def pareto_points(series: Series) -> list[ParetoPoint]:
    """Return the points that a series allows."""
    return pareto(series.levels, gpu_count(series.runs))


def _dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] >= other[0] and one[1] >= other[1]
