"""Figures against load: a point a level, with what is known of how far it may be off."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..figures.metrics import headline_metric
from ..figures.objectives import Objective
from ..figures.statistics import Interval
from ..summary.levels import Figure, Level, Series
from ..summary.summary import RunSummary

TIMES = ("ttft_ms", "tpot_ms", "latency_ms")


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One level's figure: the runs' geometric mean, and a 95 % interval.

    `interval` is over the repeats (t on the logarithms) where there are three; of a lone run it
    is the one within the run, which is optimistic; two runs say nothing of their spread.
    """

    level: Level
    centre: float
    interval: Interval | None
    over_repeats: bool

    @property
    def load(self) -> float:
        """How hard the level pushed."""
        return self.level.load.value


@dataclass(frozen=True, slots=True)
class LoadLine:
    """A figure by rising load. A level has a point where all of its runs have the figure."""

    points: tuple[LoadPoint, ...]
    runs: tuple[tuple[float, float], ...]  # load and figure of each run, where a level has several


@dataclass(frozen=True, slots=True)
class Times:
    """One of the times against load: percentiles, perhaps without points, and objectives."""

    metric: str
    lines: Mapping[float, LoadLine]  # by percentile
    limits: tuple[Objective, ...]


def load_line(
    levels: Sequence[Level],
    figure: Figure,
    within_run: Callable[[RunSummary], Interval | None] = lambda _: None,
) -> LoadLine:
    """Return a figure over the levels."""
    found = (_point(level, figure, within_run) for level in levels)
    runs = (run for level in levels if len(level.runs) > 1 for run in level.runs)
    return LoadLine(
        tuple(point for point in found if point is not None),
        tuple((run.load.value, value) for run in runs if (value := figure(run)) is not None),
    )


def _point(
    level: Level, figure: Figure, within_run: Callable[[RunSummary], Interval | None]
) -> LoadPoint | None:
    found = level.over_repeats(figure)
    if found is None:
        return None
    interval = found.interval if len(level.runs) > 1 else within_run(level.runs[0])
    return LoadPoint(level, found.centre, interval, found.interval is not None)


def times_against_load(series: Series, percentiles: Sequence[float]) -> list[Times]:
    """Return each of the times at these percentiles, and at those that objectives ask for."""
    load = series.levels[0].load
    asked = [o for o in objectives_of(series) if o.metric and o.limit_ms]
    found = []
    for metric in (headline_metric(name, load) for name in TIMES):
        limits = tuple(o for o in asked if o.metric == metric)
        wanted = sorted({*percentiles, *(round(100 * o.share, 6) for o in limits)})
        lines = {q: _percentile_line(series, metric, q) for q in wanted}
        found.append(Times(metric, lines, limits))
    return found


def _percentile_line(series: Series, metric: str, percentile: float) -> LoadLine:
    def within(run: RunSummary) -> Interval | None:
        found = run.distributions.get(metric)
        return found.interval(percentile) if found else None

    return load_line(series.levels, lambda run: run.percentile(metric, percentile), within)


def objectives_of(series: Series) -> tuple[Objective, ...]:
    """Return the objectives that any of the runs was held against, each once."""
    found = (run.attainment.outcomes for run in series.runs if run.attainment)
    return tuple(dict.fromkeys(outcome.objective for outcomes in found for outcome in outcomes))
