"""A scenario's classes against its load: a line for each class, and one of all together."""

from __future__ import annotations

from collections.abc import Iterator

from ...figures.metrics import TITLES, headline_metric
from ...records.text import printable
from ...summary.levels import Series
from ..against_load import levels_axis, percentile_lines
from ..chart import Chart, Line, Panel, times_panel

TIMES = ("ttft_ms", "latency_ms")
PERCENTILES = (50.0, 95.0)
TOGETHER = "all together"


def classes_against_load(series: Series) -> Chart | None:
    """Return a panel for each time and percentile; None where no class has a figure.

    Every line is drawn at the run's level of load, whatever part of it is the class's.
    """
    panels = [found for m in TIMES for q in PERCENTILES if (found := _panel(series, m, q)).lines]
    if not series.classes or not panels:
        return None
    return Chart(
        title="Classes against load",
        doc="the times of each class's requests at the run's level of load",
        note="Bars: 95 % intervals. Each class at the load of all together",
        x=levels_axis(series.levels),
        panels=panels,
    )


def _panel(series: Series, name: str, percentile: float) -> Panel:
    metric = headline_metric(name, series.levels[0].load)
    title = f"{TITLES[metric]}\np{percentile:g}"
    return times_panel(title, list(_lines(series, metric, percentile)))


def _lines(series: Series, metric: str, percentile: float) -> Iterator[Line]:
    for place, (name, part) in enumerate(series.parts):
        words = printable(name, 32) or TOGETHER
        yield from percentile_lines(part.levels, words, place, metric, percentile)
