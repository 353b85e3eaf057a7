"""A figure against load: a point a level, with what is known of how far it may be off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .intervals import Interval
from .levels import Level
from .summary import RunSummary

RunInterval = Callable[[RunSummary], Interval | None]


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One level's figure: the runs' geometric mean, every run's, and a 95 % interval.

    `interval` is over the repeats (t on the logarithms) where there are three; of a lone run it
    is the one within the run, which is optimistic; two runs say nothing of their spread.
    """

    load: float
    centre: float
    runs: tuple[float, ...]
    interval: Interval | None
    over_repeats: bool


def load_points(
    levels: Sequence[Level],
    value: Callable[[RunSummary], float | None],
    within_run: RunInterval = lambda _: None,
) -> list[LoadPoint]:
    """Return a figure's points by rising load; a level whose runs all lack it has none."""
    found = (_point(level, value, within_run) for level in levels)
    return [point for point in found if point is not None]


def _point(
    level: Level, value: Callable[[RunSummary], float | None], within_run: RunInterval
) -> LoadPoint | None:
    having = Level(tuple(run for run in level.runs if value(run) is not None))
    found = having.over_repeats(value) if having.runs else None
    if found is None:
        return None
    interval = found.interval
    if len(having.runs) == 1:
        interval = within_run(having.runs[0])
    over = found.interval is not None
    return LoadPoint(level.load.value, found.centre, found.values, interval, over)
