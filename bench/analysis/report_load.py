"""A scenario's levels for the report: TTFT, TPOT and latency against load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .intervals import Interval
from .levels import Figure, Level, Series
from .metrics import METRICS, TITLES, headline_metric
from .objectives import Objective
from .report_look import P_COLOURS, P_SYMBOLS, axis, load_axis, times_scale
from .report_text import rounded
from .summary import RunSummary

TIMES = ("ttft_ms", "tpot_ms", "latency_ms")
PERCENTILES = (50.0, 95.0, 99.0)
DOCS = {metric.name: metric.doc for metric in METRICS}
WITHIN = "95 % within the run (optimistic: requests wait for each other)"


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of a level: over its repeats, or of its one run."""

    load: float
    value: float
    interval: Interval | None
    basis: str  # what the interval is about
    verdict: str


def times_charts(series: Series) -> list[dict[str, Any]]:
    """Return a chart against load for each of the times that a level has."""
    load = series.levels[0].load
    charts = [_times_chart(series, headline_metric(metric, load)) for metric in TIMES]
    return [chart for chart in charts if chart]


def points(levels: Sequence[Level], metric: str, percentile: float) -> list[Point]:
    """Return a percentile at each level that has it, with the interval that there is."""

    def figure(run: RunSummary) -> float | None:
        return run.percentile(metric, percentile)

    found = []
    for level in levels:
        over = level.over_repeats(figure)
        if over is None:
            continue
        interval, basis = over.interval, f"95 % over {len(level.runs)} runs"
        if len(level.runs) == 1:
            interval = level.runs[0].distributions[metric].interval(percentile)
            basis = WITHIN
        found.append(Point(level.load.value, over.centre, interval, basis, level.verdict))
    return found


def _times_chart(series: Series, metric: str) -> dict[str, Any] | None:
    traces: list[dict[str, Any]] = []
    values: list[float] = []
    for percentile in PERCENTILES:
        found = points(series.levels, metric, percentile)
        if found:
            colour, name = P_COLOURS[percentile], f"p{percentile:g}"
            traces.append(level_line(found, name, colour, P_SYMBOLS[percentile], "ms"))
            traces += each_run(series, lambda r, q=percentile: r.percentile(metric, q), name, "ms")  # type: ignore[misc]
            values += [p.value for p in found]
    if not values:
        return None
    limits = [o for o in _objectives(series) if o.metric == metric and o.limit_ms is not None]
    traces += [_limit_line(series, limit) for limit in limits]
    values += [o.limit_ms for o in limits if o.limit_ms is not None]
    return {
        "title": f"{TITLES[metric][:1].upper()}{TITLES[metric][1:]} against load",
        "doc": DOCS[metric],
        "note": _interval_note(series),
        "data": traces,
        "layout": {
            "xaxis": levels_axis(series),
            "yaxis": {**axis(f"{TITLES[metric]} (ms)"), **times_scale(values)},
        },
    }


def level_line(
    found: Sequence[Point], name: str, colour: str, symbol: str, unit: str
) -> dict[str, Any]:
    """Return a line through levels; a level that isn't VALID has a hollow mark."""
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "legendgroup": name,
        "x": [p.load for p in found],
        "y": rounded(p.value for p in found),
        "line": {"color": colour, "width": 2},
        "marker": {
            "color": colour,
            "size": 8,
            "symbol": [symbol + "-open" * (p.verdict != "VALID") for p in found],
        },
        "customdata": [[_interval_words(p, unit), _doubt(p)] for p in found],
        "hovertemplate": f"{name} at %{{x}}: <b>%{{y:,.4~g}} {unit}</b>%{{customdata[0]}}"
        "%{customdata[1]}<extra></extra>",
    }
    if any(p.interval for p in found):
        ends = [(p.value, p.interval or Interval(p.value, p.value)) for p in found]
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": rounded(max(0.0, i.high - v) for v, i in ends),
            "arrayminus": rounded(max(0.0, v - i.low) for v, i in ends),
            "color": colour,
            "thickness": 1.2,
            "width": 4,
        }
    return trace


def _interval_words(point: Point, unit: str) -> str:
    if point.interval is None:
        return ""
    low, high = (f"{x:,.4g}" for x in (point.interval.low, point.interval.high))
    return f"<br>{low} to {high} {unit}, {point.basis}"


def _doubt(point: Point) -> str:
    return "" if point.verdict == "VALID" else f"<br>{point.verdict}: see the verdict"


def each_run(series: Series, figure: Figure, name: str, unit: str) -> list[dict[str, Any]]:
    """Return every run as a small dot, where a level was run more than once."""
    if all(len(level.runs) == 1 for level in series.levels):
        return []
    found = [(r.load.value, v) for r in series.runs if (v := figure(r)) is not None]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "legendgroup": name,
            "showlegend": False,
            "x": [at for at, _ in found],
            "y": rounded(v for _, v in found),
            "marker": {"color": "@muted", "size": 5, "symbol": "circle-open"},
            "hovertemplate": f"one run's {name} at %{{x}}: %{{y:,.4~g}} {unit}<extra></extra>",
        }
    ]


def _objectives(series: Series) -> list[Objective]:
    """Return the objectives of all levels, each once."""
    found = [level.attainment for level in series.levels]
    return list(dict.fromkeys(o.objective for a in found if a for o in a.outcomes))


def _limit_line(series: Series, objective: Objective) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"objective: {objective.words}",
        "x": [level.load.value for level in series.levels],
        "y": [objective.limit_ms] * len(series.levels),
        "line": {"color": "@bad", "width": 1.5, "dash": "dash"},
        "hovertemplate": f"objective: {objective.words}<extra></extra>",
    }


def _interval_note(series: Series) -> str:
    repeated = any(len(level.runs) > 1 for level in series.levels)
    return (
        "Line: geometric mean of a level's runs; bars: 95 % over them, from three on; small rings: "
        "each run. Hollow mark: not VALID."
        if repeated
        else "Bars: 95 % within the run, optimistic near saturation. Hollow mark: not VALID."
    )


def levels_axis(series: Series) -> dict[str, Any]:
    """Return the axis of a scenario's levels."""
    labels = {level.load.value: f"{level.load.value:g}" for level in series.levels}
    return load_axis(labels, series.levels[0].load.unit)
