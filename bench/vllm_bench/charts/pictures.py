"""Which pictures runs allow: each with its file's name, and how to draw it or why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from matplotlib.figure import Figure

from ..figures.facts import Facts
from ..figures.metrics import TITLES as METRIC_NAMES
from ..figures.metrics import headline_metric
from ..records.text import file_name
from ..summary.levels import Series, series_of
from ..summary.pareto import pareto_points
from ..summary.summary import RunSummary, sorted_summaries
from .cdf_figure import cdf_figure, overlay_figure
from .distributions import Curve
from .figures import TITLES, PlottedRun
from .load_figure import drawn_levels, load_figure
from .pareto_figure import pareto_figure
from .timeline import timeline
from .timeline_figure import timeline_figure
from .waterfall import waterfall
from .waterfall_figure import waterfall_figure

OVERLAID = ("ttft_ms", "latency_ms")


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture; `draw` is None where the runs don't allow it, and `why_not` says why."""

    name: str  # the file's, without its ending
    draw: Callable[[], Figure] | None
    why_not: str = ""


def moment_pictures(summary: RunSummary, facts: Facts) -> Iterator[Picture]:
    """Return the pictures that need all of a run's rows: its timeline and its requests."""
    line = timeline(facts)
    name = f"{summary.name}_timeline"
    if line is None:
        yield Picture(name, None, "no request took any time")
    else:
        yield Picture(name, partial(timeline_figure, summary, line))
    name, rows = f"{summary.name}_waterfall", waterfall(facts)
    if rows is None:
        yield Picture(name, None, "no request ended")
    else:
        yield Picture(name, partial(waterfall_figure, summary, rows))


def all_series(runs: Sequence[PlottedRun]) -> list[Series]:
    """Return what can be compared among runs: the levels of a scenario, by settings and server."""
    return series_of(sorted_summaries([run.summary for run in runs]))


def series_pictures(
    series: Series, runs: Sequence[PlottedRun], number: int = 1
) -> Iterator[Picture]:
    """Return the distributions of a series' runs, and its levels' pictures.

    `number` tells apart what one scenario measured with several settings or servers.
    """
    of_run = {id(run.summary): run for run in runs}
    for level in series.levels:
        of_level = [of_run[id(summary)] for summary in level.runs]
        for run in of_level:
            yield from run_pictures(run, [other for other in of_level if other is not run])
    base = file_name(series.scenario) + (f"_{number}" if number > 1 else "")
    yield from _level_pictures(base, series, [of_run[id(s)] for s in series.runs])


def run_pictures(run: PlottedRun, repeats: Sequence[PlottedRun] = ()) -> Iterator[Picture]:
    """Return the distributions of a run, those of its level's other runs beside them."""
    for metric in TITLES:
        name = f"{run.summary.name}_{_short(metric)}_cdf"
        head = headline_metric(metric, run.summary.load)
        if head in run.curves:
            others: list[Curve] = [r.curves[head] for r in repeats if head in r.curves]
            yield Picture(name, partial(cdf_figure, run, metric, others))
        else:
            yield Picture(name, None, run.summary.absent[head])


def _level_pictures(base: str, series: Series, runs: Sequence[PlottedRun]) -> Iterator[Picture]:
    if len(runs) == 1:
        yield Picture(f"{base}_*", None, "one run has nothing to be compared with")
        return
    for metric in OVERLAID:
        name = f"{base}_{_short(metric)}_overlay"
        if sum(headline_metric(metric, run.summary.load) in run.curves for run in runs) > 1:
            yield Picture(name, partial(overlay_figure, series, runs, metric))
        else:
            yield Picture(name, None, f"it takes two runs with a {METRIC_NAMES[metric]}")
    if drawn_levels(series) > 1:
        yield Picture(f"{base}_load", partial(load_figure, series))
    else:
        why = "it takes two levels of load with requests that succeeded"
        yield Picture(f"{base}_load", None, why)
    if len(pareto_points(series)) > 1:
        yield Picture(f"{base}_pareto", partial(pareto_figure, series))
    else:
        why = "it takes two levels of load with a TPOT and a throughput"
        yield Picture(f"{base}_pareto", None, why)


def _short(metric: str) -> str:
    return metric.removesuffix("_ms")
